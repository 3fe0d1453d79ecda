"""Places for calls that take long, apart from those of all others: so many run, so many wait, more are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.rpc_errors import LIMIT_EXCEEDED, RpcError


class LongCalls:
    def __init__(self, limits: GatewayLimits) -> None:
        self._max_messages = limits.long_in_flight + limits.long_waiting
        self._messages = 0
        self.place = asyncio.Semaphore(limits.long_in_flight)
        """Held by each such call while it runs."""

    @contextmanager
    def message(self) -> Iterator[None]:
        """Held by a message while any of its calls takes long, whether they run or wait. Raises LIMIT_EXCEEDED."""
        if self._messages >= self._max_messages:
            raise RpcError(LIMIT_EXCEEDED, "the node is busy: too many traces and other long calls at once; try again")
        self._messages += 1
        try:
            yield
        finally:
            self._messages -= 1
