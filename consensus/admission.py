"""Which votes and proposals that arrive may be counted: those whose signature is by the member that they name.

Two invalid signatures whose errors cancel pass as a plain sum, so votes are admitted through a batch check that
weighs each signature (docs/specification.md, "Votes and proposals on the wire"). When a batch fails it is split
until the bad votes stand alone. Checks come in as functions; who sent a refused vote is known to the caller alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from consensus.messages import signing_root
from consensus.validator_set import ValidatorSet
from consensus.votes import SignedProposal, SignedVote

VerifyBatch = Callable[[Sequence[bytes], Sequence[bytes], Sequence[bytes]], bool]
"""(keys, messages, signatures) -> whether every single one holds; astralink_node.crypto.bls.batch_verify.

It must answer False where any signature fails, also where the errors of several cancel.
"""

VerifyOne = Callable[[bytes, bytes, bytes], bool]
"""(voting key, message, signature) -> whether it holds; astralink_node.crypto.bls.verify."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A batch of votes, divided; both parts in the order of arrival."""

    admitted: tuple[SignedVote, ...]
    refused: tuple[SignedVote, ...]
    """Not signed by whom they name, so they say something about their senders only."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """A vote beside what its signature must verify against."""

    position: int
    key: bytes
    message: bytes
    signature: bytes


def admit_votes(
    votes: Sequence[SignedVote], validator_set: ValidatorSet, genesis_hash: bytes, verify_batch: VerifyBatch
) -> Admission:
    """Divide votes for heights at which `validator_set` votes.

    A vote that names nobody, or that nobody may sign, is refused without touching the curve. b bad votes among n
    cost about 2 * b * log2(n) further checks, at most 2 * n; the caller bounds n.
    """
    claims = []
    refused = set()
    for position, vote in enumerate(votes):
        claim = _claim(position, vote, validator_set, genesis_hash)
        if claim is None:
            refused.add(position)
        else:
            claims.append(claim)
    refused.update(_bad_positions(claims, verify_batch))
    return Admission(
        admitted=tuple(vote for position, vote in enumerate(votes) if position not in refused),
        refused=tuple(vote for position, vote in enumerate(votes) if position in refused),
    )


def admit_proposal(
    proposal: SignedProposal,
    proposer_index: int,
    validator_set: ValidatorSet,
    genesis_hash: bytes,
    verify_one: VerifyOne,
) -> bool:
    """Whether the proposal is signed by the member that proposes in its height and round: `proposer_index`."""
    try:
        message = signing_root(proposal.sign_bytes(genesis_hash))
    except ValueError:
        return False  # values that nobody may sign
    return verify_one(validator_set.validators[proposer_index].voting_key, message, proposal.signature)


def _claim(position: int, vote: SignedVote, validator_set: ValidatorSet, genesis_hash: bytes) -> _Claim | None:
    if not 0 <= vote.validator_index < len(validator_set):
        return None
    try:
        message = signing_root(vote.sign_bytes(genesis_hash))
    except ValueError:
        return None  # values that nobody may sign
    # The tally reads the power of this same entry: never one by index and the other by address (CSA-2026-001).
    member = validator_set.validators[vote.validator_index]
    return _Claim(position, member.voting_key, message, vote.signature)


def _bad_positions(claims: Sequence[_Claim], verify_batch: VerifyBatch) -> list[int]:
    """Positions of the claims that do not hold, by splitting each failing batch in halves."""
    bad = []
    pending = [claims] if claims else []
    while pending:
        batch = pending.pop()
        if verify_batch(
            [claim.key for claim in batch], [claim.message for claim in batch], [claim.signature for claim in batch]
        ):
            continue
        if len(batch) == 1:
            bad.append(batch[0].position)
            continue
        half = len(batch) // 2
        pending += [batch[:half], batch[half:]]
    return bad
