"""What peers are told and asked, and how often: nobody makes a node talk without end or keeps it from catching up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.consensus_messages import Decided
from astralink_node.chain.messages import NotFound
from astralink_node.services import peer_talk
from astralink_node.services.peer_talk import (
    AHEAD_LIFETIME_MS,
    ANSWER_INTERVAL_MS,
    ASK_INTERVAL_MS,
    MAX_ANSWERS_PER_S,
    PeerTalk,
)
from consensus.certificate import decode_certificate
from consensus.gossip import BlockGossip, DecidedGossip, GossipMessage, HeightGossip, decode_gossip
from consensus.params import MAX_HEIGHT
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from tests.support.chains import LocalChain

OWN, ANN, BOB = PeerId(b"own"), PeerId(b"ann"), PeerId(b"bob")
HEAD = 3


@pytest.fixture(scope="module")
def chain() -> LocalChain:
    made = LocalChain()
    for _ in range(HEAD):
        made.produce()
    return made


class Bench:
    def __init__(self, chain: LocalChain) -> None:
        self.clock = MockClock()
        self.execution = InProcessExecution(chain.execution)
        network = MemoryNetwork()
        self.talk = PeerTalk(network.join(OWN), self.execution)
        self.note_height = partial(self.talk.note_height, head_height=HEAD)
        self._peers = {peer: network.join(peer) for peer in (ANN, BOB)}

    def heard(self, peer: PeerId = ANN) -> list[GossipMessage]:
        """What a peer was told since it was asked last."""
        received = self._peers[peer].receive_waiting(10_000)
        assert all(item.peer == OWN for item in received)
        return [decode_gossip(item.data) for item in received]

    def later(self, milliseconds: int) -> None:
        self.clock.jump(milliseconds / 1000)

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        trio.run(scenario, clock=self.clock)


@pytest.fixture
def bench(chain: LocalChain) -> Bench:
    return Bench(chain)


# --- Answers ---------------------------------------------------------------------------------------------------


def test_a_peer_that_lags_is_told_what_was_decided_where_it_is(bench: Bench, chain: LocalChain) -> None:
    decided = chain.execution.decided(2)
    assert isinstance(decided, Decided)

    async def scenario() -> None:
        await bench.note_height(ANN, 2, asks=True)
        assert bench.heard() == [DecidedGossip(decode_certificate(decided.certificate), decided.raw_block)]
        assert bench.heard(BOB) == []

    bench.run(scenario)


def test_who_does_not_ask_and_who_asks_for_what_is_not_decided_gets_no_answer(bench: Bench) -> None:
    async def scenario() -> None:
        await bench.note_height(ANN, 2, asks=False)
        for height in (0, HEAD + 1):
            await bench.note_height(ANN, height, asks=True)
        assert bench.heard() == []

    bench.run(scenario)


def test_one_height_is_told_to_a_peer_at_most_once_in_a_while_and_others_do_not_wait(bench: Bench) -> None:
    async def scenario() -> None:
        for _ in range(3):
            await bench.note_height(ANN, 1, asks=True)
        assert len(bench.heard()) == 1
        await bench.note_height(ANN, 2, asks=True)
        await bench.note_height(BOB, 1, asks=True)
        assert len(bench.heard()) == len(bench.heard(BOB)) == 1
        await bench.note_height(ANN, 2, asks=True)
        bench.later(ANSWER_INTERVAL_MS)
        await bench.note_height(ANN, 2, asks=True)
        assert len(bench.heard()) == 1

    bench.run(scenario)


def test_asking_for_ever_other_heights_is_bounded_too(bench: Bench) -> None:
    async def scenario() -> None:
        for _ in range(MAX_ANSWERS_PER_S):
            await bench.note_height(ANN, 1, asks=True)
            await bench.note_height(ANN, 2, asks=True)
        assert len(bench.heard()) == MAX_ANSWERS_PER_S
        await bench.note_height(BOB, 1, asks=True)
        assert len(bench.heard(BOB)) == 1, "another peer does not pay for it"
        bench.later(1000)
        await bench.note_height(ANN, 1, asks=True)
        assert len(bench.heard()) == 1

    bench.run(scenario)


def test_a_block_that_a_peer_wants_is_given_at_most_once_in_a_while(bench: Bench) -> None:
    async def scenario() -> None:
        for _ in range(3):
            bench.talk.give_block(ANN, 4, b"h" * 32, b"body")
        assert bench.heard() == [BlockGossip(4, b"body")]
        bench.later(ANSWER_INTERVAL_MS)
        bench.talk.give_block(ANN, 4, b"h" * 32, b"body")
        bench.talk.give_block(ANN, 4, b"i" * 32, b"another")
        assert bench.heard() == [BlockGossip(4, b"body"), BlockGossip(4, b"another")]

    bench.run(scenario)


def test_a_peer_that_is_remembered_longest_makes_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_talk, "MAX_REMEMBERED", 1)

    async def scenario() -> None:
        await bench.note_height(ANN, 1, asks=True)
        await bench.note_height(BOB, 1, asks=True)
        await bench.note_height(ANN, 1, asks=True)
        assert len(bench.heard()) == 2
        await bench.note_height(ANN, 1, asks=True)
        assert len(bench.heard()) == 0

    bench.run(scenario)


def test_what_execution_does_not_find_is_not_answered(bench: Bench) -> None:
    async def scenario() -> None:
        assert isinstance(await bench.execution.decided(HEAD + 5), NotFound)
        await bench.talk.note_height(ANN, HEAD + 5, HEAD + 9, asks=True)
        assert bench.heard() == []

    bench.run(scenario)


# --- Asking ----------------------------------------------------------------------------------------------------


def test_a_peer_that_is_clearly_ahead_is_asked_for_the_next_block_once_in_a_while(bench: Bench) -> None:
    async def scenario() -> None:
        await bench.note_height(ANN, HEAD + 2, asks=False)
        assert bench.heard() == [], "our own commit is on its way"
        for _ in range(3):
            await bench.note_height(ANN, HEAD + 3, asks=False)
        assert bench.heard() == [HeightGossip(HEAD + 1, 0)]
        bench.later(ASK_INTERVAL_MS)
        await bench.note_height(BOB, HEAD + 3, asks=False)
        assert bench.heard(BOB) == [HeightGossip(HEAD + 1, 0)]

    bench.run(scenario)


def test_whoever_brought_the_last_block_is_asked_for_the_next_whatever_others_claim(bench: Bench) -> None:
    async def scenario() -> None:
        await bench.note_height(BOB, MAX_HEIGHT, asks=True)
        assert bench.heard(BOB) == [HeightGossip(HEAD + 1, 0)]
        bench.talk.note_brought(ANN, HEAD + 1)
        bench.talk.height_begins(HEAD + 2)
        assert bench.heard() == [HeightGossip(HEAD + 2, 0)]
        assert bench.heard(BOB) == []

    bench.run(scenario)


def test_a_height_that_begins_is_asked_for_only_where_somebody_is_further(bench: Bench) -> None:
    async def scenario() -> None:
        bench.talk.height_begins(HEAD + 1)
        assert bench.heard() == []
        await bench.note_height(ANN, HEAD + 4, asks=False)
        bench.heard()
        bench.talk.height_begins(HEAD + 2)
        assert bench.heard() == [HeightGossip(HEAD + 2, 0)]
        bench.talk.height_begins(HEAD + 4)
        assert bench.heard() == []

    bench.run(scenario)


# --- Being caught up -------------------------------------------------------------------------------------------


def test_a_node_is_caught_up_while_nobody_seems_further(bench: Bench) -> None:
    async def scenario() -> None:
        assert bench.talk.is_caught_up(HEAD)
        await bench.note_height(ANN, HEAD + 1, asks=False)
        assert bench.talk.is_caught_up(HEAD), "it works at the same height"
        await bench.note_height(ANN, HEAD + 2, asks=False)
        assert not bench.talk.is_caught_up(HEAD)
        assert bench.talk.is_caught_up(HEAD + 1)

    bench.run(scenario)


def test_a_claim_counts_for_a_while_only_but_again_whenever_it_is_made(bench: Bench) -> None:
    """A liar can keep a validator with a lost history silent, and nobody else: OwnValidator.consider says why."""

    async def scenario() -> None:
        await bench.note_height(ANN, MAX_HEIGHT, asks=True)
        bench.later(AHEAD_LIFETIME_MS - 1)
        assert not bench.talk.is_caught_up(HEAD)
        bench.later(1)
        assert bench.talk.is_caught_up(HEAD)
        await bench.note_height(ANN, MAX_HEIGHT, asks=True)
        assert not bench.talk.is_caught_up(HEAD)

    bench.run(scenario)


def test_a_claim_that_was_overtaken_gives_way_to_a_smaller_one_that_was_not(bench: Bench) -> None:
    async def scenario() -> None:
        await bench.note_height(ANN, HEAD + 2, asks=False)
        await bench.talk.note_height(BOB, HEAD + 5, HEAD + 2, asks=False)
        assert not bench.talk.is_caught_up(HEAD + 2)

    bench.run(scenario)
