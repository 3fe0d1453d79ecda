"""The typed query layer put together: one :class:`Reader` a gateway, whichever interface asks."""

from __future__ import annotations

from astralink_node.chain.messages import BlockSelector
from astralink_node.gateway.backend import Backend
from astralink_node.gateway.config import GatewayConfig
from astralink_node.gateway.reading.blocks import BlockReader
from astralink_node.gateway.reading.calls import CallReader
from astralink_node.gateway.reading.chain import ChainReader
from astralink_node.gateway.reading.fees import FeeReader
from astralink_node.gateway.reading.head_cache import HeadCache
from astralink_node.gateway.reading.index import IndexReader
from astralink_node.gateway.reading.logs import LogReader
from astralink_node.gateway.reading.node import NodeReader
from astralink_node.gateway.reading.pool import PoolReader
from astralink_node.gateway.reading.source import Source
from astralink_node.gateway.reading.staking import StakingReader
from astralink_node.gateway.reading.state import StateReader
from astralink_node.gateway.reading.state_ranges import StateRangeReader
from astralink_node.gateway.reading.traces import TraceReader


class Reader:
    """Typed values out, ReadError where there is no answer. Nothing here is JSON."""

    def __init__(self, config: GatewayConfig, backend: Backend, heads: HeadCache) -> None:
        source = Source(backend, heads)
        limits = config.limits
        self._source = source
        self.blocks = BlockReader(source)
        self.chain = ChainReader(source)
        self.state = StateReader(source)
        self.state_ranges = StateRangeReader(source)
        self.calls = CallReader(source)
        self.logs = LogReader(source, max_blocks=limits.log_range_blocks, max_results=limits.log_results)
        self.fees = FeeReader(source, default_priority_fee_wei=config.default_priority_fee_wei)
        self.pool = PoolReader(source, self.blocks)
        self.node = NodeReader(source)
        self.index = IndexReader(source)
        self.traces = TraceReader(source)

    def staking(self, at: BlockSelector) -> StakingReader:
        """Of one block, so that what it gives belongs together."""
        return StakingReader(self._source, at)
