"""eth_feeHistory's numbers: base fees, fullness, and what priority fees were paid, weighted by gas."""

from collections.abc import Callable

from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import FeeHistoryAnswer
from astralink_node.evm.blocks import Header
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.header_rules import child_base_fee
from astralink_node.evm.transactions import decode_transaction

HUNDRED_PER_CENT_BPS = 10_000


def fee_history(
    ledger: Ledger,
    rules: ChainRules,
    last_height: int,
    count: int,
    percentiles_bps: tuple[int, ...],
    check_time: Callable[[], None],
) -> FeeHistoryAnswer:
    """Of the `count` blocks (at least one) that end with `last_height`, fewer where the chain is shorter."""
    oldest = max(0, last_height - count + 1)
    headers = []
    rewards = []
    for height in range(oldest, last_height + 1):
        check_time()
        header = ledger.header(height)
        headers.append(header)
        if percentiles_bps:
            rewards.append(_rewards(ledger, header, percentiles_bps))
    return FeeHistoryAnswer(
        oldest_height=oldest,
        base_fees_wei=(*(header.base_fee_per_gas for header in headers), child_base_fee(rules, headers[-1])),
        gas_used=tuple(header.gas_used for header in headers),
        gas_limits=tuple(header.gas_limit for header in headers),
        rewards_wei=tuple(rewards),
    )


def _rewards(ledger: Ledger, header: Header, percentiles_bps: tuple[int, ...]) -> tuple[int, ...]:
    """The priority fee at which each share of the block's gas was reached, cheapest transactions first (as geth)."""
    raw_transactions, _ = ledger.body(header.number)
    if not raw_transactions:
        return (0,) * len(percentiles_bps)
    base_fee = header.base_fee_per_gas
    paid = sorted(
        (decode_transaction(raw).effective_gas_price(base_fee) - base_fee, receipt.gas_used)
        for raw, receipt in zip(raw_transactions, ledger.receipts(header.number), strict=True)
    )
    rewards = []
    position, gas_so_far = 0, paid[0][1]
    for percentile in percentiles_bps:
        threshold = header.gas_used * percentile // HUNDRED_PER_CENT_BPS
        while gas_so_far < threshold and position < len(paid) - 1:
            position += 1
            gas_so_far += paid[position][1]
        rewards.append(paid[position][0])
    return tuple(rewards)
