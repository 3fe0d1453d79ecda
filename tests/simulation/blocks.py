"""Blocks of the simulated chain: what consensus reads of a block, a flag for the rest of its validity, and a nonce."""

from dataclasses import dataclass
from functools import lru_cache

from consensus.hashing import keccak256
from consensus.params import ConsensusParams
from consensus.proposer_selection import ProposerRotation
from consensus.wire import DecodeError, WireReader

BLOCK_BYTES = 8 + 32 + 4 + 4 + 8 + 8 + 1


@dataclass(frozen=True, slots=True)
class Block:
    height: int
    parent_hash: bytes
    proposer_index: int
    build_round: int
    time_ms: int
    nonce: int
    """Tells apart what one proposer builds in one round."""
    executes: bool
    """Stands for all that makes a real block valid or not."""

    @property
    def hash(self) -> bytes:
        return hash_of(encode_block(self))


def encode_block(block: Block) -> bytes:
    """Height 8, parent 32, proposer 4, build round 4, time 8, nonce 8, executes 1."""
    return b"".join(
        (
            block.height.to_bytes(8, "big"),
            block.parent_hash,
            block.proposer_index.to_bytes(4, "big"),
            block.build_round.to_bytes(4, "big"),
            block.time_ms.to_bytes(8, "big"),
            block.nonce.to_bytes(8, "big"),
            bytes((block.executes,)),
        )
    )


@lru_cache(maxsize=4096)
def decode_block(raw: bytes) -> Block:
    """The inverse of `encode_block`; `DecodeError` for anything else."""
    reader = WireReader(raw)
    block = Block(
        reader.unsigned(8, "height"),
        reader.take(32, "parent_hash"),
        reader.unsigned(4, "proposer_index"),
        reader.unsigned(4, "build_round"),
        reader.unsigned(8, "time_ms"),
        reader.unsigned(8, "nonce"),
        bool(reader.unsigned(1, "executes", maximum=1)),
    )
    reader.finish()
    return block


@lru_cache(maxsize=4096)
def hash_of(raw: bytes) -> bytes:
    return keccak256(raw)


GENESIS = Block(0, bytes(32), 0, 0, 1_700_000_000_000, 0, True)


def is_valid_child(block: Block, parent: Block, rotation: ProposerRotation, params: ConsensusParams) -> bool:
    """valid(v) of the paper; timeliness is the machine's."""
    return (
        block.executes
        and block.height == parent.height + 1
        and block.parent_hash == parent.hash
        and block.time_ms >= parent.time_ms + params.min_block_interval_ms
        and block.proposer_index == rotation.at(block.build_round)
    )


def is_block(raw: bytes) -> bool:
    """Whether a body that arrived may be decoded at all."""
    try:
        decode_block(raw)
    except DecodeError:
        return False
    return True
