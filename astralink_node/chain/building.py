"""Building the proposer's block: candidates in the order given, as long as gas, bytes and time last.

Gas does not bound time, so a wall-clock budget does: the clock stops a transaction in the middle, too, and its
effects are undone. Its block ends there and it is put off, for a later block to begin with: the first transaction
of a block has a longer bound, if its candidate may use it, and only what exceeds that alone is dropped. The clock
decides only what goes in; whether the block is valid never depends on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from astralink_node.chain.consensus_rules import (
    BlockContext,
    RuleBroken,
    check_header,
    check_payload,
    check_signatures,
    fees_from,
    header_from,
    payload_from,
)
from astralink_node.chain.evidence_rules import ParentState, ToCarry, evidence_to_carry
from astralink_node.chain.messages import Build, BuildAttributes, Candidate, CannotBuild, Dropped
from astralink_node.chain.prepared import PreparedBlock
from astralink_node.chain.protocol_steps import ProtocolSteps
from astralink_node.chain.staking_contract import StakingContract
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm import pipeline
from astralink_node.evm.blocks import Block, Header, SealedBlock, encode_header
from astralink_node.evm.fork_rules import MAX_BLOCK_RLP_BYTES
from astralink_node.evm.system_calls import recorded_block_hash
from astralink_node.evm.transactions import (
    TX_BASE_GAS,
    InvalidTransaction,
    Transaction,
    TransactionRule,
    decode_transaction,
)
from astralink_node.state.commitment import commit_changes
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.storage.store import Reader
from astralink_node.types import Address
from consensus.params import MAX_ROUND, MAX_TIME_MS, MAX_VALIDATORS
from consensus.payload import EMPTY_REVEAL, encode_payload

MAX_BUDGET_MS = 600_000
LIST_OVERHEAD_BYTES = 64
"""RLP's list headers around a block's parts, generously."""
TRANSACTION_OVERHEAD_BYTES = 9
"""RLP's longest string header around one transaction."""

NANOSECONDS_PER_MS = 1_000_000

_LATER = frozenset({TransactionRule.NONCE_TOO_HIGH, TransactionRule.FEE_BELOW_BASE_FEE, TransactionRule.BLOCK_GAS})
"""What may pass with a later block; any other broken rule drops the candidate from the pool."""


class _BudgetSpent(Exception):
    """The clock stopped a transaction."""


@dataclass(slots=True)
class _Selection:
    """The transactions that went in, and why others did not."""

    transactions: list[Transaction] = field(default_factory=list)
    senders: list[Address] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    put_off: bytes = b""
    stopped_by: str = "exhausted"


@dataclass(frozen=True, slots=True)
class _Budget:
    """Moments of a monotonic clock at which a build stops."""

    now_ns: Callable[[], int]
    end_ns: int
    first_end_ns: int
    """Of a block's first transaction that may run long; never before the other."""
    grants_long_runs: bool

    @classmethod
    def of(cls, request: Build, now_ns: Callable[[], int]) -> "_Budget":
        start_ns = now_ns()
        budget_ms = min(max(request.budget_ms, 0), MAX_BUDGET_MS)
        first_ms = min(max(request.first_budget_ms, budget_ms), MAX_BUDGET_MS)
        return cls(
            now_ns,
            start_ns + budget_ms * NANOSECONDS_PER_MS,
            start_ns + first_ms * NANOSECONDS_PER_MS,
            request.first_budget_ms > 0,
        )

    @property
    def is_spent(self) -> bool:
        return self.now_ns() >= self.end_ns

    def interrupt(self, *, long_run: bool) -> Callable[[], None]:
        """What ends one transaction in time."""
        now_ns, end_ns = self.now_ns, self.first_end_ns if long_run else self.end_ns

        def stop_at_end() -> None:
            if now_ns() >= end_ns:
                raise _BudgetSpent

        return stop_at_end


@dataclass(frozen=True, slots=True)
class BuiltBlock:
    prepared: PreparedBlock
    dropped: tuple[Dropped, ...]
    put_off: bytes
    stopped_by: str
    useless_evidence: tuple[bytes, ...]


def build_block(
    context: BlockContext,
    reader: Reader,
    request: Build,
    now_ns: Callable[[], int],
    *,
    with_appearances: bool = False,
) -> BuiltBlock | CannotBuild:
    """A sealed block on top of the head, whose state `reader` holds; `now_ns` is a monotonic clock."""
    budget = _Budget.of(request, now_ns)
    if request.parent_hash != context.parent.hash:
        return CannotBuild(f"the parent 0x{request.parent_hash.hex()} is not the head 0x{context.parent.hash.hex()}")
    problem = _problem_of(request.attributes)
    if problem:
        return CannotBuild(problem)
    try:
        carried = _evidence(context, reader, request.attributes)
        payload = payload_from(context, request.attributes, carried.items)
        fees = fees_from(context, request.attributes)
        # A mistake here would make everybody refuse the block: find it before any work is done.
        check_payload(context, payload)
        template = header_from(context, payload, fees, Address(request.attributes.fee_recipient))
        check_signatures(context, payload)
        check_header(context, template, payload)
    except RuleBroken as error:
        return CannotBuild(str(error))
    raw_payload = encode_payload(payload)
    overlay = Overlay(HeadState(reader))
    execution = pipeline.BlockExecution(
        context.rules, pipeline.BlockContext.of_header(template, context.block_hash_at), overlay
    )
    if with_appearances:
        execution.collect_addresses()
    execution.apply_system_start()
    steps = ProtocolSteps(context, execution, payload)
    try:
        steps.before_transactions()
    except RuleBroken as error:
        return CannotBuild(str(error))
    selection = _apply_candidates(execution, template, request.candidates, budget)
    protocol = steps.after_transactions()
    executed = execution.finish(requests=protocol.requests)
    changes = overlay.changes()
    state = commit_changes(reader, context.parent.state_root, changes)
    header = replace(
        template,
        state_root=state.state_root,
        transactions_root=executed.transactions_root,
        receipts_root=executed.receipts_root,
        logs_bloom=executed.logs_bloom,
        gas_used=executed.gas_used,
        requests_hash=executed.requests_hash,
    )
    block = Block(header, tuple(transaction.raw for transaction in selection.transactions))
    prepared = PreparedBlock(
        sealed=SealedBlock(block, raw_payload),
        payload=payload,
        transactions=tuple(selection.transactions),
        senders=tuple(selection.senders),
        executed=executed,
        protocol=protocol,
        state=state,
        touched=changes.touched,
        appearances=tuple(execution.appearances) if with_appearances else None,
    )
    return BuiltBlock(prepared, tuple(selection.dropped), selection.put_off, selection.stopped_by, carried.useless)


def _evidence(context: BlockContext, reader: Reader, attributes: BuildAttributes) -> ToCarry:
    """What the block may carry of the evidence at hand, by the parent's state; the views run beside the block."""
    if context.genesis.staking is None or not attributes.evidence:
        return ToCarry((), ())
    parent = pipeline.BlockContext.of_header(context.parent, context.block_hash_at)
    overlay = Overlay(HeadState(reader))
    beside = pipeline.BlockExecution(context.rules, parent, overlay)
    state = ParentState(
        StakingContract(beside.system_call), lambda number: recorded_block_hash(overlay.get_storage, number)
    )
    return evidence_to_carry(context, state, attributes.evidence)


def _problem_of(attributes: BuildAttributes) -> str:
    """What makes attributes unusable before any rule can be applied to them; empty if nothing does."""
    if len(attributes.fee_recipient) != 20:
        return f"fee recipient: expected 20 bytes, found {len(attributes.fee_recipient)}"
    if len(attributes.reveal) != len(EMPTY_REVEAL):
        return f"reveal: expected {len(EMPTY_REVEAL)} bytes, found {len(attributes.reveal)}"
    for name, value, maximum in (
        ("round", attributes.round_, MAX_ROUND),
        ("proposer index", attributes.proposer_index, MAX_VALIDATORS - 1),
        ("time_ms", attributes.time_ms, MAX_TIME_MS),
    ):
        if not 0 <= value <= maximum:
            return f"{name}: expected 0 to {maximum}, found {value}"
    return ""


def _apply_candidates(
    execution: pipeline.BlockExecution,
    template: Header,
    candidates: Sequence[Candidate],
    budget: _Budget,
) -> _Selection:
    selection = _Selection()
    room_bytes = _room_for_transactions(execution, template)
    for candidate in candidates:
        if budget.is_spent:
            selection.stopped_by = "time"
            break
        if template.gas_limit - execution.gas_used < TX_BASE_GAS:
            selection.stopped_by = "gas"
            break
        size = len(candidate.raw_transaction) + TRANSACTION_OVERHEAD_BYTES
        if size > room_bytes:
            selection.stopped_by = "size"
            continue  # a smaller one may still fit
        is_first = not selection.transactions
        execution.set_interrupt(budget.interrupt(long_run=is_first and candidate.may_run_long))
        try:
            transaction = decode_transaction(candidate.raw_transaction)
            execution.apply_transaction(transaction, Address(candidate.sender))
        except _BudgetSpent:
            # A block cannot have more time for it than this one had: every later build would stop there, too.
            if is_first and (candidate.may_run_long or not budget.grants_long_runs):
                selection.dropped.append(_drop(candidate, "runs longer than a block may take to build"))
            else:
                selection.put_off = keccak256(candidate.raw_transaction)
            selection.stopped_by = "time"
            break
        except InvalidTransaction as error:
            if error.rule is TransactionRule.BLOCK_GAS:
                selection.stopped_by = "gas"
            elif error.rule not in _LATER:
                selection.dropped.append(_drop(candidate, str(error)))
            continue
        room_bytes -= size
        selection.transactions.append(transaction)
        selection.senders.append(Address(candidate.sender))
    execution.set_interrupt(None)
    return selection


def _room_for_transactions(execution: pipeline.BlockExecution, template: Header) -> int:
    """Bytes that transactions may take under EIP-7934; the header's numbers may still grow by a few bytes."""
    limit = execution.fork.block_rlp_limit
    if limit is None:
        limit = MAX_BLOCK_RLP_BYTES
    return limit - len(encode_header(template)) - LIST_OVERHEAD_BYTES


def _drop(candidate: Candidate, reason: str) -> Dropped:
    return Dropped(keccak256(candidate.raw_transaction), reason)
