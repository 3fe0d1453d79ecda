"""What nodes talk about: the topics, their names on the gossip network, and their bytes on direct streams.

A name contains the chain and its fork, so nodes of another chain, or of rules that are no longer these, share none.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

GENESIS_BYTES: Final = 8
FORK_DIGEST_BYTES: Final = 4


class Topic(Enum):
    """The value is the topic's byte on a direct stream. No name begins with another one: a message's id hashes the
    name and the data one after the other (p2p.gossip_events.message_id_of)."""

    BLOCK = 1
    """Proposals, blocks and what makes them final."""
    TRANSACTION = 2
    """In batches."""
    VOTE = 3
    EVIDENCE = 4

    @property
    def short_name(self) -> str:
        return _SHORT_NAMES[self]


_SHORT_NAMES: Final = {
    Topic.BLOCK: "block",
    Topic.TRANSACTION: "tx",
    Topic.VOTE: "vote",
    Topic.EVIDENCE: "evidence",
}


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Of one chain under one set of rules: /<8 bytes of the genesis hash>/<fork digest>/<short name>."""

    genesis_hash: bytes
    fork_digest: bytes

    def __post_init__(self) -> None:
        if len(self.genesis_hash) < GENESIS_BYTES:
            raise ValueError(f"genesis hash: expected {GENESIS_BYTES} bytes or more, found {len(self.genesis_hash)}")
        if len(self.fork_digest) != FORK_DIGEST_BYTES:
            raise ValueError(f"fork digest: expected {FORK_DIGEST_BYTES} bytes, found {len(self.fork_digest)}")

    def name(self, topic: Topic) -> str:
        return f"/{self.genesis_hash[:GENESIS_BYTES].hex()}/{self.fork_digest.hex()}/{topic.short_name}"

    def topic(self, name: str) -> Topic | None:
        """The inverse of `name`; None for the topics of others."""
        return next((topic for topic in Topic if self.name(topic) == name), None)
