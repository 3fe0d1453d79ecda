"""Parts of the composition root: how long a new node waits to hear of others, and what it tells of its head."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import trio
from trio.testing import MockClock

from astralink_node.chain.client import InProcessExecution
from astralink_node.node import FIRST_PEER_WAIT_S, _both, _HeadNow, _wants_snapshot
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.txpool.admission import PoolTransaction
from p2p.peer_id import PeerId
from tests.support.chains import LocalChain

ANN, BOB = PeerId(b"ann"), PeerId(b"bob")


class Newcomer:
    """A node before it chooses how to catch up: what it has heard, and whether a snapshot is worth it by that."""

    def __init__(self, bootnodes: Sequence[PeerId] = (ANN,), blocks: int = 0) -> None:
        chain = LocalChain()
        for _ in range(blocks):
            chain.produce()
        self.execution = InProcessExecution(chain.execution)
        self.heads = PeerHeads()
        self.known: dict[PeerId, object] = {}
        self.network: Any = SimpleNamespace(
            handshake=SimpleNamespace(known=self.known), keeper=SimpleNamespace(validators=lambda: bootnodes)
        )
        self.asked_at: list[float] = []

    async def is_wanted(self) -> bool:
        self.asked_at.append(trio.current_time())
        return self.heads.best() > 1_000

    def hear(self, peer: PeerId, height: int) -> None:
        """As the handshake notes it."""
        self.known[peer] = object()
        self.heads.note(peer, height)

    async def wants(self) -> bool:
        snapshot: Any = self
        return await _wants_snapshot(snapshot, self.network, self.heads, await self.execution.status())

    def decide(self, meanwhile: Callable[[], Awaitable[None]] | None = None) -> tuple[bool, float]:
        """What is decided, and after how many seconds."""

        async def main() -> bool:
            async with trio.open_nursery() as nursery:
                if meanwhile is not None:
                    nursery.start_soon(meanwhile)
                return await self.wants()

        wanted = trio.run(main, clock=MockClock(autojump_threshold=0))
        (at,) = self.asked_at
        return wanted, at


def test_a_new_node_decides_as_soon_as_a_bootnode_has_said_how_far_it_is() -> None:
    node = Newcomer()

    async def answers() -> None:
        await trio.sleep(1.5)
        node.hear(ANN, 5_000)

    assert node.decide(answers) == (True, 1.5)


def test_a_bootnode_at_genesis_is_an_answer_too() -> None:
    node = Newcomer()

    async def answers() -> None:
        await trio.sleep(0.5)
        node.hear(ANN, 0)

    assert node.decide(answers) == (False, 0.5)


def test_another_newcomer_that_answers_first_is_not_all_there_is_to_hear() -> None:
    node = Newcomer((ANN, BOB))

    async def answers() -> None:
        await trio.sleep(0.5)
        node.hear(ANN, 0)
        await trio.sleep(0.5)
        node.hear(BOB, 5_000)

    assert node.decide(answers) == (True, 1)


def test_what_changes_without_a_peer_that_is_welcome_is_no_answer() -> None:
    node = Newcomer((ANN, BOB))

    async def answers() -> None:
        await trio.sleep(1)
        node.heads.note(BOB, 1)
        node.heads.forget(BOB)
        await trio.sleep(1)
        node.hear(ANN, 2_000)

    assert node.decide(answers) == (True, 2)


def test_a_new_node_whose_bootnodes_are_silent_begins_at_genesis() -> None:
    assert Newcomer().decide() == (False, FIRST_PEER_WAIT_S)


def test_a_new_node_without_bootnodes_waits_for_nobody() -> None:
    assert Newcomer(()).decide() == (False, 0)


def test_a_node_with_a_chain_waits_for_nobody() -> None:
    assert Newcomer(blocks=1).decide() == (False, 0)


def test_both_are_told_of_the_same_transactions_in_order() -> None:
    told: list[tuple[str, Sequence[PoolTransaction]]] = []
    pending: Sequence[PoolTransaction] = ()
    _both(lambda entries: told.append(("link", entries)), lambda entries: told.append(("gossip", entries)))(pending)
    assert told == [("link", pending), ("gossip", pending)]


def test_the_head_that_peers_are_told_of_is_the_newest() -> None:
    head = _HeadNow(3, b"\x03" * 32)
    assert head.read() == (3, b"\x03" * 32)
    head.move_to(4, b"\x04" * 32)
    assert head.read() == (4, b"\x04" * 32)
