"""The status handshake over requests in memory: who is welcome, who is not and why, and what is known of each peer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from astralink_node.services.handshake import REFRESH_S, STATUS, ChainIdentity, Handshake
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.refused_peers import RefusedPeers
from consensus.peer_status import MAX_STATUS_BYTES, PeerStatus, decode_status, encode_status
from p2p.memory_requests import MemoryRequester, MemoryRequests
from p2p.peer_id import PeerId
from p2p.request_protocol import MalformedRequest, Refused

ANN, BOB, CAT = PeerId(b"ann"), PeerId(b"bob"), PeerId(b"cat")
GENESIS, OTHER_GENESIS = b"\x11" * 32, b"\x22" * 32
FORK_HEIGHT = 100
OLD = ChainIdentity(GENESIS, ((0, "prague"),))
NEW = ChainIdentity(GENESIS, ((0, "prague"), (FORK_HEIGHT, "osaka")))
START_MS = 1_700_000_000_000


class Member:
    """One node's handshake, its clock `ahead_ms` of the world's."""

    def __init__(
        self, network: MemoryRequests, peer: PeerId, identity: ChainIdentity, height: int, ahead_ms: int = 0
    ) -> None:
        self.peer = peer
        self.requests: MemoryRequester = network.join(peer)
        self.height = height
        self.heads = PeerHeads()
        self.parted: list[tuple[PeerId, str]] = []
        self.handshake = Handshake(
            self.requests,
            identity,
            lambda: (self.height, bytes([self.height % 256]) * 32),
            self.heads,
            lambda: START_MS + ahead_ms + round(trio.current_time() * 1_000),
            f"client of {peer.decode()}",
            lambda: [f"/dns/{peer.decode()}/tcp/30400"],
            lambda gone, why: self.parted.append((gone, why)),
            RefusedPeers(lambda: START_MS, lambda _: True),
        )
        self.requests.serve(STATUS, self.handshake.answer)

    async def greet(self, other: Member) -> str:
        return await self.handshake.greet(other.peer)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    trio.run(scenario, clock=MockClock(autojump_threshold=0))


def pair(ann: ChainIdentity, ann_height: int, bob: ChainIdentity, bob_height: int) -> tuple[Member, Member]:
    network = MemoryRequests()
    return Member(network, ANN, ann, ann_height), Member(network, BOB, bob, bob_height)


def test_nodes_of_one_chain_welcome_each_other_and_know_what_was_said() -> None:
    async def main() -> None:
        ann, bob = pair(NEW, 5, NEW, 9)
        assert (await ann.greet(bob), await bob.greet(ann)) == ("", "")
        known = ann.handshake.known[BOB].status
        assert known == bob.handshake.own_status()
        assert (known.head_height, known.head_hash) == (9, b"\x09" * 32)
        assert (known.client, known.addresses) == ("client of bob", ("/dns/bob/tcp/30400",))
        assert ann.heads.best() == 9
        assert bob.heads.best() == 5

    run(main)


def test_another_genesis_is_refused_on_both_sides_in_words() -> None:
    async def main() -> None:
        ann, bob = pair(NEW, 5, ChainIdentity(OTHER_GENESIS, NEW.forks), 9)
        ours, theirs = f"0x{GENESIS.hex()}", f"0x{OTHER_GENESIS.hex()}"
        assert await ann.greet(bob) == f"another chain: genesis {theirs}, ours is {ours}"
        assert await bob.greet(ann) == f"another chain: genesis {ours}, ours is {theirs}"
        for member in (ann, bob):
            assert not member.handshake.known
            assert member.heads.at_least(0) == []
        assert [refused.reason for refused in ann.handshake.refused.newest()] == [
            f"another chain: genesis {theirs}, ours is {ours}"
        ]

    run(main)


@pytest.mark.parametrize(
    ("ann_height", "bob_height"),
    [(3, FORK_HEIGHT), (FORK_HEIGHT, 3), (FORK_HEIGHT - 1, FORK_HEIGHT), (0, 5_000), (FORK_HEIGHT + 1, FORK_HEIGHT)],
)
def test_peers_on_both_sides_of_a_fork_are_welcome_while_one_catches_up(ann_height: int, bob_height: int) -> None:
    async def main() -> None:
        ann, bob = pair(NEW, ann_height, NEW, bob_height)
        assert (await ann.greet(bob), await bob.greet(ann)) == ("", "")

    run(main)


def test_a_node_without_the_fork_is_welcome_below_it_and_refused_beyond() -> None:
    async def main() -> None:
        ann, bob = pair(NEW, FORK_HEIGHT - 1, OLD, FORK_HEIGHT - 1)
        assert (await ann.greet(bob), await bob.greet(ann)) == ("", "")
        ann.height = bob.height = FORK_HEIGHT
        for one, other in ((ann, bob), (bob, ann)):
            why = await one.greet(other)
            assert why.startswith(f"other rules: fork digest 0x{other.handshake.own_status().fork_digest.hex()}")
            expected = one.handshake.own_status().fork_digest.hex()
            assert why.endswith(f"at height {FORK_HEIGHT}, by this node's genesis it is 0x{expected}")

    run(main)


@pytest.mark.parametrize("ahead_ms", [0, 700, -90_000])
def test_skew_is_measured_at_the_middle_of_the_round_trip(ahead_ms: int) -> None:
    async def main() -> None:
        network = MemoryRequests(lambda _from, _to: 0.15)
        ann, bob = Member(network, ANN, NEW, 1), Member(network, BOB, NEW, 1, ahead_ms)
        assert await ann.greet(bob) == ""
        known = ann.handshake.known[BOB]
        assert (known.round_trip_ms, known.skew_ms) == (300, ahead_ms)

    run(main)


def test_a_slow_way_back_shifts_the_skew_by_half_of_the_difference() -> None:
    async def main() -> None:
        network = MemoryRequests(lambda sender, _: 0.1 if sender == ANN else 0.5)
        ann, bob = Member(network, ANN, NEW, 1), Member(network, BOB, NEW, 1)
        assert await ann.greet(bob) == ""
        known = ann.handshake.known[BOB]
        assert (known.round_trip_ms, known.skew_ms) == (600, -200)

    run(main)


def test_a_peer_that_gives_no_status_is_not_welcome() -> None:
    async def main() -> None:
        network = MemoryRequests()
        ann, bob = Member(network, ANN, NEW, 1), network.join(BOB)
        assert (await ann.handshake.greet(BOB)).startswith("it gave no status: ")

        async def refuses(_peer: PeerId, _data: bytes) -> bytes:
            raise Refused("not today")

        bob.serve(STATUS, refuses)
        assert (await ann.handshake.greet(BOB)).endswith("the peer refused: not today")

        async def mumbles(_peer: PeerId, _data: bytes) -> bytes:
            return b"\x02 what"

        bob.serve(STATUS, mumbles)
        assert await ann.handshake.greet(BOB) == "its status is not understood: version: expected 1, found 2"

        async def babbles(_peer: PeerId, _data: bytes) -> bytes:
            return bytes(MAX_STATUS_BYTES + 1)

        bob.serve(STATUS, babbles)
        assert "longer than the protocol allows" in await ann.handshake.greet(BOB)
        assert not ann.handshake.known

    run(main)


@given(st.binary(max_size=MAX_STATUS_BYTES))
def test_a_request_that_is_no_status_is_malformed(data: bytes) -> None:
    async def main() -> None:
        ann = Member(MemoryRequests(), ANN, NEW, 1)
        try:
            answer = await ann.handshake.answer(BOB, data)
        except MalformedRequest:
            return
        assert decode_status(answer) == ann.handshake.own_status()
        assert encode_status(decode_status(data)) == data

    run(main)


def test_a_stranger_is_told_who_we_are_and_its_head_is_not_believed() -> None:
    async def main() -> None:
        ann, bob = pair(NEW, 5, ChainIdentity(OTHER_GENESIS, ()), 1_000)
        answer = await ann.handshake.answer(BOB, encode_status(bob.handshake.own_status()))
        assert decode_status(answer) == ann.handshake.own_status()
        assert ann.heads.best() == 0

    run(main)


def test_a_head_that_a_known_peer_shows_while_asking_is_noted() -> None:
    async def main() -> None:
        ann, bob = pair(NEW, 5, NEW, 9)
        shown = encode_status(replace(bob.handshake.own_status(), head_height=44, fork_digest=NEW.digest_at(44)))
        await ann.handshake.answer(BOB, shown)
        assert ann.heads.at_least(0) == [], "not greeted yet"
        assert await ann.greet(bob) == ""
        await ann.handshake.answer(BOB, shown)
        assert ann.heads.best() == 44
        lying = replace(bob.handshake.own_status(), genesis_hash=OTHER_GENESIS, head_height=99)
        await ann.handshake.answer(BOB, encode_status(lying))
        assert ann.heads.best() == 44

    run(main)


def test_a_peer_that_is_gone_is_forgotten_with_its_head() -> None:
    async def main() -> None:
        ann, bob = pair(NEW, 5, NEW, 9)
        assert await ann.greet(bob) == ""
        ann.handshake.forget(BOB)
        assert not ann.handshake.known
        assert ann.heads.at_least(0) == []
        ann.handshake.forget(BOB)  # twice is no mistake

    run(main)


# --- Asked again ---------------------------------------------------------------------------------------------------


def refreshing(scenario: Callable[[Member, Member], Awaitable[None]], delay_s: float = 0) -> None:
    """With ann asking everybody again; both know each other and stand just below a fork that bob does not know."""

    async def main() -> None:
        network = MemoryRequests(lambda _from, _to: delay_s)
        ann, bob = Member(network, ANN, NEW, FORK_HEIGHT - 5), Member(network, BOB, OLD, FORK_HEIGHT - 5)
        assert await ann.greet(bob) == ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ann.handshake.run)
            await scenario(ann, bob)
            nursery.cancel_scope.cancel()

    run(main)


def test_statuses_are_renewed_every_few_seconds() -> None:
    async def scenario(ann: Member, bob: Member) -> None:
        bob.height = FORK_HEIGHT - 2
        await trio.sleep(REFRESH_S - 1)
        assert ann.heads.best() == FORK_HEIGHT - 5
        await trio.sleep(2)
        assert ann.heads.best() == FORK_HEIGHT - 2
        assert ann.handshake.known[BOB].status.head_height == FORK_HEIGHT - 2
        await trio.sleep(3 * REFRESH_S)
        assert ann.requests.asked.count((BOB, STATUS.name)) == 5
        assert ann.parted == []

    refreshing(scenario)


def test_a_peer_whose_rules_part_from_ours_at_a_fork_is_let_go() -> None:
    async def scenario(ann: Member, bob: Member) -> None:
        bob.height = FORK_HEIGHT
        await trio.sleep(REFRESH_S + 1)
        ((peer, why),) = ann.parted
        assert peer == BOB
        assert why.startswith("other rules: ")
        assert not ann.handshake.known
        assert ann.heads.at_least(0) == []

    refreshing(scenario)


def test_a_peer_that_does_not_answer_once_is_kept() -> None:
    async def scenario(ann: Member, bob: Member) -> None:
        del bob.requests.answerers[STATUS.name]
        await trio.sleep(REFRESH_S + 1)
        assert BOB in ann.handshake.known
        assert ann.parted == []
        assert ann.heads.at_least(0) == [BOB]

    refreshing(scenario)


def test_a_peer_that_left_while_it_was_asked_is_not_known_afterwards() -> None:
    async def scenario(ann: Member, bob: Member) -> None:
        await trio.sleep(REFRESH_S + 1)
        assert ann.requests.asked[-1] == (BOB, STATUS.name), "the answer is on its way"
        ann.handshake.forget(BOB)
        await trio.sleep(5)
        assert not ann.handshake.known
        assert ann.heads.at_least(0) == []

    refreshing(scenario, delay_s=2)


def test_a_slow_peer_does_not_keep_others_from_being_asked() -> None:
    async def main() -> None:
        slow = False
        network = MemoryRequests(lambda _, receiver: 60 if slow and receiver == CAT else 0)
        ann, bob, cat = (Member(network, peer, NEW, 1) for peer in (ANN, BOB, CAT))
        assert [await ann.greet(other) for other in (bob, cat)] == ["", ""]
        slow, bob.height = True, 50
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ann.handshake.run)
            await trio.sleep(REFRESH_S + 1)
            assert ann.heads.best() == 50
            nursery.cancel_scope.cancel()

    run(main)


def test_own_status_is_of_the_moment() -> None:
    async def main() -> None:
        ann = Member(MemoryRequests(), ANN, NEW, FORK_HEIGHT - 1)
        before = ann.handshake.own_status()
        ann.height = FORK_HEIGHT
        await trio.sleep(2)
        after: PeerStatus = ann.handshake.own_status()
        assert (before.fork_digest, after.fork_digest) == (OLD.digest_at(0), NEW.digest_at(FORK_HEIGHT))
        assert before.fork_digest != after.fork_digest
        assert after.time_ms - before.time_ms == 2_000

    run(main)
