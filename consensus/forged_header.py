"""A forged header: members of the set, a quorum or one, precommitted it on a parent that is not the chain's.

It is what a light client that executes nothing would fall for. No correct validator precommits such a block; but after
a real fork the honest side of the other branch is named too. Hence its signers are frozen, not slashed, until
governance has judged (docs/staking.md, "Forged headers"). Checking is pure: the curve, what the header says and the
chain's own block hash come in.
"""

from dataclasses import dataclass

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
from consensus.evidence import EvidenceError
from consensus.messages import VoteType
from consensus.validator_set import ValidatorSet
from consensus.wire import DecodeError, WireReader, encode_unsigned

MAX_HEADER_BYTES = 2_048
"""As much as a light client reads: a forger must not escape by a header that nobody can hand in."""

HISTORY_HEIGHTS = 8_191
"""A block's state holds the hashes of so many blocks before it (EIP-2935)."""


@dataclass(frozen=True, slots=True)
class ForgedHeader:
    raw_header: bytes
    """RLP; what it says is read elsewhere (`HeaderLink`)."""
    certificate: Certificate
    """Precommits for it; no quorum is asked."""

    @property
    def height(self) -> int:
        """The height whose set names the accused."""
        return self.certificate.height


@dataclass(frozen=True, slots=True)
class HeaderLink:
    """What a header says of its place in a chain."""

    number: int
    parent_hash: bytes
    block_hash: bytes
    """Its own: the keccak of its RLP."""


def signers_of_forgery(forged: ForgedHeader) -> tuple[int, ...]:
    """Ascending indices, in the set of that height, of whoever signed. Verifies nothing."""
    return signer_indices(forged.certificate.signers)


def check_history(forged_height: int, *, height: int) -> None:
    """Raises `EvidenceError` unless the state before a block at `height` holds the hash of the forged one's rightful
    parent. From here to where it is executed that state gains one hash and loses one: neither of these counts.
    """
    oldest = max(height - HISTORY_HEIGHTS + 1, 1)
    if not oldest <= forged_height < height:
        raise EvidenceError("history", f"a height from {oldest} to {height - 1}", str(forged_height))


def verify_forged_header(
    forged: ForgedHeader,
    link: HeaderLink,
    canonical_parent: bytes,
    validator_set: ValidatorSet,
    genesis_hash: bytes,
    verify_aggregate: VerifyAggregate,
) -> tuple[int, ...]:
    """Its signers: indices in `validator_set`, which votes at that height. Raises `EvidenceError`.

    `link` is read from the header; `canonical_parent` is the hash of the chain's own block at the height below, all
    zeros if the state has none.
    """
    certificate = forged.certificate
    if certificate.vote_type is not VoteType.PRECOMMIT:
        raise EvidenceError("vote_type", "precommits", "prevotes")
    if certificate.block_hash != link.block_hash:
        raise EvidenceError("block_hash", link.block_hash.hex(), certificate.block_hash.hex())
    if certificate.height != link.number:
        raise EvidenceError("number", str(link.number), str(certificate.height))
    if not any(canonical_parent):
        raise EvidenceError("history", f"a state that holds the hash of block {link.number - 1}", "none")
    if link.parent_hash == canonical_parent:
        raise EvidenceError("parent", "another block than the chain's own", f"{canonical_parent.hex()}")
    try:
        verify_signers(certificate, validator_set, genesis_hash, verify_aggregate)
    except CertificateError as error:
        raise EvidenceError(error.rule, error.expected, error.found) from error
    return signers_of_forgery(forged)


# --- Bytes ---------------------------------------------------------------------------------------------------


def encode_forged_header(forged: ForgedHeader) -> bytes:
    """Header length 2, header, certificate length 2, certificate."""
    if not 1 <= len(forged.raw_header) <= MAX_HEADER_BYTES:
        raise ValueError(f"header: expected 1 to {MAX_HEADER_BYTES} bytes, found {len(forged.raw_header)}")
    certificate = encode_certificate(forged.certificate)
    return (
        encode_unsigned(len(forged.raw_header), 2, "header")
        + forged.raw_header
        + encode_unsigned(len(certificate), 2, "certificate")
        + certificate
    )


def take_forged_header(reader: WireReader) -> ForgedHeader:
    """The inverse of `encode_forged_header`, with something behind it; `DecodeError` for anything else."""
    length = reader.unsigned(2, "header", maximum=MAX_HEADER_BYTES)
    if not length:
        raise DecodeError("header", "at least 1 byte", "0")
    raw_header = reader.take(length, "header")
    length = reader.unsigned(2, "certificate", maximum=MAX_CERTIFICATE_BYTES)
    return ForgedHeader(raw_header, decode_certificate(reader.take(length, "certificate")))
