"""The protocol log as it is kept and asked for: what the protocol's own calls in a block emitted, and which failed.

docs/staking.md, "Protocol log". It stands beside the block and is no part of its hash; everyone derives the same.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProtocolEvent:
    """What a system contract emitted when the protocol called it: in no receipt and no bloom."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class ProtocolCall:
    """One of the protocol's own calls in a block, by the name of the contract's function."""

    name: str
    failure: str
    """Why it failed and left no trace; empty if it did not."""
    events: tuple[ProtocolEvent, ...]


@dataclass(frozen=True, slots=True)
class ProtocolLogQuestion:
    """The protocol log of the selected block (docs/staking.md)."""


@dataclass(frozen=True, slots=True)
class ProtocolLogAnswer:
    block_hash: bytes
    height: int
    calls: tuple[ProtocolCall, ...]
