"""The line in the log about a chain that stands still: when it comes, how often, and when it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import trio
import trio.testing

from astralink_node.gateway.link_messages import ConsensusState, NodeStatus, RoundVotes
from astralink_node.services.stall_watch import StallWatch
from tests.support.networks import BLOCK, network_of, votes_of, waiting

STATUS = NodeStatus("test", 1, bytes(32), True, 1000, 811, 0, 0, True)
STUCK = waiting("prevote", RoundVotes(3, 1, (votes_of(BLOCK, 0, 2),), ()))


@dataclass
class Node:
    status: NodeStatus = STATUS
    state: ConsensusState | None = STUCK
    changes: dict[int, Callable[[Node], None]] = field(default_factory=dict)
    """What happens half a second after a second."""


def watched(node: Node, seconds: int, caplog: pytest.LogCaptureFixture) -> list[tuple[int, str, dict[str, object]]]:
    """(second, event, fields) of everything said."""
    said: list[tuple[int, str, dict[str, object]]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append((round(trio.current_time() - start), record.getMessage(), record.__dict__["fields"]))

    async def main() -> None:
        nonlocal start
        start = trio.current_time()
        watch = StallWatch(
            lambda: node.status, lambda: node.state, lambda: network_of([2, 3]), lambda: 1_000_000 + 12_000
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            await trio.sleep(0.5)  # what happens, happens between two looks
            for second in range(seconds):
                if second in node.changes:
                    node.changes[second](node)
                await trio.sleep(1)
            nursery.cancel_scope.cancel()

    start = 0.0
    logger = logging.getLogger("astralink_node.stall")
    handler = Keep()
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "astralink_node.stall"):
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logger.removeHandler(handler)
    return said


def test_a_chain_that_stands_is_explained_at_once_and_then_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    said = watched(Node(), 35, caplog)
    assert [second for second, _, _ in said] == [11, 21, 31]
    assert {event for _, event, _ in said} == {"no new block"}
    assert said[0][2]["why"] == (
        "height 812 round 3 waits in prevote since 12 s: 2 of 4 validators silent "
        "(#1 0xa1a1a1a1.. not connected, #3 0xa3a3a3a3.. connected, no vote)"
    )
    assert said[2][2]["for_s"] == 31


def test_a_chain_that_goes_on_says_so_once_and_the_next_stall_is_told_anew(caplog: pytest.LogCaptureFixture) -> None:
    def block_comes(node: Node) -> None:
        node.status = replace(node.status, head_height=812)

    said = watched(Node(changes={14: block_comes}), 30, caplog)
    assert [(second, event) for second, event, _ in said] == [
        (11, "no new block"),
        (15, "the chain goes on"),
        (26, "no new block"),
    ]
    assert said[1][2] == {"head": 812, "stood_s": 15}


def test_a_chain_that_moves_is_not_talked_about(caplog: pytest.LogCaptureFixture) -> None:
    def block_comes(node: Node) -> None:
        node.status = replace(node.status, head_height=node.status.head_height + 1)

    assert watched(Node(changes=dict.fromkeys(range(0, 60, 9), block_comes)), 60, caplog) == []


def test_slow_blocks_are_given_three_intervals(caplog: pytest.LogCaptureFixture) -> None:
    said = watched(Node(status=replace(STATUS, block_interval_ms=6_000)), 25, caplog)
    assert [second for second, _, _ in said] == [19]


def test_a_chain_on_demand_without_transactions_does_not_stand_still(caplog: pytest.LogCaptureFixture) -> None:
    def transaction_comes(node: Node) -> None:
        node.status = replace(node.status, pending_transactions=1)

    idle = Node(replace(STATUS, block_interval_ms=0), waiting("new_height"), {29: transaction_comes})
    assert [(second, event) for second, event, _ in watched(idle, 45, caplog)] == [(40, "no new block")]


def test_a_node_that_never_began_is_explained_too(caplog: pytest.LogCaptureFixture) -> None:
    said = watched(Node(state=None), 12, caplog)
    assert said[0][2]["why"] == "this node recovers: consensus has not begun"
