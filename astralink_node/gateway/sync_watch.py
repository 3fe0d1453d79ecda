"""Tells ``syncing`` subscribers when the node begins and ends to catch up.

The head feed does not say so, but a node that catches up commits: the network view is asked for when a head comes,
and once a second while the node is behind. Nobody subscribed, nothing asked.
"""

from __future__ import annotations

import asyncio
from typing import Final

import orjson

from astralink_node.gateway.encoding import JsonObject, sync_fields
from astralink_node.gateway.link_messages import SyncProgress
from astralink_node.gateway.reading.errors import ReadError
from astralink_node.gateway.reading.reader import Reader
from astralink_node.gateway.subscriptions import SubscriptionHub

POLL_S: Final = 1.0


class SyncWatch:
    def __init__(self, read: Reader, hub: SubscriptionHub) -> None:
        self._read = read
        self._hub = hub
        self._is_behind = False
        """As subscribers have been told."""

    async def run(self) -> None:
        """Watch until cancelled."""
        height = -1
        while True:
            try:
                async with asyncio.timeout(POLL_S if self._is_behind else None):
                    await self._read.blocks.reach(height + 1)
            except TimeoutError:
                pass
            height = self._read.blocks.head.height
            await self._look()

    async def _look(self) -> None:
        if not self._hub.has_sync_followers:
            self._is_behind = False
            return
        try:
            progress = (await self._read.node.network()).sync
        except ReadError:
            # Asked again with the next head: what is not known is not told.
            return
        if self._is_behind != (progress is not None):
            self._is_behind = progress is not None
            self._hub.publish_sync(orjson.dumps(_event(progress)))


def _event(progress: SyncProgress | None) -> JsonObject | bool:
    """geth's."""
    if progress is None:
        return False
    return {"syncing": True, "status": sync_fields(progress)}
