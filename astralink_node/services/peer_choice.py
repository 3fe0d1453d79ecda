"""Which peer to ask next: the quickest that has room, never one that was found to lie."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from astralink_node.log import Log
from astralink_node.services.sync_offences import Report, SyncOffence
from p2p.peer_id import PeerId

MAX_AT_A_PEER: Final = 2
"""Requests to one peer at once: the second is under way while the first is answered."""

_log = Log("sync")


class PeerChoice:
    """Of one service that asks many peers for much. Liars are forgotten by `pardon` alone."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._busy: Counter[PeerId] = Counter()
        self._lateness_s: dict[PeerId, float] = {}
        """How long a peer's last answer took."""
        self._freed = trio.Event()
        self.liars: set[PeerId] = set()
        self.offences: Counter[SyncOffence] = Counter()
        """For people, since the start."""

    async def pick(self, candidates: Callable[[], list[PeerId]], is_over: Callable[[], bool]) -> PeerId | None:
        """One of the candidates, when one has room; None if there are none, or it is over."""
        while not is_over():
            left = [peer for peer in candidates() if peer not in self.liars]
            if not left:
                return None
            free = [peer for peer in left if self._busy[peer] < MAX_AT_A_PEER]
            if free:
                return min(free, key=lambda peer: (self._busy[peer] + 1) * self._lateness_s.get(peer, 0.0))
            await self._freed.wait()
        return None

    @contextmanager
    def asking(self, peer: PeerId) -> Iterator[None]:
        """While a request to the peer is under way; how long it takes is remembered."""
        self._busy[peer] += 1
        started_s = trio.current_time()
        try:
            yield
        finally:
            self._lateness_s[peer] = trio.current_time() - started_s
            self._busy[peer] -= 1
            if not self._busy[peer]:
                del self._busy[peer]
            self._freed.set()
            self._freed = trio.Event()

    def ask_last(self, peer: PeerId, lateness_s: float) -> None:
        """It could not help just now."""
        self._lateness_s[peer] = lateness_s

    def convict(self, peer: PeerId, offence: SyncOffence, detail: str) -> None:
        """It lied: it is not asked again. Once is enough: what else was under way is likely to be the same lie."""
        if peer not in self.liars:
            self.liars.add(peer)
            self.note(peer, offence, detail)

    def note(self, peer: PeerId, offence: SyncOffence, detail: str) -> None:
        self.offences[offence] += 1
        _log.warning("a peer failed to help", peer=peer.hex()[-12:], offence=offence.name, detail=detail)
        self._report(peer, offence, detail)

    def pardon(self, known: list[PeerId]) -> None:
        """A new beginning; only peers that are still there are remembered. Bans are not made here."""
        self.liars.clear()
        self._lateness_s = {peer: late_s for peer, late_s in self._lateness_s.items() if peer in known}
