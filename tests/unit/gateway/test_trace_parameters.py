"""geth's trace configuration, option by option."""

from typing import Any

import pytest

from astralink_node.chain.trace_messages import TypedTracers
from astralink_node.evm.tracing.options import CallFrames, Selectors, StructLogs, TouchedAccounts
from astralink_node.gateway.parameters import BadValue
from astralink_node.gateway.rpc_errors import RpcError
from astralink_node.gateway.traces.trace_parameters import DEFAULT_TRACE_CONFIG, MAX_TIME_MS, Presentation, trace_config


def parse(**fields: Any) -> Any:
    return trace_config("config", fields)


def test_without_a_tracer_it_is_the_struct_logger_with_geths_defaults() -> None:
    assert parse() == parse(tracer="") == parse(reexec=128, debug=True, unknown=1) == DEFAULT_TRACE_CONFIG
    assert DEFAULT_TRACE_CONFIG.how == StructLogs(
        with_memory=False, with_stack=True, with_storage=True, with_return_data=False, limit=0
    )


def test_the_struct_loggers_options_are_taken() -> None:
    config = parse(enableMemory=True, disableStack=True, disableStorage=True, enableReturnData=True, limit=5)
    assert config.how == StructLogs(
        with_memory=True, with_stack=False, with_storage=False, with_return_data=True, limit=5
    )
    assert parse(limit="0x10").how.limit == 16


@pytest.mark.parametrize(
    ("tracer", "options", "expected"),
    [
        ("callTracer", {"onlyTopCall": True, "withLog": True}, CallFrames(only_top_call=True, with_logs=True)),
        ("callTracer", None, CallFrames()),
        ("flatCallTracer", {"convertParityErrors": True}, CallFrames()),
        (
            "prestateTracer",
            {"diffMode": True, "disableCode": True, "disableStorage": True},
            TouchedAccounts(diff_mode=True, with_code=False, with_storage=False),
        ),
        ("prestateTracer", {"includeEmpty": True}, TouchedAccounts(with_empty=True)),
        ("4byteTracer", {}, Selectors()),
    ],
)
def test_geths_native_tracers_are_known_by_name(tracer: str, options: Any, expected: Any) -> None:
    config = parse(tracer=tracer, tracerConfig=options)
    assert config.how == TypedTracers((expected,))
    assert config.shown.name == tracer


def test_the_mux_tracer_runs_several_together() -> None:
    config = parse(tracer="muxTracer", tracerConfig={"callTracer": {"withLog": True}, "noopTracer": None})
    assert config.how == TypedTracers((CallFrames(with_logs=True),))
    assert [part.name for part in config.shown.parts] == ["callTracer", "noopTracer"]


def test_the_noop_tracer_runs_nothing() -> None:
    assert parse(tracer="noopTracer").how == TypedTracers(())
    assert parse(tracer="noopTracer").shown == Presentation("noopTracer")


@pytest.mark.parametrize("tracer", ["{step: function() {}}", "calltracer", "vmTrace"])
def test_what_is_no_native_tracer_is_refused_by_name(tracer: str) -> None:
    with pytest.raises(RpcError, match=r"tracer not found: .*runs no JavaScript"):
        parse(tracer=tracer)


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("5s", 5_000),
        ("1m30s", 90_000),
        ("300ms", 300),
        ("1.5h", 5_400_000),
        (".5s", 500),
        ("1.s", 1_000),
        ("10us", 1),
        ("0s", 1),
        ("99999999h", MAX_TIME_MS),
    ],
)
def test_timeouts_are_go_durations(text: str, expected_ms: int) -> None:
    assert parse(timeout=text).time_ms == expected_ms


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "5x", "1s5", "9" * 80 + "s"])
def test_what_is_no_duration_is_refused_in_gos_words(text: str) -> None:
    with pytest.raises(RpcError, match="time: invalid duration"):
        parse(timeout=text)


@pytest.mark.parametrize(
    "fields",
    [
        {"timeout": 5},
        {"enableMemory": "yes"},
        {"limit": "many"},
        {"limit": 1.5},
        {"reexec": "x"},
        {"tracer": 7},
        {"tracer": "callTracer", "tracerConfig": []},
        {"tracer": "callTracer", "tracerConfig": {"withLog": 1}},
    ],
)
def test_values_of_the_wrong_kind_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(BadValue, match=r"config\."):
        parse(**fields)


def test_diff_mode_and_empty_accounts_exclude_each_other() -> None:
    with pytest.raises(RpcError, match="cannot use diffMode with includeEmpty"):
        parse(tracer="prestateTracer", tracerConfig={"diffMode": True, "includeEmpty": True})
