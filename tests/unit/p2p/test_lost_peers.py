"""Whom to redial quickly: who stood beside this node for long."""

from p2p.lost_peers import FORGOTTEN_S, LASTING_S, MAX_LOST, LostPeers
from p2p.peer_id import PeerId


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(2, "big"))


def lost_after(lost: LostPeers, who: PeerId, lasted_s: float, now: float) -> None:
    lost.connected(who, now - lasted_s)
    lost.disconnected(who, now)


def test_who_was_connected_for_long_is_wanted_back_until_it_is_back() -> None:
    lost = LostPeers()
    lost_after(lost, peer(1), LASTING_S, now=100)
    lost_after(lost, peer(2), LASTING_S - 0.1, now=100)
    assert set(lost.wanted(now=200)) == {peer(1)}
    lost.connected(peer(1), 200)
    assert not lost.wanted(now=200)


def test_a_second_connection_does_not_make_the_first_a_short_one() -> None:
    lost = LostPeers()
    lost.connected(peer(1), 0)
    lost.connected(peer(1), 99)
    lost.disconnected(peer(1), 100)
    assert set(lost.wanted(now=100)) == {peer(1)}


def test_strangers_who_connect_for_a_moment_displace_nobody() -> None:
    lost = LostPeers()
    for number in range(4):
        lost_after(lost, peer(number), 3_600 + number, now=10_000)
    for number in range(100, 1_100):
        lost_after(lost, peer(number), 20, now=10_001)
    wanted = set(lost.wanted(now=10_002))
    assert {peer(number) for number in range(4)} < wanted
    assert len(wanted) == MAX_LOST


def test_who_is_banned_or_away_for_a_day_is_not_wanted() -> None:
    lost = LostPeers()
    lost_after(lost, peer(1), 60, now=100)
    lost_after(lost, peer(2), 60, now=100)
    lost.forget(peer(2))
    assert set(lost.wanted(now=99 + FORGOTTEN_S)) == {peer(1)}
    assert not lost.wanted(now=100 + FORGOTTEN_S)
    lost.disconnected(peer(2), 200)
    assert not lost.wanted(now=200), "what is forgotten was never connected"
