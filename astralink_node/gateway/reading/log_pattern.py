"""Which logs somebody wants: by emitter and topics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogPattern:
    """``addresses`` empty matches any. ``topics[i]`` empty matches any topic at i, otherwise one of them."""

    addresses: frozenset[bytes]
    topics: tuple[frozenset[bytes], ...]

    def matches(self, log_address: bytes, log_topics: tuple[bytes, ...]) -> bool:
        if self.addresses and log_address not in self.addresses:
            return False
        if len(self.topics) > len(log_topics):
            return False
        return all(not choices or topic in choices for choices, topic in zip(self.topics, log_topics, strict=False))
