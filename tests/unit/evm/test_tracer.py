"""EIP-3155 traces: one line an opcode, with geth's costs, depths and errors."""

import json

import pytest

from astralink_node.evm.tracing.eip3155 import Eip3155Tracer
from astralink_node.types import Address
from tests.support.evm_worlds import World, address

CONTRACT = address(1)
INNER = address(2)


def trace(code: str, inner: str = "", *, memory: bool = False) -> list[dict[str, object]]:
    lines: list[str] = []
    world = World({CONTRACT: code, INNER: inner or "00"})
    world.execution.set_tracer(Eip3155Tracer(lines.append, memory=memory))
    world.send(CONTRACT)
    return [json.loads(line) for line in lines]


def call(target: Address, gas: str) -> str:
    return "5f5f5f5f5f73" + target.hex() + gas + "f1"


def test_each_opcode_has_a_line_with_stack_gas_and_cost() -> None:
    lines = trace("6005600401602052")
    assert [line["opName"] for line in lines] == ["PUSH1", "PUSH1", "ADD", "PUSH1", "MSTORE", "STOP"]
    assert [line["pc"] for line in lines] == [0, 2, 4, 5, 7, 8]
    assert [int(line["gasCost"], 16) for line in lines] == [3, 3, 3, 3, 9, 0]
    assert lines[2]["stack"] == ["0x5", "0x4"]
    assert lines[5]["memSize"] == 64
    gas = [int(line["gas"], 16) for line in lines]
    assert all(
        before - int(line["gasCost"], 16) == after for before, after, line in zip(gas, gas[1:], lines, strict=False)
    )


def test_a_calls_cost_includes_what_it_hands_on_and_its_lines_follow_deeper() -> None:
    lines = trace(call(INNER, "61ffff") + "00", "5f5000")
    assert [line["depth"] for line in lines] == [1] * 8 + [2] * 3 + [1]
    assert int(lines[7]["gasCost"], 16) == 2_600 + 0xFFFF
    assert int(lines[8]["gas"], 16) == 0xFFFF


def test_a_call_that_runs_no_code_costs_the_same() -> None:
    (line,) = [line for line in trace(call(address(9), "61ffff")) if line["opName"] == "CALL"]
    assert int(line["gasCost"], 16) == 2_600 + 0xFFFF


def test_a_creations_cost_does_not_include_what_it_hands_on() -> None:
    (line,) = [line for line in trace("5f5f5ff0") if line["opName"] == "CREATE"]
    assert int(line["gasCost"], 16) == 32_000


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("01", "stack underflow"),
        ("fe", "invalid opcode: INVALID"),
        ("5f56", "invalid jump destination"),
        ("5f5ffd", "execution reverted"),
    ],
)
def test_the_line_of_a_failing_opcode_names_the_error(code: str, error: str) -> None:
    lines = trace(code)
    assert error in lines[-1]["error"]
    assert all("error" not in line for line in lines[:-1])


def test_refunds_add_up_over_the_calls_so_far() -> None:
    lines = trace("60015f55" + "5f5f55" + call(INNER, "61ffff") + "00", "60015f555f5f5500")
    assert lines[-1]["refund"] == 2 * (20_000 - 100)


def test_memory_is_shown_if_asked_for() -> None:
    assert trace("60ff5f5300", memory=True)[-1]["memory"] == "0xff" + "00" * 31
    assert "memory" not in trace("00")[0]


def test_a_traced_transaction_has_the_same_outcome() -> None:
    code = "60015f55" + call(INNER, "5a") + "5f5f5ff0" + "60005500"
    plain, traced = World({CONTRACT: code, INNER: "5f5fa000"}), World({CONTRACT: code, INNER: "5f5fa000"})
    traced.execution.set_tracer(Eip3155Tracer(lambda _: None))
    plain.send(CONTRACT)
    traced.send(CONTRACT)
    assert plain.execution.receipts == traced.execution.receipts
    assert plain.overlay.changes() == traced.overlay.changes()
