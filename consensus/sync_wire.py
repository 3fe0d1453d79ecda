"""What nodes ask each other for in order to catch up, as bytes. Nothing in an answer is believed before it is verified.

Each request goes by a protocol of its own, so nothing names its kind. Bodies of blocks, manifests and chunks are
opaque here. Every length is bounded: what is longer is refused before it is looked at.
"""

from dataclasses import dataclass
from typing import Final

from consensus.certificate import MAX_CERTIFICATE_BYTES
from consensus.gossip import MAX_BLOCK_BYTES
from consensus.params import MAX_HEIGHT, MAX_VALIDATORS
from consensus.wire import DecodeError, WireReader, encode_unsigned, exact_bytes

MAX_BLOCKS: Final = 64
"""In one answer."""
TARGET_BLOCKS_BYTES: Final = 4 << 20
"""An answer with more than one block is at most this long."""
MAX_BLOCKS_REPLY_BYTES: Final = MAX_BLOCK_BYTES + MAX_CERTIFICATE_BYTES + 1024
"""One block of any size can be had."""
MANIFEST_PART_BYTES: Final = 1 << 20
MAX_MANIFEST_PARTS: Final = 32
MAX_PROOFS: Final = MAX_VALIDATORS
"""Proofs of possession beside one light block."""
MAX_SET_BYTES: Final = 4 + 128 + 108 * MAX_VALIDATORS
MAX_LIGHT_BLOCK_BYTES: Final = 8192 + MAX_CERTIFICATE_BYTES + 2 * MAX_SET_BYTES + 144 * MAX_PROOFS
_HASH_BYTES: Final = 32
_MAX_HEADER_BYTES: Final = 2048
_BRANCHES: Final = 3
_BRANCH_LENGTH: Final = 4


# --- Blocks ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlocksRequest:
    from_height: int
    count: int
    """1 to 64. Fewer may come: what fits, and what there is."""


@dataclass(frozen=True, slots=True)
class WireBlock:
    certificate: bytes
    """consensus.certificate encoding: why the block is final."""
    raw_block: bytes


@dataclass(frozen=True, slots=True)
class BlocksReply:
    head_height: int
    """Of who answers."""
    blocks: tuple[WireBlock, ...]
    """Consecutive from the height asked for; none if it is not here."""


def encode_blocks_request(request: BlocksRequest) -> bytes:
    """Height u64, count u8."""
    return encode_unsigned(request.from_height, 8, "from_height") + encode_unsigned(request.count, 1, "count")


def decode_blocks_request(data: bytes) -> BlocksRequest:
    reader = WireReader(data)
    request = BlocksRequest(
        reader.unsigned(8, "from_height", maximum=MAX_HEIGHT), reader.unsigned(1, "count", maximum=MAX_BLOCKS)
    )
    reader.finish()
    if not request.count or not request.from_height:
        raise DecodeError("request", "at least one block, above genesis", f"{request.count} from {request.from_height}")
    return request


def encode_blocks_reply(reply: BlocksReply) -> bytes:
    """Head height u64, count u8, then for each: certificate with u16 length, block with u32 length."""
    parts = [encode_unsigned(reply.head_height, 8, "head_height"), encode_unsigned(len(reply.blocks), 1, "count")]
    for block in reply.blocks:
        parts.append(encode_unsigned(len(block.certificate), 2, "certificate") + block.certificate)
        parts.append(encode_unsigned(len(block.raw_block), 4, "block") + block.raw_block)
    return b"".join(parts)


def decode_blocks_reply(data: bytes) -> BlocksReply:
    """`DecodeError` for anything that `encode_blocks_reply` does not write, and for what is too long."""
    if len(data) > MAX_BLOCKS_REPLY_BYTES:
        raise DecodeError("reply", f"at most {MAX_BLOCKS_REPLY_BYTES} bytes", str(len(data)))
    reader = WireReader(data)
    head_height = reader.unsigned(8, "head_height", maximum=MAX_HEIGHT)
    blocks = []
    for _ in range(reader.unsigned(1, "count", maximum=MAX_BLOCKS)):
        certificate = reader.take(reader.unsigned(2, "certificate", maximum=MAX_CERTIFICATE_BYTES), "certificate")
        blocks.append(
            WireBlock(certificate, reader.take(reader.unsigned(4, "block", maximum=MAX_BLOCK_BYTES), "block"))
        )
    reader.finish()
    return BlocksReply(head_height, tuple(blocks))


# --- Light blocks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LightBlockRequest:
    height: int


@dataclass(frozen=True, slots=True)
class LightBlockReply:
    """A header with what the light client needs beside it (docs/specification.md, "Light client")."""

    raw_header: bytes
    time_ms: int
    voting_set_hash: bytes
    next_set_hash: bytes
    branches: tuple[tuple[bytes, ...], ...]
    """Of these three leaves of the payload, four siblings each, lowest first."""
    certificate: bytes
    voting_set: bytes
    next_set: bytes
    """Empty if it is the same as the voting set."""
    possessions: tuple[tuple[bytes, bytes], ...]
    """(voting key, proof) of signers who joined since genesis."""


def encode_light_block_request(request: LightBlockRequest) -> bytes:
    """Height u64."""
    return encode_unsigned(request.height, 8, "height")


def decode_light_block_request(data: bytes) -> LightBlockRequest:
    reader = WireReader(data)
    request = LightBlockRequest(reader.unsigned(8, "height", maximum=MAX_HEIGHT))
    reader.finish()
    return request


def encode_light_block_reply(reply: LightBlockReply) -> bytes:
    """Time u64, two set hashes, 12 siblings; header u16, certificate u16, sets u32 each with what they are long;
    count of proofs u16, each key 48 and proof 96."""
    parts = [
        encode_unsigned(reply.time_ms, 8, "time_ms"),
        exact_bytes(reply.voting_set_hash, _HASH_BYTES, "voting_set_hash"),
        exact_bytes(reply.next_set_hash, _HASH_BYTES, "next_set_hash"),
    ]
    siblings = [sibling for branch in reply.branches for sibling in branch]
    if len(siblings) != _BRANCHES * _BRANCH_LENGTH:
        raise ValueError(f"branches: expected {_BRANCHES} of {_BRANCH_LENGTH}, found {len(siblings)} siblings")
    parts += [exact_bytes(sibling, _HASH_BYTES, "branches") for sibling in siblings]
    for value, width in ((reply.raw_header, 2), (reply.certificate, 2), (reply.voting_set, 4), (reply.next_set, 4)):
        parts.append(len(value).to_bytes(width, "big") + value)
    parts.append(encode_unsigned(len(reply.possessions), 2, "possessions"))
    for key, proof in reply.possessions:
        parts.append(exact_bytes(key, 48, "key") + exact_bytes(proof, 96, "proof"))
    return b"".join(parts)


def decode_light_block_reply(data: bytes) -> LightBlockReply:
    if len(data) > MAX_LIGHT_BLOCK_BYTES:
        raise DecodeError("reply", f"at most {MAX_LIGHT_BLOCK_BYTES} bytes", str(len(data)))
    reader = WireReader(data)
    time_ms = reader.unsigned(8, "time_ms")
    hashes = reader.take(_HASH_BYTES, "voting_set_hash"), reader.take(_HASH_BYTES, "next_set_hash")
    branches = tuple(
        tuple(reader.take(_HASH_BYTES, "branches") for _ in range(_BRANCH_LENGTH)) for _ in range(_BRANCHES)
    )
    reply = LightBlockReply(
        raw_header=reader.take(reader.unsigned(2, "header", maximum=_MAX_HEADER_BYTES), "header"),
        time_ms=time_ms,
        voting_set_hash=hashes[0],
        next_set_hash=hashes[1],
        branches=branches,
        certificate=reader.take(reader.unsigned(2, "certificate", maximum=MAX_CERTIFICATE_BYTES), "certificate"),
        voting_set=reader.take(reader.unsigned(4, "voting_set", maximum=MAX_SET_BYTES), "voting_set"),
        next_set=reader.take(reader.unsigned(4, "next_set", maximum=MAX_SET_BYTES), "next_set"),
        possessions=tuple(
            (reader.take(48, "key"), reader.take(96, "proof"))
            for _ in range(reader.unsigned(2, "possessions", maximum=MAX_PROOFS))
        ),
    )
    reader.finish()
    return reply


# --- Snapshots ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ManifestRequest:
    """A part of a snapshot's manifest; height 0 asks for the newest one's first part."""

    height: int
    part: int


@dataclass(frozen=True, slots=True)
class ManifestReply:
    height: int
    """0: there is no such snapshot (any more)."""
    parts: int
    part: bytes
    """All but the last are 1 MiB long."""


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """The chunk of a height's state that begins at (account, slot) and may go up to `last_account`."""

    height: int
    account: bytes
    slot: bytes
    last_account: bytes


def encode_manifest_request(request: ManifestRequest) -> bytes:
    """Height u64, part u16."""
    return encode_unsigned(request.height, 8, "height") + encode_unsigned(request.part, 2, "part")


def decode_manifest_request(data: bytes) -> ManifestRequest:
    reader = WireReader(data)
    request = ManifestRequest(
        reader.unsigned(8, "height", maximum=MAX_HEIGHT), reader.unsigned(2, "part", maximum=MAX_MANIFEST_PARTS - 1)
    )
    reader.finish()
    return request


def encode_manifest_reply(reply: ManifestReply) -> bytes:
    """Height u64, parts u16, and the part."""
    return encode_unsigned(reply.height, 8, "height") + encode_unsigned(reply.parts, 2, "parts") + reply.part


def decode_manifest_reply(data: bytes) -> ManifestReply:
    reader = WireReader(data)
    reply = ManifestReply(
        reader.unsigned(8, "height", maximum=MAX_HEIGHT),
        reader.unsigned(2, "parts", maximum=MAX_MANIFEST_PARTS),
        reader.rest(),
    )
    if len(reply.part) > MANIFEST_PART_BYTES or (reply.height == 0) != (reply.parts == 0):
        raise DecodeError("part", f"at most {MANIFEST_PART_BYTES} bytes of a snapshot", f"{len(reply.part)}")
    return reply


def encode_chunk_request(request: ChunkRequest) -> bytes:
    """Height u64, account 32, slot 32, last account 32."""
    return (
        encode_unsigned(request.height, 8, "height")
        + exact_bytes(request.account, _HASH_BYTES, "account")
        + exact_bytes(request.slot, _HASH_BYTES, "slot")
        + exact_bytes(request.last_account, _HASH_BYTES, "last_account")
    )


def decode_chunk_request(data: bytes) -> ChunkRequest:
    reader = WireReader(data)
    request = ChunkRequest(
        reader.unsigned(8, "height", maximum=MAX_HEIGHT),
        reader.take(_HASH_BYTES, "account"),
        reader.take(_HASH_BYTES, "slot"),
        reader.take(_HASH_BYTES, "last_account"),
    )
    reader.finish()
    if request.account > request.last_account:
        raise DecodeError("last_account", f"at least {request.account.hex()}", request.last_account.hex())
    return request
