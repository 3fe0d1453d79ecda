"""How far each connected peer says to be. Claims only: whoever cannot make good on one loses it."""

from collections.abc import Collection
from typing import Final

import trio

from p2p.peer_id import PeerId

MAX_PEERS: Final = 1024
"""More than a node has connections; the one remembered longest makes room."""


class PeerHeads:
    """Fed by the status handshake and by what peers answer; read by whoever catches up."""

    def __init__(self) -> None:
        self._heads: dict[PeerId, int] = {}
        self._changed = trio.Event()

    def note(self, peer: PeerId, head_height: int) -> None:
        """The peer's newest block."""
        if peer not in self._heads and len(self._heads) >= MAX_PEERS:
            del self._heads[next(iter(self._heads))]
        if self._heads.get(peer) != head_height:
            self._heads[peer] = head_height
            self._tell()

    def forget(self, peer: PeerId) -> None:
        """It is gone, or was not as far as it said."""
        if self._heads.pop(peer, None) is not None:
            self._tell()

    def best(self, without: Collection[PeerId] = ()) -> int:
        """The highest claim; 0 without peers."""
        return max((head for peer, head in self._heads.items() if peer not in without), default=0)

    def at_least(self, height: int) -> list[PeerId]:
        return [peer for peer, head in self._heads.items() if head >= height]

    async def change(self) -> None:
        """Until anything is noted or forgotten."""
        await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
