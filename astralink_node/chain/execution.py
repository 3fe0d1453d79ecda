"""The execution facade: one chain in one database, driven by whole-block messages. Synchronous, in-process.

Block work (build, validate, commit) belongs to one thread; queries may come from any, each on a snapshot of its
own. :mod:`astralink_node.chain.process` carries the same messages over sockets. The database alone defines the
committed height; what is held in memory (blocks that wait for their commit) can be lost at any time.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import assert_never

from astralink_node.chain.building import build_block
from astralink_node.chain.commits import HistoryWindow, commit_writes
from astralink_node.chain.consensus_messages import Decided, GetDecided
from astralink_node.chain.consensus_rules import BlockContext, RuleBroken
from astralink_node.chain.contexts import ChainRecords
from astralink_node.chain.errors import ConflictingCommit, InvalidCertificate, StateIncomplete
from astralink_node.chain.initialise import OpenedChain, open_chain
from astralink_node.chain.json_stream import Emit
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import (
    Answer,
    BlockWork,
    BlockWorkAnswer,
    Build,
    Built,
    CannotBuild,
    Commit,
    Committed,
    GetStatus,
    Invalid,
    NeedBlock,
    NotFound,
    Query,
    Status,
    Valid,
    Validate,
)
from astralink_node.chain.prepared import PreparedBlock
from astralink_node.chain.queries import Interrupt, Queries, no_interrupt, no_stream
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.state_import import StateImport
from astralink_node.chain.status import status_of
from astralink_node.chain.sync_messages import (
    GetImport,
    ImportAbandon,
    ImportAnswer,
    ImportBegin,
    ImportChunk,
    ImportFinish,
    ImportWork,
)
from astralink_node.chain.validation import decode_sealed, validate_block
from astralink_node.crypto import bls
from astralink_node.evm.blocks import SealedBlock, encode_block
from astralink_node.evm.header_rules import child_base_fee
from astralink_node.storage.store import Store
from consensus.certificate import CertificateError, decode_certificate, verify_commit
from consensus.checkpoint import decode_checkpoint
from consensus.proposer_selection import encode_priorities
from consensus.validator_set import ValidatorSet, encode_validator_set
from consensus.wire import DecodeError

MAX_PREPARED_BLOCKS = 6
"""Blocks that wait for a commit: the locked and the valid one, and four others. The one used longest
ago makes room; it can be validated again."""


@dataclass(frozen=True, slots=True)
class ExecutionConfig:
    window: HistoryWindow = field(default_factory=HistoryWindow)
    query_limits: QueryLimits = field(default_factory=QueryLimits)
    explorer_index: bool = False
    """Keep the explorer index of the blocks committed from now on (ADR 20)."""


class Execution:
    """See the module's description. Make one with :meth:`open`."""

    def __init__(self, store: Store, chain: OpenedChain, config: ExecutionConfig, now_ns: Callable[[], int]) -> None:
        self._store = store
        self._config = config
        self._now_ns = now_ns
        self._genesis = chain.genesis
        self._genesis_hash = chain.genesis_hash
        self._rules = chain.genesis.chain_rules()
        self._ledger = Ledger(store)
        self._records = ChainRecords(chain.genesis, self._rules, chain.genesis_hash, self._ledger)
        self._queries = Queries(
            chain.genesis, self._rules, chain.genesis_hash, config.query_limits, now_ns, config.window.heights
        )
        self._prepared: OrderedDict[bytes, PreparedBlock] = OrderedDict()
        self._last_commit: Committed | None = None
        self._import = StateImport(store, chain.genesis_hash, chain.genesis.epoch_length)
        self._context = self._load_context(chain.head.height)

    @classmethod
    def open(
        cls,
        store: Store,
        config: ExecutionConfig,
        *,
        now_ns: Callable[[], int],
        genesis_file: bytes | None = None,
    ) -> "Execution":
        """Open an initialised database after the boot check; see :func:`initialise.open_chain` for its errors.

        `now_ns` is a monotonic clock: it bounds the time of builds and queries and decides nothing else.
        """
        return cls(store, open_chain(store, genesis_file), config, now_ns)

    # --- Messages --------------------------------------------------------------------------------------------------

    def handle(self, message: BlockWork) -> BlockWorkAnswer:
        match message:
            case Build():
                return self.build(message)
            case Validate():
                return self.validate(message)
            case Commit():
                return self.commit(message)
            case GetDecided(height):
                return self.decided(height)
            case GetStatus():
                return self.status()
            case GetImport() | ImportBegin() | ImportChunk() | ImportFinish() | ImportAbandon():
                return self.import_state(message)
            case _:
                assert_never(message)

    def status(self) -> Status:
        return status_of(self._store, self._rules, self._genesis_hash)

    def build(self, request: Build) -> Built | CannotBuild:
        self._expect_whole_state()
        built = build_block(
            self._context, self._store, request, self._now_ns, with_appearances=self._config.explorer_index
        )
        if isinstance(built, CannotBuild):
            return built
        prepared = built.prepared
        self._hold(prepared)
        return Built(
            block_hash=prepared.block_hash,
            raw_block=encode_block(prepared.sealed),
            included=len(prepared.transactions),
            dropped=built.dropped,
            stopped_by=built.stopped_by,
            put_off=built.put_off,
            useless_evidence=built.useless_evidence,
        )

    def validate(self, request: Validate) -> Valid | Invalid:
        self._expect_whole_state()
        try:
            sealed = decode_sealed(request.raw_block)
            block_hash = sealed.block.header.hash
            held = self._prepared.get(block_hash)
            if held is not None and encode_block(held.sealed) == request.raw_block:
                self._prepared.move_to_end(block_hash)
                return Valid(block_hash)
            if block_hash == self._context.parent.hash and encode_block(self._head_block()) == request.raw_block:
                return Valid(block_hash)
            prepared = validate_block(
                self._context, self._store, sealed, request.senders, with_appearances=self._config.explorer_index
            )
            self._hold(prepared)
        except RuleBroken as error:
            return error.as_answer()
        return Valid(block_hash)

    def commit(self, request: Commit) -> Committed | NeedBlock:
        """Raises ConflictingCommit or InvalidCertificate, which are fatal, and the store's errors."""
        self._expect_whole_state()
        height = self._ledger.height_of(request.block_hash)
        if height is not None:
            return self._committed_again(height)
        prepared = self._prepared.get(request.block_hash)
        self._check_commit_certificate(request)
        if prepared is None:
            return NeedBlock(request.block_hash)
        writes = commit_writes(self._context, self._store, prepared, request.certificate, self._config.window)
        self._store.write(writes, sync=True)
        self._prepared.clear()
        self._context = self._next_context(prepared)
        self._last_commit = self._answer(prepared)
        return self._last_commit

    def decided(self, height: int) -> Decided | NotFound:
        """A committed block as it was proposed, and the certificate that this node committed it with."""
        head_height = self._context.parent.number
        if not max(1, self._ledger.oldest_block_height()) <= height <= head_height:
            return NotFound(f"a decision at height {height}: the head is {head_height}")
        return Decided(encode_block(self._ledger.sealed_block(height)), self._ledger.certificate(height))

    def import_state(self, request: ImportWork) -> ImportAnswer | Status:
        """A step of importing a snapshot into a database that holds nothing but genesis (chain.state_import)."""
        match request:
            case GetImport():
                return self._import.progress(with_manifest=True)
            case ImportBegin(raw_manifest):
                return self._import.begin(raw_manifest)
            case ImportChunk(segment, raw_chunk):
                return self._import.add_chunk(segment, raw_chunk)
            case ImportAbandon():
                self._import.abandon()
                return self._import.progress()
            case ImportFinish():
                refused = self._import.finish()
                if refused is not None:
                    return refused
                self._context = self._load_context(self._ledger.head().height)
                return self.status()
            case _:
                assert_never(request)

    def query(self, query: Query, interrupt: Interrupt = no_interrupt, emit: Emit = no_stream) -> Answer:
        """Answer from a snapshot. `interrupt` is called now and then during long work; it may wait.

        An answer that is a stream goes to `emit` chunk by chunk; what is returned then says how it ended.
        """
        snapshot = self._store.snapshot()
        try:
            return self._queries.answer(snapshot, query, interrupt, emit)
        finally:
            snapshot.close()

    @property
    def context(self) -> BlockContext:
        """What the next block must agree with."""
        return self._context

    # --- Commit ----------------------------------------------------------------------------------------------------

    def _check_commit_certificate(self, request: Commit) -> None:
        """The certificate makes that block final at the next height; at another height the chain forked."""
        context = self._context
        height = context.height
        try:
            certificate = decode_certificate(request.certificate)
            height = min(height, certificate.height)
            verify_commit(
                certificate,
                height,
                request.block_hash,
                self._ledger.validator_set(height),
                context.genesis_hash,
                bls.fast_aggregate_verify,
            )
        except (DecodeError, CertificateError) as error:
            raise InvalidCertificate(
                f"commit of block 0x{request.block_hash.hex()} at height {height}: certificate {error}"
            ) from error
        if height < context.height:
            raise ConflictingCommit(height, self._records.block_hash_at(height), request.block_hash)

    def _committed_again(self, height: int) -> Committed:
        """The same answer as the first time; for a block below the head without what only its time knew."""
        last = self._last_commit
        if last is not None and height == self._context.parent.number:
            return last
        header = self._ledger.header(height)
        touched_height, touched = self._ledger.head_touched()
        answer = Committed(
            block=self._ledger.block_record(height),
            receipts=self._ledger.receipts(height),
            touched_accounts=touched if touched_height == height else (),
            next_base_fee_wei=child_base_fee(self._rules, header),
            next_gas_limit=header.gas_limit,
        )
        return self._as_head(answer) if height == self._context.parent.number else answer

    def _answer(self, prepared: PreparedBlock) -> Committed:
        answer = Committed(
            block=prepared.block_record(),
            receipts=prepared.receipt_records(),
            touched_accounts=prepared.touched_accounts(),
            next_base_fee_wei=child_base_fee(self._rules, prepared.header),
            next_gas_limit=prepared.header.gas_limit,
        )
        return self._as_head(answer)

    def _as_head(self, committed: Committed) -> Committed:
        """With what consensus starts the next height from."""
        context = self._context
        return replace(
            committed,
            voting_set=_encoded_set(context.voting_set),
            next_set=_encoded_set(context.next_set),
            priorities=encode_priorities(context.priorities),
            checkpoint_epoch=context.latest_checkpoint_epoch,
        )

    def _expect_whole_state(self) -> None:
        if self._import.is_running:
            raise StateIncomplete("block work was asked for while a snapshot is being imported")

    # --- What is held ----------------------------------------------------------------------------------------------

    def _hold(self, prepared: PreparedBlock) -> None:
        self._prepared[prepared.block_hash] = prepared
        self._prepared.move_to_end(prepared.block_hash)
        while len(self._prepared) > MAX_PREPARED_BLOCKS:
            self._prepared.popitem(last=False)

    def _load_context(self, head_height: int) -> BlockContext:
        return self._records.context_after(head_height)

    def _next_context(self, prepared: PreparedBlock) -> BlockContext:
        """As `_load_context` would find it, without reading what is known."""
        before, height = self._context, prepared.header.number
        carried, elected = prepared.payload.checkpoint, prepared.protocol.elected
        return BlockContext(
            genesis=self._genesis,
            rules=self._rules,
            genesis_hash=self._genesis_hash,
            parent=prepared.header,
            parent_payload=prepared.payload,
            parent_voting_set=before.voting_set,
            voting_set=before.next_set,
            next_set=before.next_set if elected is None else elected,
            priorities=self._ledger.priorities(height + 1),
            latest_checkpoint_epoch=decode_checkpoint(carried).epoch if carried else before.latest_checkpoint_epoch,
            block_hash_at=before.block_hash_at,
            voting_set_at=before.voting_set_at,
        )

    def _head_block(self) -> SealedBlock:
        return self._ledger.sealed_block(self._context.parent.number)


@lru_cache(maxsize=4)
def _encoded_set(validator_set: ValidatorSet) -> bytes:
    """Answers go out with every block, sets change at most once an epoch."""
    return encode_validator_set(validator_set)
