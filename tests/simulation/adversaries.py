"""Byzantine validators that act as one: to keep a correct minority from deciding, or to fork the chain.

`LockHider` and `Splitter` need less than a third of the power and attack liveness where our rule differs from the
paper's (lines 23 and 29 without "or lockedValue = v"). `Face` needs a third or more and forks without ever signing
twice in a round, so that only amnesia can convict it; a fork by double votes is what `byzantine.Twin` does.
"""

from collections.abc import Collection, Sequence

from consensus.gossip import GossipMessage, HeightGossip, ProposalGossip, VotesGossip
from consensus.messages import NIL, NO_ROUND, VoteType
from consensus.round_machine import TimeoutKind
from consensus.votes import SignedProposal, SignedVote
from tests.simulation.blocks import encode_block
from tests.simulation.byzantine import Byzantine
from tests.simulation.network import Network
from tests.simulation.node import Habits
from tests.simulation.setting import Setting
from tests.simulation.world import World

AT_ONCE_MS = 1
"""An adversary's own links are as fast as it likes."""


class LockHider(Byzantine):
    """Makes one correct validator after another lock alone, and never helps a value that somebody is locked on.

    It proposes fresh values against all locks, to all but its victim, and so late that the victim prevotes nil before
    it can hear of the block from others. When the correct prevotes for a value and the adversary's own would be a
    polka, the adversary's go to the victim only, just in time for it to fetch the block: it locks and precommits, and
    nobody else has seen why. The others are sent precommits for nil, so that they leave the round early. While a lock
    stays unseen the adversary keeps silent: the lock alone holds the others up.
    """

    def __init__(
        self,
        index: int,
        setting: Setting,
        world: World,
        network: Network,
        habits: Habits,
        accomplices: Sequence[int],
        network_delay_ms: int,
    ) -> None:
        super().__init__(index, setting, world, network, habits)
        self._accomplices = frozenset(accomplices)
        self._network_delay_ms = network_delay_ms
        self._round_began_ms = world.now_ms
        self._locked_height = 0

    def cast_vote(self, vote_type: VoteType, round_: int, block_hash: bytes, valid_round: int) -> None:
        """It votes in `schedule_timeout` only."""

    def propose(self, round_: int, block_hash: bytes, valid_round: int) -> None:
        """So late that the victim, which is not told, has no time left to hear of it from others."""
        ends_ms = self._round_began_ms + self.setting.params.propose_timeout_at(round_)
        delay_ms = max(0, ends_ms - 2 * self._network_delay_ms - self.world.now_ms)
        self._later(delay_ms, self._propose_late, self.height, round_)

    def _propose_late(self, height: int, round_: int) -> None:
        if height != self.height or round_ != self.state.rounds.round_ or self._is_somebody_locked_unseen():
            return
        block = self.new_block(round_)
        raw_block = encode_block(block)
        self.keep_body(raw_block)
        proposal = self.make_proposal(round_, block.hash, NO_ROUND)
        victim = self._victim(round_)
        for peer in self.others:
            if peer != victim:
                self.network.send(self.address, peer, ProposalGossip(proposal, raw_block), AT_ONCE_MS)

    def schedule_timeout(self, kind: TimeoutKind, round_: int, duration_ms: int) -> None:
        super().schedule_timeout(kind, round_, duration_ms)
        if kind is TimeoutKind.PROPOSE:
            self._round_began_ms = self.world.now_ms
        if kind is TimeoutKind.PREVOTE:
            # Everybody's prevote timeout began about now.
            delay_ms = max(0, duration_ms - 4 * self._network_delay_ms)
            self._later(delay_ms, self._hide_a_lock, self.height, round_)

    def _hide_a_lock(self, height: int, round_: int) -> None:
        if height != self.height or self._is_somebody_locked_unseen():
            return
        victim = self._victim(round_)
        honest = self.state.tally.ballots(round_, VoteType.PREVOTE).power_for
        for (block_hash, valid_round), power in honest.items():
            total = power + self.setting.power_of(sorted(self._accomplices))
            if block_hash != NIL and self.setting.validator_set.has_quorum(total):
                vote = self.make_vote(VoteType.PREVOTE, height, round_, block_hash, valid_round)
                self.network.send(self.address, victim, VotesGossip((vote,)), AT_ONCE_MS)
                break
        nil = self.make_vote(VoteType.PRECOMMIT, height, round_, NIL, NO_ROUND)
        for peer in self.others:
            if peer != victim:
                self.network.send(self.address, peer, VotesGossip((nil,)), AT_ONCE_MS)

    def _is_somebody_locked_unseen(self) -> bool:
        """Somebody precommitted a block in an earlier round, and nobody has proposed it again."""
        if any(received.proposal.valid_round != NO_ROUND for received in self.state.proposals.values()):
            return False
        is_locked = any(
            round_ < self.state.rounds.round_ and vote.block_hash != NIL
            for round_, (_, precommits) in self.state.tally.rounds.items()
            for vote in precommits.votes.values()
        )
        if is_locked:
            self._locked_height = self.height  # the tally forgets old rounds, the adversary does not
        return self._locked_height == self.height

    def _victim(self, round_: int) -> int:
        return furthest_from_proposing(self.setting, self.height, round_, self._accomplices)

    def repeat(self) -> None:
        self.tell(HeightGossip(self.height, self.state.rounds.round_))


def furthest_from_proposing(setting: Setting, height: int, round_: int, liars: Collection[int]) -> int:
    """The correct validator whose next turn after that round is the last to come."""
    count = len(setting.validator_set)
    waiting = [index for index in range(count) if index not in liars]
    for turn in range(round_ + 1, round_ + 4 * count):
        proposer = setting.rotation(height).at(turn)
        if len(waiting) > 1 and proposer in waiting:
            waiting.remove(proposer)
    return waiting[-1]


class Splitter(Byzantine):
    """Makes a lock at the very end of each round of its own, however long the round is.

    It proposes to just so many correct validators that they are a quorum with the adversary. All of these but the
    victim it then tells nil, so that they run through their timeouts while the rest still waits for a proposal; the
    victim, which has heard too little to start any, is shown the missing prevotes when the others are about to leave.
    They take everybody else with them, and the lock is known to its holder alone. It signs twice for this, and is
    silent otherwise.
    """

    def __init__(
        self, index: int, setting: Setting, world: World, network: Network, habits: Habits, gang: "list[Splitter]"
    ) -> None:
        super().__init__(index, setting, world, network, habits)
        self._gang = gang
        gang.append(self)

    def cast_vote(self, vote_type: VoteType, round_: int, block_hash: bytes, valid_round: int) -> None:
        """It votes in `_take_part` only."""

    def propose(self, round_: int, block_hash: bytes, valid_round: int) -> None:
        liars = {member.index for member in self._gang}
        victim = furthest_from_proposing(self.setting, self.height, round_, liars)
        early = [victim]
        for index in range(len(self.setting.validator_set)):
            has_enough = self.setting.validator_set.has_quorum(self.setting.power_of([*early, *liars]))
            if not has_enough and index not in (*liars, victim):
                early.append(index)
        block = self.new_block(round_)
        proposal = ProposalGossip(self.make_proposal(round_, block.hash, NO_ROUND), encode_block(block))
        for peer in early:
            self.network.send(self.address, peer, proposal, AT_ONCE_MS)
        for member in self._gang:
            member.take_part(round_, block.hash, early[1:], victim)

    def take_part(self, round_: int, block_hash: bytes, early: Sequence[int], victim: int) -> None:
        height, params = self.height, self.setting.params
        for vote_type in VoteType:
            nil = self.make_vote(vote_type, height, round_, NIL, NO_ROUND)
            for peer in early:
                self.network.send(self.address, peer, VotesGossip((nil,)), AT_ONCE_MS)
        vote = self.make_vote(VoteType.PREVOTE, height, round_, block_hash, NO_ROUND)
        ends_ms = params.prevote_timeout_at(round_) + params.precommit_timeout_at(round_) + self.habits.check_ms
        self.network.send(self.address, victim, VotesGossip((vote,)), ends_ms)

    def repeat(self) -> None:
        self.tell(HeightGossip(self.height, self.state.rounds.round_))


class Face(Byzantine):
    """What a two-faced validator shows to one side. Even rounds belong to side 0, odd ones to side 1.

    In its rounds it votes with its side and lets the other side hear the votes too, which moves that side on to the
    next round. It never votes in the other side's rounds, so its key never signs two votes of one round and type.
    """

    def __init__(
        self,
        index: int,
        setting: Setting,
        world: World,
        network: Network,
        habits: Habits,
        addresses: tuple[int, int],
        sides: tuple[Sequence[int], Sequence[int]],
        side: int,
    ) -> None:
        super().__init__(index, setting, world, network, habits, addresses[side])
        self._sides = sides
        self._addresses = addresses
        self._side = side

    def after_step(self) -> None:
        self.forget_lock()

    def cast_vote(self, vote_type: VoteType, round_: int, block_hash: bytes, valid_round: int) -> None:
        if round_ % 2 == self._side:
            super().cast_vote(vote_type, round_, block_hash, valid_round)

    def release_vote(self, vote: SignedVote) -> None:
        for own_address, side in zip(self._addresses, self._sides, strict=True):
            for peer in side:
                self.network.send(own_address, peer, VotesGossip((vote,)), AT_ONCE_MS)

    def release_proposal(self, proposal: SignedProposal) -> None:
        if proposal.round_ % 2 == self._side:
            super().release_proposal(proposal)

    def tell(self, message: GossipMessage) -> None:
        for peer in self._sides[self._side]:
            if peer != self.address:
                self.network.send(self.address, peer, message, AT_ONCE_MS)
