"""Keeps the node connected: dials bootnodes, validators and known peers, greets who connects, bans who misbehaves.

It alone reads the host's events. A peer that was greeted goes to the transport; one that is banned is closed, and the
host's gate keeps it out. What happens is told to `notice`, for the log. The peer book is saved now and then, aside.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, assert_never

import trio

from p2p.addresses import Address
from p2p.dialer import Dial, Dialer
from p2p.gossip_events import GossipOffence
from p2p.libp2p_host import Host
from p2p.lost_peers import LostPeers
from p2p.peer_book import PeerBook
from p2p.peer_id import PeerId
from p2p.reputation import Offence, Reputation
from p2p.streams import Connected, Connection, DialFailed, Disconnected, HandlerFailed, HostEvent

MAX_DIALS: Final = 8
"""At once."""
TARGET_OUTBOUND: Final = 12
"""With fewer connections that this node dialled, known peers are dialled too."""
MAX_WAIT_S: Final = 1.0
"""Between two looks at whom to dial, unless something happens."""
GREETING_TIMEOUT_S: Final = 10.0
SAVE_INTERVAL_S: Final = 60.0
CUT_OFF: Final = "no bootnode is to be reached, and nobody else is connected"
"""What is noticed in place of "a peer is not to be reached" where that leaves the node alone."""
CUT_OFF_ATTEMPTS: Final = 4
"""Before that: nodes of a network that start together come one after the other."""

Greet = Callable[[PeerId], Awaitable[str]]
"""The status handshake with a new peer: why it is not welcome, or nothing."""
Notice = Callable[[str, PeerId, str], None]
"""(what happened, to which peer, why)"""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a bootnode is no peer, as of the last attempt."""

    reason: str
    at_s: float
    """Unix time."""


class Listener(Protocol):
    """Who talks to peers: p2p.libp2p_transport."""

    def connected(self, connection: Connection) -> None: ...

    def disconnected(self, connection: Connection) -> None: ...


async def welcome_everyone(_: PeerId) -> str:
    """A greeting without questions."""
    return ""


class ConnectionKeeper:
    """See the module's description."""

    def __init__(
        self,
        host: Host,
        book: PeerBook,
        dialer: Dialer,
        now_s: Callable[[], float],
        *,
        bootnodes: Iterable[Address] = (),
        greet: Greet = welcome_everyone,
        notice: Notice,
        book_path: Path | None = None,
    ) -> None:
        """`now_s` is Unix time, for the book. Without a path the book is not saved."""
        self._host = host
        self._book = book
        self._dialer = dialer
        self._now_s = now_s
        self._greet = greet
        self._notice = notice
        self._book_path = book_path
        self._reputation = Reputation()
        self._validators: dict[PeerId, tuple[Address, ...]] = {}
        self._bootnodes = {node.peer: node for node in bootnodes if node.peer is not None}
        self._troubles: dict[PeerId, Trouble] = {}
        """Of bootnodes, until they are connected and welcome."""
        self._lost = LostPeers()
        self._redialled: set[PeerId] = set()
        """Lost peers that the dialer has been told of."""
        self._from_book: dict[PeerId, None] = {}
        self._dials = 0
        self._changed = trio.Event()

    async def run(self, listener: Listener, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then the book is saved once more."""
        now = trio.current_time()
        for peer, address in self._bootnodes.items():
            self._book.learn(peer, [address])
            self._dialer.want(peer, [address], now)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_dialling, nursery)
                nursery.start_soon(self._keep_saving)
                task_status.started()
                async for event in self._host.events:
                    self._take(event, listener, nursery)
        finally:
            if self._book_path is not None:
                self._save(self._book, self._book_path)

    # --- Said from outside -------------------------------------------------------------------------------------------

    def set_validators(self, addresses: Mapping[PeerId, Collection[Address]]) -> None:
        """Of the current set, without this node itself: where each may be reached, as far as is known."""
        now = trio.current_time()
        for peer in self._validators.keys() - addresses.keys():
            if peer not in self._bootnodes:
                self._dialer.unwant(peer)
        self._validators = {peer: tuple(known) for peer, known in addresses.items()}
        for peer, known in self._validators.items():
            self._book.learn(peer, known)
            self._dialer.want(peer, self._addresses_of(peer), now, is_urgent=True)
        self._changed.set()

    def validators(self) -> Collection[PeerId]:
        return self._validators.keys()

    def bootnodes(self) -> list[tuple[Address, Trouble | None]]:
        """Each with what was the matter at the last attempt; nothing since it is connected, or before the first."""
        return [(address, self._troubles.get(peer)) for peer, address in self._bootnodes.items()]

    def learn(self, peer: PeerId, addresses: Iterable[Address]) -> None:
        """Somebody said that the peer listens there."""
        self._book.learn(peer, addresses)
        if peer in self._validators:
            self._dialer.want(peer, self._addresses_of(peer), trio.current_time(), is_urgent=True)
        self._changed.set()

    def report(self, peer: PeerId, offence: Offence | GossipOffence) -> None:
        """An offence of a peer; enough of them close and ban it."""
        now = trio.current_time()
        ban = self._reputation.charge(peer, offence, now, is_needed=peer in self._validators)
        if ban is None:
            return
        self._book.ban(peer, int(self._now_s() + ban.until - now), ban.reason)
        self._lost.forget(peer)
        self._host.close_peer(peer, f"banned: {ban.reason}")
        self._notice("a peer is banned", peer, f"for {ban.until - now:.0f} s: {ban.reason}")

    def points(self, peer: PeerId) -> float:
        """What the peer's offences amount to now."""
        return self._reputation.points(peer, trio.current_time())

    # --- Events ------------------------------------------------------------------------------------------------------

    def _take(self, event: HostEvent, listener: Listener, nursery: trio.Nursery) -> None:
        match event:
            case Connected(connection):
                self._dialer.connected(connection.peer, trio.current_time())
                nursery.start_soon(self._welcome, connection, listener)
            case Disconnected(connection, reason, violated):
                if connection.peer not in self._host.connections:
                    self._dialer.disconnected(connection.peer, trio.current_time())
                    self._lost.disconnected(connection.peer, trio.current_time())
                listener.disconnected(connection)
                self._notice("a peer is gone", connection.peer, reason)
                if violated:
                    self.report(connection.peer, Offence.PROTOCOL_VIOLATION)
            case HandlerFailed(peer, protocol, error):
                self._notice("serving a peer failed", peer, f"{protocol}: {error!r:.200}")
                self.report(peer, Offence.HANDLER_FAILED)
            case _:
                assert_never(event)
        self._changed.set()

    async def _welcome(self, connection: Connection, listener: Listener) -> None:
        peer = connection.peer
        reason = "no status in time"
        with trio.move_on_after(GREETING_TIMEOUT_S):
            reason = await self._greet(peer)
        if reason:
            self._note_trouble(peer, reason)
            self._notice("a peer is not welcome", peer, reason)
            await connection.finish(reason)
        elif self._host.connections.get(peer) is connection:
            self._book.note_seen(peer, int(self._now_s()), connection.address if connection.outbound else None)
            self._lost.connected(peer, trio.current_time())
            self._troubles.pop(peer, None)
            self._notice("a peer is connected", peer, "dialled" if connection.outbound else "it dialled")
            listener.connected(connection)

    # --- Dialling ----------------------------------------------------------------------------------------------------

    async def _keep_dialling(self, nursery: trio.Nursery) -> None:
        while True:
            now = trio.current_time()
            self._choose_lost(now)
            self._choose_from_book(now)
            for dial in self._dialer.due(now, MAX_DIALS - self._dials):
                self._dials += 1
                nursery.start_soon(self._dial, dial)
            next_due = self._dialer.next_due()
            wait_s = MAX_WAIT_S if next_due is None else min(MAX_WAIT_S, max(0.0, next_due - now))
            # With every dial under way, the next end of one wakes this.
            with trio.move_on_after(wait_s if self._dials < MAX_DIALS else MAX_WAIT_S):
                await self._changed.wait()
            self._changed = trio.Event()

    async def _dial(self, dial: Dial) -> None:
        try:
            await self._host.dial(dial.addresses)
        except DialFailed as error:
            failures = self._dialer.failed(dial.peer, trio.current_time())
            self._book.note_failure(dial.peer)
            self._note_trouble(dial.peer, str(error))
            if failures.bit_count() == 1:  # 1, 2, 4, 8: it is dialled for as long as it is away
                is_alone = not self._host.connections and dial.peer in self._bootnodes.keys() <= self._troubles.keys()
                is_cut_off = is_alone and failures >= CUT_OFF_ATTEMPTS
                what = CUT_OFF if is_cut_off else "a peer is not to be reached"
                self._notice(what, dial.peer, f"{error} (attempt {failures})")
        finally:
            self._dials -= 1
            self._changed.set()

    def _note_trouble(self, peer: PeerId, reason: str) -> None:
        if peer in self._bootnodes:
            self._troubles[peer] = Trouble(reason, self._now_s())

    def _choose_lost(self, now: float) -> None:
        """Want back, soon, whoever was connected for long."""
        lost = set(self._lost.wanted(now))
        for peer in self._redialled - lost - self._validators.keys():
            if peer in self._bootnodes or peer in self._from_book:
                self._dialer.want(peer, self._addresses_of(peer), now)
            else:
                self._dialer.unwant(peer)
        for peer in lost:
            self._dialer.want(peer, self._addresses_of(peer), now, is_urgent=True)
        self._redialled = lost

    def _choose_from_book(self, now: float) -> None:
        """While too few are connected, want the most promising peers of the book: those that fail sink in it."""
        outbound = {peer for peer, connection in self._host.connections.items() if connection.outbound}
        room = TARGET_OUTBOUND - len(outbound)
        kept = self._validators.keys() | self._bootnodes.keys() | self._redialled
        chosen: dict[PeerId, tuple[Address, ...]] = {}
        for known in self._book.candidates(int(self._now_s()), TARGET_OUTBOUND + len(self._host.connections)):
            peer = known.peer
            is_kept_anyhow = peer in kept or peer in self._host.connections
            if len(chosen) < room and not is_kept_anyhow:
                chosen[peer] = known.addresses
        for peer in [peer for peer in self._from_book if peer not in chosen and peer not in self._host.connections]:
            del self._from_book[peer]
            if peer not in kept:
                self._dialer.unwant(peer)
        for peer in chosen.keys() - self._from_book.keys():
            self._from_book[peer] = None
            self._dialer.want(peer, chosen[peer], now)

    def _addresses_of(self, peer: PeerId) -> tuple[Address, ...]:
        known = self._book.get(peer)
        return tuple(dict.fromkeys([*(known.addresses if known else ()), *self._validators.get(peer, ())]))

    # --- The book ----------------------------------------------------------------------------------------------------

    async def _keep_saving(self) -> None:
        while self._book_path is not None:
            await trio.sleep(SAVE_INTERVAL_S)
            # A copy: the book changes while a slow disk takes it.
            await trio.to_thread.run_sync(self._save, deepcopy(self._book), self._book_path)

    def _save(self, book: PeerBook, path: Path) -> None:
        """A disk that does not take it is no reason to lose the peers that are connected."""
        try:
            book.save(path, int(self._now_s()))
        except OSError as error:
            self._notice("the peer book was not saved", self._host.own_id, f"{path}: {error.strerror}")
