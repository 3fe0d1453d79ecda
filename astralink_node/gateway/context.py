"""What a method gets to work with: everything long-lived of this gateway, and the caller's connection if any."""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.dev_accounts import DevAccounts
from astralink_node.gateway.filters import Filters
from astralink_node.gateway.reading.reader import Reader
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
    read: Reader
    submissions: Submissions
    filters: Filters
    limits: GatewayLimits
    apis: tuple[str, ...]
    """Namespaces that are served."""
    accounts: DevAccounts | None = None
    """None everywhere but on a devnet that unlocked its test accounts."""
    mined_wait_ms: int = 0
    connection: Connection | None = None
    """None over HTTP, where nothing can be pushed."""
