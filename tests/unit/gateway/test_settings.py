"""Every limit that an operator may set reaches the process that keeps it, and defaults agree on both sides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from astralink_node.chain.process_config import ProcessConfig, ProcessConfigError
from astralink_node.chain.query_limits import QueryLimits, query_limits
from astralink_node.config import NodeConfig, RpcConfig
from astralink_node.gateway.config import DEFAULT_APIS, KNOWN_APIS, GatewayConfig, GatewayLimits
from astralink_node.gateway.methods.namespaces import NAMESPACES
from astralink_node.gateway.settings import gateway_config, gateway_limits


def test_the_defaults_of_settings_are_those_of_the_processes() -> None:
    assert gateway_limits(RpcConfig()) == GatewayLimits()
    assert query_limits(RpcConfig()) == QueryLimits()
    config = gateway_config(NodeConfig(), Path("/run"))
    assert config == GatewayConfig("/run/node.sock", "/run/execution.sock")


def test_every_limit_that_is_set_reaches_its_process() -> None:
    rpc = RpcConfig(
        rate_limit=1,
        client_rate_limit=2,
        max_body_bytes=3000,
        max_response_bytes=4000,
        max_batch=5,
        request_timeout_ms=600,
        max_connections=70,
        max_connections_per_client=80,
        max_websockets=9,
        max_websockets_per_client=10,
        max_subscriptions=11,
        max_log_range=1200,
        max_log_results=13,
        gas_cap=140_000,
    )
    assert gateway_limits(rpc) == replace(
        GatewayLimits(),
        requests_per_second=1,
        client_requests_per_second=2,
        request_bytes=3000,
        response_bytes=4000,
        batch_items=5,
        request_timeout_ms=600,
        connections=70,
        connections_per_client=80,
        websockets=9,
        websockets_per_client=10,
        subscriptions_per_connection=11,
        log_range_blocks=1200,
        log_results=13,
    )
    wanted = query_limits(rpc)
    assert (wanted.call_gas, wanted.max_log_heights, wanted.max_unfiltered_log_heights) == (140_000, 1200, 60)
    process = ProcessConfig("database", "", 3, "socket", None, query_limits=wanted)
    assert ProcessConfig.from_json(process.to_json()) == process


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"node_socket": "3"}, "node_socket: found '3'"),
        ({"query_limits": {"max_logs": True}}, "query_limits.max_logs: found True"),
        ({"query_limits": {"most_logs": 1}}, "most_logs"),
        ({"query_limits": [1]}, "must be a mapping"),
        ({"log_heights": 1}, "log_heights"),
    ],
)
def test_what_is_no_configuration_of_an_execution_process_is_refused(change: dict[str, object], words: str) -> None:
    values = json.loads(ProcessConfig("database", "", 3, "socket").to_json())
    with pytest.raises(ProcessConfigError, match=words):
        ProcessConfig.from_json(json.dumps(values | change))


@pytest.mark.parametrize("text", ["", "[]", "7", "{}"])
def test_what_is_not_even_an_object_with_its_fields_is_refused_too(text: str) -> None:
    with pytest.raises(ProcessConfigError):
        ProcessConfig.from_json(text)


def test_settings_name_the_namespaces_that_there_are() -> None:
    assert set(KNOWN_APIS) == set(NAMESPACES)
    assert set(DEFAULT_APIS) <= set(NAMESPACES)
