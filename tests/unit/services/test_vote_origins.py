"""Which peer a validator's votes come from: learned, kept against a few from elsewhere, and changed when it moved."""

from __future__ import annotations

from astralink_node.services.vote_origins import MAX_CONFIDENCE, MAX_VALIDATORS, VoteOrigins
from p2p.peer_id import PeerId

KEY, OTHER_KEY = b"\xa1" * 48, b"\xa2" * 48
HOME, RELAY = PeerId(b"home"), PeerId(b"relay")


def test_the_first_who_brings_votes_is_taken_for_the_node() -> None:
    origins = VoteOrigins()
    assert origins.nodes_of([KEY]) == {}
    origins.note(KEY, HOME)
    assert origins.nodes_of([KEY, OTHER_KEY]) == {HOME: KEY}
    assert origins.nodes_of([OTHER_KEY]) == {}


def test_a_few_votes_that_others_brought_first_change_nothing() -> None:
    origins = VoteOrigins()
    for _ in range(20):
        for _ in range(3):
            origins.note(KEY, HOME)
        origins.note(KEY, RELAY)
    assert origins.nodes_of([KEY]) == {HOME: KEY}


def test_a_validator_that_moved_is_found_again() -> None:
    origins = VoteOrigins()
    for _ in range(1000):
        origins.note(KEY, HOME)
    for _ in range(MAX_CONFIDENCE):
        origins.note(KEY, RELAY)
    assert origins.nodes_of([KEY]) == {RELAY: KEY}


def test_what_is_remembered_is_bounded() -> None:
    origins = VoteOrigins()
    keys = [number.to_bytes(48, "big") for number in range(MAX_VALIDATORS + 5)]
    for number, key in enumerate(keys):
        origins.note(key, PeerId(number.to_bytes(4, "big")))
    assert len(origins.nodes_of(keys)) == MAX_VALIDATORS
