"""Simulated transactions: what eth_call, eth_estimateGas and eth_createAccessList ask and get (chain.messages)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccessListEntry:
    address: bytes
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AuthorizationEntry:
    """An EIP-7702 authorization tuple, signature included."""

    chain_id: int
    address: bytes
    nonce: int
    y_parity: int
    r: int
    s: int


@dataclass(frozen=True, slots=True)
class CallRequest:
    """An unsigned transaction to simulate. None means: not given, choose as geth does.

    ``to`` is empty for a creation. Fees of None mean a gas price of zero and no balance check for gas.
    """

    sender: bytes
    to: bytes
    gas: int | None
    gas_price_wei: int | None
    max_fee_wei: int | None
    max_priority_fee_wei: int | None
    value_wei: int
    data: bytes
    access_list: tuple[AccessListEntry, ...]
    authorizations: tuple[AuthorizationEntry, ...] | None
    """None: not given. A list, if only an empty one, asks for a transaction of type 4."""
    nonce: int | None = None
    """Of simulated blocks alone; one call does not look at it."""


@dataclass(frozen=True, slots=True)
class StateOverride:
    """geth's override object for one account; ``state`` replaces all storage, ``state_diff`` some of it."""

    address: bytes
    nonce: int | None
    balance_wei: int | None
    code: bytes | None
    state: tuple[tuple[int, int], ...] | None
    state_diff: tuple[tuple[int, int], ...]
    move_precompile_to: bytes = b""
    """Where the precompile at this address answers instead; empty: it stays, unless the override takes its place."""


@dataclass(frozen=True, slots=True)
class BlockOverride:
    """geth's block overrides. None: as the selected block has it."""

    number: int | None = None
    time_s: int | None = None
    gas_limit: int | None = None
    fee_recipient: bytes | None = None
    prev_randao: bytes | None = None
    base_fee_wei: int | None = None
    blob_base_fee_wei: int | None = None
    beacon_root: bytes | None = None
    """Of simulated blocks alone."""


NO_BLOCK_OVERRIDE = BlockOverride()


@dataclass(frozen=True, slots=True)
class CallQuestion:
    request: CallRequest
    overrides: tuple[StateOverride, ...] = ()
    block: BlockOverride = NO_BLOCK_OVERRIDE


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """The outcome of a simulated call: ``status`` is ``ok``, ``reverted`` or ``halted``."""

    status: str
    output: bytes
    gas_used: int
    halt_reason: str


@dataclass(frozen=True, slots=True)
class EstimateGasQuestion:
    request: CallRequest
    overrides: tuple[StateOverride, ...] = ()
    block: BlockOverride = NO_BLOCK_OVERRIDE


@dataclass(frozen=True, slots=True)
class GasAnswer:
    gas: int


@dataclass(frozen=True, slots=True)
class AccessListQuestion:
    """eth_createAccessList."""

    request: CallRequest
    overrides: tuple[StateOverride, ...] = ()
    block: BlockOverride = NO_BLOCK_OVERRIDE


@dataclass(frozen=True, slots=True)
class AccessListAnswer:
    access_list: tuple[AccessListEntry, ...]
    gas_used: int
    error: str


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A simulated transaction that could not even start, an estimate that cannot succeed, or a question refused.

    ``kind`` is one of ``insufficient_funds``, ``intrinsic_gas``, ``fee_cap``, ``initcode``, ``override``,
    ``reverted``, ``out_of_gas``, ``halted``, ``timeout``, ``invalid``; of simulated blocks also ``nonce_too_low``,
    ``nonce_too_high``, ``nonce_max``, ``block_gas``, ``block_number``, ``block_time``, ``too_many_blocks``.
    ``internal``, of any question, is no fault of the caller: the database failed, or this program has a bug.
    ``output`` is the revert data, if any.
    """

    kind: str
    message: str
    output: bytes = b""


CallQuestions = CallQuestion | EstimateGasQuestion | AccessListQuestion
CallAnswers = CallAnswer | GasAnswer | AccessListAnswer | CallFailed
