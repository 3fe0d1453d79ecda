"""The consensus payload: what a block carries beside its Ethereum header, and its Merkle root.

The header's `parent_beacon_block_root` is `payload_root`, so that a light client, or a contract through EIP-4788,
proves one field with four hashes. The payload never depends on the execution of its own block. Leaves and
encoding: docs/specification.md, "Consensus payload".
"""

from dataclasses import dataclass

from consensus.certificate import MAX_CERTIFICATE_BYTES, Certificate, decode_certificate, encode_certificate
from consensus.checkpoint import checkpoint_hash
from consensus.hashing import merkle_root
from consensus.params import LATE_CREDIT_HEIGHTS, MAX_HEIGHT, MAX_ROUND, MAX_TIME_MS, MAX_VALIDATORS
from consensus.wire import DecodeError, WireReader, encode_unsigned, exact_bytes

PAYLOAD_VERSION = b"\x01"
"""The version of every block but genesis, whose version is the hash of its configuration."""

EMPTY_REVEAL = bytes(96)
"""The reveal of genesis, which nobody proposed."""

MAX_LATE_CREDITS = LATE_CREDIT_HEIGHTS - 1
"""One for each height from 8 to 2 below the block; the parent's own certificate covers the nearest."""

MAX_EVIDENCE = 64
MAX_EVIDENCE_BYTES = 16_384
MAX_CHECKPOINT_BYTES = 3_145_728
"""512 ML-DSA-65 keys and signatures, with room."""

MAX_PAYLOAD_BYTES = 5_242_880

LEAF_NAMES = (
    "version",
    "genesis_hash",
    "height",
    "time_ms",
    "proposer",
    "priorities_hash",
    "reveal",
    "certificates",
    "voting_set_hash",
    "next_set_hash",
    "evidence_root",
    "epoch",
    "checkpoint_hash",
    "outbox_root",
)
"""The leaves in order: the index of a name is the index of its leaf."""


@dataclass(frozen=True, slots=True)
class ConsensusPayload:
    version: bytes
    """b"\\x01"; in block 0 the 32-byte keccak of the canonical encoding of genesis' `config` and `astralink`."""
    genesis_hash: bytes
    """32 bytes; zero in block 0, which cannot name itself."""
    height: int
    time_ms: int
    """Unix time of the block in milliseconds; the header's timestamp is time_ms // 1000."""
    build_round: int
    """The round in which the block was first proposed; a re-proposal keeps it."""
    proposer_index: int
    """Index of its proposer in the voting set: proposer(priorities, set, build_round)."""
    priorities_hash: bytes
    """Hash of the proposer priorities before this height."""
    reveal: bytes
    """96 bytes: the proposer's BLS signature on `reveal_sign_bytes`; zero in block 0."""
    parent_certificate: Certificate | None
    """Every precommit for the parent that the proposer saw; None at heights 0 and 1."""
    late_credits: tuple[Certificate, ...]
    """Precommits that earlier certificates missed, heights ascending, at most one for each."""
    voting_set_hash: bytes
    """The set that votes on this block."""
    next_set_hash: bytes
    """The set that votes on the next one."""
    evidence: tuple[bytes, ...]
    """Encoded evidence, judged in this block."""
    epoch: int
    checkpoint: bytes
    """A newer complete checkpoint, encoded; usually empty."""
    checkpoint_hash: bytes
    """`checkpoint_hash` of the latest checkpoint carried by this block or one before it; zero before the first."""
    outbox_root: bytes
    """Root of the bridge outbox in the parent's state; zero while there is no bridge."""


def payload_leaves(payload: ConsensusPayload) -> tuple[bytes, ...]:
    """The values of the 14 leaves, in the order of `LEAF_NAMES`."""
    return (
        payload.version,
        exact_bytes(payload.genesis_hash, 32, "genesis_hash"),
        encode_unsigned(payload.height, 8, "height"),
        encode_unsigned(payload.time_ms, 8, "time_ms"),
        encode_unsigned(payload.build_round, 4, "build_round")
        + encode_unsigned(payload.proposer_index, 4, "proposer_index"),
        exact_bytes(payload.priorities_hash, 32, "priorities_hash"),
        exact_bytes(payload.reveal, 96, "reveal"),
        encode_certificates(payload),
        exact_bytes(payload.voting_set_hash, 32, "voting_set_hash"),
        exact_bytes(payload.next_set_hash, 32, "next_set_hash"),
        merkle_root(payload.evidence),
        encode_unsigned(payload.epoch, 8, "epoch"),
        exact_bytes(payload.checkpoint_hash, 32, "checkpoint_hash"),
        exact_bytes(payload.outbox_root, 32, "outbox_root"),
    )


def payload_root(payload: ConsensusPayload) -> bytes:
    """What the header's `parent_beacon_block_root` holds."""
    return merkle_root(payload_leaves(payload))


def encode_certificates(payload: ConsensusPayload) -> bytes:
    """Parent certificate (length 2, zero if none, then bytes), count of late credits 1, each likewise."""
    parent = payload.parent_certificate
    parts = [_with_length(b"" if parent is None else encode_certificate(parent), 2)]
    parts.append(encode_unsigned(len(payload.late_credits), 1, "late_credits"))
    parts += [_with_length(encode_certificate(credit), 2) for credit in payload.late_credits]
    return b"".join(parts)


def encode_payload(payload: ConsensusPayload) -> bytes:
    """The leaves' values one after the other; version, evidence and checkpoint with their lengths.

    Version length 1, version; genesis hash 32; height 8; time 8; build round 4; proposer index 4; priorities
    hash 32; reveal 96; certificates (`encode_certificates`); voting set hash 32; next set hash 32; evidence count
    1, each with length 4; epoch 8; checkpoint length 4, checkpoint; checkpoint hash 32; outbox root 32.
    """
    leaves = payload_leaves(payload)
    evidence = encode_unsigned(len(payload.evidence), 1, "evidence")
    evidence += b"".join(_with_length(item, 4) for item in payload.evidence)
    encoded = b"".join(
        (
            _with_length(payload.version, 1),
            *leaves[1:10],
            evidence,
            leaves[11],
            _with_length(payload.checkpoint, 4),
            *leaves[12:],
        )
    )
    if len(encoded) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"payload: expected at most {MAX_PAYLOAD_BYTES} bytes, found {len(encoded)}")
    return encoded


def decode_payload(data: bytes) -> ConsensusPayload:
    """The inverse of `encode_payload`; `DecodeError` for anything that it would not write, or beyond its bounds."""
    if len(data) > MAX_PAYLOAD_BYTES:
        raise DecodeError("payload", f"at most {MAX_PAYLOAD_BYTES} bytes", str(len(data)))
    reader = WireReader(data)
    payload = ConsensusPayload(
        version=_take_version(reader),
        genesis_hash=reader.take(32, "genesis_hash"),
        height=reader.unsigned(8, "height", maximum=MAX_HEIGHT),
        time_ms=reader.unsigned(8, "time_ms", maximum=MAX_TIME_MS),
        build_round=reader.unsigned(4, "build_round", maximum=MAX_ROUND),
        proposer_index=reader.unsigned(4, "proposer_index", maximum=MAX_VALIDATORS - 1),
        priorities_hash=reader.take(32, "priorities_hash"),
        reveal=reader.take(96, "reveal"),
        parent_certificate=_take_parent_certificate(reader),
        late_credits=_take_late_credits(reader),
        voting_set_hash=reader.take(32, "voting_set_hash"),
        next_set_hash=reader.take(32, "next_set_hash"),
        evidence=_take_evidence(reader),
        epoch=reader.unsigned(8, "epoch"),
        checkpoint=reader.take(reader.unsigned(4, "checkpoint", maximum=MAX_CHECKPOINT_BYTES), "checkpoint"),
        checkpoint_hash=reader.take(32, "checkpoint_hash"),
        outbox_root=reader.take(32, "outbox_root"),
    )
    reader.finish()
    if payload.checkpoint and checkpoint_hash(payload.checkpoint) != payload.checkpoint_hash:
        # The root commits to the checkpoint through this leaf alone.
        raise DecodeError("checkpoint_hash", "the hash of the checkpoint carried", payload.checkpoint_hash.hex())
    return payload


def _with_length(value: bytes, width: int) -> bytes:
    return encode_unsigned(len(value), width, "length") + value


def _take_version(reader: WireReader) -> bytes:
    version = reader.take(reader.unsigned(1, "version"), "version")
    if version != PAYLOAD_VERSION and len(version) != 32:
        raise DecodeError("version", "1, or 32 bytes in block 0", version.hex())
    return version


def _take_parent_certificate(reader: WireReader) -> Certificate | None:
    length = reader.unsigned(2, "parent_certificate", maximum=MAX_CERTIFICATE_BYTES)
    return decode_certificate(reader.take(length, "parent_certificate")) if length else None


def _take_late_credits(reader: WireReader) -> tuple[Certificate, ...]:
    credits: list[Certificate] = []
    for _ in range(reader.unsigned(1, "late_credits", maximum=MAX_LATE_CREDITS)):
        length = reader.unsigned(2, "late_credit", maximum=MAX_CERTIFICATE_BYTES)
        credit = decode_certificate(reader.take(length, "late_credit"))
        if credits and credit.height <= credits[-1].height:
            raise DecodeError("late_credits", f"a height above {credits[-1].height}", str(credit.height))
        credits.append(credit)
    return tuple(credits)


def _take_evidence(reader: WireReader) -> tuple[bytes, ...]:
    count = reader.unsigned(1, "evidence", maximum=MAX_EVIDENCE)
    return tuple(
        reader.take(reader.unsigned(4, "evidence", maximum=MAX_EVIDENCE_BYTES), "evidence") for _ in range(count)
    )
