"""What consensus, its lagging peers and light clients ask of the chain beyond blocks: decisions, checkpoints, sets.

Part of :mod:`astralink_node.chain.messages`, which takes these into its unions; nothing here does work. ``raw_*``
fields and sets hold canonical encodings.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GetDecided:
    """Block work: a committed block and why it is final, for a peer that lags."""

    height: int


@dataclass(frozen=True, slots=True)
class Decided:
    raw_block: bytes
    """As ``evm.blocks.encode_block`` writes it."""
    certificate: bytes
    """The commit certificate that this node saw; another node's may have other signers."""


@dataclass(frozen=True, slots=True)
class ValidatorsQuestion:
    """Who votes at the selected block; pending selects the height after the head."""


@dataclass(frozen=True, slots=True)
class ValidatorsAnswer:
    height: int
    voting_set: bytes
    """consensus.validator_set encoding of the set that votes at ``height``."""
    next_set_hash: bytes
    """Of the set that votes at the height after it."""
    epoch_length: int


@dataclass(frozen=True, slots=True)
class CheckpointQuestion:
    """The checkpoint that a block carries for an epoch; the selector is ignored."""

    epoch: int | None
    """None: the latest."""


@dataclass(frozen=True, slots=True)
class CheckpointAnswer:
    raw_checkpoint: bytes
    """consensus.checkpoint encoding."""
    height: int
    """The block that carries it."""
