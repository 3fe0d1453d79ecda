"""Peers that help others to catch up, honestly or not, on requests in memory."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from astralink_node.chain.client import InProcessExecution
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.sync_offences import SyncOffence
from astralink_node.services.sync_server import SyncServer
from p2p.memory_requests import MemoryRequester, MemoryRequests
from p2p.peer_id import PeerId
from p2p.request_protocol import RequestProtocol
from tests.support.chains import LocalChain

Change = Callable[[bytes, bytes], bytes]
"""(request, honest answer) -> the answer that is given."""


@dataclass
class Reports:
    """Who was reported for what."""

    noted: list[tuple[PeerId, SyncOffence, str]] = field(default_factory=list)

    def __call__(self, peer: PeerId, offence: SyncOffence, detail: str) -> None:
        self.noted.append((peer, offence, detail))

    def of(self, peer: PeerId) -> set[SyncOffence]:
        return {offence for who, offence, _ in self.noted if who == peer}


class Helpers:
    """Peers that all serve one chain."""

    def __init__(self, chain: LocalChain) -> None:
        self.chain = chain
        self.network = MemoryRequests()
        self.heads = PeerHeads()
        self.members: dict[PeerId, MemoryRequester] = {}
        self.served: list[PeerId] = []
        """Who gave an answer, in order."""

    @property
    def head(self) -> int:
        return self.chain.execution.status().head_height

    def join(
        self,
        name: str,
        *,
        protocol: RequestProtocol | None = None,
        change: Change | None = None,
        delay_s: float = 0,
        head: int | None = None,
    ) -> PeerId:
        """A peer that says to be at `head` (the truth if not given). `change` falsifies answers of `protocol`."""
        peer = PeerId(name.encode())
        member = self.members[peer] = self.network.join(peer)
        SyncServer(InProcessExecution(self.chain.execution), member)
        for known, answerer in list(member.answerers.items()):
            is_changed = protocol is None or known == protocol.name
            member.answerers[known] = self._around(peer, answerer, change if is_changed else None, delay_s)
        self.heads.note(peer, self.head if head is None else head)
        return peer

    def _around(
        self,
        peer: PeerId,
        answerer: Callable[[PeerId, bytes], Awaitable[bytes]],
        change: Change | None,
        delay_s: float,
    ) -> Callable[[PeerId, bytes], Awaitable[bytes]]:
        async def answer(asker: PeerId, data: bytes) -> bytes:
            await trio.sleep(delay_s)
            honest = await answerer(asker, data)
            self.served.append(peer)
            return honest if change is None else change(data, honest)

        return answer
