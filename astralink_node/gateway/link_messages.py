"""What crosses between the node and a gateway process, over the node's gateway socket.

A gateway asks (requests carry an id in their frame and get one answer); the node pushes the head feed
unasked. A gateway holds nothing that cannot be asked for again, so it may die and come back at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.chain.messages import Committed


@dataclass(frozen=True, slots=True)
class SubmittedTransaction:
    """A decoded transaction with its sender; the gateway did the decoding and the recovery."""

    raw_transaction: bytes
    sender: bytes


@dataclass(frozen=True, slots=True)
class SubmitTransactions:
    transactions: tuple[SubmittedTransaction, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The mempool's answer for one transaction; ``rejection`` is empty when it was accepted.

    ``code`` is the JSON-RPC error code for a rejection (-32000 as geth, -32003 transaction rejected).
    """

    transaction_hash: bytes
    rejection: str
    code: int


@dataclass(frozen=True, slots=True)
class Verdicts:
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class GetPendingNonce:
    address: bytes


@dataclass(frozen=True, slots=True)
class PendingNonce:
    """The nonce after the sender's executable pool transactions; ``known`` is False when the pool has none."""

    known: bool
    nonce: int


@dataclass(frozen=True, slots=True)
class GetPooledTransaction:
    transaction_hash: bytes


@dataclass(frozen=True, slots=True)
class PooledTransaction:
    raw_transaction: bytes
    """Empty when the pool does not hold it."""
    sender: bytes


@dataclass(frozen=True, slots=True)
class GetPoolContent:
    pass


@dataclass(frozen=True, slots=True)
class PoolContent:
    """Executable transactions first to last per sender, and those that wait for an earlier nonce."""

    pending: tuple[SubmittedTransaction, ...]
    queued: tuple[SubmittedTransaction, ...]


@dataclass(frozen=True, slots=True)
class GetNodeStatus:
    pass


@dataclass(frozen=True, slots=True)
class NodeStatus:
    client_version: str
    chain_id: int
    genesis_hash: bytes
    peer_count: int
    is_validator: bool
    block_interval_ms: int
    head_height: int
    pending_transactions: int
    queued_transactions: int


@dataclass(frozen=True, slots=True)
class GetConsensusState:
    pass


@dataclass(frozen=True, slots=True)
class VotesFor:
    """The votes of one type, in one round, for one value."""

    block_hash: bytes
    """32 zero bytes: nil."""
    power: int
    voters: bytes
    """Bitmap over the members of the voting set, as in a certificate."""


@dataclass(frozen=True, slots=True)
class RoundVotes:
    round_: int
    proposer_index: int
    prevotes: tuple[VotesFor, ...]
    precommits: tuple[VotesFor, ...]


MAX_ROUNDS_SHOWN = 16
"""Rounds of a height that a :class:`ConsensusState` holds, those nearest to the current one."""


@dataclass(frozen=True, slots=True)
class ConsensusState:
    """What the node's consensus is doing at this moment, for an operator who asks why nothing moves."""

    height: int
    """The one that is being decided."""
    round_: int
    step: str
    """``new_height``, ``propose``, ``prevote``, ``precommit`` or ``commit``."""
    proposer_index: int
    """Of this round, in the voting set."""
    locked_round: int
    """-1: not locked."""
    locked_hash: bytes
    """Empty: not locked."""
    valid_round: int
    """-1: no valid value is known."""
    valid_hash: bytes
    """Empty: no valid value is known."""
    total_power: int
    """Of the voting set: what a quorum is more than two thirds of."""
    rounds: tuple[RoundVotes, ...]
    """Ascending, at most MAX_ROUNDS_SHOWN."""
    waiting_since_ms: int
    """Unix time in milliseconds at which this step began."""
    is_validator: bool
    """Whether this node's key is in the voting set."""
    is_signing: bool
    """Whether it signs now: it holds the key, and nothing (a doppelganger wait, a lost history) forbids it yet."""


@dataclass(frozen=True, slots=True)
class ConsensusStateReply:
    state: ConsensusState | None
    """None: this node runs no consensus that could be looked into."""


@dataclass(frozen=True, slots=True)
class NewHead:
    """Pushed after every commit, and once with the current head when a gateway connects (no receipts then)."""

    committed: Committed


@dataclass(frozen=True, slots=True)
class NewPendingTransactions:
    """Pushed in batches when transactions become executable in the pool."""

    transactions: tuple[SubmittedTransaction, ...]


@dataclass(frozen=True, slots=True)
class LinkFailed:
    """The node could not answer (it is stopping, or the request was malformed)."""

    message: str


Request = (
    SubmitTransactions | GetPendingNonce | GetPooledTransaction | GetPoolContent | GetNodeStatus | GetConsensusState
)
Reply = Verdicts | PendingNonce | PooledTransaction | PoolContent | NodeStatus | ConsensusStateReply | LinkFailed
Push = NewHead | NewPendingTransactions
