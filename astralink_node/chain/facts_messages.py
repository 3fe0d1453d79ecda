"""What a chain is made of and what this node keeps of it, for eth_config and eth_capabilities (chain.messages)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChainFactsQuestion:
    """The selector is ignored."""


@dataclass(frozen=True, slots=True)
class NamedPlace:
    name: str
    """EIP-7910's where Ethereum has the thing too."""
    address: bytes


@dataclass(frozen=True, slots=True)
class ForkFacts:
    name: str
    activation_height: int
    activation_time_s: int
    """0 for genesis. Forks activate by height here: of one to come it is the earliest time at which it can."""
    precompiles: tuple[NamedPlace, ...]
    system_contracts: tuple[NamedPlace, ...]


@dataclass(frozen=True, slots=True)
class ChainFacts:
    genesis_hash: bytes
    head_height: int
    head_hash: bytes
    forks: tuple[ForkFacts, ...]
    """Ascending; the first at height 0."""
    oldest_block_height: int
    """Of those above genesis that can be read, with their receipts and logs; 0 if all can."""
    oldest_state_height: int
    state_heights: int | None
    """How many heights of state below the head are kept; None: all."""
