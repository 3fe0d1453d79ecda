"""Parity's vmTrace: every opcode's cost and effects, with the calls within."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from astralink_node.evm.fork_rules import PRAGUE
from astralink_node.evm.tracing.kept_bytes import KeptBytes, TraceTooLarge
from astralink_node.evm.tracing.vm_trace import VmTracer
from tests.support.evm_code import call, create, deploying, push, put, returning
from tests.support.evm_worlds import World, address

CONTRACT, INNER = address(1), address(2)


def traced(codes: dict[bytes, str], **fields: Any) -> dict[str, Any]:
    tracer = VmTracer()
    world = World(codes)
    world.execution.set_tracer(tracer)
    world.send(CONTRACT, **fields)
    found: dict[str, Any] = orjson.loads(tracer.result().json)
    return found


def test_an_operation_shows_its_cost_what_it_pushed_and_the_gas_left() -> None:
    trace = traced({CONTRACT: "6005600401"})
    assert trace["code"] == "0x6005600401"
    left = 1_000_000 - 21_000 - 9
    assert trace["ops"][2] == {
        "pc": 4,
        "op": "ADD",
        "cost": 3,
        "ex": {"mem": None, "push": ["0x9"], "store": None, "used": left},
        "sub": None,
    }


def test_memory_and_storage_that_an_opcode_writes_are_its_effects() -> None:
    ops = {op["op"]: op["ex"] for op in traced({CONTRACT: put(b"\x01") + "60075f55"})["ops"]}
    assert ops["MSTORE"]["mem"] == {"off": 0, "data": "0x01" + "00" * 31}
    assert ops["SSTORE"]["store"] == {"key": "0x0", "val": "0x7"}


def test_swaps_and_dups_push_all_that_they_reach() -> None:
    ops = traced({CONTRACT: "600160029081"})["ops"]
    assert ops[2]["ex"]["push"] == ["0x2", "0x1"]
    assert ops[3]["ex"]["push"] == ["0x2", "0x1", "0x2"]


def test_a_call_holds_what_it_ran_and_costs_what_it_hands_on_too() -> None:
    ops = traced({CONTRACT: call(INNER, gas="61ffff") + "50", INNER: returning(b"")})["ops"]
    (made,) = [op for op in ops if op["op"] == "CALL"]
    assert made["cost"] == 2_600 + 0xFFFF
    assert made["sub"]["ops"][-1]["op"] == "RETURN"
    assert made["ex"]["push"] == ["0x1"]


def test_a_creation_holds_its_initcode() -> None:
    initcode = deploying("fe")
    (made,) = [op for op in traced({CONTRACT: create(initcode)})["ops"] if op["op"] == "CREATE"]
    assert made["sub"]["code"] == "0x" + initcode


def test_a_refused_call_is_an_operation_without_a_call() -> None:
    ops = traced({CONTRACT: call(INNER, gas="61ffff", value=1), INNER: "00"})["ops"]
    (refused,) = [op for op in ops if op["op"] == "CALL"]
    assert refused["sub"] is None
    assert refused["ex"]["push"] == ["0x0"]


def test_an_opcode_that_fails_has_no_effects() -> None:
    assert traced({CONTRACT: "fe"})["ops"][-1]["ex"] is None


def test_a_transfer_has_no_operations() -> None:
    tracer = VmTracer()
    world = World()
    world.execution.set_tracer(tracer)
    world.send(address(9), value=1)
    assert orjson.loads(tracer.result().json) == {"code": "0x", "ops": []}


def test_without_a_call_there_is_no_trace() -> None:
    assert VmTracer().result().json == b"null"


def test_calls_1024_deep_have_their_json() -> None:
    tracer = VmTracer()
    world = World({CONTRACT: call(CONTRACT)}, fork=PRAGUE, gas_limit=10**15, sender_balance=10**40)
    world.execution.set_tracer(tracer)
    world.send(CONTRACT, gas_limit=10**14)
    assert tracer.result().json.count(b'"code"') == 1025


def test_text_in_pushed_data_does_not_disturb_the_json() -> None:
    code = push(b'},]}"') + "50"
    assert traced({CONTRACT: code})["code"] == "0x" + code


def test_the_text_is_what_is_counted_as_kept() -> None:
    """Nested: what an inner call writes belongs to the same text."""
    codes = {CONTRACT: call(INNER, gas="61ffff") + "50", INNER: returning(b"")}
    whole = VmTracer()
    world = World(codes)
    world.execution.set_tracer(whole)
    world.send(CONTRACT)
    size = len(whole.result().json)
    world = World(codes)
    world.execution.set_tracer(VmTracer(KeptBytes(size)))
    world.send(CONTRACT)
    world = World(codes)
    world.execution.set_tracer(VmTracer(KeptBytes(size // 2)))
    with pytest.raises(TraceTooLarge):
        world.send(CONTRACT)
