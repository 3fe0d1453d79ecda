"""web3_*: who answers, and keccak-256 as a service."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

from astralink_node.crypto.keccak import keccak256
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import byte_string


async def client_version(context: RpcContext) -> Json:
    return context.identity.client_version


async def sha3(context: RpcContext, value: bytes) -> Json:
    return data(keccak256(value))


METHODS = (
    Method("web3_clientVersion", client_version, source=Specification.GETH),
    Method("web3_sha3", sha3, (Parameter("data", byte_string),), source=Specification.GETH),
)
