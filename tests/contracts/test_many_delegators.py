"""A thousand delegators over a hundred epochs cost no block more than three, and get what the ledger says."""

from __future__ import annotations

import json

import pytest

from tests.contracts.delegator_crowds import EPOCHS, LongRun, largest, long_run
from tests.contracts.gas_scenarios import TABLE

FEW, MANY = 3, 1_000


@pytest.mark.parametrize("function", ["begin_block", "begin_epoch", "elect", "close_window", "unjail", "claim"])
def test_call_costs_the_same_with_a_thousand_delegators_as_with_three(function: str) -> None:
    few, many = long_run(FEW).gas[function], long_run(MANY).gas[function]
    assert len(few) == len(many) >= (1 if function in ("close_window", "unjail") else EPOCHS - 1)
    assert few == many, "call by call"


def test_table_states_the_dearest_of_these_calls() -> None:
    table = json.loads(TABLE.read_text())
    found = {f"{name}, dearest of 100 epochs, 1,000 delegators": gas for name, gas in largest(long_run(MANY)).items()}
    assert found.items() <= table.items()


@pytest.mark.parametrize("delegators", [FEW, MANY])
def test_everybody_can_claim_what_the_ledger_says(delegators: int) -> None:
    run: LongRun = long_run(delegators)
    assert len(run.paid) == delegators
    assert run.paid == run.expected
    assert all(at_a > 0 and at_b > 0 for at_a, at_b in run.paid)
    assert run.owed == run.owed_by_ledger
