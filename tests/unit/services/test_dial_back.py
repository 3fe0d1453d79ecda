"""Asking peers to dial this node, and dialling for them: who may have what dialled, how often, and what is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.gateway.link_messages import DialedBack
from astralink_node.services.dial_back import (
    DIAL_BACK,
    DIALS_BURST,
    MAX_ADDRESS_BYTES,
    MAX_ADDRESSES,
    MAX_ASKED,
    MAX_DETAIL_BYTES,
    REUSE_S,
    Attempt,
    DialBack,
    Outcome,
    decode_addresses,
    decode_attempts,
    encode_addresses,
    encode_attempts,
    refusal_of,
)
from consensus.wire import DecodeError
from p2p.addresses import Address, parse_address, peer_id_text
from p2p.memory_requests import MemoryRequests
from p2p.peer_id import PeerId
from p2p.request_protocol import Failure, RequestFailed
from p2p.streams import DialFailed


def peer(number: int) -> PeerId:
    return PeerId(bytes([0x00, 36, 0x08, 0x01, 0x12, 32]) + bytes([number]) * 32)


OWN, OTHER, THIRD = peer(1), peer(2), peer(3)
PUBLIC = "/ip4/9.9.9.9/tcp/30400"


class Bench:
    """One node that asks, and others that answer with a dialler that reaches some addresses."""

    def __init__(self, advertised: list[str], others: tuple[PeerId, ...] = (OTHER,), origin: str = "9.9.9.9") -> None:
        self.requests = MemoryRequests()
        self.connected = [(other, "8.8.8.8") for other in others]
        self.reachable: set[Address] = set()
        self.dialled: list[Address] = []
        self.own = self.requests.join(OWN)
        self.node = DialBack(self.own, lambda: self.connected, lambda: advertised, self._dial)
        self.others = [
            DialBack(self.requests.join(other), lambda: [(OWN, origin)], list, self._dial) for other in others
        ]

    async def _dial(self, address: Address) -> None:
        self.dialled.append(address)
        if address not in self.reachable:
            raise DialFailed("connection refused")


def in_virtual_time(scenario: Callable[[], Awaitable[None]]) -> None:
    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_peer_dials_the_asker_as_itself_and_says_what_it_found() -> None:
    bench = Bench([PUBLIC, "/ip4/9.9.9.9/tcp/1"])
    bench.reachable = {parse_address(PUBLIC).with_peer(OWN)}

    async def scenario() -> None:
        name = peer_id_text(OTHER)
        assert await bench.node.check() == (
            DialedBack(name, PUBLIC, "reached", ""),
            DialedBack(name, "/ip4/9.9.9.9/tcp/1", "failed", "connection refused"),
        )
        assert {address.peer for address in bench.dialled} == {OWN}

    in_virtual_time(scenario)


def test_one_that_listens_on_every_address_is_dialled_where_it_came_from() -> None:
    bench = Bench(["/ip4/0.0.0.0/tcp/30400"])
    bench.reachable = {parse_address(PUBLIC).with_peer(OWN)}

    async def scenario() -> None:
        (report,) = await bench.node.check()
        assert (report.address, report.outcome) == ("/ip4/0.0.0.0/tcp/30400", "reached")

    in_virtual_time(scenario)


def test_without_addresses_or_peers_nobody_is_asked() -> None:
    async def scenario() -> None:
        assert await Bench([]).node.check() == ()
        assert await Bench([PUBLIC], others=()).node.check() == ()

    in_virtual_time(scenario)


def test_a_few_peers_are_asked_and_their_answers_serve_for_a_while() -> None:
    bench = Bench([PUBLIC], others=tuple(peer(number) for number in range(2, 9)))

    async def scenario() -> None:
        first = await bench.node.check()
        assert len(first) == MAX_ASKED
        assert await bench.node.check() is first
        assert len(bench.own.asked) == MAX_ASKED
        await trio.sleep(REUSE_S)
        await bench.node.check()
        assert len(bench.own.asked) == 2 * MAX_ASKED

    in_virtual_time(scenario)


def test_checks_at_once_are_one() -> None:
    bench = Bench([PUBLIC])

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(bench.node.check)
        assert len(bench.own.asked) == 1

    in_virtual_time(scenario)


def test_a_peer_that_does_not_answer_leaves_the_question_open() -> None:
    bench = Bench([PUBLIC])
    bench.requests.leave(OTHER)

    async def scenario() -> None:
        (report,) = await bench.node.check()
        assert (report.outcome, report.detail) == ("unanswered", "not connected")

    in_virtual_time(scenario)


@pytest.mark.parametrize("answer", [b"", b"\x00", b"\x01", b"\x01\x00\x01", b"\x01\x00\x01\x07", b"\x01\x00\x00more"])
def test_an_answer_that_means_nothing_leaves_it_open(answer: bytes) -> None:
    bench = Bench([PUBLIC])

    async def rubbish(_: PeerId, __: bytes) -> bytes:
        return answer

    async def scenario() -> None:
        bench.requests.join(OTHER).serve(DIAL_BACK, rubbish)
        (report,) = await bench.node.check()
        assert report.outcome == "unanswered"
        assert report.detail.startswith("not understood: ")

    in_virtual_time(scenario)


def test_nothing_is_dialled_for_who_is_not_connected() -> None:
    bench = Bench([])

    async def scenario() -> None:
        stranger = bench.requests.join(THIRD)
        with pytest.raises(RequestFailed) as refused:
            await stranger.request(OTHER, DIAL_BACK, encode_addresses([PUBLIC]))
        assert refused.value.failure is Failure.REFUSED
        assert bench.dialled == []

    in_virtual_time(scenario)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x05" + b"\x00" * 5, b"\x01\x02/x", b"\x01\x01\xff", b"\x00\x00"])
def test_requests_that_mean_nothing_are_refused(data: bytes) -> None:
    bench = Bench([])

    async def scenario() -> None:
        with pytest.raises(RequestFailed) as refused:
            await bench.own.request(OTHER, DIAL_BACK, data)
        assert refused.value.failure is Failure.REFUSED
        assert bench.dialled == []

    in_virtual_time(scenario)


def test_what_all_peers_together_may_have_dialled_is_bounded() -> None:
    bench = Bench([])

    async def scenario() -> None:
        for _ in range(int(DIALS_BURST) // MAX_ADDRESSES):
            await bench.own.request(OTHER, DIAL_BACK, encode_addresses([PUBLIC] * MAX_ADDRESSES))
        with pytest.raises(RequestFailed, match="too many ask"):
            await bench.own.request(OTHER, DIAL_BACK, encode_addresses([PUBLIC]))
        assert len(bench.dialled) == DIALS_BURST
        await trio.sleep(60)
        await bench.own.request(OTHER, DIAL_BACK, encode_addresses([PUBLIC]))

    in_virtual_time(scenario)


@pytest.mark.parametrize(
    ("text", "asks_from", "reason"),
    [
        (PUBLIC, "9.9.9.9", ""),
        (PUBLIC, "8.8.8.8", ""),
        (PUBLIC, "127.0.0.1", ""),
        ("/ip4/127.0.0.1/tcp/1", "127.0.0.1", ""),
        ("/ip6/::1/tcp/1", "::1", ""),
        ("/ip4/10.0.0.7/tcp/1", "10.0.0.9", ""),
        ("/ip4/10.0.0.7/tcp/1", "127.0.0.1", ""),
        ("/ip4/127.0.0.1/tcp/1", "9.9.9.9", "a loopback address"),
        ("/ip4/127.0.0.1/tcp/1", "10.0.0.9", "a loopback address"),
        ("/ip4/127.9.9.9/tcp/1", "9.9.9.9", "a loopback address"),
        ("/ip6/::1/tcp/1", "9.9.9.9", "a loopback address"),
        ("/ip6/::ffff:127.0.0.1/tcp/1", "9.9.9.9", "a loopback address"),
        ("/ip4/10.0.0.7/tcp/1", "9.9.9.9", "a private address"),
        ("/ip4/192.168.1.1/tcp/80", "9.9.9.9", "a private address"),
        ("/ip6/::ffff:10.0.0.1/tcp/80", "9.9.9.9", "a private address"),
        ("/ip6/fd00::1/tcp/80", "9.9.9.9", "a private address"),
        ("/ip4/0.0.0.0/tcp/1", "127.0.0.1", "nobody else can use"),
        ("/ip4/169.254.169.254/tcp/80", "10.0.0.1", "nobody else can use"),
        ("/ip4/224.0.0.1/tcp/1", "9.9.9.9", "nobody else can use"),
        ("/ip6/fe80::1/tcp/1", "9.9.9.9", "nobody else can use"),
        ("/dns/localhost/tcp/1", "9.9.9.9", "names are not looked up"),
        ("/ip4/9.9.9.9/tcp/0", "9.9.9.9", "port 0"),
        (f"/ip4/9.9.9.9/tcp/1/p2p/{peer_id_text(OWN)}", "9.9.9.9", ""),
        (f"/ip4/9.9.9.9/tcp/1/p2p/{peer_id_text(THIRD)}", "9.9.9.9", "the address names another peer"),
    ],
)
def test_only_what_the_asker_could_own_is_dialled(text: str, asks_from: str, reason: str) -> None:
    found = refusal_of(parse_address(text), OWN, asks_from)
    assert found.startswith(reason)
    assert bool(found) is bool(reason)


def test_a_refused_address_is_not_dialled_and_the_others_are() -> None:
    bench = Bench(["/ip4/127.0.0.1/tcp/1", PUBLIC])

    async def scenario() -> None:
        refused, failed = await bench.node.check()
        assert (refused.outcome, failed.outcome) == ("refused", "failed")
        assert [address.host for address in bench.dialled] == ["9.9.9.9"]

    in_virtual_time(scenario)


# --- Bytes -----------------------------------------------------------------------------------------------------

printable = st.text(st.characters(min_codepoint=32, max_codepoint=126))


@given(st.lists(printable.map(lambda text: text[:MAX_ADDRESS_BYTES]), max_size=MAX_ADDRESSES))
def test_addresses_survive_the_wire(addresses: list[str]) -> None:
    encoded = encode_addresses(addresses)
    assert len(encoded) <= DIAL_BACK.max_request_bytes
    assert decode_addresses(encoded) == addresses


@given(st.lists(st.builds(Attempt, st.sampled_from(Outcome), st.text()), max_size=MAX_ADDRESSES))
def test_attempts_survive_the_wire_as_what_people_can_read(attempts: list[Attempt]) -> None:
    encoded = encode_attempts(attempts)
    assert len(encoded) <= DIAL_BACK.max_answer_bytes
    decoded = decode_attempts(encoded, len(attempts))
    assert [attempt.outcome for attempt in decoded] == [attempt.outcome for attempt in attempts]
    for attempt in decoded:
        assert len(attempt.detail) <= MAX_DETAIL_BYTES
        assert attempt.detail.isascii()


@given(st.binary(max_size=64), st.integers(0, MAX_ADDRESSES))
def test_any_bytes_are_decoded_or_refused(data: bytes, expected: int) -> None:
    for decode in (decode_addresses, lambda given: decode_attempts(given, expected)):
        try:
            decode(data)
        except DecodeError:
            continue


def test_an_outcome_of_a_later_version_is_a_failure() -> None:
    assert decode_attempts(b"\x01\x09\x00", 1) == [Attempt(Outcome.FAILED, "")]
