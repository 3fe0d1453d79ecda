"""Gathering a checkpoint: whose vote counts, when it is complete, and that what comes out verifies as one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astralink_node.crypto import ml_dsa
from consensus.checkpoint import verify_checkpoint
from consensus.checkpoint_tally import (
    CheckpointSubject,
    CheckpointTally,
    add_checkpoint_vote,
    complete_checkpoint,
    verify_checkpoint_vote,
)
from consensus.gossip import CheckpointVote
from consensus.validator_set import ValidatorSet
from tests.support.signed_messages import BLOCK, GENESIS, OTHER_BLOCK, SignedSet

SET = SignedSet(4)
SUBJECT = CheckpointSubject(epoch=1, height=199, block_hash=BLOCK, next_set_hash=SET.set.hash)
VOTES = [SET.checkpoint_vote(index, SUBJECT) for index in range(4)]


def holds(vote: CheckpointVote, subject: CheckpointSubject = SUBJECT, genesis_hash: bytes = GENESIS) -> bool:
    return verify_checkpoint_vote(vote, subject, SET.set, genesis_hash, ml_dsa.verify)


def tally_of(*votes: CheckpointVote, validator_set: ValidatorSet = SET.set) -> CheckpointTally:
    tally = CheckpointTally(SUBJECT, validator_set)
    for vote in votes:
        tally = add_checkpoint_vote(tally, vote)
    return tally


def test_a_members_vote_on_the_subject_holds() -> None:
    assert all(holds(vote) for vote in VOTES)


@pytest.mark.parametrize(
    "change",
    [{"epoch": 2}, {"height": 200}, {"block_hash": OTHER_BLOCK}, {"next_set_hash": OTHER_BLOCK}],
    ids=lambda change: next(iter(change)),
)
def test_a_vote_on_something_else_does_not_hold_even_if_it_is_signed(change: dict[str, object]) -> None:
    other = replace(SUBJECT, **change)  # type: ignore[arg-type]
    assert holds(SET.checkpoint_vote(0, other), other)
    assert not holds(SET.checkpoint_vote(0, other))
    assert not holds(replace(VOTES[0], **change)), "the signature is for other values"  # type: ignore[arg-type]


def test_a_vote_with_another_members_key_does_not_hold() -> None:
    assert not holds(SET.checkpoint_vote(0, SUBJECT, key_of=1))
    assert not holds(replace(VOTES[0], validator_index=1))
    assert not holds(replace(VOTES[0], key=VOTES[1].key))


def test_a_vote_of_nobody_and_a_signature_for_another_chain_do_not_hold() -> None:
    assert not holds(replace(VOTES[0], validator_index=4))
    assert not holds(VOTES[0], genesis_hash=bytes(32))
    assert not holds(replace(VOTES[0], signature=bytes(3309)))


def test_the_first_vote_of_a_validator_stays() -> None:
    """ML-DSA signatures are hedged: the same member may send different ones for the same words."""
    again = replace(VOTES[0], signature=VOTES[1].signature)
    tally = tally_of(VOTES[0], again)
    assert tally.votes == {0: VOTES[0]}
    assert tally.power == 1


def test_adding_returns_a_new_tally() -> None:
    before = tally_of(VOTES[0])
    after = add_checkpoint_vote(before, VOTES[1])
    assert set(before.votes) == {0}
    assert set(after.votes) == {0, 1}


def test_a_checkpoint_is_complete_with_more_than_two_thirds_of_the_power_and_not_before() -> None:
    assert complete_checkpoint(tally_of(VOTES[3], VOTES[0])) is None
    checkpoint = complete_checkpoint(tally_of(VOTES[3], VOTES[0], VOTES[2]))
    assert checkpoint is not None
    assert checkpoint.signers == b"\x0d"
    assert checkpoint.keys == (VOTES[0].key, VOTES[2].key, VOTES[3].key), "in the order of the set"
    verify_checkpoint(checkpoint, SET.set, GENESIS, ml_dsa.verify)


def test_exactly_two_thirds_are_not_enough() -> None:
    three = SignedSet(3)
    subject = replace(SUBJECT, next_set_hash=three.set.hash)
    votes = [three.checkpoint_vote(index, subject) for index in range(3)]
    tally = CheckpointTally(subject, three.set, {0: votes[0], 1: votes[1]})
    assert complete_checkpoint(tally) is None
    assert complete_checkpoint(add_checkpoint_vote(tally, votes[2])) is not None


def test_further_votes_are_welcome_in_a_complete_checkpoint() -> None:
    checkpoint = complete_checkpoint(tally_of(*VOTES))
    assert checkpoint is not None
    assert checkpoint.signers == b"\x0f"
    verify_checkpoint(checkpoint, SET.set, GENESIS, ml_dsa.verify)
