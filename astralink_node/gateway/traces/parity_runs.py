"""What Parity's methods make of one run: its flat traces, or everything that was asked for of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from astralink_node.chain.trace_messages import RunTrace, TraceResult
from astralink_node.evm.tracing.records import CallTrace, Prestate, SelectorCounts, VmTrace
from astralink_node.gateway.encoding import data
from astralink_node.gateway.reading.traces import results_of
from astralink_node.gateway.traces.large_json import list_pieces
from astralink_node.gateway.traces.parity_json import FlatTrace, TracePlace, flat_traces, state_difference
from astralink_node.gateway.traces.parity_parameters import STATE_DIFF, TRACE, VM_TRACE, ParityKinds

_NOT_ASKED_FOR = {STATE_DIFF: b"null", TRACE: b"[]", VM_TRACE: b"null"}


def flat_traces_of(run: RunTrace, place: TracePlace) -> Iterator[FlatTrace]:
    """Of a run under the frames' tracer alone."""
    (trace,) = results_of(run)
    assert isinstance(trace, CallTrace), "frames were asked for"
    return flat_traces(trace, place)


def flat_json(traces: Iterable[FlatTrace]) -> Iterator[bytes]:
    """Each of them."""
    return (orjson.dumps(trace.fields) for trace in traces)


def parity_run_pieces(wanted: ParityKinds, run: RunTrace, *, with_hash: bool = False) -> Iterator[bytes]:
    """One run's JSON. What was not asked for is null, or an empty list of traces."""
    found = dict(zip(wanted.names, results_of(run), strict=True))
    yield b'{"output":"%b"' % data(run.output).encode()
    for name, nothing in _NOT_ASKED_FOR.items():
        yield b',"%b":' % name.encode()
        if name in found:
            yield from _pieces(found[name])
        else:
            yield nothing
    if with_hash:
        yield b',"transactionHash":"%b"' % data(run.transaction_hash).encode()
    yield b"}"


def _pieces(result: TraceResult) -> Iterator[bytes]:
    match result:
        case CallTrace():
            yield from list_pieces(flat_json(flat_traces(result)))
        case Prestate():
            yield orjson.dumps(state_difference(result))
        case VmTrace(text):
            yield text
        case SelectorCounts():
            raise AssertionError("no kind of Parity's is made of selectors")
