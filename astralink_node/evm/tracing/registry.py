"""The tracers by the names that geth gives them, with their ``tracerConfig``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import orjson

from astralink_node.errors import AstraLinkError
from astralink_node.evm.tracing.account_json import prestate_fields, selector_fields
from astralink_node.evm.tracing.call_json import call_trace_json
from astralink_node.evm.tracing.calls import CallTraceOptions, CallTracer
from astralink_node.evm.tracing.hooks import SilentTracer, Tracer
from astralink_node.evm.tracing.prestate import PrestateOptions, PrestateTracer
from astralink_node.evm.tracing.selectors import SelectorTracer
from astralink_node.evm.tracing.together import TracersTogether

TRACER_NAMES: Final = ("callTracer", "prestateTracer", "4byteTracer", "noopTracer", "muxTracer")
"""Without the struct logger, which is what a request without a name gets."""
MAX_MUXED: Final = 8

Config = Mapping[str, object]
Options = TypeVar("Options")


class UnknownTracer(AstraLinkError):
    """A tracer that this node does not have, or a configuration that it does not take."""


@dataclass(frozen=True, slots=True)
class NamedTracer:
    """A tracer for one transaction, and what it found as geth's JSON, to be asked for after the run."""

    name: str
    tracer: Tracer
    result_json: Callable[[], bytes]


def tracer_for(name: str, config: Config | None = None) -> NamedTracer:
    """Raises :class:`UnknownTracer`."""
    config = {} if config is None else config
    match name:
        case "callTracer":
            calls = CallTracer(_options(name, config, CallTraceOptions, _CALL_OPTIONS))
            return NamedTracer(name, calls, lambda: call_trace_json(calls.result()))
        case "prestateTracer":
            options = _options(name, config, PrestateOptions, _PRESTATE_OPTIONS)
            if options.diff_mode and options.include_empty:
                raise UnknownTracer("cannot use diffMode with includeEmpty")
            prestate = PrestateTracer(options)
            return NamedTracer(name, prestate, lambda: orjson.dumps(prestate_fields(prestate.result())))
        case "4byteTracer":
            selectors = SelectorTracer()
            return NamedTracer(name, selectors, lambda: orjson.dumps(selector_fields(selectors.result())))
        case "noopTracer":
            return NamedTracer(name, SilentTracer(), lambda: b"{}")
        case "muxTracer":
            return _mux(config)
        case _:
            raise UnknownTracer(_unknown(name))


def _mux(config: Config) -> NamedTracer:
    """``{"callTracer": {...}, "4byteTracer": {...}}``: the results under the same names."""
    if len(config) > MAX_MUXED:
        raise UnknownTracer(f"muxTracer: at most {MAX_MUXED} tracers, found {len(config)}")
    inner = []
    for name, inner_config in config.items():
        if name == "muxTracer":
            raise UnknownTracer("muxTracer: does not run within itself")
        if inner_config is not None and not isinstance(inner_config, Mapping):
            raise UnknownTracer(f"muxTracer: {name}: expected an object as its configuration")
        inner.append(tracer_for(name, inner_config))

    def result_json() -> bytes:
        parts = [orjson.dumps(named.name) + b":" + named.result_json() for named in inner]
        return b"{" + b",".join(parts) + b"}"

    return NamedTracer("muxTracer", TracersTogether([named.tracer for named in inner]), result_json)


_CALL_OPTIONS: Final = {"onlyTopCall": "only_top_call", "withLog": "with_log"}
_PRESTATE_OPTIONS: Final = {
    "diffMode": "diff_mode",
    "disableCode": "disable_code",
    "disableStorage": "disable_storage",
    "includeEmpty": "include_empty",
}


def _options(name: str, config: Config, kind: Callable[..., Options], names: Mapping[str, str]) -> Options:
    """Fields of other names are ignored, as geth does."""
    values: dict[str, bool] = {}
    for theirs, ours in names.items():
        value = config.get(theirs)
        if value is None:
            continue
        if not isinstance(value, bool):
            raise UnknownTracer(f"{name}: {theirs}: expected true or false")
        values[ours] = value
    return kind(**values)


def _unknown(name: str) -> str:
    has = f"this node has {', '.join(TRACER_NAMES)} and, without a name, the struct logger"
    looks_like_code = any(character in name for character in "{}(); \n")
    return f"JavaScript tracers are not supported; {has}" if looks_like_code else f"tracer {name!r} not found; {has}"
