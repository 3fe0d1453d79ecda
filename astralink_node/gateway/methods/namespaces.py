"""Which methods belong to which API name of --rpc-api. A new namespace is a module and a line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from astralink_node.gateway.methods import (
    astralink,
    astralink_network,
    astralink_pool,
    astralink_staking,
    eth_blocks,
    eth_calls,
    eth_chain,
    eth_logs,
    eth_state,
    eth_transactions,
    net,
    txpool,
    web3,
)
from astralink_node.gateway.methods.table import Method, method_table

NAMESPACES: Mapping[str, Sequence[Method]] = {
    "eth": (
        *eth_chain.METHODS,
        *eth_state.METHODS,
        *eth_blocks.METHODS,
        *eth_transactions.METHODS,
        *eth_calls.METHODS,
        *eth_logs.METHODS,
    ),
    "net": net.METHODS,
    "web3": web3.METHODS,
    "astralink": (
        *astralink.METHODS,
        *astralink_network.METHODS,
        *astralink_pool.METHODS,
        *astralink_staking.METHODS,
    ),
    "txpool": txpool.METHODS,
}


def methods_of(apis: Iterable[str]) -> Mapping[str, Method]:
    """The table of the enabled APIs; each name once, however often it was given."""
    return method_table(NAMESPACES[api] for api in dict.fromkeys(apis))
