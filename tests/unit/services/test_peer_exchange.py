"""Who tells whom of whom: bounds, private addresses, what is passed over, and how often is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from astralink_node.services.peer_exchange import (
    FIRST_INTERVAL_S,
    MAX_ANSWER_BYTES,
    MAX_INTERVAL_S,
    MAX_SHARED,
    PEERS,
    PeerExchange,
)
from p2p.addresses import Address, parse_address
from p2p.identity import Identity
from p2p.memory_requests import MemoryRequests
from p2p.peer_id import PeerId
from p2p.peer_limits import TokenBucket
from p2p.request_protocol import MalformedRequest, Refused


def peer_of(number: int) -> PeerId:
    return Identity(number.to_bytes(32, "big")).peer_id


def listening(number: int, host: str = "8.8.0.1") -> Address:
    return Address(host, 30_000 + number, peer_of(number))


OWN, ANN, BOB = peer_of(1), peer_of(2), peer_of(3)
PUBLIC, PRIVATE = "8.8.8.8", "192.168.1.9"


class Bench:
    """An exchange of one node, and what it learned. `peers` and `known` may change at any time."""

    def __init__(self, known: Iterable[Address] = (), peers: Iterable[tuple[PeerId, str]] = ((ANN, PUBLIC),)) -> None:
        self.network = MemoryRequests()
        self.requests = self.network.join(OWN)
        self.known, self.peers = list(known), list(peers)
        self.learned: list[tuple[PeerId, list[Address]]] = []
        self.asked_at: list[float] = []
        self.exchange = PeerExchange(self.requests, lambda: self.peers, lambda: self.known, self._learn)

    def _learn(self, peer: PeerId, addresses: Iterable[Address]) -> None:
        self.learned.append((peer, list(addresses)))

    async def answer(self, peer: PeerId = ANN) -> list[Address]:
        answer = await self.exchange.answer(peer, b"")
        return [parse_address(line) for line in answer.decode("ascii").split("\n") if line]

    def give(self, answer: bytes | Callable[[], bytes], peer: PeerId = ANN) -> None:
        """What a peer says when it is asked."""

        async def says(_: PeerId, data: bytes) -> bytes:
            assert data == b""
            self.asked_at.append(trio.current_time())
            return answer if isinstance(answer, bytes) else answer()

        self.network.join(peer).serve(PEERS, says)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    trio.run(scenario, clock=MockClock(autojump_threshold=0))


def running(bench: Bench, seconds: float) -> None:
    """Let it ask for so long."""

    async def main() -> None:
        with trio.move_on_after(seconds):
            await bench.exchange.run()

    run(main)


# --- Answering -----------------------------------------------------------------------------------------------------


def test_a_peer_is_told_of_others_but_not_of_itself() -> None:
    async def main() -> None:
        bench = Bench([listening(2), listening(3), Address("8.8.0.9", 1), listening(4)])
        assert await bench.answer(ANN) == [listening(3), listening(4)]

    run(main)


@pytest.mark.parametrize(
    ("asks_from", "host", "is_told"),
    [
        (PUBLIC, "127.0.0.1", False),
        (PUBLIC, "10.1.2.3", False),
        (PUBLIC, PRIVATE, False),
        (PUBLIC, "fd00::1", False),
        (PUBLIC, "::1", False),
        (PUBLIC, "8.8.4.4", True),
        (PUBLIC, "2a00::1", True),
        (PUBLIC, "node.example", True),
        (PRIVATE, PRIVATE, True),
        (PRIVATE, "8.8.4.4", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("node.example", PRIVATE, False),
    ],
)
def test_private_addresses_are_told_only_to_peers_at_private_ones(asks_from: str, host: str, *, is_told: bool) -> None:
    async def main() -> None:
        bench = Bench([listening(7, host)], [(ANN, asks_from)])
        assert bool(await bench.answer(ANN)) == is_told

    run(main)


def test_who_is_no_peer_is_told_of_no_private_address() -> None:
    async def main() -> None:
        bench = Bench([listening(7, PRIVATE), listening(8)], [(ANN, PRIVATE)])
        assert await bench.answer(BOB) == [listening(8)]

    run(main)


def test_an_answer_is_bounded_in_lines_and_bytes_and_cuts_no_line() -> None:
    async def main() -> None:
        many = Bench([listening(number) for number in range(10, 200)])
        assert await many.answer() == [listening(number) for number in range(10, 10 + MAX_SHARED)]
        long = Bench([listening(number, f"{'n' * 300}.example") for number in range(10, 200)])
        answer = await long.exchange.answer(ANN, b"")
        assert len(answer) <= MAX_ANSWER_BYTES
        lines = answer.decode().split("\n")
        assert lines == [str(address) for address in long.known[: len(lines)]]
        assert MAX_ANSWER_BYTES - len(answer) < len(str(long.known[0])) + 1

    run(main)


def test_an_address_that_is_known_twice_takes_one_place() -> None:
    async def main() -> None:
        once = [listening(number) for number in range(10, 10 + MAX_SHARED)]
        bench = Bench([*once[:20], *once[:20], *once[20:]])
        assert await bench.answer() == once

    run(main)


def test_a_request_with_anything_in_it_is_malformed() -> None:
    async def main() -> None:
        with pytest.raises(MalformedRequest, match="expected an empty request"):
            await Bench().exchange.answer(ANN, b"x")

    run(main)


# --- Asking --------------------------------------------------------------------------------------------------------


def test_what_peers_say_is_learned_each_for_the_peer_that_it_names() -> None:
    bench = Bench(peers=[(ANN, PUBLIC), (BOB, PUBLIC)])
    bench.give(f"{listening(10)}\n{listening(11)}".encode())
    bench.give(str(listening(12)).encode(), BOB)
    running(bench, FIRST_INTERVAL_S + 0.1)
    assert sorted(bench.learned) == sorted((peer_of(n), [listening(n)]) for n in (10, 11, 12))


def test_lines_that_are_no_address_of_a_peer_are_passed_over() -> None:
    bench = Bench()
    peer = str(listening(10)).rpartition("/")[2]
    lines = [
        "",
        "rubbish",
        "/ip4/8.8.0.1/tcp/30010",
        f"/ip4/8.8.0.1/tcp/0/p2p/{peer}",
        f"/ip4/8.8.0.1/udp/1/p2p/{peer}",
    ]
    bench.give(lambda: "\n".join([*lines, "\xff", str(listening(11))]).encode("latin-1"))
    running(bench, FIRST_INTERVAL_S + 0.1)
    assert bench.learned == [(peer_of(11), [listening(11)])]


@given(st.binary(max_size=400))
def test_no_answer_of_a_stranger_does_harm(answer: bytes) -> None:
    bench = Bench()
    bench.give(answer)
    running(bench, FIRST_INTERVAL_S + 0.1)
    assert all(address.peer == peer for peer, (address,) in bench.learned)


def test_no_more_is_learned_of_one_answer_than_may_be_told() -> None:
    bench = Bench()
    bench.give(lambda: "\n".join(str(listening(number)) for number in range(10, 80)).encode())
    running(bench, FIRST_INTERVAL_S + 0.1)
    assert len(bench.learned) == MAX_SHARED


def test_what_is_known_is_not_learned() -> None:
    bench = Bench([listening(10)])
    bench.give(lambda: str(listening(10)).encode())
    running(bench, FIRST_INTERVAL_S + 0.1)
    assert bench.learned == []


def test_the_interval_doubles_up_to_its_bound_as_long_as_nothing_is_new() -> None:
    bench = Bench()
    bench.give(b"")
    running(bench, 300)
    assert bench.asked_at == [
        1,
        3,
        7,
        15,
        31,
        63,
        63 + MAX_INTERVAL_S,
        63 + 2 * MAX_INTERVAL_S,
        63 + 3 * MAX_INTERVAL_S,
    ]


def test_the_interval_begins_anew_when_something_is_learned() -> None:
    bench = Bench()
    bench.give(lambda: str(listening(10)).encode() if trio.current_time() > 10 else b"")
    running(bench, 20)
    assert bench.asked_at == [1, 3, 7, 15, 16, 18]


def test_what_was_heard_once_is_not_new_although_it_is_not_among_the_known() -> None:
    """A peer book may be full, or know the peer by another address already: `known` tells of neither."""
    bench = Bench()
    bench.give(f"{listening(10)}\n{listening(10, '8.8.0.2')}".encode())
    running(bench, 40)
    assert bench.asked_at == [1, 2, 4, 8, 16, 32]
    assert len(bench.learned) == 2 * len(bench.asked_at), "the book hears of it all the same"


def test_one_who_invents_new_addresses_does_not_make_us_flood_the_others() -> None:
    """Whoever asks more often than the protocol allows is charged for it: an inventor must not bring that about."""
    numbers = iter(range(100, 10_000))
    bench = Bench(peers=[(ANN, PUBLIC), (BOB, PUBLIC)])
    bench.give(lambda: str(listening(next(numbers), "8.8.0.3")).encode(), BOB)
    bucket = TokenBucket(PEERS.rate, PEERS.burst)
    refused: list[float] = []

    def count() -> bytes:
        if not bucket.take(1, trio.current_time()):
            refused.append(trio.current_time())
        return b""

    bench.give(count)
    running(bench, 600)
    assert refused == []


def test_a_peer_that_fails_does_not_keep_others_from_being_asked() -> None:
    bench = Bench(peers=[(ANN, PUBLIC), (BOB, PUBLIC)])

    async def refuses(_peer: PeerId, _data: bytes) -> bytes:
        raise Refused("no")

    bench.network.join(ANN).serve(PEERS, refuses)
    bench.give(str(listening(12)).encode(), BOB)
    running(bench, FIRST_INTERVAL_S + 0.1)
    assert bench.learned == [(peer_of(12), [listening(12)])]
