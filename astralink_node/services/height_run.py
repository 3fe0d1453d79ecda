"""One height of consensus at work: feeds its machine and does what the machine asks for.

Every input is logged before it is applied; log and signing history are on disk before a signature leaves. Builds,
checks and timers are tasks that end with the height and report back as events. Own signatures come back as inputs at
once. What ends the height, committing its decision, is the driver's.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, assert_never

import trio

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.messages import Built, CannotBuild, Invalid, Valid, Validate
from astralink_node.clock import NowMs
from astralink_node.crypto import bls
from astralink_node.errors import AstraLinkError
from astralink_node.evm.blocks import decode_block
from astralink_node.log import Log
from astralink_node.services.consensus_log import ConsensusLog, LoggedHeight
from astralink_node.services.offload import Offload
from astralink_node.services.own_validator import OwnValidator
from astralink_node.services.peer_talk import PeerTalk
from astralink_node.services.proposer import Carried, Head, Proposer
from astralink_node.validator.local_signer import RefusedToSign, SignerUnavailable
from consensus.evidence import Evidence
from consensus.gossip import BlockWanted, CertificateGossip, ProposalGossip, VotesGossip
from consensus.height_machine import (
    BlockBuilt,
    BlockChecked,
    BuildBlock,
    CheckBlock,
    CommitBlock,
    HeightContext,
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
from consensus.payload import ConsensusPayload, decode_payload
from consensus.replay import replay
from consensus.round_machine import Step, TimeoutKind
from consensus.vote_tally import Quorum, certificate_of
from consensus.votes import SignedProposal, SignedVote

MAX_LONE_ROUNDS: Final = 8
"""Rounds of one height that a lone validator tries when its signer refuses: each refusal means that a step is taken."""

SMALL_BLOCK_BYTES: Final = 65_536
"""Decoding up to so much is quicker than handing it to a worker thread."""

SIGNED_AND_LOST: Final = (
    "This key signed what neither the database nor the consensus log (consensus/wal) holds: `import` the missing "
    "blocks from an export, or put the data folder back as it was. If that is impossible and no other node signs with "
    "this key, move its signing history away and start once with --new-signing-history"
)
"""How an operator gets out of a rollback, or of files that were damaged or mixed up."""

_log = Log("consensus")


class ConsensusHalted(AstraLinkError):
    """This node must not, or cannot, go on, and waiting will not change it."""


@dataclass(frozen=True, slots=True)
class TurnCame:
    height: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    height: int
    kind: TimeoutKind
    round_: int


@dataclass(frozen=True, slots=True)
class BuildDone:
    height: int
    round_: int
    answer: Built | CannotBuild | RefusedToSign | SignerUnavailable


@dataclass(frozen=True, slots=True)
class CheckDone:
    height: int
    block_hash: bytes
    answer: Valid | Invalid
    payload: ConsensusPayload | None
    """Of a valid block."""


HeightEvent = TurnCame | TimerFired | BuildDone | CheckDone


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every height of a node works with."""

    execution: ExecutionLink
    own: OwnValidator | None
    proposer: Proposer
    log: ConsensusLog
    peers: PeerTalk
    now_ms: NowMs
    offload: Offload
    events: trio.MemorySendChannel[HeightEvent]
    carried: Callable[[], Carried]
    """What a block built now should carry."""
    keep_evidence: Callable[[Evidence], None]
    is_silent: Callable[[bytes], bool]
    """Whether the holder of a voting key has not been heard of lately."""
    forget_evidence: Callable[[tuple[bytes, ...]], None]
    """What execution could not use of the evidence that `carried` gave it."""


class HeightRun:
    """See the module's description. `nursery` outlives the height."""

    def __init__(
        self,
        around: Surroundings,
        nursery: trio.Nursery,
        context: HeightContext,
        head: Head,
        *,
        is_logged: bool,
        is_alone: bool,
    ) -> None:
        self._around = around
        self._nursery = nursery
        self._head = head
        self._is_logged = is_logged
        self._is_alone = is_alone
        self.state: HeightState = begin_height(context)
        self.bodies: dict[bytes, bytes] = {}
        """Blocks that a proposal or a quorum names, by hash."""
        self.step_since_ms = around.now_ms()
        """For people."""
        self.stands_since_s = trio.current_time()
        """Since when the height has been waiting or, once it started, in the making: by the clock that nobody sets."""
        self.proposed_s: dict[int, float] = {}
        """When each round's proposal came, by the clock that nobody sets; not of those that a log held."""
        self._unsigned: list[SignProposal | SignVote | BuildBlock] = []
        """What a signer that could not be reached still owes."""
        self._lone_refusals = 0
        self._tasks: set[trio.CancelScope] = set()

    async def begin(self) -> None:
        """Wait for the turn; and if an earlier run left a log of this height, go on where it was."""
        self._start_task(self._wait_for_turn)
        if not self._is_logged:
            return
        logged = self._around.log.load()
        if logged is None:
            self._around.log.begin(self.state.height)
        else:
            await self._go_on_with(logged)

    async def start(self) -> None:
        """Round 0: the turn came, or a message of this height says that it has begun elsewhere."""
        if self.state.rounds.step is Step.NOT_STARTED:
            await self.feed(StartHeight())

    async def feed(self, event: Input) -> None:
        """Log, apply, and do what comes of it, until nothing more does."""
        await self._apply(deque([event]))

    async def take(self, event: HeightEvent) -> None:
        """What one of the tasks of this height reports."""
        match event:
            case TurnCame():
                await self.start()
            case TimerFired(_, kind, round_):
                await self.feed(TimeoutElapsed(kind, round_))
            case BuildDone(_, round_, answer):
                await self._take_build(round_, answer)
            case CheckDone(_, block_hash, answer, payload):
                await self._take_check(block_hash, answer, payload)
            case _:
                assert_never(event)

    def take_body(self, block_hash: bytes, raw_block: bytes) -> None:
        """A block from a peer, if the machine asked for it."""
        is_wanted = block_hash in self.state.blocks and self.state.blocks[block_hash] is None
        if is_wanted and block_hash not in self.bodies:
            self._keep_body(block_hash, raw_block)
            self._start_task(self._check, block_hash, raw_block)

    async def repeat(self) -> None:
        """Say again what may have been lost: a network that lost messages would stand still for good."""
        unsigned, self._unsigned = self._unsigned, []
        await self._do(wanted for wanted in unsigned if wanted.round_ == self.state.rounds.round_)
        peers, (proposal, votes, polka) = self._around.peers, what_to_repeat(self.state)
        if polka is not None:
            await self._share(polka)
        if proposal is not None:
            peers.tell(ProposalGossip(proposal, self.bodies.get(proposal.block_hash, b"")))
        if votes:
            peers.tell(VotesGossip(votes))
        for block_hash, checked in self.state.blocks.items():
            if checked is None and block_hash not in self.bodies:
                peers.tell(BlockWanted(self.state.height, block_hash))

    def end(self) -> None:
        """The height is over: so are its tasks."""
        for scope in self._tasks:
            scope.cancel()

    # --- Recovery --------------------------------------------------------------------------------------------------

    async def _go_on_with(self, logged: LoggedHeight) -> None:
        """Feed the log to the machine again, and do what had not been done."""
        for raw_block in logged.raw_blocks:
            self.bodies[decode_block(raw_block).block.header.hash] = raw_block
        self.state, unfinished = replay(self.state.context, logged.inputs)
        _log.info("going on with a height that was interrupted", height=logged.height, inputs=len(logged.inputs))
        await self._do(unfinished)

    # --- The machine -----------------------------------------------------------------------------------------------

    async def _do(self, outputs: Iterable[Output]) -> None:
        waiting: deque[Input] = deque()
        for output in outputs:
            answer = await self._perform(output)
            if answer is not None:
                waiting.append(answer)
        await self._apply(waiting)

    async def _apply(self, waiting: deque[Input]) -> None:
        before = (self.state.rounds.round_, self.state.rounds.step)
        while waiting:
            event = waiting.popleft()
            if isinstance(event, ProposalReceived):
                self.proposed_s.setdefault(event.proposal.round_, trio.current_time())
            if self._is_logged:
                self._around.log.record(event)
            self.state, outputs = step(self.state, event)
            for output in outputs:
                answer = await self._perform(output)
                if answer is not None:
                    waiting.append(answer)
        if (self.state.rounds.round_, self.state.rounds.step) != before:
            self.step_since_ms = self._around.now_ms()
            if before[1] is Step.NOT_STARTED:
                self.stands_since_s = trio.current_time()

    async def _perform(self, output: Output) -> Input | None:
        """Do it, or start it; what our own signature makes comes back at once as an input."""
        match output:
            case SignVote() | SignProposal():
                return await self._sign(output)
            case CheckBlock(block_hash):
                raw_block = self.bodies.get(block_hash)
                if raw_block is not None:
                    self._start_task(self._check, block_hash, raw_block)
            case ScheduleTimeout(kind, round_, duration_ms):
                self._start_task(self._fire_timer, kind, round_, self._patience_ms(kind, round_, duration_ms))
            case BuildBlock(round_):
                self._start_task(self._build, round_)
            case ShareQuorum(quorum):
                await self._share(quorum)
            case ReportEvidence(evidence):
                self._around.keep_evidence(evidence)
            case CommitBlock():
                pass  # it stands in the state, where the driver finds it when all that came with it is fed
            case _:
                assert_never(output)
        return None

    async def _share(self, quorum: Quorum) -> None:
        count = len(self.state.context.validator_set)
        certificate = await self._around.offload(certificate_of, quorum, count, bls.aggregate)
        self._around.peers.tell(CertificateGossip(certificate))

    # --- Tasks -----------------------------------------------------------------------------------------------------

    def _start_task(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """A task that ends with the height."""
        scope = trio.CancelScope()
        self._tasks.add(scope)
        self._nursery.start_soon(self._until_the_end, scope, work, arguments)

    async def _until_the_end(
        self, scope: trio.CancelScope, work: Callable[..., Awaitable[None]], arguments: tuple[object, ...]
    ) -> None:
        with scope:
            await work(*arguments)
        self._tasks.discard(scope)

    async def _wait_for_turn(self) -> None:
        await self._around.proposer.wait_for_turn(self._head)
        await self._around.events.send(TurnCame(self.state.height))

    def _patience_ms(self, kind: TimeoutKind, round_: int, duration_ms: int) -> int:
        """Less for the proposal of a validator that is away: as long as one waits for votes."""
        context = self.state.context
        if kind is not TimeoutKind.PROPOSE:
            return duration_ms
        proposer = context.validator_set.validators[context.proposers.at(round_)]
        if not self._around.is_silent(proposer.voting_key):
            return duration_ms
        return min(duration_ms, context.params.prevote_timeout_at(round_))

    async def _fire_timer(self, kind: TimeoutKind, round_: int, duration_ms: int) -> None:
        await trio.sleep(duration_ms / 1000)
        await self._around.events.send(TimerFired(self.state.height, kind, round_))

    # --- Signing ---------------------------------------------------------------------------------------------------

    async def _sign(self, wanted: SignVote | SignProposal) -> Input | None:
        """Sync the log, sign (the signer syncs its history), tell everybody."""
        height, round_, block_hash, valid_round = (
            self.state.height,
            wanted.round_,
            wanted.block_hash,
            wanted.valid_round,
        )
        try:
            signature = await self._around.offload(self._signature, wanted)
        except RefusedToSign as refusal:
            return self._after_refusal(round_, refusal.reason)
        except SignerUnavailable as error:
            _log.error("the signer cannot be reached; it will be asked again", height=height, why=str(error))
            self._unsigned.append(wanted)
            return None
        if isinstance(wanted, SignProposal):
            proposal = SignedProposal(height, round_, block_hash, valid_round, signature)
            self._around.peers.tell(ProposalGossip(proposal, self.bodies[block_hash]))
            return ProposalReceived(proposal, self._around.now_ms())
        index = self.state.context.own_index
        assert index is not None, "only a validator is asked to sign"
        vote = SignedVote(wanted.vote_type, height, round_, block_hash, valid_round, index, signature)
        self._around.peers.tell(VotesGossip((vote,)))
        return VoteReceived(vote)

    def _signature(self, wanted: SignVote | SignProposal) -> bytes:
        """Write, sync, then speak: two syncs, for a worker thread."""
        assert self._around.own is not None, "only a validator is asked to sign"
        signer, height = self._around.own.signer, self.state.height
        self._around.log.sync()
        match wanted:
            case SignVote(vote_type, round_, block_hash, valid_round):
                return signer.sign_vote(vote_type, height, round_, block_hash, valid_round)
            case SignProposal(round_, block_hash, valid_round):
                return signer.sign_proposal(height, round_, block_hash, valid_round)

    def _after_refusal(self, round_: int, reason: str) -> Input | None:
        """Others go on without us. Alone, we take the next round, where the signer has said nothing yet."""
        height = self.state.height
        _log.warning("the signer refused", height=height, round=round_, reason=reason)
        if not self._is_alone:
            return None
        self._lone_refusals += 1
        if self._lone_refusals >= MAX_LONE_ROUNDS:
            raise ConsensusHalted(
                f"the signer refused {MAX_LONE_ROUNDS} rounds of height {height}, at last because of: {reason}. "
                f"{SIGNED_AND_LOST}"
            )
        return TimeoutElapsed(TimeoutKind.PRECOMMIT, round_)

    # --- Blocks ----------------------------------------------------------------------------------------------------

    def _keep_body(self, block_hash: bytes, raw_block: bytes) -> None:
        """Logged: it is on disk before our vote for it leaves, or a locked block might exist nowhere."""
        self.bodies[block_hash] = raw_block
        if self._is_logged:
            self._around.log.record_block(raw_block)

    async def _build(self, round_: int) -> None:
        around = self._around
        assert around.own is not None, "only a validator is asked to build"
        index = self.state.context.proposers.at(round_)
        answer: Built | CannotBuild | RefusedToSign | SignerUnavailable
        try:
            answer = await around.proposer.build(self._head, round_, index, around.own, around.carried())
        except (RefusedToSign, SignerUnavailable) as error:
            answer = error
        await around.events.send(BuildDone(self.state.height, round_, answer))

    async def _take_build(self, round_: int, answer: Built | CannotBuild | RefusedToSign | SignerUnavailable) -> None:
        height = self.state.height
        match answer:
            case Built(block_hash, raw_block):
                self._around.forget_evidence(answer.useless_evidence)
                self._keep_body(block_hash, raw_block)
                await self.feed(BlockBuilt(round_, block_hash, payload_of(raw_block).time_ms))
            case CannotBuild(reason):
                if self._is_alone:
                    raise ConsensusHalted(f"block {height} cannot be built: {reason}")
                _log.error("no block was proposed: it cannot be built", height=height, round=round_, why=reason)
            case RefusedToSign(reason=reason):
                if self._is_alone:
                    raise ConsensusHalted(f"the signer refuses height {height}: {reason}. {SIGNED_AND_LOST}")
                # Usual while a restarted validator catches up with a height that it signed already.
                _log.info("no block was proposed: the signer refused", height=height, round=round_, reason=reason)
            case SignerUnavailable():
                _log.error("the signer cannot be reached; it will be asked again", height=height, why=str(answer))
                self._unsigned.append(BuildBlock(round_))

    async def _check(self, block_hash: bytes, raw_block: bytes) -> None:
        around = self._around
        senders = await around.proposer.known_senders(raw_block)
        answer = await around.execution.validate(Validate(raw_block, senders))
        payload = None
        if isinstance(answer, Valid):
            is_small = len(raw_block) <= SMALL_BLOCK_BYTES
            payload = payload_of(raw_block) if is_small else await around.offload(payload_of, raw_block)
        await around.events.send(CheckDone(self.state.height, block_hash, answer, payload))

    async def _take_check(self, block_hash: bytes, answer: Valid | Invalid, payload: ConsensusPayload | None) -> None:
        if isinstance(answer, Invalid):
            _log.warning(
                "a proposed block is not valid",
                height=self.state.height,
                hash=f"0x{block_hash.hex()[:12]}",
                rule=answer.rule,
                expected=answer.expected,
                found=answer.found,
            )
        build_round, time_ms = (0, 0) if payload is None else (payload.build_round, payload.time_ms)
        await self.feed(BlockChecked(block_hash, payload is not None, build_round, time_ms))


def payload_of(raw_block: bytes) -> ConsensusPayload:
    """Of a block that was built or validated here."""
    return decode_payload(decode_block(raw_block).raw_payload)
