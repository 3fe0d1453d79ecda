"""What tracers find, as plain values: no part of the machine is needed to hold, send or show them."""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.evm.blocks import Log
from astralink_node.types import Address

# --- Calls -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FrameLog:
    """A log of a call that was not reverted."""

    log: Log
    index: int
    """Among the transaction's logs, when it was made."""
    position: int
    """How many calls its own call had made before it."""


@dataclass(frozen=True, slots=True)
class CallFrame:
    """One call, creation or self-destruction."""

    kind: str
    """CALL, STATICCALL, DELEGATECALL, CALLCODE, CREATE, CREATE2 or SELFDESTRUCT."""
    depth: int
    """0: the transaction's own call."""
    sender: Address
    to: Address
    """The callee as the caller names it; the created address, also of a failed creation; the beneficiary."""
    code_address: Address
    """Whose code ran: not ``to`` if that delegates (EIP-7702). For a creation, its own address."""
    value: int | None
    """Wei; a DELEGATECALL's is its caller's; None for a STATICCALL."""
    gas: int
    """Given to the call; the transaction's own has its intrinsic gas taken off."""
    gas_used: int
    """Before refunds."""
    input: bytes
    """Call data, or initcode."""
    output: bytes
    """Returned data, deployed code, or revert data."""
    error: str
    """In geth's words; empty if the call succeeded."""
    precompile: bool
    logs: tuple[FrameLog, ...]

    @property
    def is_creation(self) -> bool:
        return self.kind in ("CREATE", "CREATE2")


@dataclass(frozen=True, slots=True)
class CallTrace:
    """All frames of a transaction in the order in which they began; the first is its own call."""

    frames: tuple[CallFrame, ...]
    gas_limit: int
    gas_used: int
    """By the transaction, after refunds."""


# --- Accounts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TouchedAccount:
    """An account; None and absent slots are not shown."""

    address: Address
    balance: int | None
    nonce: int | None
    code: bytes | None
    storage: tuple[tuple[int, int], ...]
    """Slots and values, by slot."""


@dataclass(frozen=True, slots=True)
class Prestate:
    """Accounts by address."""

    pre: tuple[TouchedAccount, ...]
    post: tuple[TouchedAccount, ...]
    """Without diff mode: empty."""
    is_diff: bool


# --- Selectors --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SelectorCount:
    selector: bytes
    data_bytes: int
    """Of the call data, without the selector."""
    count: int


@dataclass(frozen=True, slots=True)
class SelectorCounts:
    """By selector, then size."""

    counts: tuple[SelectorCount, ...]


# --- Opcodes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VmTrace:
    """Of every opcode that ran, as text: nothing looks into it, and as values it would take many times the room."""

    json: bytes
    """Parity's nested JSON; ``null`` if no call began."""
