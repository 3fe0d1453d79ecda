"""What a method gets to work with: everything long-lived of this gateway, and the caller's connection if any."""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.gateway.backend import Backend
from astralink_node.gateway.chain_reader import ChainReader
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.filters import Filters
from astralink_node.gateway.submission import Submissions
from astralink_node.gateway.subscriptions import Connection


@dataclass(frozen=True, slots=True)
class ChainIdentity:
    """What never changes while a gateway lives."""

    chain_id: int
    genesis_hash: bytes
    client_version: str


@dataclass(frozen=True, slots=True)
class RpcContext:
    identity: ChainIdentity
    chain: ChainReader
    backend: Backend
    submissions: Submissions
    filters: Filters
    limits: GatewayLimits
    default_priority_fee_wei: int
    connection: Connection | None = None
    """None over HTTP, where nothing can be pushed."""
