"""Makes this validator's blocks: waits for the right moment, reveals, and asks execution to build.

A proposer's clock has passed its parent's time before it builds (PBTS). The block carries every precommit for its
parent that is known by then, credits for precommits that earlier certificates missed, and a complete checkpoint
if the chain carries none that new.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import trio

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.messages import Build, BuildAttributes, Built, CannotBuild
from astralink_node.clock import NowMs
from astralink_node.config import BlocksConfig
from astralink_node.crypto import bls
from astralink_node.evm.blocks import MalformedBlock, decode_block
from astralink_node.log import Log
from astralink_node.services.offload import Offload
from astralink_node.services.own_validator import OwnValidator
from astralink_node.services.transaction_pool import TransactionPool
from consensus.certificate import encode_certificate
from consensus.height_machine import HeightState
from consensus.messages import NO_ROUND, VoteType
from consensus.params import LATE_CREDIT_HEIGHTS, ConsensusParams
from consensus.vote_tally import Quorum, certificate_of

CLOCK_CHECK_MS: Final = 1000
"""How long to sleep at most before the wall clock, which may be set, is read again."""
CLOCK_BEHIND_MS: Final = 10_000
"""A clock that is further than this behind the chain is reported."""

_log = Log("proposer")


@dataclass(frozen=True, slots=True)
class Head:
    """The committed block that the next one stands on."""

    height: int
    block_hash: bytes
    time_ms: int
    certificate: bytes
    """This node's own commit certificate; empty at genesis."""


class Proposer:
    """Of one validator. Its methods may raise RefusedToSign and the errors of the execution link."""

    def __init__(
        self,
        execution: ExecutionLink,
        pool: TransactionPool,
        params: ConsensusParams,
        blocks: BlocksConfig,
        now_ms: NowMs,
        offload: Offload,
    ) -> None:
        self._execution = execution
        self._pool = pool
        self._params = params
        self._blocks = blocks
        self._now_ms = now_ms
        self._offload = offload

    async def wait_for_turn(self, head: Head) -> None:
        """Until a block may follow `head`, and is wanted: at its interval, or as soon as a transaction pays for one."""
        blocks = self._blocks
        await self._sleep_until(head.time_ms + self._params.min_block_interval_ms)
        due_ms = head.time_ms + blocks.interval_ms
        if not blocks.builds_on_demand:
            await self._sleep_until(due_ms)
        if blocks.interval_ms and blocks.empty:
            with trio.move_on_after(max(0, due_ms - self._now_ms()) / 1000):
                await self._pool.wait_for_payable()
        else:
            await self._pool.wait_for_payable()

    async def build(
        self,
        head: Head,
        round_: int,
        proposer_index: int,
        own: OwnValidator,
        carried: "Carried",
    ) -> Built | CannotBuild:
        """A block on `head` for that round, whose proposer this validator is."""
        await self._sleep_until(head.time_ms + self._params.min_block_interval_ms)
        reveal = await self._offload(own.signer.sign_reveal, head.height + 1)
        certificate, credits_ = await self._offload(carried.encoded, head)
        request = Build(
            parent_hash=head.block_hash,
            attributes=BuildAttributes(
                time_ms=max(self._now_ms(), head.time_ms + self._params.min_block_interval_ms),
                fee_recipient=own.fee_recipient,
                round_=round_,
                proposer_index=proposer_index,
                reveal=reveal,
                parent_certificate=certificate,
                checkpoint=carried.checkpoint,
                late_credits=credits_,
                evidence=carried.evidence,
            ),
            candidates=self._pool.candidates(long_run=round_ == 0),
            budget_ms=min(self._blocks.build_budget_ms, longest_build_ms(self._params)),
            first_budget_ms=longest_build_ms(self._params),
        )
        answer = await self._execution.build(request)
        if isinstance(answer, Built):
            for dropped in answer.dropped:
                self._pool.drop(dropped.transaction_hash, dropped.reason)
            if answer.put_off:
                self._pool.put_off(answer.put_off)
        return answer

    async def known_senders(self, raw_block: bytes) -> tuple[bytes, ...]:
        """Of a block's transactions, as far as the mempool holds them (Validate.senders); none of what is no block."""
        try:
            block = (await self._offload(decode_block, raw_block)).block
        except MalformedBlock:
            return ()  # what is wrong with it execution will say
        return self._pool.known_senders(block.raw_transactions)

    async def _sleep_until(self, moment_ms: int) -> None:
        """Until the wall clock shows it."""
        reported = False
        while (left_ms := moment_ms - self._now_ms()) > 0:
            if left_ms > CLOCK_BEHIND_MS + self._blocks.interval_ms and not reported:
                _log.warning("the clock is behind the chain: waiting", seconds=left_ms // 1000)
                reported = True
            await trio.sleep(min(left_ms, CLOCK_CHECK_MS) / 1000)


def longest_build_ms(params: ConsensusParams) -> int:
    """What building may take at most: half of the propose timeout is everybody's for validation, and the rest of
    MSGDELAY is the proposal's way to them, or a block would come too late for its own timestamp (PBTS)."""
    return min(params.propose_timeout_ms // 2, params.message_delay_ms * 3 // 4)


@dataclass(frozen=True, slots=True)
class Carried:
    """What consensus knows that a new block is to carry."""

    recent: Mapping[int, HeightState]
    """Decided heights with all precommits that have come so far."""
    credited: Mapping[int, frozenset[int]]
    """Height -> signers whom certificates in committed blocks name already."""
    checkpoint: bytes
    evidence: tuple[bytes, ...] = ()
    """Encoded, oldest first; execution takes what a block can carry."""

    def encoded(self, head: Head) -> tuple[bytes, tuple[bytes, ...]]:
        """(certificate for the parent, late credits), adding signatures up: for a worker thread."""
        parent = self.recent.get(head.height)
        certificate = head.certificate if parent is None else _encode(_precommits(parent), parent)
        credits_ = []
        for height in sorted(self.recent):
            state = self.recent[height]
            if head.height + 1 - LATE_CREDIT_HEIGHTS <= height < head.height and height in self.credited:
                missed = _without(_precommits(state), self.credited[height])
                if missed.votes:
                    credits_.append(_encode(missed, state))
        return certificate, tuple(credits_)


def _precommits(state: HeightState) -> Quorum:
    decision = state.decision
    assert decision is not None, "only decided heights are kept"
    return state.tally.quorum(decision.round_, VoteType.PRECOMMIT, (decision.block_hash, NO_ROUND))


def _without(quorum: Quorum, signers: frozenset[int]) -> Quorum:
    votes = tuple(vote for vote in quorum.votes if vote.validator_index not in signers)
    return Quorum(quorum.vote_type, quorum.height, quorum.round_, quorum.block_hash, quorum.valid_round, votes)


def _encode(quorum: Quorum, state: HeightState) -> bytes:
    return encode_certificate(certificate_of(quorum, len(state.context.validator_set), bls.aggregate))
