"""The gas table is what the contracts cost, and what the protocol calls stays far below its 30 million."""

from __future__ import annotations

import json

import pytest

from astralink_node.evm.system_calls import SYSTEM_CALL_GAS
from tests.contracts.gas_scenarios import TABLE, measure

PROTOCOL = ("begin_block", "note_absent", "close_window", "slash_double_sign", "freeze", "elect", "begin_epoch", "view")
TOLERANCE_PERCENT = 2


@pytest.fixture(scope="module")
def measured() -> dict[str, int]:
    return measure()


def test_table_names_every_scenario(measured: dict[str, int]) -> None:
    assert json.loads(TABLE.read_text()).keys() == measured.keys()


def test_nothing_costs_more_than_the_table_says(measured: dict[str, int]) -> None:
    table = json.loads(TABLE.read_text())
    dearer = {
        name: (table[name], gas)
        for name, gas in measured.items()
        if gas * 100 > table[name] * (100 + TOLERANCE_PERCENT)
    }
    assert dearer == {}, "more gas than before, by over 2 %: if it must be, `make gas-table`"


def test_table_is_not_out_of_date(measured: dict[str, int]) -> None:
    table = json.loads(TABLE.read_text())
    cheaper = {
        name: (table[name], gas)
        for name, gas in measured.items()
        if gas * 100 < table[name] * (100 - TOLERANCE_PERCENT)
    }
    assert cheaper == {}, "less gas than the table says: keep the gain with `make gas-table`"


def test_calls_of_the_protocol_keep_far_below_their_gas(measured: dict[str, int]) -> None:
    calls = {name: gas for name, gas in measured.items() if name.startswith(PROTOCOL)}
    assert len(calls) >= 15
    # By default two are punished; that all 128 are takes a governance that allows it.
    assert calls.pop("close_window, 128 members, all punished") * 5 < SYSTEM_CALL_GAS * 4
    assert all(gas * 5 < SYSTEM_CALL_GAS * 3 for gas in calls.values()), calls


def test_a_block_costs_the_same_with_one_member_or_128(measured: dict[str, int]) -> None:
    costs = [measured[f"begin_block, {members} members"] for members in (1, 10, 128)]
    assert max(costs) - min(costs) < 500
