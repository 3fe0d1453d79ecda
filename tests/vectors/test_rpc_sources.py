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


@pytest.mark.parametrize("method", FOLLOWING, ids=lambda method: method.name)
def test_what_follows_the_execution_apis_is_in_their_document(method: Method) -> None:
    described = {each["name"]: each["params"] for each in json.loads(OPENRPC.read_text())["methods"]}
    assert method.name in described
    required = sum(parameter.get("required", False) for parameter in described[method.name])
    ours = sum(isinstance(parameter.default, Required) for parameter in method.parameters)
    assert ours <= max(required, len(described[method.name])), "a caller who keeps to the document is not refused"
    assert len(method.parameters) >= len(described[method.name])
