"""The gateway's configuration survives its journey as JSON and names what is wrong with it."""

import json

import pytest

from astralink_node.gateway.config import GatewayConfig, GatewayConfigError, GatewayLimits


def test_configuration_survives_the_journey_as_json() -> None:
    config = GatewayConfig(
        node_socket="/run/n",
        execution_socket="/run/e",
        host="0.0.0.0",
        port=0,
        apis=("eth", "txpool"),
        cors_origins=("*",),
        vhosts=("rpc.example",),
        metrics=True,
        limits=GatewayLimits(batch_items=7),
    )
    assert GatewayConfig.from_json(config.to_json()) == config


def test_omitted_fields_take_their_defaults() -> None:
    config = GatewayConfig.from_json('{"node_socket": "a", "execution_socket": "b"}')
    assert config == GatewayConfig(node_socket="a", execution_socket="b")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"port": "8545"}, "port"),
        ({"port": 70000}, "port"),
        ({"port": True}, "port"),
        ({"apis": "eth"}, "apis"),
        ({"apis": ["eth", "engine"]}, "apis"),
        ({"node_socket": None}, "node_socket"),
        ({"colour": "blue"}, "colour"),
        ({"log_level": "loud"}, "log_level"),
        ({"metrics": 1}, "metrics"),
        ({"limits": []}, "limits"),
        ({"limits": {"batch_items": -1}}, "limits.batch_items"),
        ({"limits": {"batch_size": 1}}, "limits.batch_size"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], named: str) -> None:
    values: dict[str, object] = {"node_socket": "a", "execution_socket": "b"}
    with pytest.raises(GatewayConfigError, match=named):
        GatewayConfig.from_json(json.dumps(values | change))


def test_text_that_is_no_json_object_is_refused() -> None:
    for text in ("", "[]", "{", "null"):
        with pytest.raises(GatewayConfigError):
            GatewayConfig.from_json(text)
