"""Whether a connection's client reads what it is sent, or has read nothing for too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class WriteWatch:
    """Acts on a connection whose client has not read anything for a while."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None

    def paused(self, act: Callable[[], None]) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, act)

    def resumed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
