"""What the node's settings mean for a gateway process. The node imports this; a gateway is told its outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from astralink_node.config import NodeConfig, RpcConfig
from astralink_node.gateway.config import GatewayConfig, GatewayLimits

MINED_WAIT_MS: Final = 1000
"""On a devnet that mines at once; many times what a block takes."""


def gateway_config(
    config: NodeConfig, sockets: Path, *, dev_accounts: bool = False, faucet_turn: int = 0
) -> GatewayConfig:
    """`sockets` is the folder of the node's Unix sockets; `dev_accounts`: it signs for a devnet's test accounts."""
    return GatewayConfig(
        node_socket=str(sockets / "node.sock"),
        execution_socket=str(sockets / "execution.sock"),
        host=config.rpc.host,
        port=config.rpc.port,
        apis=config.rpc.api,
        cors_origins=config.rpc.cors_origins,
        vhosts=config.rpc.vhosts,
        log_level=config.log.level,
        metrics=config.metrics.enabled,
        dev_accounts=dev_accounts,
        faucet_turn=faucet_turn,
        mined_wait_ms=MINED_WAIT_MS if dev_accounts and config.blocks.builds_on_demand else 0,
        limits=gateway_limits(config.rpc),
    )


def gateway_limits(rpc: RpcConfig) -> GatewayLimits:
    return GatewayLimits(
        request_bytes=rpc.max_body_bytes,
        response_bytes=rpc.max_response_bytes,
        batch_items=rpc.max_batch,
        request_timeout_ms=rpc.request_timeout_ms,
        connections=rpc.max_connections,
        connections_per_client=rpc.max_connections_per_client,
        websockets=rpc.max_websockets,
        websockets_per_client=rpc.max_websockets_per_client,
        requests_per_second=rpc.rate_limit,
        client_requests_per_second=rpc.client_rate_limit,
        subscriptions_per_connection=rpc.max_subscriptions,
        log_range_blocks=rpc.max_log_range,
        log_results=rpc.max_log_results,
    )
