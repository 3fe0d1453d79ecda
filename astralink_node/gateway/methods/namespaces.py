"""Which methods belong to which API name of --rpc-api. A new namespace is a module and a line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from astralink_node.gateway.methods import (
    admin,
    astralink,
    astralink_faucet,
    astralink_network,
    astralink_pool,
    astralink_staking,
    debug,
    debug_raw,
    debug_state,
    erigon,
    eth_accounts,
    eth_blocks,
    eth_calls,
    eth_chain,
    eth_logs,
    eth_node,
    eth_send_sync,
    eth_simulate,
    eth_state,
    eth_transactions,
    net,
    ots,
    ots_traces,
    parity,
    rpc,
    trace,
    trace_filter,
    txpool,
    web3,
)
from astralink_node.gateway.methods.table import Method, method_table

NAMESPACES: Mapping[str, Sequence[Method]] = {
    "eth": (
        *eth_chain.METHODS,
        *eth_node.METHODS,
        *eth_accounts.METHODS,
        *eth_state.METHODS,
        *eth_blocks.METHODS,
        *eth_transactions.METHODS,
        *eth_send_sync.METHODS,
        *eth_calls.METHODS,
        *eth_simulate.METHODS,
        *eth_logs.METHODS,
    ),
    "net": net.METHODS,
    "web3": web3.METHODS,
    "astralink": (
        *astralink.METHODS,
        *astralink_network.METHODS,
        *astralink_staking.METHODS,
        *astralink_faucet.METHODS,
        *astralink_pool.METHODS,
    ),
    "txpool": txpool.METHODS,
    "parity": parity.METHODS,
    "ots": (*ots.METHODS, *ots_traces.METHODS),
    "erigon": erigon.METHODS,
    "debug": (*debug.METHODS, *debug_state.METHODS, *debug_raw.METHODS),
    "trace": (*trace.METHODS, *trace_filter.METHODS),
    "admin": admin.METHODS,
    "rpc": rpc.METHODS,
}
ALWAYS_SERVED = ("rpc",)


def served_apis(enabled: Iterable[str]) -> tuple[str, ...]:
    """Each name once, however often it was given, and those that are served always."""
    return tuple(dict.fromkeys((*enabled, *ALWAYS_SERVED)))


NEED_DEV_ACCOUNTS = frozenset(method.name for method in astralink_faucet.METHODS)
"""Not there at all where no accounts are unlocked."""


def methods_of(apis: Iterable[str], *, dev_accounts: bool = False) -> Mapping[str, Method]:
    """The table of these APIs. `dev_accounts`: the node signs for a devnet's test accounts."""
    table = method_table(NAMESPACES[api] for api in apis)
    if dev_accounts:
        return table
    locked = {method.name: method for method in eth_accounts.LOCKED}
    return {name: locked.get(name, method) for name, method in table.items() if name not in NEED_DEV_ACCOUNTS}
