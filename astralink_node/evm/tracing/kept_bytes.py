"""The bound on what a tracer keeps of one transaction for its result."""

from __future__ import annotations

from typing import Final

from astralink_node.errors import AstraLinkError

MAX_KEPT_BYTES: Final = 64 * 1024 * 1024
"""Of call data, output, code and stack values that one tracer keeps for its result. A call's input costs its caller
nothing once the memory is paid for, so gas alone does not bound it."""


class TraceTooLarge(AstraLinkError):
    """A trace that would keep more than its limit; the transaction cannot be traced in this way."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the trace is larger than {limit} bytes")
        self.limit = limit


class KeptBytes:
    """Counts what a tracer keeps, and stops it at its limit."""

    __slots__ = ("_left", "_limit")

    def __init__(self, limit: int = MAX_KEPT_BYTES) -> None:
        self._limit = limit
        self._left = limit

    def add(self, size: int) -> None:
        """Raises :class:`TraceTooLarge`."""
        self._left -= size
        if self._left < 0:
            raise TraceTooLarge(self._limit)
