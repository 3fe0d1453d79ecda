"""The keeper of checkpoints: early and foreign votes, when one is complete, and what a block is offered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astralink_node.crypto import ml_dsa
from astralink_node.services import checkpoint_keeper
from astralink_node.services.checkpoint_keeper import CheckpointKeeper
from consensus.checkpoint import NO_CHECKPOINT_EPOCH, decode_checkpoint, verify_checkpoint
from consensus.checkpoint_tally import CheckpointSubject
from consensus.gossip import CheckpointVote
from tests.support.signed_messages import BLOCK, GENESIS, OTHER_BLOCK, SignedSet

SET = SignedSet(4)
FIRST = CheckpointSubject(epoch=0, height=99, block_hash=BLOCK, next_set_hash=SET.set.hash)
SECOND = CheckpointSubject(epoch=1, height=199, block_hash=OTHER_BLOCK, next_set_hash=SET.set.hash)


def votes(subject: CheckpointSubject) -> list[CheckpointVote]:
    return [SET.checkpoint_vote(index, subject) for index in range(4)]


def begun(subject: CheckpointSubject = FIRST) -> CheckpointKeeper:
    keeper = CheckpointKeeper(GENESIS)
    keeper.begin(subject, SET.set)
    return keeper


def test_before_the_first_epoch_ends_there_is_nothing() -> None:
    keeper = CheckpointKeeper(GENESIS)
    assert not keeper.is_missing
    assert keeper.own_vote(0) is None
    assert keeper.newest(NO_CHECKPOINT_EPOCH) == b""


def test_a_checkpoint_is_offered_from_the_vote_on_that_completes_it_and_holds_later_ones_too() -> None:
    keeper = begun()
    zero, one, two, three = votes(FIRST)
    assert keeper.add(zero)
    assert keeper.add(three)
    assert keeper.is_missing
    assert keeper.newest(NO_CHECKPOINT_EPOCH) == b""
    assert keeper.add(one)
    assert not keeper.is_missing
    offered = decode_checkpoint(keeper.newest(NO_CHECKPOINT_EPOCH))
    verify_checkpoint(offered, SET.set, GENESIS, ml_dsa.verify)
    assert offered.signers == b"\x0b"
    assert keeper.add(two)
    assert decode_checkpoint(keeper.newest(NO_CHECKPOINT_EPOCH)).signers == b"\x0f"


def test_duplicates_are_of_no_use() -> None:
    keeper = begun()
    vote = SET.checkpoint_vote(0, FIRST)
    assert keeper.add(vote)
    assert not keeper.add(vote)
    assert not keeper.add(SET.checkpoint_vote(0, FIRST)), "nor is another signature under the same words"
    assert keeper.own_vote(0) == vote
    assert keeper.own_vote(1) is None


@pytest.mark.parametrize(
    "bad",
    [
        SET.checkpoint_vote(0, replace(FIRST, block_hash=OTHER_BLOCK)),
        SET.checkpoint_vote(0, replace(FIRST, height=98)),
        SET.checkpoint_vote(0, replace(FIRST, next_set_hash=OTHER_BLOCK)),
        SET.checkpoint_vote(0, FIRST, key_of=1),
        replace(SET.checkpoint_vote(0, FIRST), validator_index=4),
        replace(SET.checkpoint_vote(0, FIRST), signature=bytes(3309)),
    ],
    ids=["another block", "another height", "another set", "another's key", "nobody", "no signature"],
)
def test_a_vote_on_something_else_or_by_somebody_else_is_of_no_use_and_stops_no_good_one(bad: CheckpointVote) -> None:
    keeper = begun()
    assert not keeper.add(bad)
    assert keeper.add(SET.checkpoint_vote(0, FIRST))


def test_votes_that_come_before_the_block_are_counted_when_it_is_committed() -> None:
    keeper = CheckpointKeeper(GENESIS)
    early = votes(FIRST)
    for vote in early[:3]:
        assert not keeper.add(vote)
    keeper.begin(FIRST, SET.set)
    assert keeper.newest(NO_CHECKPOINT_EPOCH)
    for vote in votes(SECOND)[:3]:
        assert not keeper.add(vote)
    assert decode_checkpoint(keeper.newest(NO_CHECKPOINT_EPOCH)).epoch == 0
    keeper.begin(SECOND, SET.set)
    assert decode_checkpoint(keeper.newest(0)).epoch == 1


def test_bad_early_votes_do_not_count() -> None:
    keeper = CheckpointKeeper(GENESIS)
    for index in range(4):
        keeper.add(SET.checkpoint_vote(index, FIRST, key_of=(index + 1) % 4))
    keeper.begin(FIRST, SET.set)
    assert keeper.is_missing
    assert all(keeper.own_vote(index) is None for index in range(4))


def test_early_votes_are_bounded_and_each_is_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_keeper, "MAX_EARLY_VOTES", 3)
    keeper = CheckpointKeeper(GENESIS)
    zero, one, two, three = votes(FIRST)
    for vote in (zero, zero, one, zero, two, three):
        keeper.add(vote)
    keeper.begin(FIRST, SET.set)
    assert [keeper.own_vote(index) for index in range(4)] == [zero, one, two, None]


def test_votes_for_epochs_that_never_come_do_not_stand_in_the_way_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_keeper, "MAX_EARLY_VOTES", 2)
    keeper = begun()
    for height in (1, 2):
        keeper.add(SET.checkpoint_vote(0, replace(FIRST, epoch=2**64 - 1, height=height)))
    keeper.begin(SECOND, SET.set)
    third = CheckpointSubject(2, 299, BLOCK, SET.set.hash)
    early = SET.checkpoint_vote(1, third)
    keeper.add(early)
    keeper.begin(third, SET.set)
    assert keeper.own_vote(1) == early


def test_a_new_epoch_gives_up_what_the_last_one_lacked() -> None:
    keeper = begun()
    for vote in votes(FIRST)[:2]:
        keeper.add(vote)
    keeper.begin(SECOND, SET.set)
    assert not keeper.add(votes(FIRST)[2])
    assert keeper.is_missing
    assert keeper.newest(NO_CHECKPOINT_EPOCH) == b""


def test_a_checkpoint_that_a_block_carries_already_is_not_offered_again() -> None:
    keeper = begun(SECOND)
    for vote in votes(SECOND):
        keeper.add(vote)
    assert keeper.newest(NO_CHECKPOINT_EPOCH)
    assert keeper.newest(0)
    assert keeper.newest(1) == b""
    assert keeper.newest(2) == b""
