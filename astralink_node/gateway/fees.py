"""Fee suggestions and fee history from cached blocks: pure arithmetic over what blocks paid.

The suggestion is geth's: of the newest blocks, the cheapest three tips each, and of those the 60th percentile.
Integers only, apart from the ratios that eth_feeHistory is defined to give.
"""

from __future__ import annotations

from collections.abc import Sequence

from astralink_node.gateway.block_view import BlockView

SAMPLE_BLOCKS = 20
SAMPLES_PER_BLOCK = 3
SUGGESTION_PERCENTILE = 60
IGNORED_TIP_WEI = 1
"""Tips up to this say nothing about what inclusion costs."""
MAX_SUGGESTION_WEI = 500 * 10**9


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
