"""When calls in progress have to end, which the stop of the process brings forward."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from astralink_node.gateway.reading.errors import Unavailable

Item = TypeVar("Item")


class Deadlines:
    def __init__(self) -> None:
        self._running: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._stop_at: float | None = None

    @asynccontextmanager
    async def until(self, time: float | None) -> AsyncIterator[None]:
        """What is done inside ends at that time of the loop. Raises TimeoutError; Unavailable where a stop ended it."""
        try:
            async with asyncio.timeout_at(self._earlier(time)) as timeout:
                if self._is_over(timeout.when()):
                    raise TimeoutError  # else it would begin all the same, up to where it first waits
                self._running.add(timeout)
                try:
                    yield
                finally:
                    self._running.discard(timeout)
                    if not self._running:
                        self._idle.set()
        except TimeoutError:
            if self._is_over(self._stop_at):
                raise Unavailable("the node is stopping") from None
            raise

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

    def _earlier(self, time: float | None) -> float | None:
        if time is None or self._stop_at is None:
            return self._stop_at if time is None else time
        return min(time, self._stop_at)

    def _is_over(self, time: float | None) -> bool:
        return time is not None and time <= asyncio.get_running_loop().time()
