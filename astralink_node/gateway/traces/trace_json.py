"""What tracers found as geth's JSON, and long lists of it in pieces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import TypeVar

import orjson

from astralink_node.chain.trace_messages import RunTrace, StreamChunk, TraceResult
from astralink_node.evm.tracing.account_json import prestate_fields, selector_fields
from astralink_node.evm.tracing.call_json import call_trace_json
from astralink_node.evm.tracing.records import CallTrace, Prestate, SelectorCounts, VmTrace
from astralink_node.evm.tracing.vm_trace_json import vm_trace_json
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.reading.traces import results_of
from astralink_node.gateway.streamed import Streamed
from astralink_node.gateway.traces.parity_json import FlatOptions, TracePlace, flat_traces
from astralink_node.gateway.traces.trace_parameters import FLAT_CALL_TRACER, MUX_TRACER, NO_TRACER, Presentation

Each = TypeVar("Each")


def run_json(shown: Presentation, run: RunTrace, place: TracePlace | None) -> Json:
    """The result of one run; `place` of a committed transaction."""
    return _shown(shown, iter(results_of(run)), place)


def _shown(shown: Presentation, results: Iterator[TraceResult], place: TracePlace | None) -> Json:
    """Takes as many results as it shows."""
    match shown.name:
        case name if name == MUX_TRACER:
            return {part.name: _shown(part, results, place) for part in shown.parts}
        case name if name == NO_TRACER:
            return {}
        case name if name == FLAT_CALL_TRACER:
            options = FlatOptions(shown.convert_parity_errors, shown.with_precompiles, as_geth=True)
            trace = next(results)
            assert isinstance(trace, CallTrace), "the flat call tracer asks for frames"
            return [flat.fields for flat in flat_traces(trace, place, options)]
        case _:
            return _plain(next(results))


def _plain(result: TraceResult) -> Json:
    match result:
        case CallTrace():
            return orjson.Fragment(call_trace_json(result))
        case Prestate():
            return orjson.Fragment(orjson.dumps(prestate_fields(result)))
        case SelectorCounts():
            return orjson.Fragment(orjson.dumps(selector_fields(result)))
        case VmTrace():
            return orjson.Fragment(vm_trace_json(result))


def listed(items: AsyncGenerator[Each], entries_of: Callable[[Each], Iterable[Json]]) -> Streamed:
    """A list, in pieces: the entries of each item as it comes."""
    return Streamed(_pieces(items, entries_of))


async def _pieces(
    items: AsyncGenerator[Each], entries_of: Callable[[Each], Iterable[Json]]
) -> AsyncGenerator[StreamChunk]:
    before = b"["
    async with aclosing(items):
        async for item in items:
            entries = b",".join(orjson.dumps(entry) for entry in entries_of(item))
            if entries:
                yield StreamChunk(before + entries, b"]")
                before = b","
    yield StreamChunk(b"[]" if before == b"[" else b"]", b"")
