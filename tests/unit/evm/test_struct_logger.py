"""The struct logger writes geth's lines, one by one, and nothing of a transaction runs on once a write has raised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from astralink_node.chain.json_stream import JsonStream
from astralink_node.chain.trace_messages import StreamChunk, TracePart
from astralink_node.chain.tracers import stream_struct_logs
from astralink_node.evm.tracing.hooks import Tracer
from astralink_node.evm.tracing.options import StructLogs
from astralink_node.evm.tracing.run import TRACED_OPCODES_PER_CHECK
from astralink_node.evm.tracing.struct_logger import StructLogger, StructLogResult
from astralink_node.evm.vm import Computation
from tests.support.evm_code import STOP, call, create, push, put, returning, reverting
from tests.support.evm_worlds import World, address
from tests.support.json_schema import violations

OPENRPC = Path(__file__).parents[2] / "fixtures" / "unpacked" / "openrpc" / "openrpc.json"

CONTRACT, INNER = address(1), address(2)


def lines_of(codes: dict[bytes, str], options: StructLogs | None = None, **fields: Any) -> list[dict[str, Any]]:
    return run(codes, options, **fields)[0]


def run(
    codes: dict[bytes, str], options: StructLogs | None = None, **fields: Any
) -> tuple[list[dict[str, Any]], StructLogResult]:
    written: list[bytes] = []
    logger = StructLogger(written.append, options or StructLogs())
    world = World(codes)
    world.execution.set_tracer(logger)
    world.send(CONTRACT, **fields)
    result = logger.result()
    assert result is not None
    return [orjson.loads(line) for line in written], result


def streamed(codes: dict[bytes, str], options: StructLogs) -> dict[str, Any]:
    """The object as a client gets it."""
    chunks: list[bytes] = []

    def keep(part: TracePart) -> None:
        assert isinstance(part, StreamChunk)
        chunks.append(part.data)

    def send(tracer: Tracer) -> None:
        world = World(codes)
        world.execution.set_tracer(tracer)
        world.send(CONTRACT)

    stream = JsonStream(keep)
    stream_struct_logs(stream, options, send)
    stream.flush()
    found: dict[str, Any] = orjson.loads(b"".join(chunks))
    return found


def test_a_line_has_numbers_names_and_the_stack() -> None:
    assert lines_of({CONTRACT: "6005600401"})[2] == {
        "pc": 4,
        "op": "ADD",
        "gas": 1_000_000 - 21_000 - 6,
        "gasCost": 3,
        "depth": 1,
        "stack": ["0x5", "0x4"],
    }


def test_a_plain_transfer_has_no_lines_but_a_result() -> None:
    written: list[bytes] = []
    logger = StructLogger(written.append, StructLogs())
    world = World()
    world.execution.set_tracer(logger)
    world.send(address(9), value=1)
    assert written == []
    assert logger.result() == StructLogResult(21_000, failed=False, return_value=b"")


def test_storage_is_shown_where_a_slot_is_read_or_written_and_adds_up() -> None:
    lines = lines_of({CONTRACT: "60075f55" + "600154" + "5f54"})
    word = "0x" + "00" * 31
    shown = [line["storage"] for line in lines if "storage" in line]
    assert shown == [
        {word + "00": word + "07"},
        {word + "00": word + "07", word + "01": word + "00"},
        {word + "00": word + "07", word + "01": word + "00"},
    ]


def test_each_contract_has_its_own_slots() -> None:
    lines = lines_of({CONTRACT: "60075f55" + call(INNER), INNER: "600154"})
    (read,) = [line for line in lines if line["op"] == "SLOAD"]
    assert list(read["storage"]) == ["0x" + "00" * 31 + "01"]


def test_storage_and_stack_can_be_left_out() -> None:
    lines = lines_of({CONTRACT: "60075f55"}, StructLogs(with_stack=False, with_storage=False))
    assert all("stack" not in line and "storage" not in line for line in lines)


def test_memory_comes_in_words_and_only_if_asked_for_and_there() -> None:
    lines = lines_of({CONTRACT: put(b"\x01") + "00"}, StructLogs(with_memory=True))
    assert [line.get("memory") for line in lines] == [None, None, None, ["0x01" + "00" * 31]]
    assert all("memory" not in line for line in lines_of({CONTRACT: put(b"\x01") + "00"}))


def test_return_data_is_that_of_the_last_call_and_only_if_asked_for() -> None:
    codes = {CONTRACT: call(INNER) + "50", INNER: returning(b"\xaa")}
    lines = lines_of(codes, StructLogs(with_return_data=True))
    assert [line.get("returnData") for line in lines if line["op"] in ("CALL", "POP")] == [None, "0xaa"]
    assert all("returnData" not in line for line in lines_of(codes))


def test_the_refund_of_a_cleared_slot_is_on_its_own_line_already() -> None:
    lines = lines_of({CONTRACT: "60015f55" + "5f5f55" + "00"})
    assert [line.get("refund") for line in lines if line["op"] in ("SSTORE", "STOP")] == [None, 19_900, 19_900]


def test_an_error_stands_where_the_opcode_could_not_start() -> None:
    lines = lines_of({CONTRACT: call(INNER, gas="6004"), INNER: "60015f55"})
    (failed,) = [line for line in lines if "error" in line]
    assert (failed["op"], failed["depth"], failed["error"]) == ("PUSH0", 2, "out of gas")


def test_an_opcode_that_fails_while_it_runs_has_no_error_as_in_geth() -> None:
    for code in ("5f5ffd", "5f56", "fe"):
        assert all("error" not in line for line in lines_of({CONTRACT: code}))


def test_what_an_opcode_could_not_pay_is_its_cost() -> None:
    lines = lines_of({CONTRACT: "5f64ffffffffff52"})
    words = (0xFFFFFFFFFF + 32 + 31) // 32
    assert lines[-1]["gasCost"] == 3 + 3 * words + words**2 // 512


def test_a_cost_beyond_64_bits_is_shown_as_the_largest() -> None:
    assert lines_of({CONTRACT: "5f" + push(2**255) + "52"})[-1]["gasCost"] == 2**64 - 1


class Counting(StructLogger):
    """Knows how many opcodes it was shown."""

    shown = 0

    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None:
        self.shown += 1
        super().before_opcode(computation, program_counter, opcode)


def looping(before: str = "") -> str:
    """Then counts 200 down to nothing, in 7 opcodes each."""
    return before + push(200) + "5b" + push(1) + "90" + "03" + "80" + push(len(before) // 2 + 2) + "57"


@pytest.mark.parametrize("limit", [1, 9, 20, 150])
@pytest.mark.parametrize(
    "codes",
    [
        {CONTRACT: looping() + "60015f55" + returning(b"done")},
        {CONTRACT: looping(call(INNER)) + "60025f55" + returning(b"done"), INNER: looping() + "60015f55"},
        {CONTRACT: looping(call(INNER)) + reverting(b"no"), INNER: looping() + "fe"},
        {CONTRACT: looping(create(looping() + STOP) + call(INNER)) + create("fe"), INNER: looping() + reverting(b"x")},
        {CONTRACT: looping(call(INNER, value=2**90)) + call(INNER, value=2**90) + "fe", INNER: STOP},
    ],
)
def test_once_the_limit_is_reached_the_rest_is_not_looked_at_and_ends_the_same(
    codes: dict[bytes, str], limit: int
) -> None:
    lines, result = run(codes)
    written: list[bytes] = []
    logger = Counting(written.append, StructLogs(limit=limit))
    world = World(codes)
    world.execution.set_tracer(logger)
    world.send(CONTRACT)
    assert logger.result() == result
    assert [orjson.loads(line) for line in written] == lines[:limit]
    assert logger.shown < limit + 2 * TRACED_OPCODES_PER_CHECK < len(lines)


def test_a_transaction_after_one_that_reached_its_limit_is_traced_anew() -> None:
    world, counts = World({CONTRACT: looping()}), []
    for _ in range(2):
        written: list[bytes] = []
        world.execution.set_tracer(StructLogger(written.append, StructLogs(limit=3)))
        world.send(CONTRACT)
        counts.append(len(written))
    assert counts == [3, 3]


def test_a_limit_ends_the_lines_and_not_the_transaction() -> None:
    lines, result = run({CONTRACT: "60015f55" + returning(b"done")}, StructLogs(limit=2))
    assert [line["op"] for line in lines] == ["PUSH1", "PUSH0"]
    assert result.return_value == b"done"


def test_the_result_of_a_revert_has_its_data_and_of_another_failure_none() -> None:
    _, reverted = run({CONTRACT: reverting(b"why")})
    assert (reverted.failed, reverted.return_value) == (True, b"why")
    _, halted = run({CONTRACT: "fe"}, gas_limit=50_000)
    assert halted == StructLogResult(50_000, failed=True, return_value=b"")


def test_a_trace_conforms_to_the_openrpc_schema() -> None:
    (method,) = [
        method for method in json.loads(OPENRPC.read_text())["methods"] if method["name"] == "debug_traceTransaction"
    ]
    schema = method["result"]["schema"]["anyOf"][0]
    code = put(b"\x01") + "60075f55" + "5f5f55" + call(INNER) + "01" * 3
    trace = streamed({CONTRACT: code, INNER: returning(b"\xaa")}, StructLogs(with_memory=True, with_return_data=True))
    fields = {"memory", "storage", "refund", "returnData", "error", "stack"}
    assert fields <= {name for line in trace["structLogs"] for name in line}
    assert violations(trace, schema) == []
    assert violations(trace | {"gas": "0x1"}, schema) != []


def test_a_write_that_raises_ends_the_transaction_and_leaves_no_trace_of_it() -> None:
    class EnoughError(Exception):
        pass

    written: list[bytes] = []

    def write(line: bytes) -> None:
        written.append(line)
        if len(written) == 3:
            raise EnoughError

    world = World({CONTRACT: "60015f55" + STOP})
    before = world.overlay.changes()
    world.execution.set_tracer(StructLogger(write, StructLogs()))
    with pytest.raises(EnoughError):
        world.send(CONTRACT)
    assert len(written) == 3
    assert world.overlay.changes() == before
