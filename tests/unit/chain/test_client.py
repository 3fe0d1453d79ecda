"""The node's client of the execution process, against a peer that behaves badly or not at all."""

import pytest
import trio
import trio.testing

from astralink_node.chain.client import ExecutionClient, ExecutionGone


def test_a_node_that_stops_cancels_its_questions_and_reports_no_failure() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    client = ExecutionClient(ours)

    async def ask_after_a_thread(outcome: list[str]) -> None:
        # Work in a thread is not interrupted: the question comes when the receiver has been cancelled already.
        with trio.CancelScope(shield=True):
            await stopped.wait()
        try:
            await client.status()
        except ExecutionGone:
            outcome.append("told of a failure")

    stopped = trio.Event()
    outcome: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            nursery.start_soon(ask_after_a_thread, outcome)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            stopped.set()

    trio.run(main)
    assert outcome == []
    del theirs


def test_a_peer_that_leaves_is_a_failure_for_whoever_waits_and_whoever_comes() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    client = ExecutionClient(ours)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            nursery.start_soon(fail_to_ask)
            await trio.testing.wait_all_tasks_blocked()
            await theirs.aclose()
        await fail_to_ask()

    async def fail_to_ask() -> None:
        with pytest.raises(ExecutionGone, match="closed the connection"):
            await client.status()

    trio.run(main)
