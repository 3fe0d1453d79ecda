"""What a tracer keeps is counted, and a trace that would keep too much ends."""

from __future__ import annotations

import pytest

from astralink_node.evm.tracing.calls import CallTracer
from astralink_node.evm.tracing.kept_bytes import MAX_KEPT_BYTES, KeptBytes, TraceTooLarge
from tests.support.evm_worlds import World, address

CONTRACT, INNER = address(1), address(2)


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
