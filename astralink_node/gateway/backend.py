"""What the gateway's methods need from the rest of the system, and nothing of how it is reached.

:mod:`astralink_node.gateway.links` carries it over two Unix sockets; tests give a small in-memory chain or the
real in-process execution facade.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from astralink_node.chain.messages import Answer, Query
from astralink_node.gateway.link_messages import Reply, Request


class Backend(Protocol):
    """State queries go to the execution process, mempool work to the node. Both raise Unavailable (reading.errors)."""

    async def query(self, query: Query) -> Answer: ...

    def stream(self, query: Query) -> AsyncGenerator[Answer]:
        """Ask a long question and take its answers one by one, as they come; closing the generator cancels the work.

        The last one is no chunk. Raises Unavailable where it fails to come.
        """
        ...

    async def ask_node(self, request: Request) -> Reply: ...
