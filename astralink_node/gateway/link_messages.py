"""What crosses between the node and a gateway process, over the node's gateway socket.

A gateway asks (requests carry an id in their frame and get one answer); the node pushes the head feed
unasked. A gateway holds nothing that cannot be asked for again, so it may die and come back at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.chain.messages import Committed
from astralink_node.gateway.pool_messages import (
    GetPoolPage,
    GetPoolSenders,
    GetTransactionFate,
    PoolFate,
    PoolPage,
    PoolSenders,
)


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
class GetNodeStatus:
    pass


@dataclass(frozen=True, slots=True)
class NodeStatus:
    client_version: str
    chain_id: int
    genesis_hash: bytes
    is_validator: bool
    block_interval_ms: int
    head_height: int
    pending_transactions: int
    queued_transactions: int
    makes_empty_blocks: bool
    """Whether a block comes at the interval even when no transaction waits."""
    fee_recipient: bytes = b""
    """Where the fees of its own blocks go; empty: it builds none."""


@dataclass(frozen=True, slots=True)
class PeerView:
    """A peer that is connected and welcome."""

    peer_id: str
    """Base58, as libp2p writes it; likewise below."""
    addresses: tuple[str, ...]
    """The connection's other end, then where the peer says that it listens; multiaddresses."""
    is_outbound: bool
    """This node dialled it."""
    connected_since_ms: int
    """Unix time; likewise all times here."""
    head_height: int
    """As it said last; a claim."""
    genesis_matches: bool
    forks_match: bool
    """It applies the same rules at its height as this node would."""
    clock_skew_ms: int | None
    """How far its clock is ahead of this node's; None: not measured."""
    client: str
    points: int
    """What its offences of late amount to; a hundred are a ban."""
    round_trip_ms: int | None
    """None: not measured yet."""


@dataclass(frozen=True, slots=True)
class RefusedPeer:
    """Connected lately, and was turned away."""

    peer_id: str
    reason: str
    at_ms: int
    was_sought: bool
    """This node dialled it, or names it as a bootnode; else it came by itself, as any stranger may."""


@dataclass(frozen=True, slots=True)
class BootnodeView:
    """A node that the operator named."""

    address: str
    is_connected: bool
    trouble: str
    """Why the last attempt made it no peer; empty: it is connected, or was not tried yet."""
    trouble_ms: int


@dataclass(frozen=True, slots=True)
class ValidatorPeer:
    """Which node another validator of the current set runs, as far as this node knows."""

    voting_key: bytes
    peer_id: str


@dataclass(frozen=True, slots=True)
class SyncProgress:
    started_height: int
    current_height: int
    highest_height: int
    """The furthest that a peer says to be."""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """The node's place on the network at this moment, for operators. Also the answer to GetNetworkView."""

    is_listening: bool
    peer_id: str
    """Empty: this node runs without a network."""
    listen_addresses: tuple[str, ...]
    advertised_addresses: tuple[str, ...]
    """Where this node tells others to dial it."""
    peers: tuple[PeerView, ...]
    refused: tuple[RefusedPeer, ...]
    """The newest few, the oldest first."""
    validators: tuple[ValidatorPeer, ...]
    sync: SyncProgress | None
    """None: this node keeps up."""
    clock_precision_ms: int
    """By how much correct validators' clocks may differ (PBTS, PRECISION); 0: not known."""
    bootnodes: tuple[BootnodeView, ...] = ()
    connections_refused: int = 0
    """Of others, for a ban or want of room; since the start, as below."""
    handshakes_failed: int = 0
    """Of others."""

    @property
    def validators_connected(self) -> int:
        connected = {peer.peer_id for peer in self.peers}
        return sum(validator.peer_id in connected for validator in self.validators)

    @property
    def clock_skew_ms(self) -> int | None:
        """The median over the peers, of two the lower: whoever is off alone sees everybody off. None: not measured."""
        skews = sorted(peer.clock_skew_ms for peer in self.peers if peer.clock_skew_ms is not None)
        return skews[(len(skews) - 1) // 2] if skews else None


NO_NETWORK = NetworkView(
    is_listening=False,
    peer_id="",
    listen_addresses=(),
    advertised_addresses=(),
    peers=(),
    refused=(),
    validators=(),
    sync=None,
    clock_precision_ms=0,
)


@dataclass(frozen=True, slots=True)
class GetNetworkView:
    pass


@dataclass(frozen=True, slots=True)
class CheckReachability:
    """Have peers dial this node where it says that it can be reached."""


@dataclass(frozen=True, slots=True)
class DialedBack:
    """What became of one advertised address when one peer dialled it."""

    peer_id: str
    """Who dialled."""
    address: str
    outcome: str
    """``reached``, ``failed`` (nobody there, or somebody else), ``refused`` (not tried) or ``unanswered``."""
    detail: str


@dataclass(frozen=True, slots=True)
class Reachability:
    reports: tuple[DialedBack, ...]
    """None where there is nothing to dial, or nobody to ask."""


@dataclass(frozen=True, slots=True)
class GetMetrics:
    pass


@dataclass(frozen=True, slots=True)
class MetricsText:
    """In Prometheus' text format; empty for a node that keeps none."""

    text: str


@dataclass(frozen=True, slots=True)
class SubmitEvidence:
    """Evidence of either form against validators, as consensus.evidence_forms encodes it."""

    encoded: bytes


@dataclass(frozen=True, slots=True)
class EvidenceVerdict:
    """``refusal`` is empty when the node found it to be good, holds it and passes it on."""

    evidence_hash: bytes
    refusal: str


@dataclass(frozen=True, slots=True)
class GetConsensusState:
    pass


@dataclass(frozen=True, slots=True)
class Member:
    """Of the voting set; its place in the list is its index."""

    voting_key: bytes
    operator: bytes
    power: int
    last_height: int = -1
    """The highest at which it voted; -1: nothing was heard of it since this node started."""
    is_away: bool = False
    """No vote of it came for two heights, or for long at one that stands still: whatever the step is now."""


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
    members: tuple[Member, ...]
    """The voting set."""
    total_power: int
    """Of the voting set: what a quorum is more than two thirds of."""
    proposed_hash: bytes
    """What this round's proposer proposed; empty: its proposal is not here."""
    is_proposal_checked: bool
    """Whether that block is here and was executed."""
    rounds: tuple[RoundVotes, ...]
    """Ascending, at most MAX_ROUNDS_SHOWN."""
    waiting_since_ms: int
    """Unix time in milliseconds at which this step began."""
    own_index: int
    """Of this node's key in the voting set; -1: it is not there."""
    is_validator: bool
    """Whether it is."""
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
    SubmitTransactions
    | GetPendingNonce
    | GetPooledTransaction
    | GetPoolSenders
    | GetPoolPage
    | GetTransactionFate
    | GetNodeStatus
    | GetConsensusState
    | GetNetworkView
    | CheckReachability
    | GetMetrics
    | SubmitEvidence
)
Reply = (
    Verdicts
    | PendingNonce
    | PooledTransaction
    | PoolSenders
    | PoolPage
    | PoolFate
    | NodeStatus
    | ConsensusStateReply
    | NetworkView
    | Reachability
    | MetricsText
    | EvidenceVerdict
    | LinkFailed
)
Push = NewHead | NewPendingTransactions
