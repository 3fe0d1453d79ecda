"""Which headers may follow which, under plain Ethereum and under AstraLink."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from astralink_node.evm.block_errors import BlockRule, InvalidBlock
from astralink_node.evm.blocks import Header, empty_header
from astralink_node.evm.fee_rules import (
    MIN_GAS_TARGET,
    FeeBounds,
    FeeParameters,
    encode_fee_parameters,
    gas_target_notch,
)
from astralink_node.evm.fork_rules import OSAKA, PRAGUE, astralink, plain_ethereum
from astralink_node.evm.header_rules import (
    GAS_PER_BLOB,
    TARGET_BLOB_GAS,
    child_base_fee,
    child_excess_blob_gas,
    validate_header,
)
from astralink_node.types import Hash32

ETHEREUM = plain_ethereum(OSAKA)
BOUNDS = FeeBounds(
    min_gas_target=MIN_GAS_TARGET,
    max_gas_target=20_000_000,
    min_step_index=0,
    max_step_index=4,
    lowest_min_base_fee_wei=10,
    highest_min_base_fee_wei=10**9,
)
ASTRALINK = astralink(1, BOUNDS)
PARAMETERS = FeeParameters(gas_target=15_000_000, base_fee_step_index=2, min_base_fee_wei=1_000)

ETHEREUM_PARENT = replace(
    empty_header(), number=9, gas_limit=30_000_000, gas_used=15_000_000, timestamp=1_000, base_fee_per_gas=10**9
)
ASTRALINK_PARENT = replace(ETHEREUM_PARENT, extra_data=encode_fee_parameters(PARAMETERS))


def child_of(parent: Header, **changes: object) -> Header:
    rules = ASTRALINK if parent.extra_data else ETHEREUM
    fields = {
        "parent_hash": parent.hash,
        "number": parent.number + 1,
        "timestamp": parent.timestamp + 12,
        "gas_used": 0,
        "base_fee_per_gas": child_base_fee(rules, parent),
    }
    return replace(parent, **(fields | changes))


def astralink_child(parameters: FeeParameters) -> Header:
    return child_of(ASTRALINK_PARENT, extra_data=encode_fee_parameters(parameters), gas_limit=2 * parameters.gas_target)


def rule_broken(header: Header, parent: Header) -> BlockRule:
    with pytest.raises(InvalidBlock) as caught:
        validate_header(ASTRALINK if parent.extra_data else ETHEREUM, header, parent)
    return caught.value.rule


@pytest.mark.parametrize("parent", [ETHEREUM_PARENT, ASTRALINK_PARENT])
def test_a_proper_child_is_valid(parent: Header) -> None:
    validate_header(ASTRALINK if parent.extra_data else ETHEREUM, child_of(parent), parent)


@pytest.mark.parametrize("parent", [ETHEREUM_PARENT, ASTRALINK_PARENT], ids=["ethereum", "astralink"])
@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"parent_hash": Hash32(b"\x01" * 32)}, BlockRule.PARENT_HASH),
        ({"number": 11}, BlockRule.NUMBER),
        ({"ommers_hash": Hash32(b"\x01" * 32)}, BlockRule.OMMERS),
        ({"difficulty": 1}, BlockRule.DIFFICULTY),
        ({"nonce": bytes(7) + b"\x01"}, BlockRule.DIFFICULTY),
        ({"extra_data": bytes(33)}, BlockRule.EXTRA_DATA),
        ({"gas_used": 30_000_001}, BlockRule.GAS_ABOVE_LIMIT),
        ({"timestamp": 999}, BlockRule.TIMESTAMP),
        ({"base_fee_per_gas": 10**9 + 1}, BlockRule.BASE_FEE),
        ({"blob_gas_used": GAS_PER_BLOB}, BlockRule.BLOB_GAS_USED),
        ({"excess_blob_gas": 1}, BlockRule.EXCESS_BLOB_GAS),
    ],
)
def test_a_child_with_a_wrong_field_is_refused_for_that_field(
    parent: Header, changes: dict[str, object], rule: BlockRule
) -> None:
    assert rule_broken(child_of(parent, **changes), parent) is rule


def test_ethereum_timestamps_must_grow_and_astralinks_may_repeat() -> None:
    assert rule_broken(child_of(ETHEREUM_PARENT, timestamp=1_000), ETHEREUM_PARENT) is BlockRule.TIMESTAMP
    validate_header(ASTRALINK, child_of(ASTRALINK_PARENT, timestamp=1_000), ASTRALINK_PARENT)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_gas_limit_moves_by_less_than_a_1024th(sign: int) -> None:
    bound = ETHEREUM_PARENT.gas_limit // 1024
    validate_header(ETHEREUM, child_of(ETHEREUM_PARENT, gas_limit=30_000_000 + sign * (bound - 1)), ETHEREUM_PARENT)
    too_far = child_of(ETHEREUM_PARENT, gas_limit=30_000_000 + sign * bound)
    assert rule_broken(too_far, ETHEREUM_PARENT) is BlockRule.GAS_LIMIT


def test_an_ethereum_gas_limit_has_a_minimum() -> None:
    parent = replace(ETHEREUM_PARENT, gas_limit=5_000, gas_used=2_500)
    validate_header(ETHEREUM, child_of(parent), parent)
    assert rule_broken(child_of(parent, gas_limit=4_999), parent) is BlockRule.GAS_LIMIT


@pytest.mark.parametrize(
    "move",
    [
        lambda p: replace(p, gas_target=p.gas_target + gas_target_notch(p.gas_target)),
        lambda p: replace(p, gas_target=p.gas_target - gas_target_notch(p.gas_target)),
        lambda p: replace(p, base_fee_step_index=p.base_fee_step_index + 1),
        lambda p: replace(p, base_fee_step_index=p.base_fee_step_index - 1),
        lambda p: replace(p, min_base_fee_wei=p.min_base_fee_wei + p.min_base_fee_wei // 8),
        lambda p: replace(p, min_base_fee_wei=p.min_base_fee_wei - p.min_base_fee_wei // 8),
    ],
)
def test_each_fee_parameter_may_move_one_notch(move: Callable[[FeeParameters], FeeParameters]) -> None:
    validate_header(ASTRALINK, astralink_child(move(PARAMETERS)), ASTRALINK_PARENT)


@pytest.mark.parametrize(
    "parameters",
    [
        replace(PARAMETERS, gas_target=PARAMETERS.gas_target + gas_target_notch(PARAMETERS.gas_target) + 1),
        replace(PARAMETERS, base_fee_step_index=4),
        replace(PARAMETERS, base_fee_step_index=0),
        replace(PARAMETERS, min_base_fee_wei=1_126),
        replace(PARAMETERS, min_base_fee_wei=874),
    ],
)
def test_no_fee_parameter_may_move_two(parameters: FeeParameters) -> None:
    assert rule_broken(astralink_child(parameters), ASTRALINK_PARENT) is BlockRule.FEE_PARAMETERS


def test_a_gas_limit_other_than_twice_its_target_is_refused() -> None:
    assert rule_broken(child_of(ASTRALINK_PARENT, gas_limit=30_000_002), ASTRALINK_PARENT) is BlockRule.GAS_LIMIT


def test_an_astralink_header_without_fee_parameters_is_refused() -> None:
    assert rule_broken(child_of(ASTRALINK_PARENT, extra_data=b"hello"), ASTRALINK_PARENT) is BlockRule.FEE_PARAMETERS


def test_an_astralink_header_with_withdrawals_is_refused() -> None:
    header = child_of(ASTRALINK_PARENT, withdrawals_root=Hash32(b"\x01" * 32))
    assert rule_broken(header, ASTRALINK_PARENT) is BlockRule.WITHDRAWALS


def test_the_base_fee_follows_the_parents_own_step_and_minimum() -> None:
    full = replace(ASTRALINK_PARENT, gas_used=30_000_000)
    assert child_base_fee(ASTRALINK, full) == 10**9 + 10**9 // 16
    cheap = replace(ASTRALINK_PARENT, gas_used=0, base_fee_per_gas=1_000)
    assert child_base_fee(ASTRALINK, cheap) == 1_000


def test_excess_blob_gas_falls_to_the_target_and_osaka_holds_it_at_the_reserve_price() -> None:
    parent = replace(ETHEREUM_PARENT, excess_blob_gas=10 * GAS_PER_BLOB, blob_gas_used=6 * GAS_PER_BLOB)
    assert child_excess_blob_gas(PRAGUE, parent) == 16 * GAS_PER_BLOB - TARGET_BLOB_GAS
    # EIP-7918: a dear base fee makes blobs too cheap to fall; only a third of what was used is added.
    assert child_excess_blob_gas(OSAKA, parent) == 10 * GAS_PER_BLOB + 2 * GAS_PER_BLOB
    assert child_excess_blob_gas(OSAKA, replace(parent, base_fee_per_gas=1)) == 10 * GAS_PER_BLOB
    assert child_excess_blob_gas(OSAKA, replace(parent, excess_blob_gas=0, blob_gas_used=0)) == 0
