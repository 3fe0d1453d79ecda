"""EIP-1559 with movable parameters: gas target, base-fee step and minimum base fee, in pure integers.

The parameters stand in every header's ``extra_data``; a block may move each by at most one notch from its
parent's, within bounds fixed at genesis. A parameter takes effect on the *next* block's base fee, so that the
base fee follows from the parent header alone. All divisions round down (``//``); signs are kept apart first.
"""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.errors import AstraLinkError

ELASTICITY = 2
"""gas_limit = ELASTICITY * gas target, under EIP-1559 and here."""

MIN_GAS_LIMIT = 2**24
"""A block must always have room for the largest transaction that EIP-7825 allows."""

MIN_GAS_TARGET = MIN_GAS_LIMIT // ELASTICITY

MAX_GAS_TARGET = 2**40
"""Keeps gas arithmetic far from 64 bits; no machine executes this much in a block."""

GAS_LIMIT_BOUND_DIVISOR = 1024
"""Ethereum tools expect |gas_limit - parent.gas_limit| < parent.gas_limit // 1024."""

BASE_FEE_STEP_DENOMINATORS = (8, 12, 16, 24, 32, 48, 64, 96, 128)
"""By step index: a full or an empty block moves the base fee by 1/denominator. Never more than 1/8."""

ETHEREUM_BASE_FEE_DENOMINATOR = BASE_FEE_STEP_DENOMINATORS[0]

MIN_BASE_FEE_NOTCH_DIVISOR = 8
"""The minimum base fee moves by at most an eighth of itself, and by one wei where that is less."""

MAX_MIN_BASE_FEE_WEI = 2**64 - 1

BLOB_BASE_FEE_UPDATE_FRACTION = 5_007_716
"""EIP-7691; Osaka keeps it. Only plain Ethereum headers have excess blob gas."""

EXTRA_DATA_VERSION = 1
EXTRA_DATA_BYTES = 18
"""version u8 | gas target u64 | base-fee-step index u8 | minimum base fee u64 (wei), all big endian."""


class InvalidFeeParameters(AstraLinkError):
    """``extra_data`` holds no fee parameters, or parameters outside what genesis or the parent allow."""


@dataclass(frozen=True, slots=True)
class FeeParameters:
    gas_target: int
    """Half of the block's gas limit."""
    base_fee_step_index: int
    """Index into :data:`BASE_FEE_STEP_DENOMINATORS`."""
    min_base_fee_wei: int

    @property
    def gas_limit(self) -> int:
        return ELASTICITY * self.gas_target

    @property
    def base_fee_denominator(self) -> int:
        return BASE_FEE_STEP_DENOMINATORS[self.base_fee_step_index]


@dataclass(frozen=True, slots=True)
class FeeBounds:
    """Genesis bounds, all inclusive. :func:`check_bounds` says whether they make sense themselves."""

    min_gas_target: int
    max_gas_target: int
    """Follows from the measured worst-case gas a second, so that validation fits the proposal timeout."""
    min_step_index: int
    max_step_index: int
    lowest_min_base_fee_wei: int
    highest_min_base_fee_wei: int


def check_bounds(bounds: FeeBounds) -> None:
    """Refuse bounds that no chain may have."""
    _check_range("gas target bounds", MIN_GAS_TARGET, bounds.min_gas_target, bounds.max_gas_target, MAX_GAS_TARGET)
    last_step = len(BASE_FEE_STEP_DENOMINATORS) - 1
    _check_range("base-fee-step index bounds", 0, bounds.min_step_index, bounds.max_step_index, last_step)
    _check_range(
        "minimum base fee bounds",
        0,
        bounds.lowest_min_base_fee_wei,
        bounds.highest_min_base_fee_wei,
        MAX_MIN_BASE_FEE_WEI,
    )


def check_within_bounds(parameters: FeeParameters, bounds: FeeBounds) -> None:
    _check_range(
        "gas target", bounds.min_gas_target, parameters.gas_target, parameters.gas_target, bounds.max_gas_target
    )
    _check_range(
        "base-fee-step index",
        bounds.min_step_index,
        parameters.base_fee_step_index,
        parameters.base_fee_step_index,
        bounds.max_step_index,
    )
    _check_range(
        "minimum base fee",
        bounds.lowest_min_base_fee_wei,
        parameters.min_base_fee_wei,
        parameters.min_base_fee_wei,
        bounds.highest_min_base_fee_wei,
    )


def check_step(parent: FeeParameters, child: FeeParameters, bounds: FeeBounds) -> None:
    """A child's parameters lie within the bounds and at most one notch from its parent's."""
    check_within_bounds(child, bounds)
    _check_notch("gas target", parent.gas_target, child.gas_target, gas_target_notch(parent.gas_target))
    _check_notch("base-fee-step index", parent.base_fee_step_index, child.base_fee_step_index, 1)
    _check_notch(
        "minimum base fee",
        parent.min_base_fee_wei,
        child.min_base_fee_wei,
        min_base_fee_notch(parent.min_base_fee_wei),
    )


def step_toward(parent: FeeParameters, preference: FeeParameters, bounds: FeeBounds) -> FeeParameters:
    """The allowed parameters nearest to a preference: what a proposer writes into its block.

    With the parent itself as the preference the parameters hold still.
    """
    return FeeParameters(
        gas_target=_approach(
            parent.gas_target,
            _clamp(preference.gas_target, bounds.min_gas_target, bounds.max_gas_target),
            gas_target_notch(parent.gas_target),
        ),
        base_fee_step_index=_approach(
            parent.base_fee_step_index,
            _clamp(preference.base_fee_step_index, bounds.min_step_index, bounds.max_step_index),
            1,
        ),
        min_base_fee_wei=_approach(
            parent.min_base_fee_wei,
            _clamp(preference.min_base_fee_wei, bounds.lowest_min_base_fee_wei, bounds.highest_min_base_fee_wei),
            min_base_fee_notch(parent.min_base_fee_wei),
        ),
    )


def gas_target_notch(gas_target: int) -> int:
    """How far a block may move the gas target.

    2 * (t // 1024 - 1) < (2 * t) // 1024, so the gas limit stays *strictly* within parent.gas_limit // 1024.
    """
    return gas_target // GAS_LIMIT_BOUND_DIVISOR - 1


def min_base_fee_notch(min_base_fee_wei: int) -> int:
    return max(min_base_fee_wei // MIN_BASE_FEE_NOTCH_DIVISOR, 1)


def next_base_fee(
    *, parent_base_fee: int, parent_gas_used: int, parent_gas_limit: int, denominator: int, min_base_fee: int
) -> int:
    """EIP-1559's recurrence with a movable step and a floor; the increase rounds down but is at least one wei."""
    target = parent_gas_limit // ELASTICITY
    if parent_gas_used == target:
        base_fee = parent_base_fee
    elif parent_gas_used > target:
        increase = parent_base_fee * (parent_gas_used - target) // target // denominator
        base_fee = parent_base_fee + max(increase, 1)
    else:
        base_fee = parent_base_fee - parent_base_fee * (target - parent_gas_used) // target // denominator
    return max(base_fee, min_base_fee)


def blob_base_fee(excess_blob_gas: int) -> int:
    """EIP-4844's fake exponential; rounds down. 1 wei on a chain without blobs."""
    total, term, step = 0, BLOB_BASE_FEE_UPDATE_FRACTION, 1
    while term > 0:
        total += term
        term = term * excess_blob_gas // (BLOB_BASE_FEE_UPDATE_FRACTION * step)
        step += 1
    return total // BLOB_BASE_FEE_UPDATE_FRACTION


def encode_fee_parameters(parameters: FeeParameters) -> bytes:
    """The ``extra_data`` of an AstraLink header: :data:`EXTRA_DATA_BYTES` bytes."""
    return (
        bytes((EXTRA_DATA_VERSION,))
        + parameters.gas_target.to_bytes(8, "big")
        + bytes((parameters.base_fee_step_index,))
        + parameters.min_base_fee_wei.to_bytes(8, "big")
    )


def decode_fee_parameters(extra_data: bytes) -> FeeParameters:
    if len(extra_data) != EXTRA_DATA_BYTES:
        raise InvalidFeeParameters(f"extra_data: expected {EXTRA_DATA_BYTES} bytes, found {len(extra_data)}")
    if extra_data[0] != EXTRA_DATA_VERSION:
        raise InvalidFeeParameters(f"extra_data: expected version {EXTRA_DATA_VERSION}, found {extra_data[0]}")
    step_index = extra_data[9]
    if step_index >= len(BASE_FEE_STEP_DENOMINATORS):
        raise InvalidFeeParameters(
            f"extra_data: expected a base-fee-step index below {len(BASE_FEE_STEP_DENOMINATORS)}, found {step_index}"
        )
    return FeeParameters(
        gas_target=int.from_bytes(extra_data[1:9], "big"),
        base_fee_step_index=step_index,
        min_base_fee_wei=int.from_bytes(extra_data[10:18], "big"),
    )


def _approach(start: int, goal: int, notch: int) -> int:
    return _clamp(goal, start - notch, start + notch)


def _clamp(value: int, lowest: int, highest: int) -> int:
    return max(lowest, min(value, highest))


def _check_range(name: str, lowest: int, low: int, high: int, highest: int) -> None:
    if not lowest <= low <= high <= highest:
        found = str(low) if low == high else f"{low} to {high}"
        raise InvalidFeeParameters(f"{name}: expected within {lowest} to {highest}, found {found}")


def _check_notch(name: str, parent: int, child: int, notch: int) -> None:
    if abs(child - parent) > notch:
        raise InvalidFeeParameters(
            f"{name}: expected within {notch} of the parent's {parent} (one notch), found {child}"
        )
