"""The links between simulated validators: delay, loss, duplication, reordering, partitions, until they stabilise.

From the stabilisation time on (the paper's GST) every message between running validators arrives within a bound, once.
What was sent before and not lost arrives at the latest within that bound after it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import assert_never

from consensus.gossip import (
    BlockGossip,
    BlockWanted,
    CertificateGossip,
    CheckpointVote,
    DecidedGossip,
    GossipMessage,
    HeightGossip,
    ProposalGossip,
    VotesGossip,
)
from consensus.wire import encode_unsigned
from tests.simulation.world import World

SPELL_MS = 2_000

Receive = Callable[[int, GossipMessage], None]
"""(sender, message)."""


@dataclass(frozen=True, slots=True)
class Partition:
    """From `start_ms` to `end_ms` only members of one group hear each other; whoever is in no group hears nobody."""

    start_ms: int
    end_ms: int
    groups: tuple[tuple[int, ...], ...]

    def separates(self, elapsed_ms: int, one: int, other: int) -> bool:
        if not self.start_ms <= elapsed_ms < self.end_ms:
            return False
        return all(one not in group or other not in group for group in self.groups)


@dataclass(frozen=True, slots=True)
class Links:
    """How messages travel. Times are milliseconds since genesis."""

    stable_from_ms: int = 0
    stable_delay_ms: int = 20
    """The longest delay after stabilisation: the paper's delta."""
    unstable_delay_ms: int = 20
    """The longest before it."""
    loss: float = 0.0
    duplication: float = 0.0
    deafness: float = 0.0
    """For each link, kind of message and spell of `SPELL_MS`: how likely all of that kind is lost. So prevotes may
    arrive where precommits do not, and the other way round: that makes locks and leaves them hidden."""
    partitions: tuple[Partition, ...] = ()


class Network:
    def __init__(self, world: World, links: Links) -> None:
        self._world = world
        self._links = links
        self._receivers: dict[int, Receive] = {}
        self._deaf: dict[tuple[int, int, int], bool] = {}
        self.delivered = 0

    def join(self, address: int, receive: Receive) -> None:
        self._receivers[address] = receive

    @property
    def addresses(self) -> Iterable[int]:
        return self._receivers

    def broadcast(self, sender: int, message: GossipMessage) -> None:
        print_ = fingerprint(message)
        for address in self._receivers:
            if address != sender:
                self._carry(sender, address, message, print_)

    def send(self, sender: int, receiver: int, message: GossipMessage, delay_ms: int | None = None) -> None:
        """To one. An adversary that rules its own links chooses the delay; loss and partitions stay."""
        self._carry(sender, receiver, message, fingerprint(message), delay_ms)

    def _carry(
        self, sender: int, receiver: int, message: GossipMessage, print_: bytes, delay_ms: int | None = None
    ) -> None:
        world, links = self._world, self._links
        elapsed = world.elapsed_ms
        if elapsed >= links.stable_from_ms:
            delay = 1 + world.below(links.stable_delay_ms) if delay_ms is None else delay_ms
            world.after(delay, self._deliver, sender, receiver, message, print_)
            return
        if any(partition.separates(elapsed, sender, receiver) for partition in links.partitions):
            return
        if links.deafness and self._is_deaf(sender, receiver, print_[0]):
            return
        for _ in range(2 if world.chances(links.duplication) else 1):
            if not world.chances(links.loss):
                delay = 1 + world.below(links.unstable_delay_ms) if delay_ms is None else delay_ms
                latest = links.stable_from_ms - elapsed + links.stable_delay_ms
                world.after(min(delay, latest), self._deliver, sender, receiver, message, print_)

    def _is_deaf(self, sender: int, receiver: int, kind: int) -> bool:
        spell = self._world.elapsed_ms // SPELL_MS
        key = (spell << 8 | kind, sender, receiver)
        deaf = self._deaf.get(key)
        if deaf is None:
            deaf = self._deaf[key] = self._world.chances(self._links.deafness)
        return deaf

    def _deliver(self, sender: int, receiver: int, message: GossipMessage, print_: bytes) -> None:
        self.delivered += 1
        self._world.trace(b"%d>%d " % (sender, receiver) + print_)
        self._receivers[receiver](sender, message)


def fingerprint(message: GossipMessage) -> bytes:
    """Its kind in one byte, and enough to tell it from every other of the same run: signatures follow from what they
    sign. Single votes are of two kinds, repeated ones of a third."""
    match message:
        case VotesGossip(votes):
            return (b"r" if len(votes) > 1 else b"%d" % votes[0].vote_type) + b"".join(
                vote.signature[:8] for vote in votes
            )
        case ProposalGossip(proposal, raw_block):
            return b"p" + proposal.signature[:8] + raw_block[-17:]
        case CertificateGossip(certificate):
            return b"c" + certificate.signers + certificate.signature[:8]
        case HeightGossip(height, round_):
            return b"h" + encode_unsigned(height, 8, "height") + encode_unsigned(round_, 4, "round")
        case DecidedGossip(certificate):
            return b"d" + certificate.signers + certificate.signature[:8]
        case BlockWanted(height, block_hash):
            return b"w" + encode_unsigned(height, 8, "height") + block_hash[:8]
        case BlockGossip(height, raw_block):
            return b"b" + encode_unsigned(height, 8, "height") + raw_block[-17:]
        case CheckpointVote(epoch, _, block_hash):
            return b"k" + encode_unsigned(epoch, 8, "epoch") + block_hash[:8]
        case _:
            assert_never(message)
