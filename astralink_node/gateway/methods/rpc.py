"""rpc_modules: which namespaces this gateway serves. It is served always, so that a console can ask."""

from __future__ import annotations

from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Specification

VERSION = "1.0"
"""geth's for every module."""


async def modules(context: RpcContext) -> Json:
    return dict.fromkeys(sorted(context.apis), VERSION)


METHODS = (Method("rpc_modules", modules, source=Specification.GETH),)
