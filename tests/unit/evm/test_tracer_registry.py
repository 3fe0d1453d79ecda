"""Tracers are known by geth's names; what is not known says what is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from astralink_node.chain import codec
from astralink_node.evm.tracing.calls import CallTracer
from astralink_node.evm.tracing.hooks import MAX_KEPT_BYTES, KeptBytes, TraceTooLarge
from astralink_node.evm.tracing.records import SelectorCounts
from astralink_node.evm.tracing.registry import TRACER_NAMES, UnknownTracer, tracer_for
from astralink_node.evm.tracing.selectors import SelectorTracer
from tests.support.evm_code import call, put
from tests.support.evm_worlds import World, address

CONTRACT, INNER = address(1), address(2)
CODES = {CONTRACT: put(b"\x01\x02\x03\x04\x05") + call(INNER, size=5) + call(INNER, size=5), INNER: "00"}


def result_of(name: str, config: Mapping[str, object] | None = None) -> Any:
    named = tracer_for(name, config)
    world = World(CODES)
    world.execution.set_tracer(named.tracer)
    world.send(CONTRACT, data=b"\xaa\xbb\xcc\xdd")
    return orjson.loads(named.result_json())


@pytest.mark.parametrize("name", TRACER_NAMES)
def test_every_named_tracer_runs(name: str) -> None:
    assert isinstance(result_of(name), dict)


def test_selectors_are_counted_with_the_size_of_their_data() -> None:
    assert result_of("4byteTracer") == {"0x01020304-1": 2, "0xaabbccdd-0": 1}


def test_selector_counts_travel_between_processes() -> None:
    tracer = SelectorTracer()
    world = World(CODES)
    world.execution.set_tracer(tracer)
    world.send(CONTRACT)
    assert codec.decode(SelectorCounts, codec.encode(tracer.result())) == tracer.result()


def test_several_run_as_one() -> None:
    found = result_of("muxTracer", {"callTracer": {"onlyTopCall": True}, "4byteTracer": None, "noopTracer": {}})
    assert set(found) == {"callTracer", "4byteTracer", "noopTracer"}
    assert "calls" not in found["callTracer"]
    assert found["4byteTracer"] == result_of("4byteTracer")


def test_the_configuration_reaches_the_tracer() -> None:
    assert "calls" in result_of("callTracer")
    assert "calls" not in result_of("callTracer", {"onlyTopCall": True, "unknown": 1})
    assert set(result_of("prestateTracer", {"diffMode": True})) == {"pre", "post"}


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("fourByte", None, "tracer 'fourByte' not found; this node has callTracer, prestateTracer"),
        ("{data: [], step: function() {}}", None, "JavaScript tracers are not supported; this node has callTracer"),
        ("callTracer", {"withLog": "yes"}, "callTracer: withLog: expected true or false"),
        ("prestateTracer", {"diffMode": True, "includeEmpty": True}, "cannot use diffMode with includeEmpty"),
        ("muxTracer", {"muxTracer": {}}, "does not run within itself"),
        ("muxTracer", {"callTracer": 1}, "callTracer: expected an object"),
        ("muxTracer", {f"callTracer{number}": {} for number in range(9)}, "at most 8 tracers"),
    ],
)
def test_what_a_tracer_does_not_take_is_refused_in_words(
    name: str, config: Mapping[str, object] | None, words: str
) -> None:
    with pytest.raises(UnknownTracer, match=words.replace("(", r"\(")):
        tracer_for(name, config)


def test_calls_with_large_data_end_at_the_traces_bound_and_not_at_the_machines_memory() -> None:
    """The memory is paid for once; each call with all of it as data costs a few hundred gas."""
    calling = "5f5f62080000" + "5f5f73" + INNER.hex() + "5af150"
    world = World({CONTRACT: "5b" + calling + "5f56", INNER: "00"}, gas_limit=2 * 10**7)
    before = world.overlay.changes()
    world.execution.set_tracer(CallTracer())
    with pytest.raises(TraceTooLarge, match=str(MAX_KEPT_BYTES)):
        world.send(CONTRACT, gas_limit=16_000_000)
    assert world.overlay.changes() == before


def test_what_is_kept_may_reach_its_limit() -> None:
    kept = KeptBytes(10)
    kept.add(10)
    with pytest.raises(TraceTooLarge):
        kept.add(1)
