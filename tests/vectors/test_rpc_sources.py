"""A method that says it follows the execution APIs stands in their OpenRPC document, with as many parameters."""

from __future__ import annotations

import json

import pytest

from astralink_node.gateway.methods.namespaces import NAMESPACES
from astralink_node.gateway.methods.table import Method, Required, Specification
from tests.vectors.test_rpc_vectors import OPENRPC

FOLLOWING = [
    method for methods in NAMESPACES.values() for method in methods if method.source is Specification.EXECUTION_APIS
]


COUNTED = (
    "the document does not mark the block as required, though nothing can be counted without it; geth requires it, too"
)
STRICTER = {
    "eth_getBlockTransactionCountByHash": COUNTED,
    "eth_getBlockTransactionCountByNumber": COUNTED,
}
"""Methods that want a parameter which the document makes optional, and why."""


@pytest.mark.parametrize("method", FOLLOWING, ids=lambda method: method.name)
def test_what_follows_the_execution_apis_is_in_their_document(method: Method) -> None:
    described = {each["name"]: each["params"] for each in json.loads(OPENRPC.read_text())["methods"]}
    assert method.name in described
    assert len(method.parameters) >= len(described[method.name])
    optional = [not parameter.get("required", False) for parameter in described[method.name]]
    stricter = [
        position
        for position, parameter in enumerate(method.parameters)
        if isinstance(parameter.default, Required) and (position >= len(optional) or optional[position])
    ]
    assert bool(stricter) == (method.name in STRICTER), f"who keeps to the document is refused: parameters {stricter}"
