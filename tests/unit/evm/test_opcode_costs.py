"""What the cost rules beside the machine say of an opcode is what the machine takes for it, and names in failures."""

from __future__ import annotations

import json

import pytest
from eth.exceptions import VMError

from astralink_node.evm.tracing.costs import LARGEST_COST, Asked
from astralink_node.evm.tracing.eip3155 import Eip3155Tracer
from astralink_node.evm.tracing.hooks import SilentTracer
from astralink_node.evm.tracing.instructions import ALL_OPCODES, CALLS
from astralink_node.evm.vm import Computation
from tests.support.evm_code import call, callcode, create, create2, delegatecall, deploying, push, put, staticcall
from tests.support.evm_worlds import World, address

CONTRACT, INNER, EMPTY = address(1), address(2), address(9)
SNIPPETS = (
    put(b"\x01") + push(96) + "5f20",
    push(33) + "5f5f37" + push(64) + "5f5f39" + push(40) + push(100) + push(200) + "5e",
    push(40) + "5f5f" + push(INNER) + "3c" + push(INNER) + "31" + push(EMPTY) + "3b" + push(EMPTY) + "3f",
    push(2**40) + push(3) + "0a" + "5f" + push(3) + "0a",
    "60075f55" + "60075f55" + "60085f55" + "5f5f55" + "60015f55" + "5f54" + "600954",
    "5f54" + "60015f5d" + "5f5c",
    push(3) * 3 + push(70) + "5fa3" + "5f5fa0",
    push(1) + push(300) + "53" + push(9) + "51",
    create(deploying("fe")) + create2(deploying("fe")),
    call(INNER) + call(EMPTY) + call(EMPTY, value=1) + call(INNER, value=1, size=96),
    callcode(INNER, value=1) + delegatecall(EMPTY) + staticcall(INNER, size=64),
    push(EMPTY) + "ff",
)


class CostChecker(SilentTracer):
    """Holds the rules against the machine; calls end when they are entered, so their cost is looked at elsewhere."""

    watched = ALL_OPCODES - CALLS - {0xF0, 0xF5}

    def __init__(self) -> None:
        self.checked = 0
        self._asked: Asked | None = None

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:
        self._asked = Asked.of(computation, opcode)

    def after_opcode(self, computation: Computation, opcode: int, error: VMError | None) -> None:
        assert self._asked is not None
        if error is None:
            assert self._asked.cost() == self._asked.gas_before - computation.gas_left, hex(opcode)
            self.checked += 1


@pytest.mark.parametrize("code", SNIPPETS)
def test_an_opcode_that_runs_costs_what_the_rules_say(code: str) -> None:
    checker = CostChecker()
    world = World({CONTRACT: code, INNER: "00"})
    world.execution.set_tracer(checker)
    world.send(CONTRACT, value=5)
    assert checker.checked > 1


@pytest.mark.parametrize("code", SNIPPETS)
def test_whatever_the_gas_a_failing_opcode_shows_the_cost_that_it_has_when_it_runs(code: str) -> None:
    """But for calls, whose cost depends on the gas that there is."""
    whole = lines_of(code, 1_000_000)
    for gas in range(0, 60_000, 1_777):
        lines = lines_of(code, 21_000 + gas)
        failed, same = lines[-1], whole[len(lines) - 1]
        if "error" not in failed or failed["opName"] in ("CALL", "CALLCODE", "DELEGATECALL", "STATICCALL"):
            continue
        if failed["opName"] == "SSTORE" and int(str(failed["gas"]), 16) <= 2_300:
            assert failed["gasCost"] == "0x0"
        else:
            assert (failed["pc"], failed["gasCost"]) == (same["pc"], same["gasCost"])


def lines_of(code: str, gas_limit: int) -> list[dict[str, object]]:
    """Of the contract itself."""
    written: list[str] = []
    world = World({CONTRACT: code, INNER: "00"})
    world.execution.set_tracer(Eip3155Tracer(written.append))
    world.send(CONTRACT, value=5, gas_limit=gas_limit)
    return [line for line in map(json.loads, written) if line["depth"] == 1]


def test_no_cost_is_shown_above_64_bits() -> None:
    code = push(2**200) + push(2**255) + "20"
    assert lines_of(code, 1_000_000)[-1]["gasCost"] == hex(LARGEST_COST)
