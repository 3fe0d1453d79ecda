"""Evidence of either form, and how the two are told apart in bytes: what one validator said, or a forged header.

Whatever holds, gossips, saves or carries evidence takes both. They differ in what follows: a contradiction is slashed
for ever, a forged header freezes its signers until governance has judged.
"""

from enum import IntEnum

from consensus.evidence import Evidence, accused, decode_evidence, encode_evidence
from consensus.forged_header import ForgedHeader, encode_forged_header, signers_of_forgery, take_forged_header
from consensus.hashing import keccak256
from consensus.wire import DecodeError, WireReader, encode_unsigned

AnyEvidence = Evidence | ForgedHeader


class EvidenceForm(IntEnum):
    CONTRADICTION = 1
    FORGED_HEADER = 2


def indices_named(evidence: AnyEvidence) -> tuple[int, ...]:
    """Ascending indices of the accused, in the set of its height. Verifies nothing."""
    match evidence:
        case Evidence():
            return accused(evidence)
        case ForgedHeader():
            return signers_of_forgery(evidence)


def evidence_hash(evidence: AnyEvidence) -> bytes:
    """The keccak of what the form says, without the form: what the contract's events name it by."""
    match evidence:
        case Evidence():
            return keccak256(encode_evidence(evidence))
        case ForgedHeader():
            return keccak256(encode_forged_header(evidence))


def encode_any_evidence(evidence: AnyEvidence) -> bytes:
    """Form 1, then: length 2 and evidence; or a forged header (`encode_forged_header`)."""
    match evidence:
        case Evidence():
            encoded = encode_evidence(evidence)
            return bytes((EvidenceForm.CONTRADICTION,)) + encode_unsigned(len(encoded), 2, "evidence") + encoded
        case ForgedHeader():
            return bytes((EvidenceForm.FORGED_HEADER,)) + encode_forged_header(evidence)


def take_any_evidence(reader: WireReader) -> AnyEvidence:
    """Evidence of either form, with something behind it; `DecodeError` for anything else."""
    form = reader.unsigned(1, "form")
    if form == EvidenceForm.CONTRADICTION:
        return decode_evidence(reader.take(reader.unsigned(2, "evidence"), "evidence"))
    if form == EvidenceForm.FORGED_HEADER:
        return take_forged_header(reader)
    raise DecodeError("form", "1 or 2", str(form))


def decode_any_evidence(data: bytes) -> AnyEvidence:
    """The inverse of `encode_any_evidence`; `DecodeError` for anything else. Whether it holds is not looked at."""
    reader = WireReader(data)
    evidence = take_any_evidence(reader)
    reader.finish()
    return evidence
