"""Simulated transactions. The execution process runs them, within its own caps on gas and time."""

from __future__ import annotations

from astralink_node.chain.call_messages import (
    NO_BLOCK_OVERRIDE,
    AccessListAnswer,
    AccessListQuestion,
    BlockOverride,
    CallAnswer,
    CallQuestion,
    CallRequest,
    EstimateGasQuestion,
    GasAnswer,
    StateOverride,
)
from astralink_node.chain.messages import BlockSelector
from astralink_node.chain.simulate_messages import (
    BlockCalls,
    SimulateAnswer,
    SimulatedBlockRecord,
    SimulateQuestion,
)
from astralink_node.gateway.reading.errors import CallHalted, CallRefused, CallReverted, SimulationRefused
from astralink_node.gateway.reading.source import Source

REVERTED = "reverted"
HALTED = "halted"


class CallReader:
    """All raise CallReverted, CallHalted and CallRefused beside what every reading may raise."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def call(
        self,
        request: CallRequest,
        at: BlockSelector,
        overrides: tuple[StateOverride, ...] = (),
        block: BlockOverride = NO_BLOCK_OVERRIDE,
    ) -> bytes:
        """What the call returns."""
        answer = await self._source.ask(at, CallQuestion(request, overrides, block), CallAnswer)
        if answer.status == REVERTED:
            raise CallReverted(answer.output)
        if answer.status == HALTED:
            raise CallHalted(answer.halt_reason)
        return answer.output

    async def estimate_gas(
        self,
        request: CallRequest,
        at: BlockSelector,
        overrides: tuple[StateOverride, ...] = (),
        block: BlockOverride = NO_BLOCK_OVERRIDE,
    ) -> int:
        return (await self._source.ask(at, EstimateGasQuestion(request, overrides, block), GasAnswer)).gas

    async def access_list(
        self,
        request: CallRequest,
        at: BlockSelector,
        overrides: tuple[StateOverride, ...] = (),
        block: BlockOverride = NO_BLOCK_OVERRIDE,
    ) -> AccessListAnswer:
        return await self._source.ask(at, AccessListQuestion(request, overrides, block), AccessListAnswer)

    async def simulate(
        self, blocks: tuple[BlockCalls, ...], at: BlockSelector, *, trace_transfers: bool, validation: bool
    ) -> tuple[SimulatedBlockRecord, ...]:
        """Blocks of calls. Raises SimulationRefused for any that cannot be; what a single call ends in is an answer."""
        question = SimulateQuestion(blocks, trace_transfers=trace_transfers, validation=validation)
        try:
            return (await self._source.ask(at, question, SimulateAnswer)).blocks
        except CallRefused as refusal:
            raise SimulationRefused(refusal.kind, str(refusal)) from refusal
