"""geth's nested JSON of a ``callTracer`` run, made without recursion: calls may be 1024 deep, which orjson refuses."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from astralink_node.evm.revert_reason import revert_reason
from astralink_node.evm.tracing.records import CallFrame, CallTrace, FrameLog


def call_trace_json(trace: CallTrace) -> bytes:
    """The root's gas is the transaction's, as geth has it."""
    return b"".join(call_trace_pieces(trace))


def call_trace_pieces(trace: CallTrace) -> Iterator[bytes]:
    """The same text, frame by frame."""
    depth_now, frames = 0, trace.frames
    for position, frame in enumerate(frames):
        if position:
            yield b"" if frame.depth > depth_now else b"]}" * (depth_now - frame.depth) + b","
        depth_now = frame.depth
        gas, gas_used = (frame.gas, frame.gas_used) if position else (trace.gas_limit, trace.gas_used)
        encoded = orjson.dumps(frame_fields(frame, gas=gas, gas_used=gas_used))
        has_calls = position + 1 < len(frames) and frames[position + 1].depth > depth_now
        yield encoded[:-1] + b',"calls":[' if has_calls else encoded
    yield b"]}" * depth_now


def frame_fields(frame: CallFrame, *, gas: int, gas_used: int) -> dict[str, object]:
    """All but the calls within."""
    fields: dict[str, object] = {"from": _hex(frame.sender), "gas": hex(gas), "gasUsed": hex(gas_used)}
    if not (frame.is_creation and frame.error):
        fields["to"] = _hex(frame.to)
    fields["input"] = _hex(frame.input)
    if frame.output:
        fields["output"] = _hex(frame.output)
    if frame.error:
        fields["error"] = frame.error
        reason = revert_reason(frame.output)
        if reason:
            fields["revertReason"] = reason
    if frame.logs:
        fields["logs"] = [_log_fields(log) for log in frame.logs]
    if frame.value is not None:
        fields["value"] = hex(frame.value)
    fields["type"] = frame.kind
    return fields


def _log_fields(log: FrameLog) -> dict[str, object]:
    return {
        "address": _hex(log.log.address),
        "topics": [_hex(topic) for topic in log.log.topics],
        "data": _hex(log.log.data),
        "index": hex(log.index),
        "position": hex(log.position),
    }


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
