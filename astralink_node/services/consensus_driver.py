"""Drives a chain of one validator through the seam that consensus with many will use: propose, vote, commit.

The order of effects is what keeps a crash harmless (docs/specification.md, "Crash recovery, exactly"): the whole
proposal is synced to the write-ahead log before anything is signed for it, and every signature passes the signing
history first. A restart finds the proposal again, gets the identical signatures, and commits the identical block.
With one validator a proposal of round 0 is a polka and a commit by itself, so there are no timeouts here.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.messages import (
    Build,
    BuildAttributes,
    Candidate,
    CannotBuild,
    Commit,
    Committed,
    Dropped,
    Invalid,
    NeedBlock,
    Status,
    Validate,
)
from astralink_node.clock import NowMs
from astralink_node.crypto import bls
from astralink_node.crypto.keccak import keccak256
from astralink_node.errors import AstraLinkError
from astralink_node.evm.blocks import decode_block
from astralink_node.storage.wal import WriteAheadLog
from astralink_node.validator.local_signer import RefusedToSign, Signer
from consensus.certificate import Certificate, bitmap_of, encode_certificate
from consensus.messages import NO_ROUND, VoteType

logger = logging.getLogger(__name__)

FIRST_ROUND = 0


class DriverFailed(AstraLinkError):
    """The validator cannot go on without an operator; nothing conflicting was signed."""


class CandidateSource(Protocol):
    """Where a proposer gets transactions: the mempool."""

    def candidates(self) -> tuple[Candidate, ...]:
        """The best executable transactions, as many as one block can hold, in the order to try them."""
        ...

    def drop(self, dropped: tuple[Dropped, ...]) -> None:
        """Forget what building found can never be included."""
        ...

    async def wait_for_candidates(self) -> None:
        """Return once :meth:`candidates` would not be empty."""
        ...


@dataclass(frozen=True, slots=True)
class DriverSettings:
    interval_ms: int
    """Time between blocks; 0: no blocks but on demand."""
    on_demand: bool
    """Whether a block is made as soon as a transaction is executable, before the interval is over."""
    empty_blocks: bool
    """Whether an interval without transactions makes a block too."""
    build_budget_ms: int
    fee_recipient: bytes


Publish = Callable[[Committed], Awaitable[None]]


class ConsensusDriver:
    """One validator alone. :meth:`recover` once, then :meth:`run` until cancelled."""

    def __init__(
        self,
        execution: ExecutionLink,
        signer: Signer,
        wal: WriteAheadLog,
        source: CandidateSource,
        settings: DriverSettings,
        now_ms: NowMs,
        publish: Publish,
    ) -> None:
        self._execution = execution
        self._signer = signer
        self._wal = wal
        self._source = source
        self._settings = settings
        self._now_ms = now_ms
        self._publish = publish

    async def recover(self) -> Status:
        """Finish what a crash interrupted, if anything; returns where the chain stands afterwards."""
        status = await self._execution.status()
        for record in self._wal.read_all():
            height, raw_block = _decode_proposal(record)
            if height <= status.head_height:
                continue
            if height > status.head_height + 1:
                # A restored database. Its missing blocks cannot be made again: their proposals were signed.
                raise DriverFailed(
                    f"the database stands at height {status.head_height}, the write-ahead log at {height}: the "
                    "database is older than what this validator signed; import the missing blocks before starting it"
                )
            logger.info("height %d: committing the proposal that an earlier run left", height)
            await self._decide(height, raw_block)
            status = await self._execution.status()
        await trio.to_thread.run_sync(self._wal.truncate)
        return status

    async def run(self, status: Status) -> None:
        """Produce blocks on top of `status` until cancelled."""
        parent_hash, parent_certificate = status.head_hash, status.head_certificate
        height, parent_time_ms = status.head_height + 1, status.head_time_ms
        while True:
            await self._wait_until_due(parent_time_ms)
            time_ms = self._now_ms()
            raw_block = await self._propose(height, parent_hash, parent_certificate, time_ms)
            committed, parent_certificate = await self._decide(height, raw_block)
            parent_hash, parent_time_ms, height = committed.block.block_hash, time_ms, height + 1

    async def _wait_until_due(self, parent_time_ms: int) -> None:
        settings = self._settings
        if settings.interval_ms == 0:
            await self._source.wait_for_candidates()
            return
        # A clock that jumped back must not stop the chain for longer than an interval.
        wait_ms = min(parent_time_ms + settings.interval_ms - self._now_ms(), settings.interval_ms)
        with trio.move_on_after(max(wait_ms, 0) / 1000):
            if settings.on_demand:
                await self._source.wait_for_candidates()
                return
            await trio.sleep_forever()
        if not settings.empty_blocks:
            await self._source.wait_for_candidates()

    async def _propose(self, height: int, parent_hash: bytes, parent_certificate: bytes, time_ms: int) -> bytes:
        """A block on disk in the log, not yet signed for."""
        reveal = await self._sign(lambda: self._signer.sign_reveal(height))
        attributes = BuildAttributes(
            time_ms=time_ms,
            fee_recipient=self._settings.fee_recipient,
            round_=FIRST_ROUND,
            proposer_index=0,
            reveal=reveal,
            parent_certificate=parent_certificate,
        )
        candidates = self._source.candidates()
        built = await self._execution.build(Build(parent_hash, attributes, candidates, self._settings.build_budget_ms))
        if isinstance(built, CannotBuild):
            raise DriverFailed(f"height {height}: no block can be built: {built.reason}")
        self._source.drop(built.dropped)
        await trio.to_thread.run_sync(self._log_proposal, height, built.raw_block)
        return built.raw_block

    def _log_proposal(self, height: int, raw_block: bytes) -> None:
        self._wal.append(_encode_proposal(height, raw_block))
        self._wal.sync()

    async def _decide(self, height: int, raw_block: bytes) -> tuple[Committed, bytes]:
        """Sign for a logged proposal, commit it, tell everybody. Doing it again has the same outcome."""
        block_hash = decode_block(raw_block).block.header.hash
        signature = await self._sign(lambda: self._vote(height, block_hash))
        certificate = encode_certificate(
            Certificate(
                vote_type=VoteType.PRECOMMIT,
                height=height,
                round_=FIRST_ROUND,
                valid_round=NO_ROUND,
                block_hash=block_hash,
                signers=bitmap_of([0], 1),
                signature=bls.aggregate([signature]),
            )
        )
        committed = await self._commit(block_hash, certificate, raw_block)
        await trio.to_thread.run_sync(self._wal.truncate)
        await self._publish(committed)
        return committed, certificate

    def _vote(self, height: int, block_hash: bytes) -> bytes:
        """Our proposal, our prevote (a polka of one), our precommit; returns the precommit's signature."""
        self._signer.sign_proposal(height, FIRST_ROUND, block_hash, NO_ROUND)
        self._signer.sign_vote(VoteType.PREVOTE, height, FIRST_ROUND, block_hash, NO_ROUND)
        return self._signer.sign_vote(VoteType.PRECOMMIT, height, FIRST_ROUND, block_hash, NO_ROUND)

    async def _commit(self, block_hash: bytes, certificate: bytes, raw_block: bytes) -> Committed:
        committed = await self._execution.commit(Commit(block_hash, certificate))
        if isinstance(committed, NeedBlock):
            # After a restart: execution has never seen this block.
            verdict = await self._execution.validate(Validate(raw_block))
            if isinstance(verdict, Invalid):
                raise DriverFailed(
                    f"our own logged proposal is invalid: {verdict.rule}: expected {verdict.expected}, "
                    f"found {verdict.found}"
                )
            committed = await self._execution.commit(Commit(block_hash, certificate))
        if isinstance(committed, NeedBlock):
            raise DriverFailed(f"execution forgot block 0x{block_hash.hex()} between its validation and its commit")
        return committed

    async def _sign(self, make_signature: Callable[[], bytes]) -> bytes:
        """In a thread: the signing history waits for the disk."""
        try:
            return await trio.to_thread.run_sync(make_signature)
        except RefusedToSign as error:
            raise DriverFailed(f"the signer refuses: {error}") from error


_PROPOSAL_TAG = 0x01


def _encode_proposal(height: int, raw_block: bytes) -> bytes:
    """Tag, height (8 bytes, big endian), the encoded block."""
    return bytes([_PROPOSAL_TAG]) + height.to_bytes(8, "big") + raw_block


def _decode_proposal(record: bytes) -> tuple[int, bytes]:
    if len(record) < 9 or record[0] != _PROPOSAL_TAG:
        raise DriverFailed(
            f"the write-ahead log holds a record of another version (keccak 0x{keccak256(record).hex()}): "
            "use the version of astralink-node that wrote it"
        )
    return int.from_bytes(record[1:9], "big"), record[9:]
