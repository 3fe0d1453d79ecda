"""Runs consensus for one node, height after height: peers' messages in, decisions committed, the next height begun.

One task takes events in order; `height_run` does what the height's machine asks for. What is final is the database's
word alone: after a start the log of the height after the head is read again, through the same machine
(docs/specification.md, "Consensus log"). A validator alone on its chain takes the same way, in a network of one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

import trio

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.consensus_messages import Decided, ValidatorsAnswer, ValidatorsQuestion
from astralink_node.chain.messages import AtHeight, Commit, Committed, Invalid, NeedBlock, Query, Status, Validate
from astralink_node.clock import NowMs
from astralink_node.crypto import bls
from astralink_node.evm.blocks import decode_block, decode_header, encode_header
from astralink_node.log import Log
from astralink_node.metrics import NodeMetrics
from astralink_node.services.block_ranges import DecidedBlock
from astralink_node.services.checkpoint_keeper import CheckpointKeeper
from astralink_node.services.consensus_log import ConsensusLog
from astralink_node.services.evidence_desk import EvidenceDesk, EvidenceUnwelcome
from astralink_node.services.gossip_ingress import GossipIngress
from astralink_node.services.gossip_judge import (
    HeightsView,
    PeerAt,
    PeerBlock,
    PeerCertificate,
    PeerCheckpointVote,
    PeerEvent,
    PeerEvidence,
    PeerProposal,
    PeerVotes,
    PeerWantsBlock,
)
from astralink_node.services.height_run import (
    BuildDone,
    CheckDone,
    ConsensusHalted,
    HeightEvent,
    HeightRun,
    Surroundings,
    TimerFired,
    TurnCame,
)
from astralink_node.services.offload import Offload, in_thread
from astralink_node.services.own_validator import OwnKeys, OwnValidator
from astralink_node.services.peer_talk import PeerTalk
from astralink_node.services.presence import LastVotes, is_silent, voters_of
from astralink_node.services.proposer import Carried, Head, Proposer
from astralink_node.validator.local_signer import RefusedToSign, SignerUnavailable
from consensus.certificate import Certificate, decode_certificate, encode_certificate, signer_indices
from consensus.checkpoint_tally import CheckpointSubject
from consensus.epoch import epoch_of, is_last, last_height
from consensus.evidence_forms import AnyEvidence, evidence_hash
from consensus.gossip import CheckpointVote, HeightGossip
from consensus.height_machine import (
    CertificateReceived,
    HeightContext,
    HeightState,
    ProposalReceived,
    ReportEvidence,
    VoteReceived,
    step,
)
from consensus.messages import VoteType
from consensus.params import LATE_CREDIT_HEIGHTS, ConsensusParams
from consensus.payload import ConsensusPayload, decode_payload
from consensus.proposer_selection import ProposerRotation, decode_priorities
from consensus.validator_set import ValidatorSet, decode_validator_set
from consensus.vote_tally import certificate_of
from consensus.votes import SignedProposal, SignedVote
from p2p.peer_id import PeerId
from p2p.topic_transport import TopicTransport
from p2p.topics import Topic

MAX_EVENTS: Final = 1024
"""Events that wait for the driver; whoever has more waits with them."""
CONSENSUS_TOPICS: Final = (Topic.BLOCK, Topic.VOTE, Topic.EVIDENCE)
REPEAT_INTERVAL_MS: Final = 1000
"""How often a validator that makes no progress says again what it said."""

_log = Log("consensus")

OnCommitted = Callable[[Committed], None]


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """What genesis fixes for consensus."""

    genesis_hash: bytes
    params: ConsensusParams
    epoch_length: int


@dataclass(frozen=True, slots=True)
class RepeatDue:
    pass


@dataclass(frozen=True, slots=True)
class DecidedElsewhere:
    blocks: tuple[DecidedBlock, ...]
    taken: trio.Event


_Event = PeerEvent | HeightEvent | RepeatDue | DecidedElsewhere


class ConsensusDriver:
    """See the module's description. `on_committed` is told of every commit and must not wait."""

    def __init__(
        self,
        execution: ExecutionLink,
        settings: ChainSettings,
        own: OwnValidator | None,
        proposer: Proposer,
        log: ConsensusLog,
        transport: TopicTransport,
        now_ms: NowMs,
        on_committed: OnCommitted,
        offload: Offload = in_thread,
        metrics: NodeMetrics | None = None,
        next_own: OwnValidator | None = None,
    ) -> None:
        self._metrics = metrics or NodeMetrics()
        self._execution = execution
        self._settings = settings
        self._keys = OwnKeys(own, next_own)
        self._own = own
        """Of this node's keys, those that stand in the set that votes now; the first, if none does."""
        self._log = log
        self._now_ms = now_ms
        self._on_committed = on_committed
        self._offload = offload
        self._inbox, self._events = trio.open_memory_channel[_Event](MAX_EVENTS)
        self._peers = PeerTalk(transport, execution)
        self._desk = EvidenceDesk(
            execution,
            settings.genesis_hash,
            settings.params,
            lambda: self._head,
            self._peers,
            log,
            offload,
            self._metrics,
        )
        self._ingress = GossipIngress(
            transport, now_ms, offload, self._view, self._inbox.send, self._desk, self._metrics
        )
        self._around = Surroundings(
            execution=execution,
            own=own,
            proposer=proposer,
            log=log,
            peers=self._peers,
            now_ms=now_ms,
            offload=offload,
            events=self._inbox,
            carried=self._carried,
            keep_evidence=self._desk.keep,
            is_silent=lambda voting_key: is_silent(voting_key, self._recent, self._current.state),
            forget_evidence=self._desk.keeper.forget,
        )
        self._checkpoints = CheckpointKeeper(settings.genesis_hash)
        self._checkpoint_index: int | None = None
        """Of our member in the set of the epoch that ended last, if it signs that epoch's checkpoint."""
        self._checkpoint_epoch = -1
        """Of the newest checkpoint that a block carries."""
        self._recent: dict[int, HeightState] = {}
        """Decided heights whose late precommits may still be credited."""
        self._credited: dict[int, frozenset[int]] = {}
        self.last_votes = LastVotes()
        """For people; nothing here rests on it."""
        self.evidence = self._desk.keeper
        """What was proven against validators, until a block carries it."""
        self._silent_below = 0
        """The log holds this height, above the database's next one: nothing below it is signed or logged."""
        self._nursery: trio.Nursery
        self._head: Head
        self._sets: tuple[ValidatorSet, ValidatorSet]
        """(votes at the height after the head, votes at the one after that)"""
        self.run_of_height: HeightRun | None = None
        """The height that is being decided; None before the node has recovered."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Recover, report started, then follow and make the chain until cancelled. Raises ConsensusHalted."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._recover(await self._execution.status())
            nursery.start_soon(self._ingress.run)
            nursery.start_soon(self._remind)
            task_status.started()
            async for event in self._events:
                await self._handle(event)
                await self._commit_what_is_decided()
                await self._desk.save()

    @property
    def _current(self) -> HeightRun:
        assert self.run_of_height is not None, "recovery begins a height"
        return self.run_of_height

    # --- Recovery, and the beginning of heights --------------------------------------------------------------------

    async def _recover(self, status: Status) -> None:
        """Begin the height after the head, where an earlier run had left it."""
        self._head = Head(status.head_height, status.head_hash, status.head_time_ms, status.head_certificate)
        self._metrics.head_timestamp_seconds.set(status.head_time_ms / 1000)
        self._checkpoint_epoch = status.checkpoint_epoch
        self._sets = decode_validator_set(status.voting_set), decode_validator_set(status.next_set)
        self._refuse_a_forked_chain()
        await self._desk.restore()
        logged = self._log.load()
        if logged is not None and logged.height <= status.head_height:
            await self._offload(self._log.cut)
        elif logged is not None and logged.height > status.head_height + 1:
            self._keep_silent_until(logged.height)
        self._take_seat()
        for keys in self._keys:
            await keys.begin(status.head_height, alone=keys is self._own and self._is_alone)
        await self._resume_checkpoint()
        await self._begin_height(status.priorities)
        await self._commit_what_is_decided()
        self._peers.tell(HeightGossip(self._head.height + 1, 0))

    def _refuse_a_forked_chain(self) -> None:
        """Halting would be for nothing if a supervisor that starts the node again made it sign on."""
        for path in self._log.forks():
            raise ConsensusHalted(
                f"this node saw the chain fork: {path} holds two certificates that contradict each other. Nothing is "
                "signed while it lies there; move it away when the operators have agreed on how to go on"
            )

    def _keep_silent_until(self, logged_height: int) -> None:
        """The database is older than the log. The log is kept: it tells what was signed; peers have the blocks."""
        found = (
            f"the consensus log is of height {logged_height}, but the database stands at height "
            f"{self._head.height}: an older copy of the database was put in place, or its end was lost"
        )
        if self._is_alone:
            raise ConsensusHalted(f"{found}; put back the newer one, or `import` the blocks between from an export")
        _log.warning(f"{found}; nothing is signed until peers brought the blocks between")
        self._silent_below = logged_height

    async def _begin_height(self, priorities: bytes) -> None:
        height, validator_set = self._head.height + 1, self._sets[0]
        is_logged = height >= self._silent_below
        may_sign = is_logged and self._own is not None and self._own.is_signing
        context = HeightContext(
            height=height,
            validator_set=validator_set,
            proposers=ProposerRotation(decode_priorities(priorities), validator_set),
            own_index=self._own_index(validator_set) if may_sign else None,
            params=self._settings.params,
        )
        around = replace(self._around, own=self._own)
        self.run_of_height = HeightRun(
            around, self._nursery, context, self._head, is_logged=is_logged, is_alone=self._is_alone
        )
        await self.run_of_height.begin()
        self._ingress.height_began()

    @property
    def _is_alone(self) -> bool:
        """Whether this validator is all of its set."""
        return len(self._sets[0]) == 1 and self._own_index(self._sets[0]) == 0

    @property
    def own_index(self) -> int | None:
        """Of this node's key in the set that votes at the height that is being decided."""
        return self._own_index(self._sets[0])

    def validator_nodes(self) -> dict[PeerId, bytes]:
        """Voting keys of the present set's other members, by the peers that most likely are their nodes."""
        if self.run_of_height is None:
            return {}
        own_key = None if self._own is None else self._own.voting_key
        keys = [member.voting_key for member in self._sets[0].validators if member.voting_key != own_key]
        return self._ingress.origins.nodes_of(keys)

    def _take_seat(self) -> None:
        """Sets change, and so does who we are in them: keys join, leave, or follow one another in a rotation."""
        self._keys.warn_of_a_missing_one(self._sets[1])
        own = self._keys.seated(self._sets[0])
        if own is not self._own and own is not None:
            _log.info("voting with another of this node's keys", key=f"0x{own.voting_key.hex()[:16]}")
        self._own = own

    async def _consider_signing(self, height: int, *, is_caught_up: bool) -> None:
        for keys in self._keys:
            await keys.consider(height, is_caught_up=is_caught_up)

    def _own_index(self, validator_set: ValidatorSet) -> int | None:
        return None if self._own is None else validator_set.index_of(self._own.voting_key)

    # --- Events ----------------------------------------------------------------------------------------------------

    async def _handle(self, event: _Event) -> None:
        run, height = self._current, self._current.state.height
        match event:
            case PeerVotes(votes):
                self._metrics.votes_verified.add(len(votes))
                for vote in votes:
                    await self._take_vote(vote)
            case PeerProposal(_, proposal, arrived_ms):
                if proposal.height == height:
                    await run.start()
                    if run.state.context.proposers.at(proposal.round_) == self._own_index(self._sets[0]):
                        await self._check_foreign(proposal)
                    await run.feed(ProposalReceived(proposal, arrived_ms))
            case PeerCertificate(peer, certificate, raw_header):
                if certificate.height == height:
                    if certificate.vote_type is VoteType.PRECOMMIT:
                        self._peers.note_brought(peer, height)
                    await run.start()
                    await run.feed(CertificateReceived(certificate))
                elif certificate.height in self._recent:
                    await self._look_at_fork(certificate, raw_header)
            case PeerBlock(at, block_hash, raw_block):
                if at == height:
                    run.take_body(block_hash, raw_block)
            case PeerWantsBlock(peer, at, block_hash):
                if at == height and block_hash in run.bodies:
                    self._peers.give_block(peer, at, block_hash, run.bodies[block_hash])
            case PeerAt(peer, at, asks):
                await self._peers.note_height(peer, at, self._head.height, asks=asks)
            case PeerEvidence(evidence):
                self._desk.keep(evidence)
            case PeerCheckpointVote(vote):
                await self._offload(self._checkpoints.add, vote)
            case TurnCame() | TimerFired() | BuildDone() | CheckDone():
                if event.height == height:
                    await run.take(event)
            case RepeatDue():
                await self._repeat()
            case DecidedElsewhere(blocks, taken):
                await self._adopt(blocks)
                taken.set()
            case _:
                assert_never(event)

    async def _take_vote(self, vote: SignedVote) -> None:
        run, recent = self._current, self._recent.get(vote.height)
        if recent is not None:
            # Late: for the next block's certificate, or a credit. Nothing is logged: it may as well have been lost.
            self._recent[vote.height], outputs = step(recent, VoteReceived(vote))
            self.last_votes.voted(vote.height, [vote.validator_index])
            for output in outputs:
                if isinstance(output, ReportEvidence):
                    self._desk.keep(output.evidence)
        elif vote.height == run.state.height:
            await run.start()
            if vote.validator_index == self._own_index(self._sets[0]):
                await self._check_foreign(vote)
            has_voted = vote.validator_index in run.state.tally.ballots(vote.round_, vote.vote_type).votes
            if has_voted and self.evidence.has_named(vote.height, vote.validator_index):
                return  # it could only be convicted again, and the log shall not grow with every lie
            await run.feed(VoteReceived(vote))

    async def _check_foreign(self, signed: SignedVote | SignedProposal) -> None:
        """Raises ConsensusHalted for a message that our key signed and we did not (doppelganger)."""
        own = self._own
        if own is None:
            return
        if await own.signed_elsewhere(signed.message(self._settings.genesis_hash)):
            raise ConsensusHalted(
                f"another node signs with this validator's key 0x{own.voting_key.hex()}: it signed for height "
                f"{signed.height} round {signed.round_} what this node did not. Find and stop it before you start "
                "this one again; two nodes with one key are slashed"
            )

    async def _look_at_fork(self, certificate: Certificate, raw_header: bytes) -> None:
        """Two thirds signed another block at a height that is final here: nothing may be signed any more.

        A polka for another one is none: it may be of an earlier round, and come when the height was just decided. If
        its header is here and stands on another parent than ours, that is told and kept before this node halts.
        """
        state = self._recent[certificate.height]
        assert state.decision is not None, "only decided heights are kept"
        if certificate.vote_type is VoteType.PREVOTE or certificate.block_hash == state.decision.block_hash:
            return
        await self._desk.keep_forgery(raw_header, certificate)
        mine = certificate_of(state.decision, len(state.context.validator_set), bls.aggregate)
        own, other = encode_certificate(mine), encode_certificate(certificate)
        try:
            kept = str(self._log.export_fork(certificate.height, own, other))
        except OSError as error:
            kept = (
                f"this message, since they could not be written ({error.strerror}): 0x{own.hex()} and 0x{other.hex()}"
            )
        raise ConsensusHalted(
            f"the chain has forked: at height {certificate.height} this node committed 0x{mine.block_hash.hex()}, and "
            f"there is a certificate for 0x{certificate.block_hash.hex()}. Both certificates are in {kept}. More than "
            "a third of the power signed both. Nothing more is signed here; talk to the other operators"
        )

    async def submit_evidence(self, encoded: bytes) -> bytes:
        """Take what somebody hands in (consensus.evidence_forms); its hash. Raises EvidenceUnwelcome."""
        if self.run_of_height is None:
            raise EvidenceUnwelcome("consensus has not begun on this node; try again")
        evidence = await self._desk.read(encoded)
        await self._inbox.send(PeerEvidence(evidence))
        return evidence_hash(evidence)

    async def look_into(self, evidence: AnyEvidence) -> None:
        """What another service met and took no closer look at."""
        has_begun = self.run_of_height is not None
        if has_begun and self._desk.is_wanted(evidence) and await self._desk.is_good(evidence):
            await self._inbox.send(PeerEvidence(evidence))

    # --- Committing ------------------------------------------------------------------------------------------------

    async def _commit_what_is_decided(self) -> None:
        """Make a decision final and begin the next height; that one may be decided by its log already."""
        while (decision := self._current.state.decision) is not None:
            run, state = self._current, self._current.state
            count = len(state.context.validator_set)
            certificate = encode_certificate(await self._offload(certificate_of, decision, count, bls.aggregate))
            committed = await self._execution.commit(Commit(decision.block_hash, certificate))
            if isinstance(committed, NeedBlock):
                raw_block = run.bodies[decision.block_hash]
                committed = await self._validate_and_commit(
                    DecidedBlock(state.height, decision.block_hash, raw_block, certificate)
                )
            run.end()
            proposed_s = run.proposed_s.get(decision.round_)
            if proposed_s is not None:
                self._metrics.proposal_to_commit_seconds.observe(trio.current_time() - proposed_s)
            await self._follow(state, committed, certificate)

    async def commit_decided(self, blocks: Sequence[DecidedBlock]) -> None:
        """Make blocks final that others decided, heights ascending, and begin the height after them.

        For a node that lags: the caller verified them. What is final here meanwhile is passed over. Returns when done.
        """
        taken = trio.Event()
        await self._inbox.send(DecidedElsewhere(tuple(blocks), taken))
        await taken.wait()

    async def _adopt(self, blocks: tuple[DecidedBlock, ...]) -> None:
        """Leave the present height for the one after `blocks`; those between are not begun."""
        run, committed = self._current, None
        for block in blocks:
            if block.height == self._head.height + 1:
                run.end()
                committed = await self._validate_and_commit(block)
                await self._move_head(block.height, None, committed, block.certificate)
        if committed is not None:
            _log.info("blocks committed that others decided", until=self._head.height)
            if self._head.height >= self._silent_below:
                await self._offload(self._log.cut)
            # Never caught up: a signer that lost its history must not take a height on the way for the newest.
            await self._consider_signing(self._head.height, is_caught_up=False)
            await self._begin_height(committed.priorities)
            self._peers.height_begins(self._head.height + 1)

    async def _validate_and_commit(self, block: DecidedBlock) -> Committed:
        """Execution has no memory of the block (a restart, too many others, or it was decided elsewhere)."""
        answer = await self._execution.validate(Validate(block.raw_block, block.senders))
        if isinstance(answer, Invalid):
            raw_header = encode_header(decode_block(block.raw_block).block.header)
            await self._desk.keep_forgery(raw_header, decode_certificate(block.certificate))
            raise ConsensusHalted(
                f"block {block.height} is decided but not valid here: {answer.rule}: expected {answer.expected}, found "
                f"{answer.found}; was it made by another version of astralink-node?"
            )
        committed = await self._execution.commit(Commit(block.block_hash, block.certificate))
        if isinstance(committed, NeedBlock):
            raise ConsensusHalted(f"block {block.height} was validated, but commit still asks for it")
        return committed

    async def _follow(self, state: HeightState, committed: Committed, certificate: bytes) -> None:
        """The head moved by a decision of this height's machine: begin the next one."""
        assert state.decision is not None, "only what is decided is committed"
        block, height = committed.block, state.height
        await self._move_head(height, state, committed, certificate)
        # The block is final in the database and everybody has been told: only now is the log's past of no use.
        if height >= self._silent_below:
            await self._offload(self._log.cut)
        _log.info(
            "block committed",
            height=height,
            hash=f"0x{block.block_hash.hex()[:12]}",
            txs=len(block.raw_transactions),
            gas=decode_header(block.raw_header).gas_used,
            round=state.decision.round_,
            after_ms=self._now_ms() - self._head.time_ms,
        )
        await self._consider_signing(height, is_caught_up=self._peers.is_caught_up(height))
        await self._begin_height(committed.priorities)
        self._peers.height_begins(height + 1)

    async def _move_head(
        self, height: int, state: HeightState | None, committed: Committed, certificate: bytes
    ) -> None:
        """Everything that stands on the head moves along. `state` is the machine's that decided it here."""
        block, voters = committed.block, self._sets[0]
        payload = decode_payload(block.raw_payload)
        if height > 1:  # genesis is as old as its file
            self._metrics.block_interval_seconds.observe((payload.time_ms - self._head.time_ms) / 1000)
        self._metrics.head_timestamp_seconds.set(payload.time_ms / 1000)
        self._head = Head(height, block.block_hash, payload.time_ms, certificate)
        self._sets = decode_validator_set(committed.voting_set), decode_validator_set(committed.next_set)
        self._checkpoint_epoch = committed.checkpoint_epoch
        heard = signer_indices(decode_certificate(certificate).signers) if state is None else voters_of(state)
        self.last_votes.decided(height, voters, heard)
        self._remember(height, state, payload)
        self.evidence.forget_carried(payload.evidence)
        self.evidence.expire(height, payload.time_ms)
        self._on_committed(committed)
        if is_last(height, self._settings.epoch_length):
            subject = CheckpointSubject(
                epoch_of(height, self._settings.epoch_length), height, block.block_hash, self._sets[0].hash
            )
            await self._begin_checkpoint(subject, voters)
        self._take_seat()

    def _remember(self, height: int, state: HeightState | None, payload: ConsensusPayload) -> None:
        """What later blocks may credit, and what this one did."""
        oldest = height + 1 - LATE_CREDIT_HEIGHTS
        if state is not None:
            self._recent[height] = state
        for certificate in (payload.parent_certificate, *payload.late_credits):
            if certificate is not None:
                known = self._credited.get(certificate.height, frozenset())
                self._credited[certificate.height] = known | frozenset(signer_indices(certificate.signers))
                self.last_votes.credited(certificate)
        self._recent = {height: recent for height, recent in self._recent.items() if height >= oldest}
        self._credited = {height: signers for height, signers in self._credited.items() if height >= oldest}

    def _carried(self) -> Carried:
        checkpoint = self._checkpoints.newest(self._checkpoint_epoch)
        return Carried(dict(self._recent), dict(self._credited), checkpoint, self.evidence.offered())

    async def _begin_checkpoint(self, subject: CheckpointSubject, voters: ValidatorSet) -> None:
        """An epoch ended: sign its checkpoint, and gather the others' signatures."""
        await self._offload(self._checkpoints.begin, subject, voters)
        self._checkpoint_index = None
        own, index = self._keys.of_checkpoint(voters)
        if own is None or not own.is_signing:
            return
        try:
            signature = await self._offload(
                own.signer.sign_checkpoint, subject.epoch, subject.height, subject.block_hash, subject.next_set_hash
            )
        except (RefusedToSign, SignerUnavailable) as error:
            _log.warning("the checkpoint was not signed", epoch=subject.epoch, why=str(error))
            return
        key = own.signer.public.checkpoint_key
        vote = CheckpointVote(
            subject.epoch, subject.height, subject.block_hash, subject.next_set_hash, index, key, signature
        )
        await self._offload(self._checkpoints.add, vote)
        self._checkpoint_index = index
        self._peers.tell(vote)

    async def _resume_checkpoint(self) -> None:
        """An epoch ended whose checkpoint no block carries: what was gathered for it went with the last run."""
        epoch = epoch_of(self._head.height + 1, self._settings.epoch_length) - 1
        if epoch <= self._checkpoint_epoch:
            return
        height = last_height(epoch, self._settings.epoch_length)
        voters = await self._execution.query(Query(AtHeight(height), ValidatorsQuestion()))
        decided = await self._execution.decided(height)
        if isinstance(voters, ValidatorsAnswer) and isinstance(decided, Decided):
            block_hash = decode_block(decided.raw_block).block.header.hash
            subject = CheckpointSubject(epoch, height, block_hash, voters.next_set_hash)
            await self._begin_checkpoint(subject, decode_validator_set(voters.voting_set))

    # --- Peers -----------------------------------------------------------------------------------------------------

    def _view(self) -> HeightsView:
        run = self._current
        return HeightsView(run.state, dict(self._recent), frozenset(run.bodies), self._settings.genesis_hash)

    async def _remind(self) -> None:
        while True:
            await trio.sleep(REPEAT_INTERVAL_MS / 1000)
            await self._inbox.send(RepeatDue())

    async def _repeat(self) -> None:
        """Where nothing moves, say again what was said; likewise under a checkpoint that is not complete."""
        run = self._current
        index = self._checkpoint_index
        own_vote = None if index is None else self._checkpoints.own_vote(index)
        if own_vote is not None and self._checkpoints.is_missing:
            self._peers.tell(own_vote)
        if trio.current_time() - run.stands_since_s >= REPEAT_INTERVAL_MS / 1000:
            self._peers.tell(HeightGossip(run.state.height, run.state.rounds.round_))
            await run.repeat()
