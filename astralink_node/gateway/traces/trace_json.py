"""What tracers found as geth's JSON, and long lists of it in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import TypeVar

import orjson

from astralink_node.chain.trace_messages import RunTrace, StreamChunk, TraceResult
from astralink_node.evm.tracing.account_json import prestate_fields, selector_fields
from astralink_node.evm.tracing.call_json import call_trace_pieces
from astralink_node.evm.tracing.records import CallTrace, Prestate, SelectorCounts, VmTrace
from astralink_node.gateway.reading.traces import results_of
from astralink_node.gateway.streamed import Streamed
from astralink_node.gateway.traces.large_json import joined, list_pieces
from astralink_node.gateway.traces.parity_json import FlatOptions, TracePlace, flat_traces
from astralink_node.gateway.traces.parity_runs import flat_json
from astralink_node.gateway.traces.trace_parameters import FLAT_CALL_TRACER, MUX_TRACER, NO_TRACER, Presentation

Each = TypeVar("Each")


def run_pieces(shown: Presentation, run: RunTrace, place: TracePlace | None) -> Iterator[bytes]:
    """The JSON of one run's result; `place` of a committed transaction."""
    return _shown(shown, iter(results_of(run)), place)


def _shown(shown: Presentation, results: Iterator[TraceResult], place: TracePlace | None) -> Iterator[bytes]:
    """Takes as many results as it shows."""
    match shown.name:
        case name if name == MUX_TRACER:
            yield b"{"
            for position, part in enumerate(shown.parts):
                yield (b"," if position else b"") + orjson.dumps(part.name) + b":"
                yield from _shown(part, results, place)
            yield b"}"
        case name if name == NO_TRACER:
            yield b"{}"
        case name if name == FLAT_CALL_TRACER:
            options = FlatOptions(shown.convert_parity_errors, shown.with_precompiles, as_geth=True)
            trace = next(results)
            assert isinstance(trace, CallTrace), "the flat call tracer asks for frames"
            yield from list_pieces(flat_json(flat_traces(trace, place, options)))
        case _:
            yield from _plain(next(results))


def _plain(result: TraceResult) -> Iterator[bytes]:
    match result:
        case CallTrace():
            yield from call_trace_pieces(result)
        case Prestate():
            yield orjson.dumps(prestate_fields(result))
        case SelectorCounts():
            yield orjson.dumps(selector_fields(result))
        case VmTrace(text):
            yield text


def listed(items: AsyncGenerator[Each], entries_of: Callable[[Each], Iterable[bytes]], max_bytes: int) -> Streamed:
    """A list, in pieces: the entries of each item as it comes, made in a thread. `max_bytes` bounds those of one."""
    return Streamed(_pieces(items, entries_of, max_bytes))


async def _pieces(
    items: AsyncGenerator[Each], entries_of: Callable[[Each], Iterable[bytes]], max_bytes: int
) -> AsyncGenerator[StreamChunk]:
    before = b"["
    async with aclosing(items):
        async for item in items:
            entries = await asyncio.to_thread(_entries, entries_of, item, max_bytes)
            if entries:
                yield StreamChunk(before + entries, b"]")
                before = b","
    yield StreamChunk(b"[]" if before == b"[" else b"]", b"")


def _entries(entries_of: Callable[[Each], Iterable[bytes]], item: Each, max_bytes: int) -> bytes:
    return joined(entries_of(item), max_bytes, b",")
