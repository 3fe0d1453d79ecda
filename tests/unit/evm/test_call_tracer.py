"""The call tracer shows what geth's does: the tree of calls with gas, data, errors and logs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from eth_abi.abi import encode

from astralink_node.chain import codec
from astralink_node.evm.created_addresses import contract_address, create2_address
from astralink_node.evm.fork_rules import PRAGUE
from astralink_node.evm.revert_reason import ERROR_SELECTOR
from astralink_node.evm.tracing.call_json import call_trace_json
from astralink_node.evm.tracing.calls import CallTracer
from astralink_node.evm.tracing.options import CallFrames
from astralink_node.evm.tracing.records import CallTrace
from tests.support.evm_code import (
    STOP,
    call,
    callcode,
    create,
    create2,
    delegatecall,
    deploying,
    push,
    put,
    returning,
    reverting,
    staticcall,
)
from tests.support.evm_worlds import SENDER, World, address

CONTRACT, INNER, INNERMOST = address(1), address(2), address(3)
IDENTITY = bytes(19) + b"\x04"
LOG_NOTHING = "5f5fa0"


def traced(codes: dict[bytes, str], to: bytes = CONTRACT, **fields: Any) -> CallTrace:
    return trace_in(World(codes), to, **fields)


def trace_in(world: World, to: bytes, options: CallFrames | None = None, **fields: Any) -> CallTrace:
    tracer = CallTracer(options or CallFrames(with_logs=True))
    world.execution.set_tracer(tracer)
    world.send(to, **fields)
    trace = tracer.result()
    assert codec.decode(CallTrace, codec.encode(trace)) == trace
    return trace


def shape(trace: CallTrace) -> list[tuple[int, str, str]]:
    return [(frame.depth, frame.kind, frame.error) for frame in trace.frames]


def nested(trace: CallTrace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call_trace_json(trace))
    return found


def test_a_plain_transfer_has_its_root_frame() -> None:
    trace = traced({}, address(9), value=5)
    (frame,) = trace.frames
    assert (frame.kind, frame.sender, frame.to, frame.value, frame.gas_used) == ("CALL", SENDER, address(9), 5, 0)
    assert nested(trace) == {
        "type": "CALL",
        "from": "0x" + SENDER.hex(),
        "to": "0x" + address(9).hex(),
        "value": "0x5",
        "gas": hex(1_000_000),
        "gasUsed": hex(21_000),
        "input": "0x",
    }


def test_calls_come_in_the_order_in_which_they_began_each_with_its_depth() -> None:
    codes = {CONTRACT: call(INNER) + call(INNERMOST), INNER: call(INNERMOST), INNERMOST: STOP}
    trace = traced(codes)
    assert [(frame.depth, frame.to) for frame in trace.frames] == [
        (0, CONTRACT),
        (1, INNER),
        (2, INNERMOST),
        (1, INNERMOST),
    ]
    tree = nested(trace)
    assert [inner["to"] for inner in tree["calls"]] == ["0x" + INNER.hex(), "0x" + INNERMOST.hex()]
    assert [inner["to"] for inner in tree["calls"][0]["calls"]] == ["0x" + INNERMOST.hex()]
    assert "calls" not in tree["calls"][1]


def test_a_calls_gas_is_what_it_got_and_its_use_what_it_took_of_that() -> None:
    frame = traced({CONTRACT: call(INNER, gas="61ffff"), INNER: "60015f5500"}).frames[1]
    assert (frame.gas, frame.gas_used) == (0xFFFF, 3 + 2 + 22_100)


def test_a_call_with_value_gets_the_stipend_on_top() -> None:
    frame = traced({CONTRACT: call(INNER, gas="61ffff", value=1), INNER: STOP}, value=1).frames[1]
    assert (frame.gas, frame.value) == (0xFFFF + 2_300, 1)


def test_a_revert_shows_its_data_and_what_it_says() -> None:
    data = ERROR_SELECTOR + encode(["string"], ["no such thing"])
    trace = traced({CONTRACT: call(INNER), INNER: reverting(data)})
    assert shape(trace) == [(0, "CALL", ""), (1, "CALL", "execution reverted")]
    inner = nested(trace)["calls"][0]
    assert inner["revertReason"] == "no such thing"
    assert inner["output"] == "0x" + data.hex()


def test_revert_data_of_another_form_has_no_reason() -> None:
    inner = nested(traced({CONTRACT: call(INNER), INNER: reverting(b"\x01\x02")}))["calls"][0]
    assert inner["output"] == "0x0102"
    assert "revertReason" not in inner


def test_a_child_without_enough_gas_burns_it_and_the_caller_goes_on() -> None:
    trace = traced({CONTRACT: call(INNER, gas="600a") + returning(b"on"), INNER: "60015f55"})
    assert shape(trace) == [(0, "CALL", ""), (1, "CALL", "out of gas: not enough gas for reentrancy sentry")]
    assert (trace.frames[1].gas_used, trace.frames[1].output) == (10, b"")
    assert trace.frames[0].output == b"on"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("01", "stack underflow (0 <=> 2)"),
        ("fe", "invalid opcode: INVALID"),
        ("0c", "invalid opcode: opcode 0xc not defined"),
        ("5f56", "invalid jump destination"),
        ("60015f5f3e", "return data out of bounds"),
        ("5f" * 1025, "stack limit reached 1024 (1023)"),
        ("61c0015f5ff000", "out of gas: max initcode size exceeded: size 49153"),
        ("5f61c0015f5ff500", "out of gas: max initcode size exceeded: size 49153"),
    ],
)
def test_a_halt_is_named_in_geths_words(code: str, error: str) -> None:
    assert traced({CONTRACT: code}).frames[0].error == error


def test_a_write_within_a_static_call_is_a_write_protection() -> None:
    trace = traced({CONTRACT: staticcall(INNER), INNER: "60015f55"})
    assert shape(trace) == [(0, "CALL", ""), (1, "STATICCALL", "write protection")]
    assert trace.frames[1].value is None
    assert "value" not in nested(trace)["calls"][0]


def test_a_write_within_a_static_call_that_could_not_be_paid_is_out_of_gas() -> None:
    code = staticcall(INNER).replace("5afa", "6064fa")
    assert traced({CONTRACT: code, INNER: "60015fa000"}).frames[1].error == "out of gas"


@pytest.mark.parametrize("call_inner", [staticcall(INNER), call(INNER)])
def test_a_store_with_no_more_gas_than_a_stipend_is_out_of_gas_for_a_reason(call_inner: str) -> None:
    """EIP-2200, also before it matters whether the call may write."""
    codes = {CONTRACT: call_inner.replace("5af", "6108fcf"), INNER: "60015f55"}
    assert traced(codes).frames[1].error == "out of gas: not enough gas for reentrancy sentry"


def test_a_delegatecall_has_the_callers_value_and_address() -> None:
    frame = traced({CONTRACT: delegatecall(INNER), INNER: STOP}, value=7).frames[1]
    assert (frame.kind, frame.sender, frame.to, frame.value) == ("DELEGATECALL", CONTRACT, INNER, 7)
    assert frame.code_address == INNER


def test_a_callcode_names_the_account_whose_code_it_runs() -> None:
    frame = traced({CONTRACT: callcode(INNER, value=1), INNER: STOP}, value=1).frames[1]
    assert (frame.kind, frame.sender, frame.to, frame.value) == ("CALLCODE", CONTRACT, INNER, 1)


def test_a_precompile_is_shown_with_what_it_did() -> None:
    frame = traced({CONTRACT: put(b"data") + staticcall(IDENTITY, size=4)}).frames[1]
    assert (frame.to, frame.input, frame.output, frame.gas_used, frame.precompile) == (
        IDENTITY,
        b"data",
        b"data",
        18,
        True,
    )


def test_a_creation_shows_initcode_address_and_deployed_code() -> None:
    initcode = deploying("fe")
    frame = traced({CONTRACT: create(initcode)}).frames[1]
    assert (frame.kind, frame.sender, frame.to) == ("CREATE", CONTRACT, contract_address(CONTRACT, 1))
    assert (frame.input.hex(), frame.output) == (initcode, b"\xfe")
    assert frame.gas_used == 200 + 3 + 2 + 6 + 3 + 3


def test_a_creation_with_a_salt_is_a_create2() -> None:
    initcode = deploying("fe")
    frame = traced({CONTRACT: create2(initcode, salt=9)}).frames[1]
    assert (frame.kind, frame.to) == ("CREATE2", create2_address(CONTRACT, 9, bytes.fromhex(initcode)))


def test_a_creating_transaction_is_a_creation_whose_output_is_the_code() -> None:
    trace = traced({}, b"", data=bytes.fromhex(deploying("fe")))
    (frame,) = trace.frames
    assert (frame.kind, frame.to, frame.output) == ("CREATE", contract_address(SENDER, 0), b"\xfe")
    assert nested(trace)["to"] == "0x" + contract_address(SENDER, 0).hex()


@pytest.mark.parametrize(
    ("initcode", "error"),
    [
        (returning(b"\xef"), "invalid code: must not begin with 0xef"),
        ("61ffff5ff3", "max code size exceeded"),
        ("5f5ffd", "execution reverted"),
    ],
)
def test_a_failed_creation_has_no_address_in_geths_json(initcode: str, error: str) -> None:
    trace = traced({CONTRACT: create(initcode) if len(initcode) <= 64 else STOP, INNER: STOP})
    if len(initcode) > 64:
        trace = traced({}, b"", data=bytes.fromhex(initcode))
    frame = trace.frames[-1]
    assert frame.error == error
    shown = nested(trace)
    assert "to" not in (shown["calls"][0] if "calls" in shown else shown)


def test_code_that_cannot_be_paid_for_is_not_deployed() -> None:
    frame = traced({CONTRACT: create("6120005ff3")}, gas_limit=150_000).frames[1]
    assert frame.error == "contract creation code storage out of gas"
    assert frame.gas_used == frame.gas


def test_a_selfdestruct_is_a_frame_of_its_own() -> None:
    trace = traced({CONTRACT: push(INNER) + "ff"}, value=3)
    assert shape(trace) == [(0, "CALL", ""), (1, "SELFDESTRUCT", "")]
    frame = trace.frames[1]
    assert (frame.sender, frame.to, frame.value, frame.gas, frame.gas_used) == (CONTRACT, INNER, 3, 0, 0)
    assert nested(trace)["calls"][0]["input"] == "0x"


def test_a_selfdestruct_that_fails_is_no_frame() -> None:
    trace = traced({CONTRACT: staticcall(INNER), INNER: push(CONTRACT) + "ff"})
    assert shape(trace) == [(0, "CALL", ""), (1, "STATICCALL", "write protection")]


def test_logs_say_how_many_calls_came_before_them() -> None:
    codes = {CONTRACT: LOG_NOTHING + call(INNER) + push(7) + "5f5fa1", INNER: LOG_NOTHING}
    trace = traced(codes)
    assert [(log.index, log.position) for log in trace.frames[0].logs] == [(0, 0), (2, 1)]
    assert [(log.index, log.position) for log in trace.frames[1].logs] == [(1, 0)]
    assert trace.frames[0].logs[1].log.topics == ((7).to_bytes(32, "big"),)
    assert nested(trace)["logs"][1] == {
        "address": "0x" + CONTRACT.hex(),
        "topics": [f"0x{7:064x}"],
        "data": "0x",
        "index": "0x2",
        "position": "0x1",
    }


def test_logs_of_reverted_calls_are_absent_those_of_their_own_calls_too() -> None:
    codes = {
        CONTRACT: call(INNER) + LOG_NOTHING,
        INNER: LOG_NOTHING + call(INNERMOST) + "5f5ffd",
        INNERMOST: LOG_NOTHING,
    }
    trace = traced(codes)
    assert [len(frame.logs) for frame in trace.frames] == [1, 0, 0]
    assert trace.frames[0].logs[0].index == 0


def test_without_with_log_there_are_none() -> None:
    trace = trace_in(World({CONTRACT: LOG_NOTHING}), CONTRACT, CallFrames())
    assert trace.frames[0].logs == ()


def test_only_the_top_call_is_shown_if_asked_for() -> None:
    codes = {CONTRACT: call(INNER) + LOG_NOTHING, INNER: LOG_NOTHING + push(INNERMOST) + "ff"}
    trace = trace_in(World(codes), CONTRACT, CallFrames(only_top_call=True, with_logs=True))
    assert shape(trace) == [(0, "CALL", "")]
    assert len(trace.frames[0].logs) == 1


# --- Calls that never start ----------------------------------------------------------------------------------------


def test_a_call_without_the_balance_is_shown_as_refused_and_costs_no_gas_of_its_own() -> None:
    frame = traced({CONTRACT: call(INNER, gas="61ffff", value=1), INNER: STOP}).frames[1]
    assert (frame.kind, frame.to, frame.value) == ("CALL", INNER, 1)
    assert (frame.error, frame.gas, frame.gas_used) == ("insufficient balance for transfer", 0xFFFF + 2_300, 0)


def test_a_refused_calls_gas_is_what_a_started_ones_would_have_been() -> None:
    code = call(INNER, value=1)
    refused, started = traced({CONTRACT: code, INNER: STOP}), traced({CONTRACT: code, INNER: STOP}, value=1)
    assert refused.frames[1].gas == started.frames[1].gas


def test_a_creation_without_the_balance_is_refused_and_its_gas_what_a_started_ones_would_have_been() -> None:
    code = create(deploying("fe"), value=1)
    refused, started = traced({CONTRACT: code}), traced({CONTRACT: code}, value=1)
    assert shape(refused) == [(0, "CALL", ""), (1, "CREATE", "insufficient balance for transfer")]
    assert (refused.frames[1].gas, refused.frames[1].to) == (started.frames[1].gas, started.frames[1].to)


def test_a_creation_by_an_account_with_the_last_nonce_is_refused() -> None:
    alloc = {"0x" + CONTRACT.hex(): {"nonce": 2**64 - 1, "code": "0x" + create("00"), "balance": 0}}
    trace = trace_in(World(alloc=alloc), CONTRACT)
    assert shape(trace) == [(0, "CALL", ""), (1, "CREATE", "nonce uint64 overflow")]


@pytest.mark.parametrize("is_create2", [False, True])
def test_a_creation_where_something_stands_burns_its_gas(is_create2: bool) -> None:
    initcode = deploying("fe")
    taken = create2_address(CONTRACT, 0, bytes.fromhex(initcode)) if is_create2 else contract_address(CONTRACT, 1)
    code = (create2 if is_create2 else create)(initcode)
    frame = traced({CONTRACT: code, taken: STOP}).frames[1]
    free = traced({CONTRACT: code}).frames[1]
    assert (frame.error, frame.to) == ("contract address collision", taken)
    assert (frame.gas, frame.gas_used) == (free.gas, free.gas)


def test_a_creating_transaction_where_something_stands_is_a_failed_root_frame() -> None:
    taken = contract_address(SENDER, 0)
    trace = traced({taken: STOP}, b"", data=bytes.fromhex(deploying("fe")), gas_limit=100_000)
    assert shape(trace) == [(0, "CREATE", "contract address collision")]
    assert trace.gas_used == 100_000


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (call(CONTRACT), "CALL"),
        (callcode(CONTRACT), "CALLCODE"),
        (delegatecall(CONTRACT), "DELEGATECALL"),
        (staticcall(CONTRACT), "STATICCALL"),
        # A copy of the running code as initcode, with another salt each time.
        ("385f5f39385f5ff0", "CREATE"),
        ("385f5f395f54385f5ff5", "CREATE2"),
    ],
)
def test_the_call_beyond_depth_1024_is_refused(code: str, kind: str) -> None:
    world = World({CONTRACT: code}, fork=PRAGUE, gas_limit=10**15, sender_balance=10**40)
    trace = trace_in(world, CONTRACT, gas_limit=10**14)
    assert [frame.depth for frame in trace.frames] == list(range(1026))
    assert {frame.error for frame in trace.frames[:-1]} == {""}
    assert (trace.frames[-1].kind, trace.frames[-1].error) == (kind, "max call depth exceeded")
    assert trace.frames[-1].gas_used == 0
    text = call_trace_json(trace)
    assert text.count(b'"calls":[') == text.count(b"]}") == 1025
