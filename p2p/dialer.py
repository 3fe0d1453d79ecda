"""Whom to dial, and when. Pure: time and chance are arguments; whoever holds the host dials and reports back.

Of two nodes that know each other the one with the lower peer id dials at once and the other a little later, so that
both sides rarely dial the same connection, and a node that only one side can reach is still reached. What fails is
tried again, half a second later at first and twice as long each time.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from p2p.addresses import Address
from p2p.peer_id import PeerId

FIRST_RETRY_S: Final = 0.5
MAX_RETRY_S: Final = 30.0
MAX_URGENT_RETRY_S: Final = 3.0
"""Of validators and of peers that were connected for long: votes travel over these connections."""
HIGHER_ID_DELAY_S: Final = 2.0
"""The lower peer id's head start."""
STABLE_S: Final = 10.0
"""A connection that lasted as long makes its peer's next retry quick again."""
JITTER: Final = 0.2
"""A retry comes up to this part earlier, so that nodes that lost each other together do not dial in step."""
MAX_TARGETS: Final = 512
"""Peers to be connected to; further ones are not taken on."""


@dataclass(slots=True)
class _Target:
    addresses: tuple[Address, ...]
    is_urgent: bool
    due: float
    failures: int = 0
    is_busy: bool = False
    """Being dialled."""
    dialled: float = 0.0
    """When that began last."""
    connected_since: float | None = None


@dataclass(frozen=True, slots=True)
class Dial:
    peer: PeerId
    addresses: tuple[Address, ...]


@dataclass(slots=True)
class Dialer:
    own_id: PeerId
    chance: Callable[[], float]
    """A number from 0 to 1, anew each time."""
    _targets: dict[PeerId, _Target] = field(default_factory=dict)

    def want(self, peer: PeerId, addresses: Iterable[Address], now: float, *, is_urgent: bool = False) -> None:
        """Keep a connection to the peer from now on. Said again, its addresses and kind are replaced."""
        if peer == self.own_id:
            return
        target = self._targets.get(peer)
        if target is not None:
            target.addresses, target.is_urgent = tuple(addresses), is_urgent
            target.due = min(target.due, now + self._longest(target))
        elif len(self._targets) < MAX_TARGETS:
            delay = 0.0 if self.own_id < peer else HIGHER_ID_DELAY_S
            self._targets[peer] = _Target(tuple(addresses), is_urgent, now + delay)

    def unwant(self, peer: PeerId) -> None:
        self._targets.pop(peer, None)

    def due(self, now: float, limit: int) -> list[Dial]:
        """Whom to dial now, the urgent first and then whoever waits longest; each is `failed` or `connected` next."""
        ready = [
            (not target.is_urgent, target.due, peer)
            for peer, target in self._targets.items()
            if self._may_dial(target) and target.due <= now
        ]
        chosen = [peer for _, _, peer in sorted(ready)[: max(0, limit)]]
        for peer in chosen:
            self._targets[peer].is_busy = True
            self._targets[peer].dialled = now
        return [Dial(peer, self._targets[peer].addresses) for peer in chosen]

    def next_due(self) -> float | None:
        """When `due` will name somebody next, unless something happens first."""
        return min((target.due for target in self._targets.values() if self._may_dial(target)), default=None)

    def failed(self, peer: PeerId, now: float) -> int:
        """A dial of all its addresses led to no connection: how many in a row. The next is due from when it began."""
        target = self._targets.get(peer)
        if target is None:
            return 1
        target.is_busy = False
        self._retry(target, target.dialled)
        target.due = max(target.due, now)
        return target.failures

    def connected(self, peer: PeerId, now: float) -> None:
        """Whichever side dialled."""
        target = self._targets.get(peer)
        if target is not None:
            target.is_busy = False
            target.connected_since = now

    def disconnected(self, peer: PeerId, now: float) -> None:
        target = self._targets.get(peer)
        if target is None or target.connected_since is None:
            return
        if now - target.connected_since >= STABLE_S:
            target.failures = 0
        target.connected_since = None
        self._retry(target, now)
        if self.own_id > peer:
            target.due += min(HIGHER_ID_DELAY_S, max(0.0, self._longest(target) - (target.due - now)))

    def _retry(self, target: _Target, now: float) -> None:
        delay = min(self._longest(target), FIRST_RETRY_S * 2.0 ** min(target.failures, 16))
        target.failures += 1
        target.due = now + delay * (1.0 - JITTER * self.chance())

    def _longest(self, target: _Target) -> float:
        return MAX_URGENT_RETRY_S if target.is_urgent else MAX_RETRY_S

    def _may_dial(self, target: _Target) -> bool:
        return bool(target.addresses) and not target.is_busy and target.connected_since is None
