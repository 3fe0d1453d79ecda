"""Offences, points and bans."""

from __future__ import annotations

from p2p import reputation
from p2p.gossip_events import GossipOffence
from p2p.peer_id import PeerId
from p2p.reputation import FADING_A_SECOND, FIRST_BAN_S, MAX_BAN_S, NEEDED_BAN_S, POINTS, Ban, Offence, Reputation

PEER = PeerId(b"peer")


def test_every_offence_has_points_and_none_is_free() -> None:
    assert set(POINTS) == {*Offence, *GossipOffence}
    assert min(POINTS.values()) > 0


def test_a_lie_bans_at_once_and_a_slow_answer_does_not() -> None:
    scores = Reputation()
    assert scores.charge(PEER, Offence.LIED, 5) == Ban(PEER, 5 + FIRST_BAN_S, str(Offence.LIED))
    assert scores.charge(PeerId(b"other"), Offence.UNRELIABLE, 5) is None
    assert scores.points(PeerId(b"other"), 5) == POINTS[Offence.UNRELIABLE]
    assert scores.points(PeerId(b"stranger"), 5) == 0


def test_offences_add_up_to_a_ban() -> None:
    scores = Reputation()
    assert scores.charge(PEER, Offence.PROTOCOL_VIOLATION, 0) is None
    assert scores.charge(PEER, Offence.PROTOCOL_VIOLATION, 0) is not None


def test_points_fade_so_that_rare_mishaps_never_ban() -> None:
    scores = Reputation()
    seconds_to_fade = POINTS[Offence.UNRELIABLE] / FADING_A_SECOND
    for index in range(1000):
        assert scores.charge(PEER, Offence.UNRELIABLE, index * seconds_to_fade) is None
    assert scores.points(PEER, 1000 * seconds_to_fade) == 0


def test_each_ban_is_twice_as_long_up_to_a_day() -> None:
    scores = Reputation()
    lengths = []
    for _ in range(12):
        ban = scores.charge(PEER, Offence.LIED, 0)
        assert ban is not None
        lengths.append(ban.until)
    assert lengths[:3] == [FIRST_BAN_S, 2 * FIRST_BAN_S, 4 * FIRST_BAN_S]
    assert lengths[-1] == MAX_BAN_S


def test_a_validator_is_banned_for_seconds() -> None:
    ban = Reputation().charge(PEER, Offence.LIED, 0, is_needed=True)
    assert ban is not None
    assert ban.until == NEEDED_BAN_S


def test_a_clock_that_goes_back_forgives_nothing() -> None:
    scores = Reputation()
    scores.charge(PEER, Offence.PROTOCOL_VIOLATION, 1000)
    assert scores.points(PEER, 0) == POINTS[Offence.PROTOCOL_VIOLATION]


def test_the_peer_that_behaved_longest_is_forgotten() -> None:
    scores = Reputation()
    for index in range(reputation.MAX_REMEMBERED + 1):
        scores.charge(PeerId(b"%d" % index), Offence.PROTOCOL_VIOLATION, 0)
    assert scores.points(PeerId(b"0"), 0) == 0
    assert scores.points(PeerId(b"1"), 0) > 0
