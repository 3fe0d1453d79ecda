"""Simulated transactions. The execution process runs them, within its own caps on gas and time."""

from __future__ import annotations

from astralink_node.chain.call_messages import (
    AccessListAnswer,
    AccessListQuestion,
    CallAnswer,
    CallQuestion,
    CallRequest,
    EstimateGasQuestion,
    GasAnswer,
    StateOverride,
)
from astralink_node.chain.messages import BlockSelector
from astralink_node.gateway.reading.errors import CallHalted, CallReverted
from astralink_node.gateway.reading.source import Source

REVERTED = "reverted"
HALTED = "halted"


class CallReader:
    """All raise CallReverted, CallHalted and CallRefused beside what every reading may raise."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def call(self, request: CallRequest, at: BlockSelector, overrides: tuple[StateOverride, ...] = ()) -> bytes:
        """What the call returns."""
        answer = await self._source.ask(at, CallQuestion(request, overrides), CallAnswer)
        if answer.status == REVERTED:
            raise CallReverted(answer.output)
        if answer.status == HALTED:
            raise CallHalted(answer.halt_reason)
        return answer.output

    async def estimate_gas(
        self, request: CallRequest, at: BlockSelector, overrides: tuple[StateOverride, ...] = ()
    ) -> int:
        return (await self._source.ask(at, EstimateGasQuestion(request, overrides), GasAnswer)).gas

    async def access_list(self, request: CallRequest, at: BlockSelector) -> AccessListAnswer:
        return await self._source.ask(at, AccessListQuestion(request), AccessListAnswer)
