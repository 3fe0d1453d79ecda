"""When calls in progress have to end, which the stop of the process brings forward."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import TypeVar

from astralink_node.gateway.reading.errors import Unavailable

Item = TypeVar("Item")


class Deadlines:
    def __init__(self) -> None:
        self._running: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._stop_at: float | None = None

    def until(self, time: float | None) -> Until:
        """What is done inside ends at that time of the loop. Raises TimeoutError; Unavailable where a stop ended it."""
        return Until(self, time)

    async def each(self, items: AsyncGenerator[Item]) -> AsyncGenerator[Item]:
        """The same items, for as long as there is no stop; closing this closes them."""
        async with aclosing(items):
            while True:
                async with self.until(None):
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        return
                yield item

    async def stop(self, grace_s: float) -> None:
        """End what runs, and whatever begins from now on, after so many seconds; returns when nothing runs."""
        self._stop_at = asyncio.get_running_loop().time() + grace_s
        for timeout in self._running:
            if not timeout.expired():
                timeout.reschedule(self._earlier(timeout.when()))
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    def begun(self, time: float | None) -> asyncio.Timeout:
        """Of something that ends at that time. Raises as :meth:`until` where it is over already."""
        time = self._earlier(time)
        if time is not None and time <= asyncio.get_running_loop().time():
            # Else it would begin all the same, up to where it first waits.
            raise self.reason() or TimeoutError
        timeout = asyncio.timeout_at(time)
        self._running.add(timeout)
        return timeout

    def ended(self, timeout: asyncio.Timeout) -> None:
        self._running.discard(timeout)
        if not self._running:
            self._idle.set()

    def reason(self) -> Unavailable | None:
        """Why something ends, if not for its own time."""
        is_stopped = self._stop_at is not None and self._stop_at <= asyncio.get_running_loop().time()
        return Unavailable("the node is stopping") if is_stopped else None

    def _earlier(self, time: float | None) -> float | None:
        if time is None or self._stop_at is None:
            return self._stop_at if time is None else time
        return min(time, self._stop_at)


class Until:
    """See :meth:`Deadlines.until`. A class, since every request enters one and a generator would take twice as long."""

    __slots__ = ("_deadlines", "_time", "_timeout")

    def __init__(self, deadlines: Deadlines, time: float | None) -> None:
        self._deadlines = deadlines
        self._time = time

    async def __aenter__(self) -> None:
        self._timeout = self._deadlines.begun(self._time)
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.ended(self._timeout)
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as over:
            raise self._deadlines.reason() or over from None
