"""Typed questions about the committed chain and its state, answered from one snapshot.

Every answer is bounded: in size by :class:`QueryLimits`, in time by a deadline that long work looks at. Old state
is served within the history window; older is HistoryUnavailable. ``safe = finalized = latest`` on this chain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from astralink_node.chain.call_messages import AccessListQuestion, CallFailed, CallQuestion, EstimateGasQuestion
from astralink_node.chain.calls import answer_call, answer_views
from astralink_node.chain.chain_facts import chain_facts
from astralink_node.chain.consensus_messages import (
    CheckpointAnswer,
    CheckpointQuestion,
    ValidatorsAnswer,
    ValidatorsQuestion,
)
from astralink_node.chain.contexts import ChainRecords
from astralink_node.chain.facts_messages import ChainFactsQuestion
from astralink_node.chain.fee_history import fee_history
from astralink_node.chain.index_messages import AddressSearch, CreationQuestion, IndexStatusQuestion, NonceQuestion
from astralink_node.chain.index_search import answer_index
from astralink_node.chain.json_stream import Emit
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.log_search import LogLimitReached, search_logs
from astralink_node.chain.messages import (
    AccountRecord,
    AccountsAnswer,
    AccountsQuestion,
    Answer,
    AtHash,
    AtHeight,
    AtLatest,
    AtPending,
    BlockAnswer,
    BlockQuestion,
    BlockSelector,
    BytesAnswer,
    CodeQuestion,
    FeeHistoryQuestion,
    GetStatus,
    HistoryUnavailable,
    LimitExceeded,
    LogsAnswer,
    LogsQuestion,
    NotFound,
    ProofAnswer,
    ProofQuestion,
    Query,
    Question,
    ReceiptsAnswer,
    ReceiptsQuestion,
    StorageProof,
    StorageQuestion,
    TransactionAnswer,
    TransactionQuestion,
    TransactionRecord,
)
from astralink_node.chain.preimages import Preimages
from astralink_node.chain.protocol_messages import ProtocolLogAnswer, ProtocolLogQuestion
from astralink_node.chain.query_limits import DeadlinePassed, QueryLimits
from astralink_node.chain.replay_messages import (
    AccountRange,
    AccountRangeQuestion,
    IntermediateRootsQuestion,
    ModifiedAccountsQuestion,
    ReplayQuestion,
    StorageRangeQuestion,
)
from astralink_node.chain.simulate_messages import SimulateQuestion
from astralink_node.chain.simulated_blocks import answer_simulation
from astralink_node.chain.snapshots import answer_sync
from astralink_node.chain.state_ranges import HASH_BYTES, StateEntries, account_range
from astralink_node.chain.state_replays import StateReplays
from astralink_node.chain.status import status_of
from astralink_node.chain.sync_messages import (
    BlocksQuestion,
    LightBlockQuestion,
    SnapshotChunkQuestion,
    SnapshotHeightsQuestion,
    SnapshotManifestQuestion,
)
from astralink_node.chain.trace_messages import (
    TraceBlock,
    TraceCalls,
    TraceGivenBlock,
    TracePart,
    TraceQuestion,
    TraceTransaction,
)
from astralink_node.chain.tracing import Tracing
from astralink_node.chain.view_messages import ViewsQuestion
from astralink_node.evm.blocks import Header, encode_header
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.header_rules import child_base_fee
from astralink_node.evm.pipeline import BlockContext
from astralink_node.evm.transactions import U256_MAX
from astralink_node.state.accounts import EMPTY_ACCOUNT, Account
from astralink_node.state.flat_state import HeadState
from astralink_node.state.proofs import account_proof
from astralink_node.state.reverse_diffs import HistoricalReader
from astralink_node.storage.store import PointReader, Reader
from astralink_node.types import ADDRESS_BYTES, ZERO_ADDRESS, Address, Hash32
from consensus.beacon import next_prev_randao
from genesis.schema import GenesisFile

Interrupt = Callable[[], None]
"""Called now and then during long work: returns when it may go on."""

NANOSECONDS_PER_MS = 1_000_000
MAX_EPOCH = 2**64 - 1


def no_interrupt() -> None:
    """For callers with no other work to give way to."""


def no_stream(part: TracePart) -> None:
    """For callers that ask for nothing that comes in parts."""
    raise TypeError(f"{type(part).__name__}: a part of an answer that nobody takes")


@dataclass(frozen=True, slots=True)
class StateView:
    """The state that a selector names, and the block under which calls run on it."""

    reader: PointReader
    state: HeadState
    header: Header
    """Of the newest block that the state is after."""
    block: BlockContext


class Queries:
    def __init__(
        self,
        genesis: GenesisFile,
        rules: ChainRules,
        genesis_hash: bytes,
        limits: QueryLimits,
        now_ns: Callable[[], int],
        state_heights: int | None,
    ) -> None:
        """`state_heights` is how many heights of state below the head are kept, None for all: eth_capabilities asks."""
        self._genesis = genesis
        self._rules = rules
        self._genesis_hash = genesis_hash
        self._limits = limits
        self._now_ns = now_ns
        self._state_heights = state_heights
        self._preimages = Preimages(genesis)

    def answer(self, reader: Reader, query: Query, interrupt: Interrupt, emit: Emit = no_stream) -> Answer:
        """`reader` is a snapshot. Never raises for anything that a question may contain."""
        time_ms = self._time_ms(query.question)
        deadline_ns = self._now_ns() + time_ms * NANOSECONDS_PER_MS

        def check_time() -> None:
            interrupt()
            if self._now_ns() >= deadline_ns:
                raise DeadlinePassed

        try:
            return self._answer(reader, query, check_time, emit)
        except DeadlinePassed:
            return LimitExceeded(f"the answer takes longer than {time_ms} ms")
        except LogLimitReached as error:
            return LimitExceeded(str(error))

    def _time_ms(self, question: Question) -> int:
        if isinstance(question, ReplayQuestion):
            return self._limits.trace_time_ms
        if not isinstance(question, TraceQuestion):
            return self._limits.time_ms
        return min(question.time_ms or self._limits.trace_time_ms, self._limits.max_trace_time_ms)

    def _answer(self, reader: Reader, query: Query, check_time: Callable[[], None], emit: Emit) -> Answer:
        question = query.question
        ledger = Ledger(reader)
        records = ChainRecords(self._genesis, self._rules, self._genesis_hash, ledger)
        match question:
            case GetStatus():
                return status_of(reader, self._rules, self._genesis_hash)
            case ChainFactsQuestion():
                return chain_facts(ledger, self._genesis, self._genesis_hash, self._state_heights)
            case TransactionQuestion():
                return _transaction(ledger, question.transaction_hash)
            case CheckpointQuestion():
                return _checkpoint(ledger, question.epoch)
            case ValidatorsQuestion():
                return _validators(ledger, query.at, self._genesis.epoch_length)
            case (
                BlocksQuestion()
                | LightBlockQuestion()
                | SnapshotHeightsQuestion()
                | SnapshotManifestQuestion()
                | SnapshotChunkQuestion()
            ):
                return answer_sync(reader, self._genesis, question, check_time)
            case AddressSearch() | CreationQuestion() | NonceQuestion() | IndexStatusQuestion():
                return answer_index(reader, question, check_time)
            case LogsQuestion():
                return self._logs(reader, ledger, question, check_time)
            case TraceTransaction() | TraceBlock() | TraceGivenBlock() | TraceCalls():
                tracing = Tracing(reader, records, self._limits, check_time, emit)
                return self._traced(tracing, query.at, question)
            case StorageRangeQuestion() | IntermediateRootsQuestion() | ModifiedAccountsQuestion():
                height = _height_of(ledger, query.at)
                if not isinstance(height, int):
                    return height
                replays = StateReplays(reader, records, self._preimages, self._limits, check_time, emit)
                return replays.answer(question, height)
            case AccountRangeQuestion():
                return self._account_range(reader, records, query.at, question, check_time)
            case BlockQuestion() | ReceiptsQuestion() | ProtocolLogQuestion() | FeeHistoryQuestion():
                height = _height_of(ledger, query.at)
                if not isinstance(height, int):
                    return height
                return self._about_blocks(ledger, height, question, check_time)
            case _:
                problem = _problem_of(question)
                if problem:
                    return CallFailed("invalid", problem)
                view = self._state_view(reader, records, query.at)
                if not isinstance(view, StateView):
                    return view
                return self._about_state(view, question, check_time)

    def _traced(self, tracing: Tracing, at: BlockSelector, question: TraceQuestion) -> Answer:
        ledger = tracing.records.ledger
        match question:
            case TraceTransaction():
                return tracing.trace_transaction(question)
            case TraceBlock():
                height = _height_of(ledger, at)
                return tracing.trace_block(question, height) if isinstance(height, int) else height
            case TraceGivenBlock():
                return tracing.trace_given_block(question)
            case TraceCalls():
                if question.transaction_index is not None and isinstance(at, AtPending):
                    return NotFound("transactions of the pending block: blocks exist once they are final")
                view = self._state_view(tracing.reader, tracing.records, at)
                return tracing.trace_calls(question, view.block, view.state) if isinstance(view, StateView) else view

    # --- Blocks ----------------------------------------------------------------------------------------------------

    def _about_blocks(
        self,
        ledger: Ledger,
        height: int,
        question: BlockQuestion | ReceiptsQuestion | ProtocolLogQuestion | FeeHistoryQuestion,
        check_time: Callable[[], None],
    ) -> Answer:
        match question:
            case BlockQuestion():
                return BlockAnswer(ledger.block_record(height))
            case ReceiptsQuestion():
                return ReceiptsAnswer(ledger.block_record(height), ledger.receipts(height))
            case ProtocolLogQuestion():
                if height and height == ledger.oldest_block_height():
                    # A snapshot's block was never executed here.
                    return NotFound(f"the protocol log of block {height}: this node joined there")
                return ProtocolLogAnswer(ledger.header(height).hash, height, ledger.protocol_log(height))
            case FeeHistoryQuestion(count, percentiles):
                if len(percentiles) > self._limits.max_fee_percentiles:
                    return LimitExceeded(f"at most {self._limits.max_fee_percentiles} percentiles may be asked for")
                count = max(
                    1, min(count, self._limits.max_fee_history_blocks, height - ledger.oldest_block_height() + 1)
                )
                return fee_history(ledger, self._rules, height, count, percentiles, check_time)
            case _:
                assert_never(question)

    def _logs(self, reader: Reader, ledger: Ledger, question: LogsQuestion, check_time: Callable[[], None]) -> Answer:
        limits = self._limits
        values = len(question.addresses) + sum(len(position) for position in question.topics)
        if values > limits.max_addresses:
            return LimitExceeded(
                f"at most {limits.max_addresses} addresses and topics may be asked for, found {values}"
            )
        max_heights = limits.max_log_heights if values else limits.max_unfiltered_log_heights
        head_height = ledger.head().height
        asked = min(question.to_height, head_height) - question.from_height + 1
        if asked > max_heights:
            return LimitExceeded(f"at most {max_heights} blocks may be searched at a time, asked for {asked}")
        oldest = ledger.oldest_block_height()
        if question.from_height < oldest <= question.to_height:
            return HistoryUnavailable(question.from_height, oldest)
        logs = search_logs(reader, question, head_height, max_logs=limits.max_logs, check_time=check_time)
        return LogsAnswer(logs)

    # --- State -----------------------------------------------------------------------------------------------------

    def _about_state(
        self,
        view: StateView,
        question: AccountsQuestion
        | CodeQuestion
        | StorageQuestion
        | ProofQuestion
        | CallQuestion
        | EstimateGasQuestion
        | AccessListQuestion
        | SimulateQuestion
        | ViewsQuestion,
        check_time: Callable[[], None],
    ) -> Answer:
        limits = self._limits
        match question:
            case AccountsQuestion(addresses):
                if len(addresses) > limits.max_addresses:
                    return LimitExceeded(f"at most {limits.max_addresses} accounts may be asked for")
                return AccountsAnswer(tuple(_record(view.state.account(Address(address))) for address in addresses))
            case CodeQuestion(address):
                account = view.state.account(Address(address)) or EMPTY_ACCOUNT
                return BytesAnswer(view.state.code(account.code_hash))
            case StorageQuestion(address, slot):
                return BytesAnswer(view.state.storage(Address(address), slot).to_bytes(32, "big"))
            case ProofQuestion():
                if len(question.slots) > limits.max_proof_slots:
                    return LimitExceeded(f"at most {limits.max_proof_slots} slots may be proven at a time")
                return _proof(view, question)
            case CallQuestion() | EstimateGasQuestion() | AccessListQuestion():
                return answer_call(self._rules, view.block, view.state, question, limits, check_time)
            case SimulateQuestion():
                return answer_simulation(
                    self._rules, view.header, view.reader, view.block.ancestor_hash, question, limits, check_time
                )
            case ViewsQuestion():
                return answer_views(self._rules, view.block, view.state, question, limits, check_time)
            case _:
                assert_never(question)

    def _account_range(
        self,
        reader: Reader,
        records: ChainRecords,
        at: BlockSelector,
        question: AccountRangeQuestion,
        check_time: Callable[[], None],
    ) -> AccountRange | NotFound | HistoryUnavailable | LimitExceeded | CallFailed:
        if len(question.start) > HASH_BYTES or question.max_accounts < 1:
            return CallFailed("invalid", "expected a hash to begin at, and at least one account")
        height = _height_of(records.ledger, at)
        if not isinstance(height, int):
            return height
        missing = records.missing_state(height)
        if missing is not None:
            return missing
        entries = StateEntries(reader, height, records.ledger.head().height, check_time)
        return account_range(entries, self._preimages, question, self._limits)

    def _state_view(
        self, reader: Reader, records: ChainRecords, at: BlockSelector
    ) -> StateView | NotFound | HistoryUnavailable:
        ledger = records.ledger
        head_height = ledger.head().height
        if isinstance(at, AtPending):
            header = ledger.header(head_height)
            return StateView(reader, HeadState(reader), header, self._pending_block(records, header))
        height = _height_of(ledger, at)
        if not isinstance(height, int):
            return height
        missing = records.missing_state(height)
        if missing is not None:
            return missing
        header = ledger.header(height)
        block = BlockContext.of_header(header, records.block_hash_at)
        points = reader if height == head_height else HistoricalReader(reader, height)
        return StateView(points, HeadState(points), header, block)

    def _pending_block(self, records: ChainRecords, head: Header) -> BlockContext:
        """The next block as far as it is known: its time is the earliest possible one, its proposer nobody."""
        payload = records.ledger.payload(head.number)
        time_ms = payload.time_ms + self._genesis.consensus.min_block_interval_ms
        return BlockContext(
            number=head.number + 1,
            timestamp=time_ms // 1000,
            coinbase=ZERO_ADDRESS,
            gas_limit=head.gas_limit,
            base_fee_per_gas=child_base_fee(self._rules, head),
            prev_randao=Hash32(next_prev_randao(head.prev_randao, payload.reveal)),
            parent_hash=head.hash,
            ancestor_hash=records.block_hash_at,
        )


def _problem_of(question: Question) -> str:
    """What is wrong with a question about state; empty if nothing is. Calls are checked where they are made."""
    found: tuple[bytes, ...]
    slots: tuple[int, ...] = ()
    match question:
        case AccountsQuestion(addresses):
            found = addresses
        case CodeQuestion(address):
            found = (address,)
        case StorageQuestion(address, slot):
            found, slots = (address,), (slot,)
        case ProofQuestion(address, slots):
            found = (address,)
        case _:
            return ""
    if not all(len(address) == ADDRESS_BYTES for address in found):
        return f"expected addresses of {ADDRESS_BYTES} bytes"
    if not all(0 <= slot <= U256_MAX for slot in slots):
        return "expected 256-bit slots"
    return ""


def _height_of(ledger: Ledger, at: BlockSelector) -> int | NotFound | HistoryUnavailable:
    match at:
        case AtLatest():
            return ledger.head().height
        case AtHeight(height):
            head_height, oldest = ledger.head().height, ledger.oldest_block_height()
            if 0 < height < oldest:
                return HistoryUnavailable(height, oldest)
            if 0 <= height <= head_height:
                return height
            return NotFound(f"block {height}: the head is {head_height}")
        case AtHash(block_hash):
            found = ledger.height_of(block_hash)
            return NotFound(f"block 0x{block_hash.hex()}") if found is None else found
        case AtPending():
            return NotFound("the pending block: blocks exist once they are final")
        case _:
            assert_never(at)


def _transaction(ledger: Ledger, transaction_hash: bytes) -> TransactionAnswer | NotFound:
    position = ledger.transaction_position(transaction_hash)
    if position is None:
        return NotFound(f"transaction 0x{transaction_hash.hex()}")
    height, index = position
    header = ledger.header(height)
    raw_transactions, senders = ledger.body(height)
    record = TransactionRecord(encode_header(header), header.hash, index, raw_transactions[index], senders[index])
    return TransactionAnswer(record, ledger.receipts(height)[index])


def _validators(
    ledger: Ledger, at: BlockSelector, epoch_length: int
) -> ValidatorsAnswer | NotFound | HistoryUnavailable:
    height = ledger.head().height + 1 if isinstance(at, AtPending) else _height_of(ledger, at)
    if not isinstance(height, int):
        return height
    next_set_hash = ledger.validator_set(height + 1).hash
    return ValidatorsAnswer(height, ledger.raw_validator_set(height), next_set_hash, epoch_length)


def _checkpoint(ledger: Ledger, epoch: int | None) -> CheckpointAnswer | NotFound:
    if epoch is None:
        epoch = ledger.latest_checkpoint_epoch()
    height = ledger.checkpoint_height(epoch) if 0 <= epoch <= MAX_EPOCH else None
    if height is None:
        return NotFound(f"a checkpoint of epoch {epoch}" if epoch >= 0 else "a checkpoint: no block carries one yet")
    return CheckpointAnswer(ledger.raw_checkpoint(height), height)


def _record(account: Account | None) -> AccountRecord:
    nonce, balance, storage_root, code_hash = account or EMPTY_ACCOUNT
    return AccountRecord(nonce, balance, code_hash, storage_root)


def _proof(view: StateView, question: ProofQuestion) -> ProofAnswer:
    proof = account_proof(view.reader, view.header.state_root, Address(question.address), question.slots)
    storage = tuple(StorageProof(slot.slot, slot.value, slot.nodes) for slot in proof.storage)
    return ProofAnswer(_record(proof.account), proof.nodes, storage)
