"""The bound on what tracers keep for their results."""

from __future__ import annotations

from typing import Final

from astralink_node.errors import AstraLinkError

MAX_KEPT_BYTES: Final = 32 * 1024 * 1024
"""What the tracers of a run, or of several that are asked for together, may keep for their results: data by its length,
the objects around it by weights that are about what they take in memory. A call's input costs its caller nothing once
the memory is paid for, so gas alone does not bound it."""


class TraceTooLarge(AstraLinkError):
    """A trace that would keep more than its limit; the transaction cannot be traced in this way."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the trace is larger than {limit} bytes")
        self.limit = limit


class KeptBytes:
    """Counts what one or several tracers keep, and stops them at their limit."""

    __slots__ = ("_left", "_limit")

    def __init__(self, limit: int = MAX_KEPT_BYTES) -> None:
        self._limit = limit
        self._left = limit

    def add(self, size: int) -> None:
        """Raises :class:`TraceTooLarge`."""
        self._left -= size
        if self._left < 0:
            raise TraceTooLarge(self._limit)
