"""Room for newcomers: who is turned away, and who makes room, at each bound on connections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.connections import Connections, client_key

LIMITS = GatewayLimits(connections=4, connections_per_client=3, websockets=3, websockets_per_client=2)
ALICE, BOB, CAROL = "192.0.2.1", "192.0.2.2", "192.0.2.3"


class Transport:
    def __init__(self, name: str = "") -> None:
        self.name = name
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def __repr__(self) -> str:
        return self.name


class Bench:
    def __init__(self) -> None:
        self.connections = Connections(LIMITS)

    def open(self, address: str, count: int = 1) -> list[Transport]:
        """So many connections that are let in."""
        opened = [Transport(f"{address} {number}") for number in range(count)]
        assert all(self.connections.opened(transport, address) for transport in opened)
        return opened

    def turned_away(self, address: str) -> bool:
        return not self.connections.opened(Transport(), address)


def test_a_newcomer_takes_the_place_of_the_one_that_waited_longest() -> None:
    bench = Bench()
    first, second = bench.open(ALICE, 2)
    bench.open(BOB, 2)
    bench.open(CAROL)
    assert (first.aborted, second.aborted, len(bench.connections)) == (True, False, 4)


def test_who_reaches_the_bound_of_one_client_makes_room_itself() -> None:
    bench = Bench()
    (other,) = bench.open(BOB)
    first, *_ = bench.open(ALICE, 4)
    assert (other.aborted, first.aborted, len(bench.connections)) == (False, True, 4)


def test_connections_whose_request_is_being_answered_are_kept() -> None:
    bench = Bench()
    first, second = bench.open(ALICE, 2)
    others = bench.open(BOB, 2)
    bench.connections.works(first)
    bench.open(CAROL)
    assert (first.aborted, second.aborted) == (False, True)
    for transport in [*others, first]:
        bench.connections.works(transport)
    assert [transport.aborted for transport in others] == [False, False]


def test_a_newcomer_is_turned_away_where_nobody_waits() -> None:
    bench = Bench()
    opened = [*bench.open(ALICE, 2), *bench.open(BOB, 2)]
    for transport in opened:
        bench.connections.works(transport)
    assert bench.turned_away(CAROL)
    bench.connections.closed(opened[0])
    bench.open(CAROL)
    assert not any(transport.aborted for transport in opened)


def test_waiting_again_puts_a_connection_at_the_end_and_dribbling_does_not() -> None:
    bench = Bench()
    first, second = bench.open(ALICE, 2)
    bench.open(BOB, 2)
    bench.connections.works(first)
    bench.connections.waits(first)
    bench.connections.waits(second)
    bench.open(CAROL)
    assert (first.aborted, second.aborted) == (False, True)


def test_websockets_are_bounded_for_each_client_and_for_all_and_keep_their_places() -> None:
    bench = Bench()
    mine, others = bench.open(ALICE, 2), bench.open(BOB, 2)
    assert all(bench.connections.becomes_websocket(transport) for transport in mine)
    assert bench.connections.becomes_websocket(others[0])
    assert not bench.connections.becomes_websocket(others[1])
    bench.connections.waits(mine[0])
    bench.open(CAROL)
    assert [transport.aborted for transport in [*mine, *others]] == [False, False, False, True]


def test_a_client_with_all_its_websockets_still_gets_requests_through() -> None:
    bench = Bench()
    first, second, third = bench.open(ALICE, 3)
    assert bench.connections.becomes_websocket(first)
    assert bench.connections.becomes_websocket(second)
    assert not bench.connections.becomes_websocket(third)
    bench.open(ALICE)
    assert third.aborted
    bench.connections.closed(first)
    (fourth,) = bench.open(ALICE)
    assert bench.connections.becomes_websocket(fourth)


def test_what_was_never_let_in_or_is_gone_already_changes_nothing() -> None:
    bench = Bench()
    stranger = Transport()
    bench.connections.waits(stranger)
    bench.connections.works(stranger)
    bench.connections.closed(stranger)
    assert not bench.connections.becomes_websocket(stranger)
    (known,) = bench.open(ALICE)
    bench.connections.closed(known)
    bench.connections.closed(known)
    assert len(bench.connections) == 0


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(address: str, key: str) -> None:
    assert client_key(address) == key


STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "waits", "works", "websocket", "closed"]), st.integers(0, 2), st.integers(0, 9)),
    max_size=60,
)


@given(STEPS)
def test_bounds_hold_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    bench = Bench()
    live: list[tuple[Transport, str]] = []
    websockets: set[Transport] = set()
    for step, client, pick in steps:
        live = [(transport, address) for transport, address in live if not transport.aborted]
        websockets = {transport for transport in websockets if not transport.aborted}
        if step == "open":
            transport, address = Transport(), (ALICE, BOB, CAROL)[client]
            if bench.connections.opened(transport, address):
                live.append((transport, address))
        elif live:
            transport, _ = live[pick % len(live)]
            if step == "waits":
                bench.connections.waits(transport)
            elif step == "works":
                bench.connections.works(transport)
            elif step == "closed":
                bench.connections.closed(transport)
                live = [entry for entry in live if entry[0] is not transport]
                websockets.discard(transport)
            elif transport not in websockets and bench.connections.becomes_websocket(transport):
                websockets.add(transport)
        live = [(transport, address) for transport, address in live if not transport.aborted]
        assert len(bench.connections) == len(live) <= LIMITS.connections
        assert len(websockets) <= LIMITS.websockets
        assert not any(transport.aborted for transport in websockets)
        for address in (ALICE, BOB, CAROL):
            own = [transport for transport, owner in live if owner == address]
            assert len(own) <= LIMITS.connections_per_client
            assert sum(transport in websockets for transport in own) <= LIMITS.websockets_per_client
