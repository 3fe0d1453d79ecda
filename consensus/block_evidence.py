"""Evidence as a block carries it: together with the set that it accuses, so that nobody needs a past of their own.

The parent state holds the hash of every epoch's set (docs/staking.md, "Evidence in blocks"); an item brings the
set's encoding, which must have that hash. So a node that joined yesterday judges last week's crime as everybody
else does. Checking is pure: the curve and the record come in.
"""

from collections.abc import Callable
from dataclasses import dataclass

from consensus.evidence import EvidenceError, is_expired
from consensus.evidence_forms import AnyEvidence, encode_any_evidence, take_any_evidence
from consensus.forged_header import ForgedHeader, check_history
from consensus.params import ConsensusParams
from consensus.validator_set import Validator, ValidatorSet, decode_validator_set, encode_validator_set
from consensus.wire import WireReader

MAX_ITEMS = 4
"""In one block. Each takes two pairing checks at most, and names validators once and for all."""

VerifyEvidence = Callable[[AnyEvidence, ValidatorSet], tuple[int, ...]]
"""(evidence, the set of its height) -> ascending indices of those whom it convicts; raises `EvidenceError`."""


@dataclass(frozen=True, slots=True)
class CarriedEvidence:
    evidence: AnyEvidence
    validator_set: ValidatorSet
    """That voted at the evidence's height."""


@dataclass(frozen=True, slots=True)
class SetRecord:
    """What the parent state says of an epoch."""

    set_hash: bytes
    """Of the set that votes in it; zero if nothing is recorded."""
    time_ms: int
    """When it began: the age of every evidence of that epoch counts from here."""


def encode_carried(item: CarriedEvidence) -> bytes:
    """Evidence with its form (`encode_any_evidence`), set (`encode_validator_set`)."""
    return encode_any_evidence(item.evidence) + encode_validator_set(item.validator_set)


def decode_carried(data: bytes) -> CarriedEvidence:
    """The inverse of `encode_carried`; `DecodeError` for anything else. Whether it convicts is not looked at."""
    reader = WireReader(data)
    evidence = take_any_evidence(reader)
    return CarriedEvidence(evidence, decode_validator_set(reader.rest()))


def check_age(
    evidence: AnyEvidence,
    record: SetRecord,
    *,
    height: int,
    parent_time_ms: int,
    params: ConsensusParams,
) -> None:
    """Raises `EvidenceError` unless a block at `height` may still judge it, and the state knows who voted."""
    if not 1 <= evidence.height < height:
        raise EvidenceError("height", f"1 to {height - 1}", str(evidence.height))
    if not any(record.set_hash):
        raise EvidenceError("epoch", "one whose set is recorded", f"that of height {evidence.height}")
    if is_expired(evidence.height, record.time_ms, height - 1, parent_time_ms, params):
        raise EvidenceError("age", "evidence that has not expired", f"height {evidence.height}")
    if isinstance(evidence, ForgedHeader):
        check_history(evidence.height, height=height)


def convicted(item: CarriedEvidence, record: SetRecord, verify: VerifyEvidence) -> tuple[Validator, ...]:
    """The members whom it names, in the set's order. Raises `EvidenceError`; `check_age` comes first."""
    if item.validator_set.hash != record.set_hash:
        raise EvidenceError("set", record.set_hash.hex(), item.validator_set.hash.hex())
    return tuple(item.validator_set.validators[index] for index in verify(item.evidence, item.validator_set))
