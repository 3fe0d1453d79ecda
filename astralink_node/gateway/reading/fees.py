"""Fee suggestions and fee history: from cached blocks where they suffice, else from the execution process.

The suggestion is geth's: of the newest blocks, the cheapest three tips each, and of those the 60th percentile.
"""

from __future__ import annotations

from collections.abc import Sequence

from astralink_node.chain.messages import AtHeight, BlockSelector, FeeHistoryAnswer, FeeHistoryQuestion
from astralink_node.gateway.reading.block_view import BlockView
from astralink_node.gateway.reading.source import Source

SAMPLE_BLOCKS = 20
SAMPLES_PER_BLOCK = 3
SUGGESTION_PERCENTILE = 60
IGNORED_TIP_WEI = 1
"""Tips up to this say nothing about what inclusion costs."""
MAX_SUGGESTION_WEI = 500 * 10**9


class FeeReader:
    def __init__(self, source: Source, *, default_priority_fee_wei: int) -> None:
        """``default_priority_fee_wei`` is suggested while recent blocks show no tips."""
        self._source = source
        self._default_priority_fee_wei = default_priority_fee_wei

    @property
    def next_base_fee_wei(self) -> int:
        return self._source.heads.head.next_base_fee_wei

    def suggested_priority_fee_wei(self) -> int:
        return suggest_priority_fee(self._source.heads.newest(SAMPLE_BLOCKS), self._default_priority_fee_wei)

    async def history(self, newest_height: int, count: int, percentiles_bps: tuple[int, ...]) -> FeeHistoryAnswer:
        """Of ``count`` blocks that end with a committed one."""
        cached = self._cached_history(newest_height, count, percentiles_bps)
        if cached is not None:
            return cached
        at: BlockSelector = AtHeight(newest_height)
        return await self._source.ask(at, FeeHistoryQuestion(count, percentiles_bps), FeeHistoryAnswer)

    def _cached_history(
        self, newest_height: int, count: int, percentiles_bps: tuple[int, ...]
    ) -> FeeHistoryAnswer | None:
        """The answer as execution would give it, if every block of the range is in the cache."""
        heads = self._source.heads
        views: list[BlockView] = []
        for height in range(newest_height - count + 1, newest_height + 1):
            view = heads.by_height(height)
            if view is None or (percentiles_bps and view.receipts is None):
                return None
            views.append(view)
        following = heads.by_height(newest_height + 1)
        if following is not None:
            next_base_fee = following.header.base_fee_per_gas
        elif newest_height == heads.head.height:
            next_base_fee = heads.head.next_base_fee_wei
        else:
            return None
        return FeeHistoryAnswer(
            oldest_height=newest_height - count + 1,
            base_fees_wei=(*(view.header.base_fee_per_gas for view in views), next_base_fee),
            gas_used=tuple(view.header.gas_used for view in views),
            gas_limits=tuple(view.header.gas_limit for view in views),
            rewards_wei=tuple(rewards(view.tips, view.header.gas_used, percentiles_bps) for view in views)
            if percentiles_bps
            else (),
        )


def suggest_priority_fee(newest_first: Sequence[BlockView], default_wei: int) -> int:
    samples: list[int] = []
    for view in newest_first[:SAMPLE_BLOCKS]:
        if view.receipts is not None:
            samples += [tip for tip, _ in view.tips if tip > IGNORED_TIP_WEI][:SAMPLES_PER_BLOCK]
    if not samples:
        return default_wei
    samples.sort()
    return min(samples[(len(samples) - 1) * SUGGESTION_PERCENTILE // 100], MAX_SUGGESTION_WEI)


def rewards(tips: Sequence[tuple[int, int]], gas_used: int, percentiles_bps: Sequence[int]) -> tuple[int, ...]:
    """eth_feeHistory's rewards of one block: tips at percentiles of its gas, weighted by gas; zero if it is empty.

    ``tips`` are (tip, gas) cheapest first, percentiles in hundredths of a per cent, ascending.
    """
    if not tips:
        return (0,) * len(percentiles_bps)
    chosen = []
    index, reached = 0, tips[0][1]
    for percentile in percentiles_bps:
        threshold = gas_used * percentile // 10_000
        while reached < threshold and index < len(tips) - 1:
            index += 1
            reached += tips[index][1]
        chosen.append(tips[index][0])
    return tuple(chosen)
