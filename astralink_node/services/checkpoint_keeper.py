"""Gathers quantum-safe checkpoints: signs at an epoch's end, collects the others' signatures, offers what is complete.

A checkpoint is complete when more than two thirds of the power signed it with ML-DSA-65; whoever proposes next puts
it into its block, unless a block carries it already. Nothing here is needed for a block to be final.
"""

from typing import Final

from astralink_node.crypto import ml_dsa
from astralink_node.log import Log
from consensus.checkpoint import encode_checkpoint
from consensus.checkpoint_tally import (
    CheckpointSubject,
    CheckpointTally,
    add_checkpoint_vote,
    complete_checkpoint,
    verify_checkpoint_vote,
)
from consensus.gossip import CheckpointVote
from consensus.validator_set import ValidatorSet

MAX_EARLY_VOTES: Final = 512
"""Votes on a checkpoint whose block this node has not committed yet; further ones are dropped. Nobody can verify
them, so they are kept until the next epoch ends and not longer."""

_log = Log("checkpoint")


class CheckpointKeeper:
    """The checkpoint of the latest epoch that ended. Verifying takes a fifth of a millisecond a vote: call off-loop."""

    def __init__(self, genesis_hash: bytes) -> None:
        self._genesis_hash = genesis_hash
        self._tally: CheckpointTally | None = None
        self._complete = b""
        self._early: dict[CheckpointVote, None] = {}

    def begin(self, subject: CheckpointSubject, validator_set: ValidatorSet) -> None:
        """An epoch's last block is committed; what an earlier one still lacks is given up."""
        self._tally = CheckpointTally(subject, validator_set)
        self._complete = b""
        early, self._early = self._early, {}
        for vote in early:
            if vote.epoch == subject.epoch:
                self.add(vote)

    def add(self, vote: CheckpointVote) -> bool:
        """Take a vote in; whether it was of use."""
        tally = self._tally
        if tally is None or vote.epoch > tally.subject.epoch:
            if len(self._early) < MAX_EARLY_VOTES:
                self._early[vote] = None
            return False
        if vote.validator_index in tally.votes:
            return False
        if not verify_checkpoint_vote(vote, tally.subject, tally.validator_set, self._genesis_hash, ml_dsa.verify):
            return False
        self._tally = add_checkpoint_vote(tally, vote)
        checkpoint = complete_checkpoint(self._tally)
        if checkpoint is not None:
            if not self._complete:
                _log.info("checkpoint complete", epoch=checkpoint.epoch, height=checkpoint.height)
            self._complete = encode_checkpoint(checkpoint)
        return True

    @property
    def is_missing(self) -> bool:
        """An epoch ended whose checkpoint is not complete yet."""
        return self._tally is not None and not self._complete

    def own_vote(self, validator_index: int) -> CheckpointVote | None:
        """What this validator said, for repeating."""
        return None if self._tally is None else self._tally.votes.get(validator_index)

    def newest(self, carried_epoch: int) -> bytes:
        """The complete checkpoint, encoded, if it is newer than the one that the chain carries; else empty."""
        if self._tally is None or self._tally.subject.epoch <= carried_epoch:
            return b""
        return self._complete
