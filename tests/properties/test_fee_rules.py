"""Fee parameters and the base fee keep their bounds whatever proposers prefer."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.evm.fee_rules import (
    BASE_FEE_STEP_DENOMINATORS,
    EXTRA_DATA_BYTES,
    MAX_GAS_TARGET,
    MAX_MIN_BASE_FEE_WEI,
    MIN_GAS_LIMIT,
    MIN_GAS_TARGET,
    FeeBounds,
    FeeParameters,
    InvalidFeeParameters,
    blob_base_fee,
    check_bounds,
    check_step,
    check_within_bounds,
    decode_fee_parameters,
    encode_fee_parameters,
    gas_target_notch,
    next_base_fee,
    step_toward,
)

gas_targets = st.integers(MIN_GAS_TARGET, MAX_GAS_TARGET)
step_indices = st.integers(0, len(BASE_FEE_STEP_DENOMINATORS) - 1)
minimum_fees = st.integers(0, MAX_MIN_BASE_FEE_WEI)
parameters = st.builds(FeeParameters, gas_targets, step_indices, minimum_fees)


@st.composite
def bounds_and_parents(draw: st.DrawFn) -> tuple[FeeBounds, FeeParameters]:
    low_target, target, high_target = sorted(draw(st.tuples(gas_targets, gas_targets, gas_targets)))
    low_step, step, high_step = sorted(draw(st.tuples(step_indices, step_indices, step_indices)))
    low_fee, fee, high_fee = sorted(draw(st.tuples(minimum_fees, minimum_fees, minimum_fees)))
    bounds = FeeBounds(low_target, high_target, low_step, high_step, low_fee, high_fee)
    return bounds, FeeParameters(target, step, fee)


@given(parameters)
def test_fee_parameters_survive_their_encoding(value: FeeParameters) -> None:
    extra_data = encode_fee_parameters(value)
    assert len(extra_data) == EXTRA_DATA_BYTES <= 32
    assert decode_fee_parameters(extra_data) == value


@given(st.binary(max_size=40))
def test_extra_data_that_is_no_fee_parameters_is_refused(extra_data: bytes) -> None:
    try:
        decoded = decode_fee_parameters(extra_data)
    except InvalidFeeParameters:
        return
    assert encode_fee_parameters(decoded) == extra_data


@given(bounds_and_parents(), parameters)
def test_a_step_toward_any_preference_is_a_valid_step(
    bounds_and_parent: tuple[FeeBounds, FeeParameters], preference: FeeParameters
) -> None:
    bounds, parent = bounds_and_parent
    check_bounds(bounds)
    check_step(parent, step_toward(parent, preference, bounds), bounds)


@given(bounds_and_parents())
def test_the_parents_own_parameters_are_always_a_valid_step(
    bounds_and_parent: tuple[FeeBounds, FeeParameters],
) -> None:
    bounds, parent = bounds_and_parent
    assert step_toward(parent, parent, bounds) == parent
    check_step(parent, parent, bounds)


@given(bounds_and_parents(), parameters)
def test_every_valid_step_keeps_the_gas_limit_strictly_within_a_1024th(
    bounds_and_parent: tuple[FeeBounds, FeeParameters], child: FeeParameters
) -> None:
    bounds, parent = bounds_and_parent
    notch = gas_target_notch(parent.gas_target)
    nearby = replace(child, gas_target=parent.gas_target + child.gas_target % (2 * notch + 1) - notch)
    for candidate in (child, nearby, step_toward(parent, child, bounds)):
        try:
            check_step(parent, candidate, bounds)
        except InvalidFeeParameters:
            continue
        assert abs(candidate.gas_limit - parent.gas_limit) < parent.gas_limit // 1024
        assert candidate.gas_limit >= MIN_GAS_LIMIT
        check_within_bounds(candidate, bounds)


@given(
    base_fee=st.integers(0, 2**80),
    gas_limit=st.integers(MIN_GAS_LIMIT, 2 * MAX_GAS_TARGET),
    used_share=st.integers(0, 1_000),
    step_index=step_indices,
    minimum=minimum_fees,
)
def test_the_base_fee_moves_by_an_eighth_at_most_and_never_below_its_minimum(
    base_fee: int, gas_limit: int, used_share: int, step_index: int, minimum: int
) -> None:
    denominator = BASE_FEE_STEP_DENOMINATORS[step_index]
    child = next_base_fee(
        parent_base_fee=base_fee,
        parent_gas_used=gas_limit * used_share // 1_000,
        parent_gas_limit=gas_limit,
        denominator=denominator,
        min_base_fee=minimum,
    )
    assert child >= minimum
    if base_fee >= minimum:
        assert abs(child - base_fee) <= max(base_fee // denominator, 1) <= max(base_fee // 8, 1)


@pytest.mark.parametrize(
    ("used", "expected"),
    [(0, 875_000_000), (15_000_000, 10**9), (30_000_000, 1_125_000_000), (15_000_001, 1_000_000_008)],
)
def test_ethereums_own_step_gives_ethereums_base_fees(used: int, expected: int) -> None:
    assert (
        next_base_fee(
            parent_base_fee=10**9,
            parent_gas_used=used,
            parent_gas_limit=30_000_000,
            denominator=8,
            min_base_fee=0,
        )
        == expected
    )


@pytest.mark.parametrize(
    "bounds",
    [
        FeeBounds(MIN_GAS_TARGET - 1, MIN_GAS_TARGET, 0, 0, 0, 0),
        FeeBounds(MIN_GAS_TARGET + 1, MIN_GAS_TARGET, 0, 0, 0, 0),
        FeeBounds(MIN_GAS_TARGET, MAX_GAS_TARGET + 1, 0, 0, 0, 0),
        FeeBounds(MIN_GAS_TARGET, MIN_GAS_TARGET, 1, 0, 0, 0),
        FeeBounds(MIN_GAS_TARGET, MIN_GAS_TARGET, 0, len(BASE_FEE_STEP_DENOMINATORS), 0, 0),
        FeeBounds(MIN_GAS_TARGET, MIN_GAS_TARGET, 0, 0, 2, 1),
        FeeBounds(MIN_GAS_TARGET, MIN_GAS_TARGET, 0, 0, 0, MAX_MIN_BASE_FEE_WEI + 1),
    ],
)
def test_bounds_that_make_no_sense_are_refused(bounds: FeeBounds) -> None:
    with pytest.raises(InvalidFeeParameters):
        check_bounds(bounds)


@pytest.mark.parametrize(("excess", "fee"), [(0, 1), (5_007_716, 2), (10 * 5_007_716, 22_026)])
def test_the_blob_base_fee_is_the_fake_exponential(excess: int, fee: int) -> None:
    assert blob_base_fee(excess) == fee
