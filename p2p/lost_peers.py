"""Peers whose long connection broke, to be redialled as quickly as validators: most of them are some. Pure.

Nobody proves to a node which of its peers carry validators' votes. What it can know is who stood beside it for long:
when there are too many to redial quickly, those whose connection lasted longest come first, so that strangers who
connect for a moment displace nobody.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from p2p.peer_id import PeerId

LASTING_S: Final = 10.0
"""A connection that broke sooner says nothing about its peer."""
MAX_LOST: Final = 32
"""A full mesh of validators."""
FORGOTTEN_S: Final = 86_400.0
"""Who is away for longer is redialled like any other known peer."""


@dataclass(frozen=True, slots=True)
class _Lost:
    at: float
    lasted_s: float


@dataclass(slots=True)
class LostPeers:
    _since: dict[PeerId, float] = field(default_factory=dict)
    """Those that are connected, and since when."""
    _lost: dict[PeerId, _Lost] = field(default_factory=dict)

    def connected(self, peer: PeerId, now: float) -> None:
        self._since.setdefault(peer, now)
        self._lost.pop(peer, None)

    def disconnected(self, peer: PeerId, now: float) -> None:
        lasted_s = now - self._since.pop(peer, now)
        if lasted_s < LASTING_S:
            return
        self._lost[peer] = _Lost(now, lasted_s)
        if len(self._lost) > MAX_LOST:
            del self._lost[min(self._lost, key=lambda other: self._lost[other].lasted_s)]

    def forget(self, peer: PeerId) -> None:
        """It is banned: nobody wants it back."""
        self._since.pop(peer, None)
        self._lost.pop(peer, None)

    def wanted(self, now: float) -> Collection[PeerId]:
        """Whom to redial quickly."""
        for peer in [peer for peer, lost in self._lost.items() if now - lost.at >= FORGOTTEN_S]:
            del self._lost[peer]
        return self._lost.keys()
