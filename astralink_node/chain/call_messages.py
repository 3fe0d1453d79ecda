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
    authorizations: tuple[AuthorizationEntry, ...]


@dataclass(frozen=True, slots=True)
class StateOverride:
    """geth's override object for one account; ``state`` replaces all storage, ``state_diff`` some of it."""

    address: bytes
    nonce: int | None
    balance_wei: int | None
    code: bytes | None
    state: tuple[tuple[int, int], ...] | None
    state_diff: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class CallQuestion:
    request: CallRequest
    overrides: tuple[StateOverride, ...] = ()


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


@dataclass(frozen=True, slots=True)
class GasAnswer:
    gas: int


@dataclass(frozen=True, slots=True)
class AccessListQuestion:
    """eth_createAccessList."""

    request: CallRequest


@dataclass(frozen=True, slots=True)
class AccessListAnswer:
    access_list: tuple[AccessListEntry, ...]
    gas_used: int
    error: str


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A simulated transaction that could not even start, or an estimate that cannot succeed.

    ``kind`` is one of ``insufficient_funds``, ``intrinsic_gas``, ``nonce``, ``fee_cap``, ``reverted``,
    ``out_of_gas``, ``halted``, ``timeout``, ``invalid``. ``output`` is the revert data, if any.
    """

    kind: str
    message: str
    output: bytes = b""


CallQuestions = CallQuestion | EstimateGasQuestion | AccessListQuestion
CallAnswers = CallAnswer | GasAnswer | AccessListAnswer | CallFailed
