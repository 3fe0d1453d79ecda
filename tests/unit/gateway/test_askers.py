from __future__ import annotations

import asyncio

import pytest

from astralink_node.gateway.askers import Asker
from astralink_node.gateway.reading.errors import Unavailable
from tests.support.asynchronous import run


async def waits(asker: Asker, ready: asyncio.Event) -> None:
    with asker.wait():
        ready.set()
        await asyncio.Event().wait()


def test_leaving_ends_every_wait_with_an_error_and_refuses_the_next() -> None:
    async def main() -> None:
        asker, ready = Asker(), [asyncio.Event(), asyncio.Event()]
        tasks = [asyncio.create_task(waits(asker, event)) for event in ready]
        for event in ready:
            await event.wait()
        asker.left()
        for task in tasks:
            with pytest.raises(Unavailable, match="the client has left"):
                await task
            assert task.cancelling() == 0
        with pytest.raises(Unavailable, match="the client has left"), asker.wait():
            pass

    run(main)


def test_a_deadline_and_a_cancellation_stay_what_they_are() -> None:
    async def main() -> None:
        asker = Asker()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await waits(asker, asyncio.Event())
        ready = asyncio.Event()
        task = asyncio.create_task(waits(asker, ready))
        await ready.wait()
        task.cancel()
        asker.left()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


def test_what_is_over_is_not_ended_by_a_client_that_leaves_afterwards() -> None:
    async def main() -> None:
        asker = Asker()
        with asker.wait():
            await asyncio.sleep(0)
        asker.left()
        await asyncio.sleep(0)

    run(main)
