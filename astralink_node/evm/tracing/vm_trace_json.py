"""Parity's nested JSON of a ``vmTrace``, made without recursion: calls may be 1024 deep."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from astralink_node.evm.tracing.instructions import OPCODE_NAMES
from astralink_node.evm.tracing.records import Operation, TracedCode, VmTrace


def vm_trace_json(trace: VmTrace) -> bytes:
    """Parity's nested JSON, made without recursion; ``null`` for a transaction that made no call."""
    if not trace.calls:
        return b"null"
    parts: list[bytes] = []
    open_calls = [_open(trace.calls[0], parts)]
    while open_calls:
        operations = open_calls[-1]
        operation = next(operations, None)
        if operation is None:
            open_calls.pop()
            parts.append(b"]}")
            if open_calls:
                parts.append(b"},")
            continue
        fields = orjson.dumps(_operation_fields(operation))
        if operation.call is None:
            parts.append(fields[:-1] + b',"sub":null},')
        else:
            parts.append(fields[:-1] + b',"sub":')
            open_calls.append(_open(trace.calls[operation.call], parts))
    # Each operation is followed by a comma; the last of a list is not to be.
    return b"".join(parts).replace(b"},]}", b"}]}")


def _open(call: TracedCode, parts: list[bytes]) -> Iterator[Operation]:
    parts.append(b'{"code":"0x' + call.code.hex().encode() + b'","ops":[')
    return iter(call.operations)


def _operation_fields(operation: Operation) -> dict[str, object]:
    effects, shown = operation.effects, None
    if effects is not None:
        memory, storage = effects.memory, effects.storage
        shown = {
            "mem": None if memory is None else {"data": "0x" + memory.data.hex(), "off": memory.offset},
            "push": [hex(value) for value in effects.pushed],
            "store": None if storage is None else {"key": hex(storage.slot), "val": hex(storage.value)},
            "used": effects.gas_left,
        }
    return {"cost": operation.cost, "ex": shown, "pc": operation.program_counter, "op": OPCODE_NAMES[operation.opcode]}
