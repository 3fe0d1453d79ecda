"""A certificate: one aggregate BLS signature and a bitmap that stand for many votes of one round.

A commit certificate is made of precommits, a polka certificate of prevotes. Checking one is pure: the curve
comes in as a function. Signer and power are read from the same member of the set.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from consensus.messages import NIL, NO_ROUND, VoteType, read_vote_type, signing_root, vote_sign_bytes
from consensus.params import MAX_HEIGHT, MAX_ROUND, MAX_VALIDATORS
from consensus.validator_set import ValidatorSet
from consensus.wire import DecodeError, WireReader, encode_signed, encode_unsigned, exact_bytes

MAX_BITMAP_BYTES = (MAX_VALIDATORS + 7) // 8
MAX_CERTIFICATE_BYTES = 1 + 8 + 4 + 4 + 32 + 2 + MAX_BITMAP_BYTES + 96

VerifyAggregate = Callable[[Sequence[bytes], bytes, bytes], bool]
"""(voting keys, message, signature) -> whether the aggregate holds; astralink_node.crypto.bls.fast_aggregate_verify."""


class CertificateError(ValueError):
    """A certificate that does not certify. `rule` is a stable short name, the rest are facts."""

    def __init__(self, rule: str, expected: str, found: str) -> None:
        super().__init__(f"{rule}: expected {expected}, found {found}")
        self.rule = rule
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class Certificate:
    vote_type: VoteType
    height: int
    round_: int
    valid_round: int
    """-1 unless prevotes for a re-proposal are certified."""
    block_hash: bytes
    signers: bytes
    """Bitmap over the set's members, one bit each: member i is bit i % 8 (lowest first) of byte i // 8."""
    signature: bytes
    """96 bytes: the sum of the signers' signatures, compressed."""

    def sign_bytes(self, genesis_hash: bytes) -> bytes:
        """What every signer signed."""
        return vote_sign_bytes(
            genesis_hash, self.height, self.round_, self.vote_type, self.block_hash, self.valid_round
        )


def bitmap_of(indices: Iterable[int], count: int) -> bytes:
    """The bitmap of a set of `count` members in which those `indices` signed."""
    bitmap = bytearray((count + 7) // 8)
    for index in indices:
        if not 0 <= index < count:
            raise ValueError(f"signer: expected an index below {count}, found {index}")
        bitmap[index // 8] |= 1 << (index % 8)
    return bytes(bitmap)


def signer_indices(bitmap: bytes) -> tuple[int, ...]:
    """Ascending indices of the members whose bit is set."""
    return tuple(index for index in range(8 * len(bitmap)) if bitmap[index // 8] >> (index % 8) & 1)


def encode_certificate(certificate: Certificate) -> bytes:
    """Type 1, height 8, round 4, validRound 4 signed, block hash 32, bitmap length 2, bitmap, signature 96."""
    length = len(certificate.signers)
    if not 1 <= length <= MAX_BITMAP_BYTES:
        raise ValueError(f"signers: expected 1 to {MAX_BITMAP_BYTES} bytes, found {length}")
    return (
        encode_unsigned(certificate.vote_type, 1, "vote_type")
        + encode_unsigned(certificate.height, 8, "height")
        + encode_unsigned(certificate.round_, 4, "round")
        + encode_signed(certificate.valid_round, 4, "valid_round")
        + exact_bytes(certificate.block_hash, 32, "block_hash")
        + length.to_bytes(2, "big")
        + certificate.signers
        + exact_bytes(certificate.signature, 96, "signature")
    )


def decode_certificate(data: bytes) -> Certificate:
    """The inverse of `encode_certificate`; `DecodeError` for anything that could not have been voted for."""
    reader = WireReader(data)
    vote_type = read_vote_type(reader)
    certificate = Certificate(
        vote_type,
        reader.unsigned(8, "height", maximum=MAX_HEIGHT),
        reader.unsigned(4, "round", maximum=MAX_ROUND),
        reader.signed(4, "valid_round"),
        reader.take(32, "block_hash"),
        reader.take(_bitmap_length(reader), "signers"),
        reader.take(96, "signature"),
    )
    reader.finish()
    try:
        certificate.sign_bytes(bytes(32))
    except ValueError as error:
        raise DecodeError("certificate", "a vote that may be signed", str(error)) from error
    return certificate


def verify_signers(
    certificate: Certificate, validator_set: ValidatorSet, genesis_hash: bytes, verify_aggregate: VerifyAggregate
) -> int:
    """The power that signed, after checking bitmap and signature; raises `CertificateError`. No quorum is asked."""
    count = len(validator_set)
    if len(certificate.signers) != (count + 7) // 8:
        raise CertificateError("bitmap_length", f"{(count + 7) // 8} bytes", f"{len(certificate.signers)}")
    indices = signer_indices(certificate.signers)
    if not indices:
        raise CertificateError("signers", "at least one", "none")
    if indices[-1] >= count:
        raise CertificateError("signers", f"indices below {count}", f"{indices[-1]}")
    members = [validator_set.validators[index] for index in indices]
    try:
        message = signing_root(certificate.sign_bytes(genesis_hash))
    except ValueError as error:
        raise CertificateError("vote", "values that may be signed", str(error)) from error
    if not verify_aggregate([member.voting_key for member in members], message, certificate.signature):
        raise CertificateError("signature", f"an aggregate of {len(members)} votes", "another")
    return sum(member.power for member in members)


def verify_certificate(
    certificate: Certificate, validator_set: ValidatorSet, genesis_hash: bytes, verify_aggregate: VerifyAggregate
) -> None:
    """Raises `CertificateError` unless strictly more than 2/3 of the set's power signed these votes.

    The caller compares type, height and block hash with what it wants certified. Power is counted before the
    signature is checked: a pairing costs more than a sum.
    """
    count = len(validator_set)
    power = sum(validator_set.validators[index].power for index in signer_indices(certificate.signers) if index < count)
    if not validator_set.has_quorum(power):
        raise CertificateError("quorum", f"more than 2/3 of {validator_set.total_power}", f"{power}")
    verify_signers(certificate, validator_set, genesis_hash, verify_aggregate)


def verify_commit(
    certificate: Certificate,
    height: int,
    block_hash: bytes,
    validator_set: ValidatorSet,
    genesis_hash: bytes,
    verify_aggregate: VerifyAggregate,
) -> None:
    """Raises `CertificateError` unless `certificate` makes that block final at that height."""
    if certificate.vote_type is not VoteType.PRECOMMIT:
        raise CertificateError("vote_type", "precommits", "prevotes")
    if certificate.height != height:
        raise CertificateError("height", f"{height}", f"{certificate.height}")
    if certificate.block_hash != block_hash or block_hash == NIL:
        raise CertificateError("block_hash", block_hash.hex(), certificate.block_hash.hex())
    if certificate.valid_round != NO_ROUND:
        raise CertificateError("valid_round", "-1", f"{certificate.valid_round}")
    verify_certificate(certificate, validator_set, genesis_hash, verify_aggregate)


def _bitmap_length(reader: WireReader) -> int:
    length = reader.unsigned(2, "bitmap_length", maximum=MAX_BITMAP_BYTES)
    if not length:
        raise DecodeError("bitmap_length", "at least 1", "0")
    return length
