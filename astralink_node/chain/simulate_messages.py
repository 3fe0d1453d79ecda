"""Simulated blocks: what eth_simulateV1 asks and gets (chain.messages)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from astralink_node.chain.call_messages import NO_BLOCK_OVERRIDE, BlockOverride, CallRequest, StateOverride
from astralink_node.evm.blocks import Log

MAX_BLOCKS: Final = 256
"""In one question; evm.simulate_blocks bounds the heights that they may span, gaps included, by the same number."""


@dataclass(frozen=True, slots=True)
class BlockCalls:
    """A block to simulate: its overrides, then its calls, each a transaction."""

    block: BlockOverride = NO_BLOCK_OVERRIDE
    overrides: tuple[StateOverride, ...] = ()
    calls: tuple[CallRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class SimulateQuestion:
    """Blocks on top of the selected one, in order. Gas is limited as for one call, over all of them."""

    blocks: tuple[BlockCalls, ...]
    trace_transfers: bool = False
    """Movements of the coin among the logs, as if it were an ERC-20."""
    validation: bool = False
    """Nonces and fees as in a block."""


@dataclass(frozen=True, slots=True)
class SimulatedCallRecord:
    """``status`` is ``ok``, ``reverted`` or ``halted``; ``halt_reason`` says why for the latter two."""

    status: str
    output: bytes
    gas_used: int
    max_gas_used: int
    """Before refunds."""
    halt_reason: str
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True)
class SimulatedBlockRecord:
    block_hash: bytes
    raw_header: bytes
    raw_transactions: tuple[bytes, ...]
    """Unsigned (evm.transaction_encoding.decode_unsigned)."""
    senders: tuple[bytes, ...]
    size_bytes: int
    calls: tuple[SimulatedCallRecord, ...]


@dataclass(frozen=True, slots=True)
class SimulateAnswer:
    """All blocks up to the last one asked for, those between them that were left out included."""

    blocks: tuple[SimulatedBlockRecord, ...]
