"""How large an answer may be and how long it may take; what happens at each bound is said where it is applied."""

from dataclasses import dataclass

from astralink_node.chain.trace_messages import MAX_TRACED_CALLS
from astralink_node.config import RpcConfig

UNFILTERED_LOG_FRACTION = 20
"""A filter that names nothing may search this part of the range of one that does."""


@dataclass(frozen=True, slots=True)
class QueryLimits:
    time_ms: int = 5_000
    """Wall-clock time of one answer."""
    trace_time_ms: int = 30_000
    """Of one trace that asks for no other time."""
    max_trace_time_ms: int = 300_000
    """Of one that does."""
    max_traced_calls: int = MAX_TRACED_CALLS
    """In one question, each on what the one before left."""
    call_gas: int = 50_000_000
    """Gas of a simulated call that names none, or more; as geth's --rpc.gascap."""
    max_simulated_bytes: int = 16 * 1024 * 1024
    """Of what the calls of simulated blocks return and log, all together."""
    max_views: int = 128
    """Calls in one ViewsQuestion."""
    max_addresses: int = 1_000
    """In one AccountsQuestion, and in a log filter with its topics."""
    max_proof_slots: int = 1_024
    max_range_slots: int = 8_192
    """In one page of an account's storage, or of all accounts' in a page of accounts."""
    max_range_accounts: int = 256
    """As geth's AccountRangeMaxResults."""
    max_replayed_heights: int = 100
    """Blocks that one question has executed again, where it names a range of them."""
    max_log_heights: int = 100_000
    """Range of a log filter that names an address or a topic."""
    max_unfiltered_log_heights: int = 5_000
    """Range of one that names nothing: every block is read."""
    max_logs: int = 20_000
    max_fee_history_blocks: int = 1_024
    max_fee_percentiles: int = 100


def query_limits(rpc: RpcConfig) -> QueryLimits:
    """What the node's settings mean for the execution process."""
    return QueryLimits(
        call_gas=rpc.gas_cap,
        max_log_heights=rpc.max_log_range,
        max_unfiltered_log_heights=max(1, rpc.max_log_range // UNFILTERED_LOG_FRACTION),
        max_logs=2 * rpc.max_log_results,  # the gateway's bound is the one that answers
    )


class DeadlinePassed(Exception):
    """The answer took longer than it may."""
