"""The chain as such: its forks, and what of its past this node keeps."""

from __future__ import annotations

from astralink_node.chain.facts_messages import ChainFacts, ChainFactsQuestion
from astralink_node.chain.messages import AtLatest
from astralink_node.gateway.reading.source import Source


class ChainReader:
    def __init__(self, source: Source) -> None:
        self._source = source

    async def facts(self) -> ChainFacts:
        facts = await self._source.ask(AtLatest(), ChainFactsQuestion(), ChainFacts)
        # Execution may be a block ahead of what subscribers have been told of.
        await self._source.heads.reach(facts.head_height)
        return facts
