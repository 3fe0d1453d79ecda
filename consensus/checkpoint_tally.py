"""Gathers the ML-DSA-65 signatures under one epoch's checkpoint until more than 2/3 of the power has signed.

Votes come in verified (`verify_checkpoint_vote`). Values in, values out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from consensus.certificate import bitmap_of
from consensus.checkpoint import Checkpoint, VerifyOne
from consensus.gossip import CheckpointVote
from consensus.hashing import keccak256
from consensus.messages import checkpoint_sign_bytes, signing_root
from consensus.validator_set import ValidatorSet


@dataclass(frozen=True, slots=True)
class CheckpointSubject:
    """What correct validators sign at an epoch's end, as this node's own chain has it."""

    epoch: int
    height: int
    block_hash: bytes
    next_set_hash: bytes


@dataclass(frozen=True, slots=True)
class CheckpointTally:
    subject: CheckpointSubject
    validator_set: ValidatorSet
    """Votes at the checkpoint's height."""
    votes: Mapping[int, CheckpointVote] = field(default_factory=dict)

    @property
    def power(self) -> int:
        return sum(self.validator_set.validators[index].power for index in self.votes)


def verify_checkpoint_vote(
    vote: CheckpointVote,
    subject: CheckpointSubject,
    validator_set: ValidatorSet,
    genesis_hash: bytes,
    verify: VerifyOne,
) -> bool:
    """Whether the vote is on `subject` and signed with the key that the very member it names has registered."""
    named = CheckpointSubject(vote.epoch, vote.height, vote.block_hash, vote.next_set_hash)
    if named != subject or vote.validator_index >= len(validator_set):
        return False
    if keccak256(vote.key) != validator_set.validators[vote.validator_index].ml_dsa_key_hash:
        return False
    message = signing_root(
        checkpoint_sign_bytes(genesis_hash, vote.epoch, vote.height, vote.block_hash, vote.next_set_hash)
    )
    return verify(vote.key, message, vote.signature)


def add_checkpoint_vote(tally: CheckpointTally, vote: CheckpointVote) -> CheckpointTally:
    """The tally with a verified vote. ML-DSA signatures are hedged: the first of a validator stays."""
    if vote.validator_index in tally.votes:
        return tally
    return CheckpointTally(tally.subject, tally.validator_set, {**tally.votes, vote.validator_index: vote})


def complete_checkpoint(tally: CheckpointTally) -> Checkpoint | None:
    """The checkpoint, once it is one; it holds every vote there is."""
    if not tally.validator_set.has_quorum(tally.power):
        return None
    votes = [vote for _, vote in sorted(tally.votes.items())]
    subject = tally.subject
    return Checkpoint(
        epoch=subject.epoch,
        height=subject.height,
        block_hash=subject.block_hash,
        next_set_hash=subject.next_set_hash,
        signers=bitmap_of(tally.votes, len(tally.validator_set)),
        keys=tuple(vote.key for vote in votes),
        signatures=tuple(vote.signature for vote in votes),
    )
