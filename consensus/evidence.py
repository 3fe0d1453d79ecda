"""Evidence: two testimonies of one validator that no correct validator gives both of.

A testimony is a signed vote or a certificate: an aggregate that verifies over keys of proven possession convicts
every signer in its bitmap, so evidence is two votes, two certificates, or one of each. Two kinds exist, and two
commit certificates of different rounds are neither by themselves. The second kind is the amnesia rule of the
accountable prevote (docs/specification.md, "Evidence"): a correct validator that precommitted a block in round r
prevotes a block later only with a polka of round r or above. Checking is pure: the curve comes in as a function.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from consensus.certificate import (
    MAX_CERTIFICATE_BYTES,
    Certificate,
    CertificateError,
    VerifyAggregate,
    decode_certificate,
    encode_certificate,
    signer_indices,
    verify_signers,
)
from consensus.messages import NIL, VoteType, signing_root
from consensus.params import ConsensusParams
from consensus.validator_set import ValidatorSet
from consensus.votes import SignedVote, decode_vote, encode_vote
from consensus.wire import DecodeError, WireReader

Testimony = SignedVote | Certificate

_VOTE_FORM = 1
_CERTIFICATE_FORM = 2


class EvidenceKind(IntEnum):
    DUPLICATE = 1
    """E1: different sign bytes for one height, round and type; another validRound alone suffices."""
    AMNESIA = 2
    """E2: a precommit for a block at round r, and a prevote for a block at r' > r with validRound < r."""


class EvidenceError(ValueError):
    """Evidence that convicts nobody. `rule` is a stable short name, the rest are facts."""

    def __init__(self, rule: str, expected: str, found: str) -> None:
        super().__init__(f"{rule}: expected {expected}, found {found}")
        self.rule = rule
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two testimonies. They stand in the order of their encodings, whichever way round they are given."""

    first: Testimony
    second: Testimony

    def __post_init__(self) -> None:
        if encode_testimony(self.first) > encode_testimony(self.second):
            first, second = self.second, self.first
            object.__setattr__(self, "first", first)
            object.__setattr__(self, "second", second)

    @property
    def height(self) -> int:
        """The height whose set names the accused; both testimonies share it wherever they contradict."""
        return self.first.height


# --- Who contradicts themselves ------------------------------------------------------------------------------


def contradiction(first: Testimony, second: Testimony) -> EvidenceKind | None:
    """How the two contradict each other, in either order; None as well if nobody gave both."""
    kind = _contradiction_of_words(first, second)
    return kind if kind is None or _common_signers(first, second) else None


def accused(evidence: Evidence) -> tuple[int, ...]:
    """Ascending indices, in the set of that height, of whoever gave both testimonies. Verifies nothing."""
    return _common_signers(evidence.first, evidence.second)


def verify_evidence(
    evidence: Evidence, validator_set: ValidatorSet, genesis_hash: bytes, verify_aggregate: VerifyAggregate
) -> tuple[int, ...]:
    """The convicted: indices in `validator_set`, which votes at the evidence's height. Raises `EvidenceError`.

    Whether it is too old is `is_expired`'s to say.
    """
    if _contradiction_of_words(evidence.first, evidence.second) is None:
        raise EvidenceError("contradiction", "a duplicate or an amnesiac vote", "testimonies that go together")
    convicted = accused(evidence)
    if not convicted:
        raise EvidenceError("accused", "a signer of both", "none")
    for testimony in (evidence.first, evidence.second):
        _verify_testimony(testimony, validator_set, genesis_hash, verify_aggregate)
    return convicted


def conflict_with(earlier: Iterable[Testimony], new: Testimony) -> Evidence | None:
    """Evidence made of `new` and the first of the earlier testimonies that contradicts it, if any does."""
    for testimony in earlier:
        if contradiction(testimony, new) is not None:
            return Evidence(testimony, new)
    return None


def is_expired(
    evidence_height: int, evidence_time_ms: int, head_height: int, head_time_ms: int, params: ConsensusParams
) -> bool:
    """Whether evidence has outlived *both* its ages: fast blocks alone must not let a crime of yesterday go."""
    return (
        head_height - evidence_height > params.evidence_max_age_blocks
        and head_time_ms - evidence_time_ms > params.evidence_max_age_ms
    )


def find_evidence(testimonies: Iterable[Testimony]) -> tuple[Evidence, ...]:
    """For a post-mortem: evidence that together names everyone who contradicts themselves in these testimonies.

    They must be verified: whoever a forged one names would be found guilty. Evidence that names nobody new at
    its height is left out, and what names many is preferred. The order of the testimonies does not matter. Work
    grows with n log n in the number of (testimony, signer) pairs.
    """
    ordered = sorted(set(testimonies), key=encode_testimony)
    given: dict[tuple[int, int], list[Testimony]] = {}
    # Those with many signers first: of two testimonies that say the same, the first is then the better one.
    for testimony in sorted(ordered, key=lambda testimony: -len(_signers(testimony))):
        for index in _signers(testimony):
            given.setdefault((testimony.height, index), []).append(testimony)
    candidates = {evidence for signed in given.values() for evidence in _contradictions_of_one(signed)}
    named: dict[int, set[int]] = {}
    chosen = []
    for evidence in sorted(candidates, key=lambda evidence: (-len(accused(evidence)), encode_evidence(evidence))):
        known = named.setdefault(evidence.height, set())
        if not known.issuperset(accused(evidence)):
            known.update(accused(evidence))
            chosen.append(evidence)
    return tuple(chosen)


# --- Bytes ---------------------------------------------------------------------------------------------------


def encode_testimony(testimony: Testimony) -> bytes:
    """Form 1 (1 a vote, 2 a certificate), length 2, encoding."""
    match testimony:
        case SignedVote():
            form, encoded = _VOTE_FORM, encode_vote(testimony)
        case Certificate():
            form, encoded = _CERTIFICATE_FORM, encode_certificate(testimony)
    return bytes((form,)) + len(encoded).to_bytes(2, "big") + encoded


def encode_evidence(evidence: Evidence) -> bytes:
    """Both testimonies, the one with the lower encoding first; at most 428 bytes."""
    return encode_testimony(evidence.first) + encode_testimony(evidence.second)


def decode_evidence(data: bytes) -> Evidence:
    """The inverse of `encode_evidence`; `DecodeError` for anything else. Whether it convicts is not looked at."""
    reader = WireReader(data)
    first, second = _take_testimony(reader), _take_testimony(reader)
    reader.finish()
    if encode_testimony(first) >= encode_testimony(second):
        raise DecodeError("evidence", "two testimonies in ascending order", "another order, or one twice")
    return Evidence(first, second)


# --- Helpers -------------------------------------------------------------------------------------------------


def _contradiction_of_words(first: Testimony, second: Testimony) -> EvidenceKind | None:
    """Whether both may be said by one correct validator, whoever said them."""
    if first.height != second.height:
        return None
    if first.vote_type is second.vote_type:
        same_words = first.block_hash == second.block_hash and first.valid_round == second.valid_round
        return None if first.round_ != second.round_ or same_words else EvidenceKind.DUPLICATE
    precommit, prevote = (first, second) if first.vote_type is VoteType.PRECOMMIT else (second, first)
    if NIL in (precommit.block_hash, prevote.block_hash):
        return None
    return EvidenceKind.AMNESIA if prevote.valid_round < precommit.round_ < prevote.round_ else None


def _signers(testimony: Testimony) -> tuple[int, ...]:
    match testimony:
        case SignedVote():
            return (testimony.validator_index,)
        case Certificate():
            return signer_indices(testimony.signers)


def _common_signers(first: Testimony, second: Testimony) -> tuple[int, ...]:
    others = frozenset(_signers(second))
    return tuple(index for index in _signers(first) if index in others)


def _verify_testimony(
    testimony: Testimony, validator_set: ValidatorSet, genesis_hash: bytes, verify_aggregate: VerifyAggregate
) -> None:
    match testimony:
        case SignedVote():
            index, count = testimony.validator_index, len(validator_set)
            if not 0 <= index < count:
                raise EvidenceError("signers", f"indices below {count}", f"{index}")
            try:
                message = signing_root(testimony.sign_bytes(genesis_hash))
            except ValueError as error:
                raise EvidenceError("vote", "values that may be signed", str(error)) from error
            key = validator_set.validators[index].voting_key
            if not verify_aggregate((key,), message, testimony.signature):
                raise EvidenceError("signature", f"a vote by validator {index}", "another")
        case Certificate():
            try:
                verify_signers(testimony, validator_set, genesis_hash, verify_aggregate)
            except CertificateError as error:
                raise EvidenceError(error.rule, error.expected, error.found) from error


def _contradictions_of_one(signed: Sequence[Testimony]) -> Iterator[Evidence]:
    """What one validator signed at one height: one duplicate a round and type, one amnesia a prevote at most."""
    slots: dict[tuple[VoteType, int], Testimony] = {}
    precommits: dict[int, Testimony] = {}
    for testimony in signed:
        kept = slots.setdefault((testimony.vote_type, testimony.round_), testimony)
        if _contradiction_of_words(kept, testimony) is not None:
            yield Evidence(kept, testimony)
        if testimony.vote_type is VoteType.PRECOMMIT and testimony.block_hash != NIL:
            precommits.setdefault(testimony.round_, testimony)
    rounds = sorted(precommits)
    for testimony in signed:
        if testimony.vote_type is VoteType.PREVOTE and testimony.block_hash != NIL:
            # The earliest lock above the prevote's validRound: if any lock contradicts it, this one does.
            at = bisect_right(rounds, testimony.valid_round)
            if at < len(rounds) and rounds[at] < testimony.round_:
                yield Evidence(precommits[rounds[at]], testimony)


def _take_testimony(reader: WireReader) -> Testimony:
    form = reader.unsigned(1, "form")
    encoded = reader.take(reader.unsigned(2, "length", maximum=MAX_CERTIFICATE_BYTES), "testimony")
    if form == _VOTE_FORM:
        return decode_vote(encoded)
    if form == _CERTIFICATE_FORM:
        return decode_certificate(encoded)
    raise DecodeError("form", "1 or 2", str(form))
