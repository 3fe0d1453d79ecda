"""Which peer is most likely the node of which validator: the one that its votes come from first. For people only.

A validator sends its own votes at once, each alone, and what it holds of others' only when nothing moves; so whoever
brings a vote first, alone and directly, has most likely cast it. A peer that passes votes on quickly can pose as
another validator's node here, and gains nothing: nothing but what operators are shown depends on it.
"""

from collections.abc import Collection
from typing import Final

from p2p.peer_id import PeerId

MAX_CONFIDENCE: Final = 8
"""So many votes from elsewhere make a validator's node another one."""
MAX_VALIDATORS: Final = 1024
"""Remembered; the one heard first makes room."""


class VoteOrigins:
    """The majority of late, by Boyer and Moore's count: one candidate a validator, confirmed or worn down."""

    def __init__(self) -> None:
        self._origins: dict[bytes, tuple[PeerId, int]] = {}

    def note(self, voting_key: bytes, peer: PeerId) -> None:
        """A verified vote of the validator came first from this peer, directly and alone."""
        candidate, confidence = self._origins.get(voting_key, (peer, 0))
        if candidate == peer:
            confidence = min(confidence + 1, MAX_CONFIDENCE)
        elif confidence > 1:
            confidence -= 1
        else:
            candidate, confidence = peer, 1
        if voting_key not in self._origins and len(self._origins) >= MAX_VALIDATORS:
            del self._origins[next(iter(self._origins))]
        self._origins[voting_key] = (candidate, confidence)

    def nodes_of(self, voting_keys: Collection[bytes]) -> dict[PeerId, bytes]:
        """The nodes of these validators, as far as they are known; of two that seem to share one, the last named."""
        return {self._origins[key][0]: key for key in voting_keys if key in self._origins}
