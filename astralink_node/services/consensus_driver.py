"""Makes blocks final on a chain with one validator, through the steps that consensus among many will take.

For each height: wait for the turn, reveal, build, log the block's body durably, sign the proposal, the prevote and
the precommit, assemble the certificate, commit, announce. The body is on disk before anything is signed for it, and
the signer's history before a signature is released, so a crash anywhere restarts into the same block or, if
nothing was signed, into a new one (BLOCK.md, "Crash recovery, exactly"). What is final is the database's word alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.messages import (
    Build,
    BuildAttributes,
    Built,
    CannotBuild,
    Commit,
    Committed,
    Invalid,
    NeedBlock,
    Status,
    Validate,
)
from astralink_node.clock import NowMs
from astralink_node.config import BlocksConfig
from astralink_node.errors import AstraLinkError
from astralink_node.evm.blocks import decode_header
from astralink_node.log import Log
from astralink_node.services.proposal_log import ProposalLog, Proposed
from astralink_node.services.transaction_pool import TransactionPool
from astralink_node.types import Address
from astralink_node.validator.local_signer import RefusedToSign, Signer
from consensus.certificate import Certificate, bitmap_of, encode_certificate
from consensus.messages import NO_ROUND, VoteType
from consensus.params import ConsensusParams
from consensus.payload import decode_payload

MAX_ROUNDS: Final = 8
"""Rounds of one height that are tried when the signer refuses; each refusal means that its step is taken."""
CLOCK_CHECK_MS: Final = 1000
"""How long to sleep at most before the wall clock, which may be set, is read again."""
CLOCK_BEHIND_MS: Final = 10_000
"""A clock that is further than this behind the chain is reported."""

_SIGNED_AND_LOST: Final = (
    "This key signed what neither the database nor the consensus log (consensus/wal) holds: `import` the missing "
    "blocks from an export, or put the data folder back as it was. If that is impossible and no other node signs with "
    "this key, move its signing history away and start once with --new-signing-history"
)
"""How an operator gets out of a rollback, or of files that were damaged or mixed up."""

_log = Log("consensus")

OnCommitted = Callable[[Committed], None]


class ConsensusHalted(AstraLinkError):
    """This validator cannot make the next block, and waiting will not change it."""


@dataclass(frozen=True, slots=True)
class _Head:
    height: int
    block_hash: bytes
    time_ms: int
    certificate: bytes


@dataclass(frozen=True, slots=True)
class SoloValidator:
    """Who signs, and what the chain asks of its blocks."""

    signer: Signer
    fee_recipient: Address
    params: ConsensusParams
    blocks: BlocksConfig


class SoloDriver:
    """The only validator of its chain. `on_committed` is told of every commit and must not wait."""

    def __init__(
        self,
        execution: ExecutionLink,
        validator: SoloValidator,
        log: ProposalLog,
        pool: TransactionPool,
        now_ms: NowMs,
        on_committed: OnCommitted,
    ) -> None:
        self._execution = execution
        self._validator = validator
        self._proposals = log
        self._pool = pool
        self._now_ms = now_ms
        self._on_committed = on_committed

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Recover, report started, then make blocks until cancelled. Raises ConsensusHalted."""
        head = await self._recover()
        task_status.started()
        while True:
            await self._wait_for_turn(head)
            head = await self._make_block(head)

    # --- After a start ---------------------------------------------------------------------------------------------

    async def _recover(self) -> _Head:
        """Finish what an earlier run had begun for the height after the head."""
        status = await self._execution.status()
        head = _head_of(status)
        logged = self._proposals.load()
        ahead = [proposed for proposed in logged if proposed.height > head.height + 1]
        if ahead:
            # The log is kept: it tells what was signed. Only other nodes could supply the blocks between.
            raise ConsensusHalted(
                f"the consensus log holds a proposal for height {ahead[-1].height}, but the database stands at height "
                f"{head.height}: an older copy of the database was put in place, or its end was lost; put back the "
                "newer one, or `import` the blocks between from an export"
            )
        next_ones = [proposed for proposed in logged if proposed.height == head.height + 1]
        if not next_ones:
            if logged:
                self._proposals.cut()
            return head
        for proposed in reversed(next_ones):
            try:
                return await self._finish(proposed)
            except RefusedToSign as refusal:
                _log.warning("a logged proposal was not signed again", height=proposed.height, reason=refusal.reason)
        return head

    async def _finish(self, proposed: Proposed) -> _Head:
        answer = await self._execution.validate(Validate(proposed.raw_block))
        if isinstance(answer, Invalid):
            raise ConsensusHalted(
                f"the logged proposal for height {proposed.height} is not valid here: {answer.rule}: expected "
                f"{answer.expected}, found {answer.found}; was it made by another version of astralink-node?"
            )
        _log.info("finishing a block that was interrupted", height=proposed.height, hash=answer.block_hash)
        return await self._sign_and_commit(proposed, answer.block_hash)

    # --- One height ------------------------------------------------------------------------------------------------

    async def _wait_for_turn(self, head: _Head) -> None:
        blocks = self._validator.blocks
        await self._sleep_until(head.time_ms + self._validator.params.min_block_interval_ms)
        due_ms = head.time_ms + blocks.interval_ms
        if not blocks.builds_on_demand:
            await self._sleep_until(due_ms)
        if blocks.interval_ms and blocks.empty:
            with trio.move_on_after(max(0, due_ms - self._now_ms()) / 1000):
                await self._pool.wait_for_payable()
        else:
            await self._pool.wait_for_payable()

    async def _sleep_until(self, moment_ms: int) -> None:
        """Until the wall clock shows it: a proposer's clock has passed its parent's time (PBTS)."""
        reported = False
        while (left_ms := moment_ms - self._now_ms()) > 0:
            if left_ms > CLOCK_BEHIND_MS + self._validator.blocks.interval_ms and not reported:
                _log.warning("the clock is behind the chain: waiting", seconds=left_ms // 1000)
                reported = True
            await trio.sleep(min(left_ms, CLOCK_CHECK_MS) / 1000)

    async def _make_block(self, head: _Head) -> _Head:
        height = head.height + 1
        try:
            reveal = await trio.to_thread.run_sync(self._validator.signer.sign_reveal, height)
        except RefusedToSign as refusal:
            raise ConsensusHalted(
                f"the signer refuses height {height}: {refusal.reason}. {_SIGNED_AND_LOST}"
            ) from refusal
        reason = ""
        for round_ in range(MAX_ROUNDS):
            built = await self._build(head, round_, reveal)
            proposed = Proposed(height, round_, built.raw_block)
            try:
                await trio.to_thread.run_sync(self._proposals.record, proposed)
                return await self._sign_and_commit(proposed, built.block_hash)
            except RefusedToSign as refusal:
                _log.warning("the signer refused: trying the next round", height=height, reason=refusal.reason)
                reason = refusal.reason
        raise ConsensusHalted(
            f"the signer refused {MAX_ROUNDS} rounds of height {height}, at last because of: {reason}. "
            f"{_SIGNED_AND_LOST}"
        )

    async def _build(self, head: _Head, round_: int, reveal: bytes) -> Built:
        validator = self._validator
        request = Build(
            parent_hash=head.block_hash,
            attributes=BuildAttributes(
                time_ms=max(self._now_ms(), head.time_ms + validator.params.min_block_interval_ms),
                fee_recipient=validator.fee_recipient,
                round_=round_,
                proposer_index=0,
                reveal=reveal,
                parent_certificate=head.certificate,
            ),
            candidates=self._pool.candidates(),
            budget_ms=validator.blocks.build_budget_ms,
        )
        answer = await self._execution.build(request)
        if isinstance(answer, CannotBuild):
            raise ConsensusHalted(f"block {head.height + 1} cannot be built: {answer.reason}")
        for dropped in answer.dropped:
            self._pool.drop(dropped.transaction_hash, dropped.reason)
        return answer

    async def _sign_and_commit(self, proposed: Proposed, block_hash: bytes) -> _Head:
        sign = partial(self._sign_round, proposed.height, proposed.round_, block_hash)
        certificate = encode_certificate(await trio.to_thread.run_sync(sign))
        committed = await self._execution.commit(Commit(block_hash, certificate))
        if isinstance(committed, NeedBlock):
            answer = await self._execution.validate(Validate(proposed.raw_block))
            if isinstance(answer, Invalid):
                raise ConsensusHalted(f"block {proposed.height} was signed but is not valid: {answer}")
            committed = await self._execution.commit(Commit(block_hash, certificate))
            if isinstance(committed, NeedBlock):
                raise ConsensusHalted(f"block {proposed.height} was validated, but commit still asks for it")
        await trio.to_thread.run_sync(self._proposals.cut)
        self._on_committed(committed)
        return self._report(committed, certificate)

    def _report(self, committed: Committed, certificate: bytes) -> _Head:
        header = decode_header(committed.block.raw_header)
        time_ms = decode_payload(committed.block.raw_payload).time_ms
        _log.info(
            "block committed",
            height=header.number,
            hash=f"0x{committed.block.block_hash.hex()[:12]}",
            txs=len(committed.block.raw_transactions),
            gas=header.gas_used,
            after_ms=self._now_ms() - time_ms,
        )
        return _Head(header.number, committed.block.block_hash, time_ms, certificate)

    def _sign_round(self, height: int, round_: int, block_hash: bytes) -> Certificate:
        """All that this validator says in a round in which everybody agrees. Each signature syncs the history."""
        signer = self._validator.signer
        signer.sign_proposal(height, round_, block_hash, NO_ROUND)
        signer.sign_vote(VoteType.PREVOTE, height, round_, block_hash, NO_ROUND)
        signature = signer.sign_vote(VoteType.PRECOMMIT, height, round_, block_hash, NO_ROUND)
        return Certificate(
            vote_type=VoteType.PRECOMMIT,
            height=height,
            round_=round_,
            valid_round=NO_ROUND,
            block_hash=block_hash,
            signers=bitmap_of((0,), 1),
            signature=signature,
        )


def _head_of(status: Status) -> _Head:
    return _Head(status.head_height, status.head_hash, status.head_time_ms, status.head_certificate)
