"""Where blocking work is done: results and errors come back, and cancelling leaves nothing half done."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from astralink_node.services.offload import Offload, in_thread, inline


def divide(one: int, other: int) -> int:
    return one // other


@pytest.mark.parametrize("offload", [in_thread, inline])
def test_results_and_errors_come_back(offload: Offload) -> None:
    async def scenario() -> None:
        assert await offload(divide, 7, 2) == 3
        with pytest.raises(ZeroDivisionError):
            await offload(divide, 7, 0)

    trio.run(scenario)


@pytest.mark.parametrize("offload", [in_thread, inline])
def test_work_that_was_cancelled_before_it_began_does_not_begin(offload: Offload) -> None:
    done: list[int] = []

    async def scenario() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await offload(done.append, 1)
        assert done == []

    trio.run(scenario)


def test_work_in_a_thread_lets_other_tasks_run_and_is_finished_when_its_task_is_cancelled() -> None:
    """A signature that is half recorded, or a log half written, must not exist."""
    may_end = threading.Event()
    done: list[str] = []

    def work() -> None:
        assert may_end.wait(10)
        done.append("all of it")

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_thread, work)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            assert done == []
            may_end.set()
        assert done == ["all of it"]

    trio.run(scenario)


def test_inline_work_is_done_here() -> None:
    async def scenario() -> None:
        assert await inline(threading.get_ident) == threading.get_ident()
        assert await in_thread(threading.get_ident) != threading.get_ident()

    trio.run(scenario)
