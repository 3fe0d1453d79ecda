"""geth's trace configuration: which tracer, with which options, for how long.

Pure parsing, as geth's TraceConfig: unknown fields are ignored, and so are ``reexec`` (old state is read here, not
made again) and ``debug``. Tracers are geth's native ones by name; JavaScript is not run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from astralink_node.chain.call_messages import NO_BLOCK_OVERRIDE, BlockOverride, StateOverride
from astralink_node.chain.trace_messages import TypedTracers
from astralink_node.evm.tracing.options import CallFrames, Selectors, StructLogs, TouchedAccounts, TypedTracer
from astralink_node.gateway.call_parameters import block_overrides, state_overrides
from astralink_node.gateway.parameters import BadValue, flag, json_object, picture, quantity64, whole_number
from astralink_node.gateway.rpc_errors import server_error

MAX_TIME_MS: Final = 2**31
"""Longer times are not told apart; the execution process cuts them to what it allows."""
MAX_DURATION_CHARS: Final = 60
MAX_LIMIT: Final = 2**63 - 1

_NANOSECONDS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class Presentation:
    """How a tracer's result is shown: geth's name for it, and the names of several that ran together (muxTracer)."""

    name: str
    parts: tuple[Presentation, ...] = ()
    convert_parity_errors: bool = False
    """Of flatCallTracer."""
    with_precompiles: bool = False
    """Likewise: calls of precompiles are shown too."""


@dataclass(frozen=True, slots=True)
class TraceConfig:
    how: StructLogs | TypedTracers
    shown: Presentation
    """Of no meaning for struct logs, which come as JSON."""
    time_ms: int
    """0: the usual time."""


STRUCT_LOGGER: Final = "structLogger"
NO_TRACER: Final = "noopTracer"
CALL_TRACER: Final = "callTracer"
FLAT_CALL_TRACER: Final = "flatCallTracer"
PRESTATE_TRACER: Final = "prestateTracer"
SELECTOR_TRACER: Final = "4byteTracer"
MUX_TRACER: Final = "muxTracer"


def trace_config(path: str, value: object) -> TraceConfig:
    fields = json_object(path, value)
    timeout = fields.get("timeout")
    time_ms = 0 if timeout is None else _duration_ms(f"{path}.timeout", timeout)
    if fields.get("reexec") is not None:
        whole_number(f"{path}.reexec", fields["reexec"])
    tracer = fields.get("tracer")
    if tracer is None or tracer == "":
        return TraceConfig(_struct_logs(path, fields), Presentation(STRUCT_LOGGER), time_ms)
    if not isinstance(tracer, str):
        raise BadValue(f"{path}.tracer", f"expected a string, found {picture(tracer)}")
    given = fields.get("tracerConfig")
    options = {} if given is None else json_object(f"{path}.tracerConfig", given)
    tracers, shown = _named(f"{path}.tracerConfig", tracer, options)
    return TraceConfig(TypedTracers(tracers), shown, time_ms)


DEFAULT_TRACE_CONFIG: Final = TraceConfig(StructLogs(), Presentation(STRUCT_LOGGER), 0)


@dataclass(frozen=True, slots=True)
class CallTraceConfig:
    """Of debug_traceCall: what the call may pretend besides."""

    trace: TraceConfig = DEFAULT_TRACE_CONFIG
    overrides: tuple[StateOverride, ...] = ()
    block: BlockOverride = NO_BLOCK_OVERRIDE
    transaction_index: int | None = None


DEFAULT_CALL_TRACE_CONFIG: Final = CallTraceConfig()


def call_trace_config(path: str, value: object) -> CallTraceConfig:
    fields = json_object(path, value)
    overrides, block, index = fields.get("stateOverrides"), fields.get("blockOverrides"), fields.get("txIndex")
    return CallTraceConfig(
        trace=trace_config(path, value),
        overrides=() if overrides is None else state_overrides(f"{path}.stateOverrides", overrides),
        block=NO_BLOCK_OVERRIDE if block is None else block_overrides(f"{path}.blockOverrides", block),
        transaction_index=None if index is None else quantity64(f"{path}.txIndex", index),
    )


def _struct_logs(path: str, fields: Mapping[str, object]) -> StructLogs:
    limit = fields.get("limit")
    return StructLogs(
        with_memory=flag(path, fields, "enableMemory"),
        with_stack=not flag(path, fields, "disableStack"),
        with_storage=not flag(path, fields, "disableStorage"),
        with_return_data=flag(path, fields, "enableReturnData"),
        limit=0 if limit is None else _limit(f"{path}.limit", limit),
    )


# --- geth's native tracers ---------------------------------------------------------------------------------------

Named = tuple[tuple[TypedTracer, ...], Presentation]


def _call_tracer(path: str, options: Mapping[str, object]) -> Named:
    frames = CallFrames(flag(path, options, "onlyTopCall"), flag(path, options, "withLog"))
    return (frames,), Presentation(CALL_TRACER)


def _flat_call_tracer(path: str, options: Mapping[str, object]) -> Named:
    shown = Presentation(
        FLAT_CALL_TRACER,
        convert_parity_errors=flag(path, options, "convertParityErrors"),
        with_precompiles=flag(path, options, "includePrecompiles"),
    )
    return (CallFrames(),), shown


def _prestate_tracer(path: str, options: Mapping[str, object]) -> Named:
    accounts = TouchedAccounts(
        diff_mode=flag(path, options, "diffMode"),
        with_code=not flag(path, options, "disableCode"),
        with_storage=not flag(path, options, "disableStorage"),
        with_empty=flag(path, options, "includeEmpty"),
    )
    if accounts.diff_mode and accounts.with_empty:
        raise server_error("cannot use diffMode with includeEmpty")
    return (accounts,), Presentation(PRESTATE_TRACER)


def _selector_tracer(path: str, options: Mapping[str, object]) -> Named:  # noqa: ARG001 - it has no options
    return (Selectors(),), Presentation(SELECTOR_TRACER)


def _no_tracer(path: str, options: Mapping[str, object]) -> Named:  # noqa: ARG001 - it has no options
    return (), Presentation(NO_TRACER)


_TRACERS: Final[Mapping[str, Callable[[str, Mapping[str, object]], Named]]] = {
    CALL_TRACER: _call_tracer,
    FLAT_CALL_TRACER: _flat_call_tracer,
    PRESTATE_TRACER: _prestate_tracer,
    SELECTOR_TRACER: _selector_tracer,
    NO_TRACER: _no_tracer,
}


def _named(path: str, name: str, options: Mapping[str, object]) -> Named:
    if name == MUX_TRACER:
        tracers: list[TypedTracer] = []
        parts: list[Presentation] = []
        for each, its_options in options.items():
            given = {} if its_options is None else json_object(f"{path}.{each}", its_options)
            found, shown = _single(f"{path}.{each}", each, given)
            tracers.extend(found)
            parts.append(shown)
        return tuple(tracers), Presentation(MUX_TRACER, tuple(parts))
    return _single(path, name, options)


def _single(path: str, name: str, options: Mapping[str, object]) -> Named:
    parse = _TRACERS.get(name)
    if parse is None:
        raise server_error(
            f"tracer not found: {name[:60]}; this node has {', '.join(_TRACERS)}, {MUX_TRACER}, and runs no JavaScript"
        )
    return parse(path, options)


# --- Values --------------------------------------------------------------------------------------------------------


def _limit(path: str, value: object) -> int:
    """geth's number is signed; all but a positive one means no limit."""
    if isinstance(value, int) and not isinstance(value, bool) and value < 0:
        return 0
    return whole_number(path, value, maximum=MAX_LIMIT)


def _duration_ms(path: str, value: object) -> int:
    """Go's time.ParseDuration: ``300ms``, ``1.5h``, ``1m30s``; at least a millisecond."""
    if not isinstance(value, str):
        raise BadValue(path, f"expected a duration such as 30s, found {picture(value)}")
    nanoseconds = Fraction(0)
    position = 0
    while 0 <= position < len(value) <= MAX_DURATION_CHARS:
        part = _DURATION_PART.match(value, position)
        if part is None:
            break
        nanoseconds += Fraction(part[1].rstrip(".")) * _NANOSECONDS[part[2]]
        position = part.end()
    if position != len(value) or not value:
        raise server_error(f'time: invalid duration "{value[:MAX_DURATION_CHARS]}"')
    return min(max(int(nanoseconds / 10**6), 1), MAX_TIME_MS)
