"""Whom the keeper dials when a connection is lost, by a clock of the test's, over a host that only notes the dials."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from p2p.addresses import Address
from p2p.connection_keeper import CUT_OFF, CUT_OFF_ATTEMPTS, ConnectionKeeper
from p2p.dialer import MAX_RETRY_S, MAX_URGENT_RETRY_S, Dialer
from p2p.libp2p_host import Host
from p2p.lost_peers import LASTING_S
from p2p.peer_book import PeerBook
from p2p.peer_id import PeerId
from p2p.streams import Connected, Connection, DialFailed, Disconnected, HostEvent

OWN, OTHER = PeerId(b"b"), PeerId(b"c")
ELSEWHERE = Address("192.0.2.1", 4001, OTHER)


class DialNotes:
    """As much of a host as the keeper uses. Nobody answers."""

    def __init__(self) -> None:
        self.own_id = OWN
        self.connections: dict[PeerId, Connection] = {}
        self.dials: list[float] = []
        self._say, self.events = trio.open_memory_channel[HostEvent](16)

    async def dial(self, addresses: Sequence[Address]) -> Connection:
        assert list(addresses) == [ELSEWHERE]
        self.dials.append(trio.current_time())
        raise DialFailed("nobody answered")

    def close_peer(self, peer: PeerId, reason: str) -> None:
        self.lose(peer, reason)

    async def accept(self, peer: PeerId) -> None:
        made = SimpleNamespace(peer=peer, address=Address("192.0.2.1", 50_000), outbound=False)
        self.connections[peer] = cast(Connection, made)
        await self._say.send(Connected(self.connections[peer]))

    def lose(self, peer: PeerId, reason: str = "silent") -> None:
        self._say.send_nowait(Disconnected(self.connections.pop(peer), reason, violated=False))


class Silence:
    def connected(self, connection: Connection) -> None:
        pass

    def disconnected(self, connection: Connection) -> None:
        pass


@pytest.mark.parametrize(
    ("lasted_s", "longest_wait_s"), [(LASTING_S, MAX_URGENT_RETRY_S), (LASTING_S - 1, MAX_RETRY_S)]
)
def test_who_was_connected_for_long_is_redialled_quickly_for_as_long_as_it_is_away(
    lasted_s: float, longest_wait_s: float
) -> None:
    host = DialNotes()
    book = PeerBook()
    keeper = ConnectionKeeper(cast(Host, host), book, Dialer(OWN, lambda: 0.0), lambda: 0.0, notice=lambda *_: None)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.run, Silence())
            await host.accept(OTHER)
            keeper.learn(OTHER, [ELSEWHERE])
            await trio.sleep(lasted_s)
            assert host.dials == [], "it is connected"
            host.lose(OTHER)
            await trio.sleep(600)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    waits = [later - sooner for sooner, later in zip(host.dials, host.dials[1:], strict=False)]
    assert max(waits) == pytest.approx(longest_wait_s)
    assert waits[-1] == pytest.approx(longest_wait_s), "however long it is away"


@pytest.mark.parametrize("others", [(), (PeerId(b"d"),)], ids=["alone", "with a peer"])
def test_a_node_that_reaches_no_bootnode_and_has_no_peer_is_cut_off(others: Sequence[PeerId]) -> None:
    host = DialNotes()
    noticed: list[str] = []
    keeper = ConnectionKeeper(
        cast(Host, host),
        PeerBook(),
        Dialer(OWN, lambda: 0.0),
        lambda: 7.0,
        bootnodes=[ELSEWHERE],
        notice=lambda what, peer, _: noticed.append(what) if peer == OTHER else None,
    )

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.run, Silence())
            for peer in others:
                await host.accept(peer)
            await trio.sleep(600)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(noticed) > CUT_OFF_ATTEMPTS.bit_length()
    assert [what == CUT_OFF for what in noticed] == [
        2**at >= CUT_OFF_ATTEMPTS and not others for at in range(len(noticed))
    ]
    assert [(address, trouble and trouble.reason) for address, trouble in keeper.bootnodes()] == [
        (ELSEWHERE, "nobody answered")
    ]
