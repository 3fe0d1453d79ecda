"""An honest validator: the pure machine with a simulated disk, clock and network around it.

It does what the node's own driver does, in the same order: log, step, perform what the step asks for; sync the log and
record the signature before it leaves; after a crash read the log again through the same machine. Other kinds of
validators (`byzantine`) override how it signs and tells.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

from astralink_node.validator.signing_rules import Refuse, ReturnStored, Signed, SignNew, decide, record
from consensus.certificate import Certificate
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
from consensus.height_machine import (
    BlockBuilt,
    BlockChecked,
    BuildBlock,
    CertificateReceived,
    CheckBlock,
    CommitBlock,
    HeightState,
    Input,
    Output,
    ProposalReceived,
    ReportEvidence,
    ScheduleTimeout,
    ShareQuorum,
    SignProposal,
    SignVote,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
    begin_height,
    step,
    what_to_repeat,
)
from consensus.messages import ProposalMessage, VoteMessage, VoteType, encode_message, signing_root
from consensus.replay import replay
from consensus.round_machine import Step, TimeoutKind
from consensus.vote_tally import MAX_ROUNDS_AHEAD, Quorum, certificate_of
from consensus.votes import SignedProposal, SignedVote
from tests.simulation.blocks import Block, decode_block, encode_block, hash_of, is_block, is_valid_child
from tests.simulation.disk import Decided, Disk
from tests.simulation.network import Network
from tests.simulation.setting import GENESIS_HASH, Setting
from tests.simulation.signatures import aggregate
from tests.simulation.witness import Witness
from tests.simulation.world import World

REPEAT_INTERVAL_MS = 1_000
"""Whoever stands in one step from one tick to the next says again what it knows."""

ANSWER_INTERVAL_MS = 500
"""A peer that lags is told of the same height at most that often."""

MAX_EARLY = 64
"""Messages of the next height that are kept of one peer until it begins; more are dropped, and repeated."""


class PowerFailed(Exception):
    """The simulated machine stopped in the middle of what it did."""


@dataclass(frozen=True, slots=True)
class Habits:
    """How this machine differs from others."""

    skew_ms: int = 0
    """Its clock minus true time."""
    build_ms: int = 0
    check_ms: int = 0
    relays: bool = False
    """Whether it passes on what it hears for the first time."""


class Validator:
    def __init__(
        self,
        index: int,
        setting: Setting,
        world: World,
        network: Network,
        witness: Witness,
        habits: Habits,
        address: int | None = None,
    ) -> None:
        self.index = index
        self.address = index if address is None else address
        """Where the network finds it; only machines that share a key have others."""
        self.setting = setting
        self.world = world
        self.network = network
        self.witness = witness
        self.habits = habits
        self.disk = Disk()
        self.state: HeightState = begin_height(setting.context(1, index))
        self.is_running = False
        self.is_halted = False
        """Whether it saw a second certified block at a height that is final to it."""
        self.points_left: int | None = None
        """Writes, syncs, signatures and messages until the power fails; None for no failure ahead."""
        self._life = 0
        self._forget()

    @property
    def height(self) -> int:
        return self.state.context.height

    @property
    def clock_ms(self) -> int:
        return self.world.now_ms + self.habits.skew_ms

    # --- Start and end ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Boot: what the log holds of the height after the database's head goes through the machine again."""
        self.is_running = True
        self._life += 1
        self._forget()
        self._later(self.world.below(REPEAT_INTERVAL_MS), self._tick)
        self._guard(self._recover)

    def stop(self) -> None:
        """The power fails; unsynced bytes are lost from some point on."""
        self.is_running = False
        self.points_left = None
        self.disk.log.lose_tail(self.world.chance)
        self.world.trace(b"%d stopped" % self.address)

    def _forget(self) -> None:
        self._pending: deque[Input] = deque()
        self._is_busy = False
        self._early: dict[int, list[GossipMessage]] = {}
        self._wanted: set[bytes] = set()
        self._conflicting: set[SignedVote] = set()
        self._answered: dict[int, tuple[int, int]] = {}
        self._teacher: int | None = None
        self._last_position: tuple[int, int, Step] | None = None

    def _recover(self) -> None:
        height = len(self.disk.chain) + 1
        if self.disk.log.height != height:
            self.disk.begin_log()  # it concerns a height that is over
        events = self.disk.log.read()
        self.state, unfinished = replay(self.setting.context(height, self.index), events)
        for event in events:
            if isinstance(event, VoteReceived):
                self.witness.received(event.vote)
            elif isinstance(event, CertificateReceived):
                self.witness.received(event.certificate)
        self.tell(HeightGossip(height, 0))
        self._is_busy = True
        self._perform_all(unfinished)
        self._is_busy = False
        if self.state.rounds.step is Step.NOT_STARTED:
            self.feed(StartHeight())
        self._drain()

    def _guard(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
        except PowerFailed:
            self.stop()

    def _later(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        self.world.after(delay_ms, self._wake, self._life, action, arguments)

    def _wake(self, life: int, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if life == self._life and self.is_running:
            self._guard(action, *arguments)

    def point(self) -> None:
        """Where a power failure may strike."""
        if self.points_left is not None:
            self.points_left -= 1
            if self.points_left <= 0:
                raise PowerFailed

    # --- The machine -----------------------------------------------------------------------------------------

    def feed(self, event: Input) -> None:
        """Log and apply one input and all that follows from it; an input that comes up meanwhile waits its turn."""
        self._pending.append(event)
        self._drain()

    def _drain(self) -> None:
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._pending:
                event = self._pending.popleft()
                self.disk.log.append(event)
                self.point()
                self.state, outputs = step(self.state, event)
                self._perform_all(outputs)
                self.after_step()
        finally:
            self._is_busy = False

    def after_step(self) -> None:
        """For those who tamper with their state."""

    def _perform_all(self, outputs: tuple[Output, ...]) -> None:
        for output in outputs:
            match output:
                case SignVote(vote_type, round_, block_hash, valid_round):
                    self.cast_vote(vote_type, round_, block_hash, valid_round)
                case ScheduleTimeout(kind, round_, duration_ms):
                    self.schedule_timeout(kind, round_, duration_ms)
                case CheckBlock(block_hash):
                    self._get_checked(block_hash)
                case BuildBlock(round_):
                    ready_at = self.disk.head.time_ms + self.setting.params.min_block_interval_ms
                    self._later(max(0, ready_at - self.clock_ms), self._build, self.height, round_)
                case SignProposal(round_, block_hash, valid_round):
                    self.propose(round_, block_hash, valid_round)
                case ShareQuorum(quorum):
                    self.tell(CertificateGossip(self.certify(quorum)))
                case ReportEvidence(evidence):
                    self.witness.accused(self.index, evidence)
                case CommitBlock(quorum):
                    self._commit(quorum)
                case _:
                    assert_never(output)

    def schedule_timeout(self, kind: TimeoutKind, round_: int, duration_ms: int) -> None:
        self._later(duration_ms, self._time_out, self.height, kind, round_)

    def _time_out(self, height: int, kind: TimeoutKind, round_: int) -> None:
        if height == self.height and round_ == self.state.rounds.round_:
            self.world.trace(b"%d timeout %d %d" % (self.address, kind, round_))
            self.feed(TimeoutElapsed(kind, round_))

    def certify(self, quorum: Quorum) -> Certificate:
        return certificate_of(quorum, len(self.setting.validator_set), aggregate)

    def _commit(self, quorum: Quorum) -> None:
        decided = Decided(decode_block(self.disk.bodies[quorum.block_hash]), self.certify(quorum))
        self.disk.commit(decided)
        self.world.trace(b"%d committed " % self.address + quorum.block_hash)
        self.witness.decided(self.index, decided)
        self.point()
        self.disk.begin_log()
        self.point()
        self._begin_height()

    def _begin_height(self) -> None:
        self._pending.clear()
        self.state = begin_height(self.setting.context(len(self.disk.chain) + 1, self.index))
        early, self._early = self._early, {}
        self._wanted, self._conflicting = set(), set()
        teacher, self._teacher = self._teacher, None
        if teacher is not None:
            self._answer_with_height(teacher)  # there may be more to learn
        self.feed(StartHeight())
        for sender, messages in early.items():
            for message in messages:
                self._take_message(sender, message)

    # --- Signing ---------------------------------------------------------------------------------------------

    def sign(self, message: ProposalMessage | VoteMessage) -> bytes | None:
        """By the node's own signing rules: sync, decide, record, and only then let it go. None if they refuse."""
        self.disk.log.sync()
        self.point()
        decision = decide(self.disk.history, message)
        match decision:
            case SignNew():
                signature = self.setting.keys[self.index].sign(signing_root(encode_message(message)))
                self.disk.history = record(self.disk.history, Signed(message, signature))
                self.point()
                return signature
            case ReturnStored(signature):
                return signature
            case Refuse(reason):
                self.witness.silenced(self.index, reason)
                return None
            case _:
                assert_never(decision)

    def cast_vote(self, vote_type: VoteType, round_: int, block_hash: bytes, valid_round: int) -> None:
        height = self.height
        signature = self.sign(VoteMessage(GENESIS_HASH, height, round_, vote_type, block_hash, valid_round))
        if signature is None:
            return
        vote = SignedVote(vote_type, height, round_, block_hash, valid_round, self.index, signature)
        self.witness.signed(self.index, vote)
        self.release_vote(vote)
        self.point()
        self.witness.received(vote)
        self.feed(VoteReceived(vote))

    def propose(self, round_: int, block_hash: bytes, valid_round: int) -> None:
        signature = self.sign(ProposalMessage(GENESIS_HASH, self.height, round_, block_hash, valid_round))
        if signature is None:
            return
        proposal = SignedProposal(self.height, round_, block_hash, valid_round, signature)
        self.witness.signed(self.index, proposal)
        self.release_proposal(proposal)
        self.point()
        self.feed(ProposalReceived(proposal, self.clock_ms))

    def release_vote(self, vote: SignedVote) -> None:
        self.tell(VotesGossip((vote,)))

    def release_proposal(self, proposal: SignedProposal) -> None:
        self.tell(ProposalGossip(proposal, self.disk.bodies.get(proposal.block_hash, b"")))

    def tell(self, message: GossipMessage) -> None:
        self.network.broadcast(self.address, message)

    # --- Blocks ----------------------------------------------------------------------------------------------

    def _build(self, height: int, round_: int) -> None:
        if height == self.height:
            block = self.new_block(round_)
            self._later(self.habits.build_ms, self._finish_build, height, round_, block)

    def new_block(self, round_: int, nonce: int = 0, *, executes: bool = True) -> Block:
        """A child of our head, of this moment."""
        head = self.disk.head
        nonce = nonce or 1 + self.world.below(2**32)
        return Block(self.height, head.hash, self.index, round_, self.clock_ms, nonce, executes)

    def _finish_build(self, height: int, round_: int, block: Block) -> None:
        if height == self.height:
            self.disk.bodies[block.hash] = encode_block(block)
            self.feed(BlockBuilt(round_, block.hash, block.time_ms))

    def _get_checked(self, block_hash: bytes) -> None:
        if block_hash in self.disk.bodies:
            self._later(self.habits.check_ms, self._check, self.height, block_hash)
            return
        self._wanted.add(block_hash)
        self.tell(BlockWanted(self.height, block_hash))

    def _check(self, height: int, block_hash: bytes) -> None:
        if height != self.height:
            return
        block = decode_block(self.disk.bodies[block_hash])
        is_valid = is_valid_child(block, self.disk.head, self.setting.rotation(height), self.setting.params)
        build_round, time_ms = (block.build_round, block.time_ms) if is_valid else (0, 0)
        self.feed(BlockChecked(block_hash, is_valid, build_round, time_ms))

    def keep_body(self, raw: bytes) -> None:
        """A body that belongs to something signed, or that was asked for."""
        block_hash = hash_of(raw)
        self.disk.bodies[block_hash] = raw
        if block_hash in self._wanted:
            self._wanted.discard(block_hash)
            self._get_checked(block_hash)

    # --- What arrives ----------------------------------------------------------------------------------------

    def receive(self, sender: int, message: GossipMessage) -> None:
        if self.is_running:
            self._guard(self._take_message, sender, message)

    def _take_message(self, sender: int, message: GossipMessage) -> None:
        match message:
            case VotesGossip(votes):
                if self._is_now(votes[0].height, sender, message):
                    for vote in votes:
                        if vote.height == self.height:
                            self._take_vote(vote)
            case ProposalGossip(proposal, raw_block):
                if self._is_now(proposal.height, sender, message):
                    self._take_proposal(proposal, raw_block)
            case CertificateGossip(certificate):
                if self._is_now(certificate.height, sender, message):
                    self._take_certificate(certificate)
            case HeightGossip(height):
                if height < self.height:
                    self._answer(sender, height)
                elif height > self.height + 1:
                    self._answer_with_height(sender)
            case DecidedGossip(certificate, raw_block):
                self._take_decided(sender, certificate, raw_block)
            case BlockWanted(height, block_hash):
                body = self._find_body(height, block_hash)
                if body is not None:
                    self.network.send(self.address, sender, BlockGossip(height, body))
            case BlockGossip(_, raw_block):
                if hash_of(raw_block) in self._wanted and is_block(raw_block):
                    self.keep_body(raw_block)
            case CheckpointVote():
                raise AssertionError("no checkpoints in this simulation")
            case _:
                assert_never(message)

    def _is_now(self, height: int, sender: int, message: GossipMessage) -> bool:
        """Whether it concerns the present height; what concerns the next one is kept."""
        if height == self.height:
            return True
        if height == self.height + 1:
            early = self._early.setdefault(sender, [])
            if len(early) < MAX_EARLY:
                early.append(message)
        return False

    def _take_vote(self, vote: SignedVote) -> None:
        counted = self.state.tally.ballots(vote.round_, vote.vote_type).votes.get(vote.validator_index)
        if counted is not None and (counted is vote or counted == vote or vote in self._conflicting):
            return
        if not self.setting.admits_vote(vote):
            self.witness.refused(self.index, "vote")
            return
        if counted is not None:
            self._conflicting.add(vote)
        self.witness.received(vote)
        if self.habits.relays:
            self.tell(VotesGossip((vote,)))
        self.feed(VoteReceived(vote))

    def _take_proposal(self, proposal: SignedProposal, raw_block: bytes) -> None:
        known = self.state.proposals.get(proposal.round_)
        if known is not None and known.proposal.block_hash not in self._wanted:
            return
        if proposal.round_ > self.state.rounds.round_ + MAX_ROUNDS_AHEAD:
            return
        if not self.setting.admits_proposal(proposal):
            self.witness.refused(self.index, "proposal")
            return
        arrived_ms = self.clock_ms
        if hash_of(raw_block) == proposal.block_hash and is_block(raw_block):
            self.keep_body(raw_block)
        if known is None:
            if self.habits.relays:
                self.tell(ProposalGossip(proposal, raw_block))
            self.feed(ProposalReceived(proposal, arrived_ms))

    def _take_certificate(self, certificate: Certificate) -> None:
        choice = (certificate.block_hash, certificate.valid_round)
        if choice in self.state.tally.quorums(certificate.round_, certificate.vote_type):
            return
        if not self.setting.admits_certificate(certificate):
            self.witness.refused(self.index, "certificate")
            return
        self.witness.received(certificate)
        self.feed(CertificateReceived(certificate))

    def _take_decided(self, sender: int, certificate: Certificate, raw_block: bytes) -> None:
        height, block_hash = certificate.height, certificate.block_hash
        if height > self.height or hash_of(raw_block) != block_hash or not is_block(raw_block):
            return
        if height < self.height and self.disk.chain[height - 1].block.hash == block_hash:
            return
        if not self.setting.is_final(certificate, height, block_hash):
            self.witness.refused(self.index, "decided block")
            return
        self.witness.received(certificate)
        if height < self.height:
            self.is_running, self.is_halted = False, True  # two final blocks at one height: sign nothing more
            return
        self._teacher = sender
        self.keep_body(raw_block)
        self._take_certificate(certificate)

    def _answer(self, peer: int, height: int) -> None:
        last = self._answered.get(peer)
        if last is not None and last[0] == height and self.world.now_ms - last[1] < ANSWER_INTERVAL_MS:
            return
        self._answered[peer] = (height, self.world.now_ms)
        decided = self.disk.chain[height - 1]
        self.network.send(self.address, peer, DecidedGossip(decided.certificate, encode_block(decided.block)))

    def _answer_with_height(self, peer: int) -> None:
        self.network.send(self.address, peer, HeightGossip(self.height, self.state.rounds.round_))

    def _find_body(self, height: int, block_hash: bytes) -> bytes | None:
        if height == self.height:
            return self.disk.bodies.get(block_hash)
        if height < self.height and self.disk.chain[height - 1].block.hash == block_hash:
            return encode_block(self.disk.chain[height - 1].block)
        return None

    # --- Repeating -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._later(REPEAT_INTERVAL_MS, self._tick)
        position = (self.height, self.state.rounds.round_, self.state.rounds.step)
        if position == self._last_position:
            self.repeat()
        self._last_position = position

    def repeat(self) -> None:
        """Say again what may have been lost."""
        self.tell(HeightGossip(self.height, self.state.rounds.round_))
        proposal, votes, polka = what_to_repeat(self.state)
        if polka is not None:
            self.tell(CertificateGossip(self.certify(polka)))
        if proposal is not None:
            self.tell(ProposalGossip(proposal, self.disk.bodies.get(proposal.block_hash, b"")))
        if votes:
            self.tell(VotesGossip(votes))
        for block_hash in sorted(self._wanted):
            self.tell(BlockWanted(self.height, block_hash))
