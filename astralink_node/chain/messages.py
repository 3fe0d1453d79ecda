"""What crosses between the node, the gateways and the execution process: whole-block work and typed queries.

One facade, two carriers: :mod:`astralink_node.chain.execution` answers these messages in-process, and
:mod:`astralink_node.chain.process` carries the same messages over a Unix socket. Nothing here does work.
Byte fields named ``raw_*`` hold canonical encodings: a transaction's EIP-2718 bytes, a receipt's EIP-2718
bytes, a header's RLP, a block as ``evm.blocks.encode_block`` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.chain.call_messages import CallAnswers, CallQuestions
from astralink_node.chain.consensus_messages import (
    CheckpointAnswer,
    CheckpointQuestion,
    Decided,
    GetDecided,
    ValidatorsAnswer,
    ValidatorsQuestion,
)
from astralink_node.chain.facts_messages import ChainFacts, ChainFactsQuestion
from astralink_node.chain.index_messages import IndexAnswer, IndexQuestion
from astralink_node.chain.protocol_messages import ProtocolLogAnswer, ProtocolLogQuestion
from astralink_node.chain.replay_messages import AccountRange, AccountRangeQuestion
from astralink_node.chain.simulate_messages import SimulateAnswer, SimulateQuestion
from astralink_node.chain.sync_messages import ImportAnswer, ImportWork, SyncAnswer, SyncQuestion
from astralink_node.chain.trace_messages import LongQuestion, TraceAnswer
from astralink_node.chain.view_messages import ViewsAnswer, ViewsQuestion

# --- Block work: Build, Validate, Commit, GetDecided, Status ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pooled transaction whose sender was recovered once, at admission."""

    raw_transaction: bytes
    sender: bytes
    may_run_long: bool = False
    """As the first of its block it may run for the Build's ``first_budget_ms`` (txpool.long_runs says which may)."""


@dataclass(frozen=True, slots=True)
class FeePreference:
    """Where the proposer would like the fee parameters to go; each moves at most one notch a block toward it."""

    gas_target: int
    base_fee_step_index: int
    min_base_fee_wei: int


@dataclass(frozen=True, slots=True)
class BuildAttributes:
    """What the proposer decides about its block; everything else follows from the parent.

    ``reveal`` is the proposer's 96-byte BLS randao reveal for this height. ``parent_certificate`` is the
    canonical encoding (consensus.certificate) of the certificate for the parent, empty at height 1.
    ``time_ms`` is raised to the parent's time plus the minimum interval if it is lower.
    """

    time_ms: int
    fee_recipient: bytes
    round_: int
    proposer_index: int
    reveal: bytes
    parent_certificate: bytes
    fee_preference: FeePreference | None = None
    checkpoint: bytes = b""
    """consensus.checkpoint encoding of a complete checkpoint newer than any that a block carries; usually empty."""
    late_credits: tuple[bytes, ...] = ()
    """consensus.certificate encodings of precommits that earlier certificates missed, heights ascending."""
    evidence: tuple[bytes, ...] = ()
    """consensus.evidence encodings, oldest first. What cannot be carried is left out, and beyond four it waits."""


@dataclass(frozen=True, slots=True)
class Build:
    """Execute candidates on top of the head, in order, and seal the result.

    Stops at the gas limit, at the block size limit, or when ``budget_ms`` of wall-clock time is spent:
    gas does not bound time. A transaction that the clock stops is put off: a later block may begin with it.
    """

    parent_hash: bytes
    attributes: BuildAttributes
    candidates: tuple[Candidate, ...]
    budget_ms: int
    first_budget_ms: int = 0
    """Until when, from the start, the first transaction of the block may run if its candidate says so; less than
    ``budget_ms`` means that. At most half of the propose timeout, so that everybody's validation fits too."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A candidate left out because it can never be included as things stand (not merely for want of room)."""

    transaction_hash: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Built:
    block_hash: bytes
    raw_block: bytes
    included: int
    dropped: tuple[Dropped, ...]
    stopped_by: str
    """``exhausted`` (no candidates left), ``gas``, ``size`` or ``time``."""
    put_off: bytes = b""
    """Hash of the transaction that the clock stopped, which a later block should begin with; empty if there is none."""
    useless_evidence: tuple[bytes, ...] = ()
    """Of the evidence given, what no block can ever carry: expired, unverifiable, or against the tombstoned alone."""


@dataclass(frozen=True, slots=True)
class CannotBuild:
    """For example: the parent is not the head."""

    reason: str


@dataclass(frozen=True, slots=True)
class Validate:
    """Everything that makes a proposal valid, its signatures and certificate included; timeliness is not."""

    raw_block: bytes
    senders: tuple[bytes, ...] = ()
    """Senders already recovered by this node, in transaction order; one that is empty is recovered, and so are all
    if these are not as many as the transactions."""


@dataclass(frozen=True, slots=True)
class Valid:
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Invalid:
    rule: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Commit:
    """Make a built or validated block final. Idempotent; another hash at a committed height is fatal."""

    block_hash: bytes
    certificate: bytes
    """Canonical encoding of the commit certificate that this node saw."""


@dataclass(frozen=True, slots=True)
class TouchedAccount:
    """An account whose nonce or balance a block changed, after that block."""

    address: bytes
    nonce: int
    balance_wei: int


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer to Commit: all that the mempool, the gateways and consensus need of the new head."""

    block: BlockRecord
    receipts: tuple[ReceiptRecord, ...]
    touched_accounts: tuple[TouchedAccount, ...]
    next_base_fee_wei: int
    next_gas_limit: int
    voting_set: bytes = b""
    """consensus.validator_set encoding of the set that votes at the next height. This and the fields below are what
    consensus starts the next height from; they are left at their defaults for a block below the head."""
    next_set: bytes = b""
    """Likewise, the set that votes at the height after that."""
    priorities: bytes = b""
    """consensus.proposer_selection encoding of the priorities before the next height."""
    checkpoint_epoch: int = -1
    """The epoch of the latest checkpoint that a block carries, this one included; -1 before the first."""


@dataclass(frozen=True, slots=True)
class NeedBlock:
    """Commit named a block whose overlay is not held: send Validate first, then Commit again."""

    block_hash: bytes


@dataclass(frozen=True, slots=True)
class GetStatus:
    pass


@dataclass(frozen=True, slots=True)
class Status:
    """Where the database stands. The database alone defines the committed height."""

    chain_id: int
    genesis_hash: bytes
    head_height: int
    head_hash: bytes
    head_time_ms: int
    head_certificate: bytes
    """Certificate for the head as seen locally; empty at genesis."""
    head_raw_header: bytes
    next_base_fee_wei: int
    next_gas_limit: int
    voting_set: bytes = b""
    """This and the three below as in :class:`Committed`."""
    next_set: bytes = b""
    priorities: bytes = b""
    checkpoint_epoch: int = -1


# --- Records that answers are made of ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """A committed block as it is stored and served."""

    block_hash: bytes
    raw_header: bytes
    raw_transactions: tuple[bytes, ...]
    senders: tuple[bytes, ...]
    raw_payload: bytes
    """consensus.payload encoding of what consensus adds beside the header."""
    size_bytes: int
    """Length of the Ethereum block's RLP (header, transactions, ommers, withdrawals), as eth_getBlock reports."""


@dataclass(frozen=True, slots=True)
class ReceiptRecord:
    raw_receipt: bytes
    gas_used: int
    contract_address: bytes
    """Empty unless the transaction created a contract (or tried to)."""
    first_log_index: int


@dataclass(frozen=True, slots=True)
class TransactionRecord:
    """A committed transaction and where it stands."""

    raw_header: bytes
    block_hash: bytes
    index: int
    raw_transaction: bytes
    sender: bytes


@dataclass(frozen=True, slots=True)
class LogRecord:
    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    height: int
    block_hash: bytes
    block_timestamp: int
    transaction_hash: bytes
    transaction_index: int
    log_index: int


# --- Queries -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AtLatest:
    """The head; safe, finalized and latest are one block on this chain."""


@dataclass(frozen=True, slots=True)
class AtHeight:
    height: int


@dataclass(frozen=True, slots=True)
class AtHash:
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class AtPending:
    """Head state under the next block's header, without pool transactions."""


BlockSelector = AtLatest | AtHeight | AtHash | AtPending


@dataclass(frozen=True, slots=True)
class AccountsQuestion:
    addresses: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AccountRecord:
    nonce: int
    balance_wei: int
    code_hash: bytes
    storage_root: bytes


@dataclass(frozen=True, slots=True)
class AccountsAnswer:
    """In the order asked; an account that does not exist has nonce 0, balance 0 and the empty hashes."""

    accounts: tuple[AccountRecord, ...]


@dataclass(frozen=True, slots=True)
class CodeQuestion:
    address: bytes


@dataclass(frozen=True, slots=True)
class StorageQuestion:
    address: bytes
    slot: int


@dataclass(frozen=True, slots=True)
class BytesAnswer:
    """Code, or a storage word of 32 bytes."""

    value: bytes


@dataclass(frozen=True, slots=True)
class ProofQuestion:
    """EIP-1186."""

    address: bytes
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StorageProof:
    slot: int
    value: int
    nodes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ProofAnswer:
    account: AccountRecord
    account_nodes: tuple[bytes, ...]
    storage: tuple[StorageProof, ...]


@dataclass(frozen=True, slots=True)
class BlockQuestion:
    pass


@dataclass(frozen=True, slots=True)
class BlockAnswer:
    block: BlockRecord


@dataclass(frozen=True, slots=True)
class ReceiptsQuestion:
    """All receipts of the selected block."""


@dataclass(frozen=True, slots=True)
class ReceiptsAnswer:
    block: BlockRecord
    receipts: tuple[ReceiptRecord, ...]


@dataclass(frozen=True, slots=True)
class TransactionQuestion:
    """By hash; the selector is ignored."""

    transaction_hash: bytes


@dataclass(frozen=True, slots=True)
class TransactionAnswer:
    transaction: TransactionRecord
    receipt: ReceiptRecord


@dataclass(frozen=True, slots=True)
class LogsQuestion:
    """Logs of a height range (inclusive); the selector is ignored.

    ``addresses`` empty matches any. ``topics[i]`` empty matches any value at position i; otherwise one of them.
    """

    from_height: int
    to_height: int
    addresses: tuple[bytes, ...]
    topics: tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True, slots=True)
class LogsAnswer:
    logs: tuple[LogRecord, ...]


@dataclass(frozen=True, slots=True)
class FeeHistoryQuestion:
    """The ``count`` blocks that end with the selected one. Percentiles are whole hundredths of a per cent."""

    count: int
    percentiles_bps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FeeHistoryAnswer:
    """``base_fees_wei`` has one entry more than there are blocks: the next block's."""

    oldest_height: int
    base_fees_wei: tuple[int, ...]
    gas_used: tuple[int, ...]
    gas_limits: tuple[int, ...]
    rewards_wei: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class NotFound:
    """No such block, transaction or checkpoint."""

    what: str


@dataclass(frozen=True, slots=True)
class HistoryUnavailable:
    """The state of that height is older than this node keeps."""

    asked_height: int
    oldest_height: int


@dataclass(frozen=True, slots=True)
class LimitExceeded:
    """The answer would be larger, or take longer, than the configured bound."""

    message: str


BlockWork = Build | Validate | Commit | GetDecided | GetStatus | ImportWork
BlockWorkAnswer = (
    Built | CannotBuild | Valid | Invalid | Committed | NeedBlock | Decided | NotFound | Status | ImportAnswer
)

SlowQuestion = CallQuestions | SimulateQuestion | LogsQuestion
"""What one answer may need all of its time for: contracts' code, and searches."""


@dataclass(frozen=True, slots=True)
class RunsLong:
    """Of a :data:`SlowQuestion` that is not answered soon: it may be asked again as one that runs long."""


Question = (
    AccountsQuestion
    | CodeQuestion
    | StorageQuestion
    | ProofQuestion
    | AccountRangeQuestion
    | CallQuestions
    | SimulateQuestion
    | ViewsQuestion
    | BlockQuestion
    | ReceiptsQuestion
    | ProtocolLogQuestion
    | TransactionQuestion
    | LogsQuestion
    | FeeHistoryQuestion
    | ValidatorsQuestion
    | CheckpointQuestion
    | ChainFactsQuestion
    | GetStatus
    | SyncQuestion
    | IndexQuestion
    | LongQuestion
)
Answer = (
    AccountsAnswer
    | BytesAnswer
    | ProofAnswer
    | AccountRange
    | CallAnswers
    | SimulateAnswer
    | ViewsAnswer
    | BlockAnswer
    | ReceiptsAnswer
    | ProtocolLogAnswer
    | TransactionAnswer
    | LogsAnswer
    | FeeHistoryAnswer
    | ValidatorsAnswer
    | CheckpointAnswer
    | ChainFacts
    | Status
    | NotFound
    | HistoryUnavailable
    | LimitExceeded
    | RunsLong
    | SyncAnswer
    | IndexAnswer
    | TraceAnswer
)


@dataclass(frozen=True, slots=True)
class Query:
    at: BlockSelector
    question: Question
    runs_long: bool = False
    """As the answer to its first try was."""
