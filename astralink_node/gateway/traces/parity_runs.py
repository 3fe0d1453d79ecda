"""What Parity's methods make of one run: its flat traces, or everything that was asked for of it."""

from __future__ import annotations

import orjson

from astralink_node.chain.trace_messages import RunTrace
from astralink_node.evm.tracing.records import CallTrace, Prestate, SelectorCounts, VmTrace
from astralink_node.evm.tracing.vm_trace_json import vm_trace_json
from astralink_node.gateway.encoding import JsonObject, data
from astralink_node.gateway.reading.traces import results_of
from astralink_node.gateway.traces.parity_json import FlatTrace, TracePlace, flat_traces, state_difference
from astralink_node.gateway.traces.parity_parameters import STATE_DIFF, TRACE, VM_TRACE, ParityKinds


def flat_traces_of(run: RunTrace, place: TracePlace) -> list[FlatTrace]:
    """Of a run under the frames' tracer alone."""
    (trace,) = results_of(run)
    assert isinstance(trace, CallTrace), "frames were asked for"
    return flat_traces(trace, place)


def parity_run_json(wanted: ParityKinds, run: RunTrace) -> JsonObject:
    """What was not asked for is null, or an empty list of traces."""
    fields: JsonObject = {"output": data(run.output), STATE_DIFF: None, TRACE: [], VM_TRACE: None}
    for name, result in zip(wanted.names, results_of(run), strict=True):
        match result:
            case CallTrace():
                fields[name] = [flat.fields for flat in flat_traces(result)]
            case Prestate():
                fields[name] = state_difference(result)
            case VmTrace():
                fields[name] = orjson.Fragment(vm_trace_json(result))
            case SelectorCounts():
                raise AssertionError("no kind of Parity's is made of selectors")
    return fields
