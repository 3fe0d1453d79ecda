"""Large messages between nodes in memory: fetched from any who has them, whoever fails, lies or stays silent."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from p2p import part_exchange
from p2p.memory_requests import MemoryRequester, MemoryRequests
from p2p.part_exchange import MAX_HELD, PARTS_PROTOCOL, FetchFailed, PartExchange
from p2p.parts import PART_BYTES, announce
from p2p.peer_id import PeerId
from p2p.reputation import Offence
from p2p.request_protocol import Failure, RequestFailed

DATA = bytes(range(251)) * 1_500  # six parts
OWN, A, B, C = (PeerId(name) for name in (b"own", b"a", b"b", b"c"))


class Nodes:
    def __init__(self) -> None:
        self.network = MemoryRequests()
        self.requesters: dict[PeerId, MemoryRequester] = {}
        self.offences: list[tuple[PeerId, Offence]] = []

    def node(self, name: PeerId) -> PartExchange:
        self.requesters[name] = self.network.join(name)
        return PartExchange(self.requesters[name], lambda peer, offence: self.offences.append((peer, offence)))

    def liar(self, name: PeerId) -> None:
        async def lie(peer: PeerId, request: bytes) -> bytes:
            return bytes(PART_BYTES)

        self.network.join(name).serve(PARTS_PROTOCOL, lie)


def test_message_is_fetched_from_who_offers_it() -> None:
    async def main() -> None:
        nodes = Nodes()
        own, other = nodes.node(OWN), nodes.node(A)
        assert await own.fetch(other.offer(DATA), lambda: [A]) == DATA
        assert len(nodes.requesters[OWN].asked) == 6
        assert await own.fetch(announce(DATA), list) == DATA, "a second time it is here"
        assert nodes.offences == []

    trio.run(main)


def test_what_was_fetched_is_given_to_others_only_when_it_is_offered() -> None:
    async def main() -> None:
        nodes = Nodes()
        own, author, third = nodes.node(OWN), nodes.node(A), nodes.node(B)
        announcement = author.offer(DATA)
        await own.fetch(announcement, lambda: [A])
        with pytest.raises(FetchFailed, match="expected 6 parts, 6 were not to be had"):
            await third.fetch(announcement, lambda: [OWN])
        own.offer_held(announcement.root)
        own.offer_held(bytes(32))
        assert await third.fetch(announcement, lambda: [OWN]) == DATA

    trio.run(main)


def test_sources_that_lack_it_or_lie_are_passed_over_and_liars_are_reported() -> None:
    async def main() -> None:
        nodes = Nodes()
        own, other = nodes.node(OWN), nodes.node(A)
        nodes.node(B)
        nodes.liar(C)
        gone = PeerId(b"gone")

        def sources() -> list[PeerId]:
            """The good one only after the others, whose answers might come too late otherwise."""
            return [gone, B, C, A] if nodes.offences else [gone, B, C]

        assert await own.fetch(other.offer(DATA), sources) == DATA
        assert {peer for peer, _ in nodes.offences} == {C}
        assert {offence for _, offence in nodes.offences} == {Offence.BAD_ANSWER}

    trio.run(main)


def test_source_that_announces_later_is_used_when_the_first_fail() -> None:
    async def main() -> None:
        nodes = Nodes()
        own, other = nodes.node(OWN), nodes.node(A)
        nodes.liar(C)
        looks = iter([[C], [C, A]])
        assert await own.fetch(other.offer(DATA), lambda: next(looks)) == DATA

    trio.run(main)


def test_silent_source_delays_a_message_for_a_moment_only() -> None:
    async def main() -> None:
        nodes = Nodes()
        own, other = nodes.node(OWN), nodes.node(A)
        nodes.network.join(B).serve(PARTS_PROTOCOL, never_answer)
        began = trio.current_time()
        assert await own.fetch(other.offer(DATA), lambda: [B, A]) == DATA
        assert trio.current_time() - began <= 2 * part_exchange.HEDGE_S

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_sources_that_are_all_silent_cost_a_timeout() -> None:
    async def main() -> None:
        nodes = Nodes()
        own = nodes.node(OWN)
        for name in (A, B):
            nodes.network.join(name).serve(PARTS_PROTOCOL, never_answer)
        began = trio.current_time()
        with pytest.raises(FetchFailed):
            await own.fetch(announce(DATA), lambda: [A, B])
        assert trio.current_time() - began <= PARTS_PROTOCOL.timeout_s + part_exchange.HEDGE_S

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def never_answer(peer: PeerId, request: bytes) -> bytes:
    await trio.sleep_forever()
    return b""


def test_fetch_ends_in_time_however_slowly_parts_come() -> None:
    async def main() -> None:
        nodes = Nodes()
        nodes.network.delay = lambda sender, receiver: 2.0
        own, other = nodes.node(OWN), nodes.node(A)
        announcement = other.offer(bytes(100 * PART_BYTES))
        began = trio.current_time()
        with pytest.raises(FetchFailed):
            await own.fetch(announcement, lambda: [A])
        assert trio.current_time() - began == part_exchange.FETCH_TIMEOUT_S

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_source_that_has_answered_enough_is_asked_again_later() -> None:
    async def main() -> None:
        nodes = Nodes()
        own, other = nodes.node(OWN), nodes.node(A)
        announcement = other.offer(DATA)
        answerer = nodes.requesters[A].answerers[PARTS_PROTOCOL.name]
        refused = iter([True, True, False] * 10)

        async def busy(peer: PeerId, request: bytes) -> bytes:
            if next(refused):
                raise RequestFailed(Failure.COME_BACK, A)
            return await answerer(peer, request)

        nodes.requesters[A].answerers[PARTS_PROTOCOL.name] = busy
        assert await own.fetch(announcement, lambda: [A]) == DATA

    trio.run(main, clock=MockClock(autojump_threshold=0))


REQUESTS = {
    "too short": b"",
    "too long": bytes(35),
    "an unknown message": bytes(34),
    "a part that is not there": announce(DATA).root + (6).to_bytes(2, "big"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_request_is_refused(name: str) -> None:
    async def main() -> None:
        nodes = Nodes()
        nodes.node(OWN)
        nodes.node(A).offer(DATA)
        with pytest.raises(RequestFailed) as caught:
            await nodes.requesters[OWN].request(A, PARTS_PROTOCOL, REQUESTS[name])
        assert caught.value.failure is Failure.REFUSED

    trio.run(main)


def test_held_messages_have_a_bound_and_the_oldest_go() -> None:
    async def main() -> None:
        nodes = Nodes()
        own, other = nodes.node(OWN), nodes.node(A)
        first = other.offer(b"first")
        for number in range(MAX_HELD - 1):
            other.offer(b"%d" % number)
        other.offer(b"first")
        assert await own.fetch(first, lambda: [A]) == b"first", "what is offered again is young again"
        for number in range(MAX_HELD, 2 * MAX_HELD):
            other.offer(b"%d" % number)
        with pytest.raises(FetchFailed):
            await nodes.node(B).fetch(first, lambda: [A])

    trio.run(main)


def test_held_messages_have_a_bound_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_exchange, "MAX_HELD_BYTES", 1_000_000)
    exchange = Nodes().node(A)
    for number in range(10):
        exchange.offer(bytes([number]) * 300_000)
        assert exchange.held_bytes <= 1_000_000
    assert exchange.held_bytes == 900_000
