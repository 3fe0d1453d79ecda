"""Functions called are counted by selector and by how much data came with it."""

from __future__ import annotations

from typing import Any

import orjson

from astralink_node.chain import codec
from astralink_node.evm.tracing.account_json import selector_fields
from astralink_node.evm.tracing.records import SelectorCounts
from astralink_node.evm.tracing.selectors import SelectorTracer
from tests.support.evm_code import call, put
from tests.support.evm_worlds import World, address

CONTRACT, INNER = address(1), address(2)
CODES = {CONTRACT: put(b"\x01\x02\x03\x04\x05") + call(INNER, size=5) + call(INNER, size=5), INNER: "00"}


def counted(**fields: Any) -> SelectorCounts:
    tracer = SelectorTracer()
    world = World(CODES)
    world.execution.set_tracer(tracer)
    world.send(CONTRACT, **fields)
    return tracer.result()


def test_selectors_are_counted_with_the_size_of_their_data() -> None:
    found = selector_fields(counted(data=b"\xaa\xbb\xcc\xdd"))
    assert orjson.loads(orjson.dumps(found)) == {"0x01020304-1": 2, "0xaabbccdd-0": 1}


def test_selector_counts_travel_between_processes() -> None:
    found = counted()
    assert codec.decode(SelectorCounts, codec.encode(found)) == found
