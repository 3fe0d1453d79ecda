"""HTTP clients that may leave while something slow is found out for them: then it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from astralink_node.gateway.reading.errors import Unavailable

asker: ContextVar[Asker | None] = ContextVar("asker", default=None)
"""Who is waited for: set in the task that answers a request. A WebSocket's requests end with its tasks instead."""


class Asker:
    """Whoever is at the other end of a connection."""

    def __init__(self) -> None:
        self._waits: set[asyncio.Task[object]] = set()
        self._has_left = False

    def left(self) -> None:
        self._has_left = True
        for task in self._waits:
            task.cancel()

    @contextmanager
    def wait(self) -> Iterator[None]:
        """What the present task waits for inside ends when the client leaves. Raises Unavailable then."""
        if self._has_left:
            raise _gone()
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        self._waits.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if self._has_left and task.uncancel() <= cancelling:
                raise _gone() from None
            raise
        finally:
            self._waits.discard(task)


def _gone() -> Unavailable:
    return Unavailable("the client has left")
