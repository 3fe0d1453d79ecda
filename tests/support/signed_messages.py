"""A set of validators with real keys, and what they sign: for tests in which signatures are verified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from astralink_node.crypto import bls, ml_dsa
from consensus.certificate import Certificate, bitmap_of
from consensus.checkpoint_tally import CheckpointSubject
from consensus.gossip import CheckpointVote
from consensus.hashing import keccak256
from consensus.height_machine import (
    BlockChecked,
    HeightContext,
    HeightState,
    StartHeight,
    VoteReceived,
    begin_height,
    step,
)
from consensus.messages import NO_ROUND, VoteType, checkpoint_sign_bytes, signing_root
from consensus.params import ConsensusParams
from consensus.proposer_selection import ProposerRotation, initial_priorities
from consensus.validator_set import Validator, ValidatorSet, canonical_order
from consensus.votes import SignedProposal, SignedVote
from tests.support.chains import checkpoint_seed, voting_secret

GENESIS = keccak256(b"genesis")
BLOCK, OTHER_BLOCK = keccak256(b"block"), keccak256(b"another block")
PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT


class SignedSet:
    """`count` validators of equal power, by index in the set."""

    def __init__(self, count: int = 4, genesis_hash: bytes = GENESIS) -> None:
        self.genesis_hash = genesis_hash
        numbers = {bls.public_key(voting_secret(number)): number for number in range(count)}
        members = canonical_order(
            Validator(key, keccak256(ml_dsa.public_key(checkpoint_seed(number))), 1, bytes(20))
            for key, number in numbers.items()
        )
        keys = [member.voting_key for member in members]
        self.set = ValidatorSet(members, bls.aggregate_public_keys_eip2537(keys))
        self.numbers = [numbers[key] for key in keys]
        """Whose secrets each member has (tests.support.chains)."""

    def vote(
        self,
        by: int,
        vote_type: VoteType = PREVOTE,
        block_hash: bytes = BLOCK,
        *,
        height: int = 5,
        round_: int = 0,
        valid_round: int = NO_ROUND,
        signer: int | None = None,
    ) -> SignedVote:
        """Signed by `by`, or in its name by another member."""
        unsigned = SignedVote(vote_type, height, round_, block_hash, valid_round, by, b"")
        return replace(
            unsigned, signature=self._sign(by if signer is None else signer, unsigned.sign_bytes(self.genesis_hash))
        )

    def proposal(
        self, by: int, block_hash: bytes = BLOCK, *, height: int = 5, round_: int = 0, valid_round: int = NO_ROUND
    ) -> SignedProposal:
        unsigned = SignedProposal(height, round_, block_hash, valid_round, b"")
        return replace(unsigned, signature=self._sign(by, unsigned.sign_bytes(self.genesis_hash)))

    def certificate(
        self,
        by: Iterable[int] = (0, 1, 2),
        vote_type: VoteType = PRECOMMIT,
        block_hash: bytes = BLOCK,
        *,
        height: int = 5,
        round_: int = 0,
    ) -> Certificate:
        votes = [self.vote(index, vote_type, block_hash, height=height, round_=round_) for index in by]
        signers = bitmap_of((vote.validator_index for vote in votes), len(self.set))
        signature = bls.aggregate([vote.signature for vote in votes])
        return Certificate(vote_type, height, round_, NO_ROUND, block_hash, signers, signature)

    def checkpoint_vote(self, by: int, subject: CheckpointSubject, *, key_of: int | None = None) -> CheckpointVote:
        """In the name of `by`, signed by it or by another member with that one's key."""
        seed = checkpoint_seed(self.numbers[by if key_of is None else key_of])
        message = signing_root(
            checkpoint_sign_bytes(
                self.genesis_hash, subject.epoch, subject.height, subject.block_hash, subject.next_set_hash
            )
        )
        return CheckpointVote(
            subject.epoch,
            subject.height,
            subject.block_hash,
            subject.next_set_hash,
            by,
            ml_dsa.public_key(seed),
            ml_dsa.sign(seed, message),
        )

    def state(self, height: int = 5, own_index: int | None = None) -> HeightState:
        """Before anything of that height has come; member r % count proposes round r."""
        rotation = ProposerRotation(initial_priorities(self.set), self.set)
        return begin_height(HeightContext(height, self.set, rotation, own_index, ConsensusParams()))

    def decided(self, height: int, block_hash: bytes = BLOCK, by: Iterable[int] = (0, 1, 2)) -> HeightState:
        """At which these precommits decided that block in round 0."""
        state, _ = step(self.state(height), StartHeight())
        for index in by:
            state, _ = step(state, VoteReceived(self.vote(index, PRECOMMIT, block_hash, height=height)))
        state, _ = step(state, BlockChecked(block_hash, True, 0, 0))
        assert state.decision is not None, "a quorum of precommits for a valid block decides"
        return state

    def _sign(self, by: int, sign_bytes: bytes) -> bytes:
        return bls.sign(voting_secret(self.numbers[by]), signing_root(sign_bytes))
