"""Validators that break the rules, each in its own way. They hold their own key only, so they lie but do not forge.

Most run the same machine as the honest ones and differ in what they sign and whom they tell. Those that act together
are in `adversaries`.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from consensus.certificate import Certificate, bitmap_of
from consensus.gossip import (
    CertificateGossip,
    DecidedGossip,
    GossipMessage,
    HeightGossip,
    ProposalGossip,
    VotesGossip,
)
from consensus.messages import NIL, NO_ROUND, ProposalMessage, VoteMessage, VoteType, encode_message, signing_root
from consensus.votes import SignedProposal, SignedVote
from tests.simulation.blocks import encode_block
from tests.simulation.network import Network
from tests.simulation.node import Habits, Validator
from tests.simulation.setting import GENESIS_HASH, Setting
from tests.simulation.witness import Unseen
from tests.simulation.world import World

_NO_PARENT = bytes(31) + b"\x01"


class Byzantine(Validator):
    """Signs whatever it likes; as such it follows the machine."""

    def __init__(
        self,
        index: int,
        setting: Setting,
        world: World,
        network: Network,
        habits: Habits,
        address: int | None = None,
    ) -> None:
        super().__init__(index, setting, world, network, Unseen(), habits, address)

    def sign(self, message: ProposalMessage | VoteMessage) -> bytes | None:
        return self.setting.keys[self.index].sign(signing_root(encode_message(message)))

    def make_vote(
        self, vote_type: VoteType, height: int, round_: int, block_hash: bytes, valid_round: int
    ) -> SignedVote:
        signature = self.sign(VoteMessage(GENESIS_HASH, height, round_, vote_type, block_hash, valid_round))
        assert signature is not None
        return SignedVote(vote_type, height, round_, block_hash, valid_round, self.index, signature)

    def make_proposal(self, round_: int, block_hash: bytes, valid_round: int) -> SignedProposal:
        signature = self.sign(ProposalMessage(GENESIS_HASH, self.height, round_, block_hash, valid_round))
        assert signature is not None
        return SignedProposal(self.height, round_, block_hash, valid_round, signature)

    def forget_lock(self) -> None:
        rounds = self.state.rounds
        if rounds.locked_round != NO_ROUND:
            self.state = replace(self.state, rounds=replace(rounds, locked_round=NO_ROUND, locked_hash=NIL))

    @property
    def others(self) -> list[int]:
        return [address for address in self.network.addresses if address != self.address]

    def some_block(self) -> bytes:
        """The hash of a block that it has heard of at this height, or of none."""
        known = sorted(self.state.blocks)
        return known[self.world.below(len(known))] if known else _NO_PARENT


class Silent(Byzantine):
    """Says nothing at all."""

    def start(self) -> None:
        self.is_running = False


class Equivocator(Byzantine):
    """Tells different peers different votes of one round."""

    def release_vote(self, vote: SignedVote) -> None:
        other = self._another(vote)
        for peer in self.others:
            self.network.send(self.address, peer, VotesGossip((other if self.world.chances(0.5) else vote,)))

    def _another(self, vote: SignedVote) -> SignedVote:
        if vote.vote_type is VoteType.PREVOTE and vote.block_hash != NIL and vote.round_ and self.world.chances(0.5):
            valid_round = NO_ROUND if vote.valid_round != NO_ROUND else vote.round_ - 1
            return self.make_vote(vote.vote_type, vote.height, vote.round_, vote.block_hash, valid_round)
        block_hash = NIL if vote.block_hash != NIL else self.some_block()
        return self.make_vote(vote.vote_type, vote.height, vote.round_, block_hash, NO_ROUND)


class Amnesiac(Byzantine):
    """Forgets its lock at once, prevotes whatever is proposed and precommits what it pleases."""

    def after_step(self) -> None:
        self.forget_lock()

    def cast_vote(self, vote_type: VoteType, round_: int, block_hash: bytes, valid_round: int) -> None:
        if block_hash == NIL and vote_type is VoteType.PREVOTE and round_ in self.state.proposals:
            proposal = self.state.proposals[round_].proposal
            block_hash, valid_round = proposal.block_hash, proposal.valid_round
        elif vote_type is VoteType.PRECOMMIT and self.world.chances(0.5):
            block_hash = self.some_block()
        super().cast_vote(vote_type, round_, block_hash, valid_round)


class Outdated(Byzantine):
    """Sends again what was said in old rounds and heights, by itself and by others, and votes there anew."""

    REMEMBERED = 200
    AT_ONCE = 6

    def start(self) -> None:
        self._heard: deque[GossipMessage] = deque(maxlen=self.REMEMBERED)
        super().start()

    def _take_message(self, sender: int, message: GossipMessage) -> None:
        self._heard.append(message)
        super()._take_message(sender, message)
        if self.world.chances(0.1):
            others = self.others
            for _ in range(self.AT_ONCE):
                old = self._heard[self.world.below(len(self._heard))]
                self.network.send(self.address, others[self.world.below(len(others))], old)
        round_ = self.state.rounds.round_
        if round_ and self.world.chances(0.1):
            vote_type = VoteType.PREVOTE if self.world.chances(0.5) else VoteType.PRECOMMIT
            vote = self.make_vote(vote_type, self.height, self.world.below(round_), self.some_block(), NO_ROUND)
            self.tell(VotesGossip((vote,)))


class ConflictingProposer(Byzantine):
    """Proposes a different block to each peer; some of them invalid, untimely, or said to rest on a polka."""

    def release_proposal(self, proposal: SignedProposal) -> None:
        for peer in self.others:
            self.network.send(self.address, peer, self._variant(proposal))

    def _variant(self, proposal: SignedProposal) -> ProposalGossip:
        kind = self.world.below(6)
        raw_block = self.disk.bodies.get(proposal.block_hash, b"")
        round_ = proposal.round_
        if kind == 0:
            return ProposalGossip(proposal, raw_block)
        if kind == 1 and round_ > 0:
            bold = self.make_proposal(round_, proposal.block_hash, self.world.below(round_))
            return ProposalGossip(bold, raw_block)
        block = self.new_block(round_)
        if kind == 2:
            block = replace(block, executes=False)
        elif kind == 3:
            block = replace(block, time_ms=block.time_ms + 5_000 - self.world.below(10_000))
        elif kind == 4:
            block = replace(block, parent_hash=_NO_PARENT)
        valid_round = self.world.below(round_) if round_ and self.world.chances(0.2) else NO_ROUND
        return ProposalGossip(self.make_proposal(round_, block.hash, valid_round), encode_block(block))


class Forger(Byzantine):
    """Puts words into the mouths of others, with signatures that cannot hold."""

    def release_vote(self, vote: SignedVote) -> None:
        super().release_vote(vote)
        count = len(self.setting.validator_set)
        victims = [index for index in range(count) if index != self.index]
        named = [replace(vote, validator_index=victim, block_hash=self.some_block()) for victim in victims]
        self.tell(VotesGossip(tuple(named)))
        bitmap = bitmap_of(range(count), count)
        block_hash = self.some_block()
        forged = Certificate(vote.vote_type, vote.height, vote.round_, NO_ROUND, block_hash, bitmap, vote.signature)
        self.tell(CertificateGossip(forged))
        self.tell(DecidedGossip(replace(forged, vote_type=VoteType.PRECOMMIT), encode_block(self.new_block(0))))
        self.tell(ProposalGossip(self.make_proposal(vote.round_ + 1, block_hash, NO_ROUND), b""))


class Twin(Validator):
    """One of two honest machines with one key: it hears and tells its half of the network only."""

    def __init__(
        self,
        index: int,
        setting: Setting,
        world: World,
        network: Network,
        habits: Habits,
        address: int,
        audience: Sequence[int],
    ) -> None:
        super().__init__(index, setting, world, network, Unseen(), habits, address)
        self._audience = audience

    def tell(self, message: GossipMessage) -> None:
        for peer in self._audience:
            self.network.send(self.address, peer, message)

    def receive(self, sender: int, message: GossipMessage) -> None:
        if sender in self._audience:
            super().receive(sender, message)


class Absentee(Byzantine):
    """Follows and answers who asks, but votes and proposes only now and then."""

    def release_vote(self, vote: SignedVote) -> None:
        if self.world.chances(0.5):
            super().release_vote(vote)

    def release_proposal(self, proposal: SignedProposal) -> None:
        if self.world.chances(0.5):
            super().release_proposal(proposal)

    def repeat(self) -> None:
        self.tell(HeightGossip(self.height, self.state.rounds.round_))
