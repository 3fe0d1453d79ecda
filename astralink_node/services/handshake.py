"""The first words between two nodes, and what they tell: same chain, same rules, how far, what time it is.

Each side asks for the other's status before anything else is exchanged, and shows its own. A stranger is told why and
let go. Statuses are asked again now and then: they carry heads for catching up, and clocks for the operator, and tell
of rules that part ways at a fork.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import trio

from astralink_node.clock import NowMs
from astralink_node.log import Log
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.refused_peers import RefusedPeers
from consensus.peer_status import MAX_STATUS_BYTES, PeerStatus, decode_status, encode_status, fork_digest
from consensus.wire import DecodeError
from p2p.addresses import peer_id_text
from p2p.peer_id import PeerId
from p2p.request_protocol import AsksPeers, MalformedRequest, RequestFailed, RequestProtocol

STATUS: Final = RequestProtocol("/astralink/status/1", MAX_STATUS_BYTES, MAX_STATUS_BYTES, rate=2, burst=8)
REFRESH_S: Final = 10.0

_log = Log("peers")


@dataclass(frozen=True, slots=True)
class ChainIdentity:
    """What every node of this network agrees on."""

    genesis_hash: bytes
    forks: tuple[tuple[int, str], ...]
    """(height, name) as genesis lists them."""

    def digest_at(self, height: int) -> bytes:
        return fork_digest(self.genesis_hash, self.forks, height)


@dataclass(frozen=True, slots=True)
class KnownStatus:
    """What a peer said last, and what was measured when it did."""

    status: PeerStatus
    round_trip_ms: int
    skew_ms: int
    """How far its clock is ahead of ours, at the middle of the round trip."""


Part = Callable[[PeerId, str], None]
"""Lets a peer go that turns out to be none, and says why."""


class _NotWelcome(Exception):
    """With the reason."""


class Handshake:
    """See the module's description. `head` gives this node's (height, hash) at the moment."""

    def __init__(
        self,
        requests: AsksPeers,
        identity: ChainIdentity,
        head: Callable[[], tuple[int, bytes]],
        heads: PeerHeads,
        now_ms: NowMs,
        client: str,
        addresses: Callable[[], Iterable[str]],
        part: Part,
        refused: RefusedPeers,
    ) -> None:
        self._requests = requests
        self._identity = identity
        self._head = head
        self._heads = heads
        self._now_ms = now_ms
        self._client = client
        self._addresses = addresses
        self._part = part
        self._known: dict[PeerId, KnownStatus] = {}
        self.refused = refused

    @property
    def known(self) -> Mapping[PeerId, KnownStatus]:
        """Of the peers that are connected and welcome."""
        return self._known

    def own_status(self) -> PeerStatus:
        height, block_hash = self._head()
        return PeerStatus(
            genesis_hash=self._identity.genesis_hash,
            fork_digest=self._identity.digest_at(height),
            head_height=height,
            head_hash=block_hash,
            time_ms=self._now_ms(),
            client=self._client,
            addresses=tuple(self._addresses()),
        )

    async def greet(self, peer: PeerId) -> str:
        """Exchange statuses: why the peer is not welcome, or nothing."""
        try:
            known = await self._ask(peer)
        except RequestFailed as error:
            return f"it gave no status: {error}"
        except _NotWelcome as error:
            return str(error)
        self._note(peer, known)
        return ""

    async def answer(self, peer: PeerId, data: bytes) -> bytes:
        """The other side of `greet`: a stranger, too, is told who we are, and learns the reason by itself."""
        try:
            status = decode_status(data)
        except DecodeError as error:
            raise MalformedRequest(str(error)) from error
        if peer in self._known and not self._problem_of(status):
            self._heads.note(peer, status.head_height)
        return encode_status(self.own_status())

    def forget(self, peer: PeerId) -> None:
        """It is gone."""
        self._known.pop(peer, None)
        self._heads.forget(peer)

    async def run(self) -> None:
        """Ask everybody again, now and then."""
        while True:
            await trio.sleep(REFRESH_S)
            async with trio.open_nursery() as nursery:
                for peer in list(self._known):
                    nursery.start_soon(self._refresh, peer)

    async def _refresh(self, peer: PeerId) -> None:
        try:
            known = await self._ask(peer)
        except RequestFailed as error:
            _log.debug("a peer's status was not renewed", peer=peer_id_text(peer), why=str(error))
        except _NotWelcome as error:
            self.forget(peer)
            self._part(peer, str(error))
        else:
            if peer in self._known:  # not gone meanwhile
                self._note(peer, known)

    async def _ask(self, peer: PeerId) -> KnownStatus:
        """Raises RequestFailed, _NotWelcome."""
        sent_ms = self._now_ms()
        answer = await self._requests.request(peer, STATUS, encode_status(self.own_status()))
        came_ms = self._now_ms()
        try:
            status = decode_status(answer)
        except DecodeError as error:
            raise _NotWelcome(f"its status is not understood: {error}") from error
        problem = self._problem_of(status)
        if problem:
            self.refused.note(peer, problem)
            raise _NotWelcome(problem)
        return KnownStatus(status, came_ms - sent_ms, status.time_ms - (sent_ms + came_ms) // 2)

    def _note(self, peer: PeerId, known: KnownStatus) -> None:
        self._known[peer] = known
        self._heads.note(peer, known.status.head_height)

    def _problem_of(self, status: PeerStatus) -> str:
        ours = self._identity
        if status.genesis_hash != ours.genesis_hash:
            return f"another chain: genesis 0x{status.genesis_hash.hex()}, ours is 0x{ours.genesis_hash.hex()}"
        expected = ours.digest_at(status.head_height)
        if status.fork_digest != expected:
            return (
                f"other rules: fork digest 0x{status.fork_digest.hex()} at height {status.head_height}, by this "
                f"node's genesis it is 0x{expected.hex()}"
            )
        return ""
