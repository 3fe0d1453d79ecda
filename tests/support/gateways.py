"""A small node for gateway tests: the real execution facade in memory, one validator, a pool that is a list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any

import orjson
from eth_account import Account
from eth_utils.address import to_checksum_address

from astralink_node.chain.execution import Execution, ExecutionConfig
from astralink_node.chain.initialise import initialise
from astralink_node.chain.messages import (
    Answer,
    AtHeight,
    BlockAnswer,
    BlockQuestion,
    Build,
    BuildAttributes,
    Built,
    Candidate,
    Commit,
    Committed,
    Query,
)
from astralink_node.evm.transactions import decode_transaction
from astralink_node.gateway.config import DEFAULT_APIS, GatewayConfig, GatewayLimits
from astralink_node.gateway.context import ChainIdentity
from astralink_node.gateway.gateway import Gateway, HeadFeed
from astralink_node.gateway.link_messages import (
    NO_NETWORK,
    CheckReachability,
    ConsensusState,
    ConsensusStateReply,
    DialedBack,
    EvidenceVerdict,
    GetConsensusState,
    GetMetrics,
    GetNetworkView,
    GetNodeStatus,
    GetPendingNonce,
    GetPooledTransaction,
    LinkFailed,
    MetricsText,
    NetworkView,
    NewHead,
    NewPendingTransactions,
    NodeStatus,
    PendingNonce,
    PooledTransaction,
    Push,
    Reachability,
    Reply,
    Request,
    SubmitEvidence,
    SubmittedTransaction,
    SubmitTransactions,
    Verdict,
    Verdicts,
)
from astralink_node.gateway.pool_messages import (
    DroppedFate,
    GetPoolPage,
    GetPoolSenders,
    GetTransactionFate,
    HeldFate,
    HeldTransaction,
    PoolFate,
    PoolPage,
    PoolSenders,
)
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import Address
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_CHAIN_ID
from genesis.schema import GenesisAccount
from tests.support.asynchronous import run
from tests.support.chains import GENESIS_TIMESTAMP, commit_certificate, genesis_text, reveal, secrets_of

CHAIN_ID = DEVNET_CHAIN_ID
ALICE, BOB, CAROL = DEVNET_ACCOUNTS[:3]

FEE_RECIPIENT = bytes(19) + b"\xfe"

ECHO = Address(bytes.fromhex("ec40" * 10))
"""Logs its call data under the topic in its first word, and returns it."""
REVERTER = Address(bytes.fromhex("4e4e" * 10))
"""Reverts with its call data."""
COUNTER = Address(bytes.fromhex("c0c0" * 10))
"""Storage slot 0 is 56; a call adds one."""

_ECHO_CODE = bytes.fromhex("366000600037600035366000a13660 00f3".replace(" ", ""))
_REVERTER_CODE = bytes.fromhex("3660006000373660 00fd".replace(" ", ""))
_COUNTER_CODE = bytes.fromhex("60005460010160005500")


class SmallNode:
    """What a gateway sees of a node and its execution process. Blocks are made when a test says so."""

    def __init__(
        self,
        *,
        chain_id: int = CHAIN_ID,
        contracts: Mapping[Address, GenesisAccount] | None = None,
        explorer_index: bool = False,
        timestamp: int = GENESIS_TIMESTAMP,
        max_gas_target: int = 15_000_000,
    ) -> None:
        self.chain_id = chain_id
        alloc = {
            ECHO: GenesisAccount(0, 1, _ECHO_CODE, ()),
            REVERTER: GenesisAccount(0, 1, _REVERTER_CODE, ()),
            COUNTER: GenesisAccount(7, 1, _COUNTER_CODE, ((0, 56),)),
        }
        text = genesis_text(
            chain_id=chain_id,
            extra_alloc={**alloc, **(contracts or {})},
            timestamp=timestamp,
            max_gas_target=max_gas_target,
        )
        self.store = MemoryStore()
        initialise(self.store, text)
        self.execution = Execution.open(
            self.store, ExecutionConfig(explorer_index=explorer_index), now_ns=time.monotonic_ns
        )
        status = self.execution.status()
        self.genesis_hash = status.genesis_hash
        self.pool: dict[bytes, SubmittedTransaction] = {}
        self.submitted: list[int] = []
        """How many transactions each batch from the gateway held."""
        self.queries = 0
        self.followers: list[Callable[[Push], None]] = []
        self.announcing = True
        self.fee_recipient = FEE_RECIPIENT
        self.consensus_state: ConsensusState | None = None
        self.network: NetworkView = NO_NETWORK
        self.dialed_back: tuple[DialedBack, ...] = ()
        self.metrics = ""
        self.dropped: dict[bytes, str] = {}
        """Reason by hash."""
        self.evidence: list[bytes] = []
        self.evidence_verdict = EvidenceVerdict(b"", "already known")
        self._certificate = b""
        self.head = self._genesis_head()

    def _genesis_head(self) -> Committed:

        answer = self.execution.query(Query(AtHeight(0), BlockQuestion()))
        assert isinstance(answer, BlockAnswer)
        status = self.execution.status()
        return Committed(answer.block, (), (), status.next_base_fee_wei, status.next_gas_limit)

    # --- The backend of a gateway ----------------------------------------------------------------------------

    async def query(self, query: Query) -> Answer:
        self.queries += 1
        await asyncio.sleep(0)
        return self.execution.query(query)

    async def stream(self, query: Query) -> AsyncGenerator[Answer]:
        self.queries += 1
        await asyncio.sleep(0)
        chunks: list[Answer] = []
        ending = self.execution.query(query, emit=chunks.append)
        for answer in (*chunks, ending):
            yield answer

    async def ask_node(self, request: Request) -> Reply:
        await asyncio.sleep(0)
        return self.reply(request)

    def reply(self, request: Request) -> Reply:
        match request:
            case SubmitTransactions(transactions):
                self.submitted.append(len(transactions))
                verdicts = Verdicts(tuple(self._admit(each) for each in transactions))
                self.push(NewPendingTransactions(transactions))
                return verdicts
            case GetPendingNonce(address):
                nonces = [decode_transaction(raw).nonce for raw, sender in self._pooled() if sender == address]
                return PendingNonce(bool(nonces), max(nonces) + 1 if nonces else 0)
            case GetPooledTransaction(transaction_hash):
                found = self.pool.get(transaction_hash)
                return (
                    PooledTransaction(b"", b"")
                    if found is None
                    else PooledTransaction(found.raw_transaction, found.sender)
                )
            case GetPoolSenders():
                return PoolSenders(b"".join({sender for _, sender in self._pooled()}))
            case GetPoolPage(senders):
                held = [HeldTransaction(raw, sender) for raw, sender in self._pooled() if sender in senders]
                return PoolPage(tuple(held), (), len(senders), 0)
            case GetTransactionFate(transaction_hash):
                return self._fate(transaction_hash)
            case GetNodeStatus():
                return NodeStatus(
                    client_version="AstraLink/test",
                    chain_id=self.chain_id,
                    genesis_hash=self.genesis_hash,
                    is_validator=True,
                    block_interval_ms=1000,
                    head_height=self.execution.status().head_height,
                    pending_transactions=len(self.pool),
                    queued_transactions=0,
                    makes_empty_blocks=True,
                    fee_recipient=self.fee_recipient,
                )
            case GetConsensusState():
                return ConsensusStateReply(self.consensus_state)
            case GetNetworkView():
                return self.network
            case CheckReachability():
                return Reachability(self.dialed_back)
            case GetMetrics():
                return MetricsText(self.metrics)
            case SubmitEvidence(encoded):
                self.evidence.append(encoded)
                return self.evidence_verdict
            case _:
                return LinkFailed("unknown request")

    def _pooled(self) -> list[tuple[bytes, bytes]]:
        return [(each.raw_transaction, each.sender) for each in self.pool.values()]

    def _fate(self, transaction_hash: bytes) -> PoolFate:
        held = self.pool.get(transaction_hash)
        if held is not None:
            return PoolFate(HeldFate(held.sender, decode_transaction(held.raw_transaction).nonce, True, "block"))
        reason = self.dropped.get(transaction_hash)
        return PoolFate(None if reason is None else DroppedFate(reason, at_ms=1000))

    def _admit(self, submitted: SubmittedTransaction) -> Verdict:
        transaction = decode_transaction(submitted.raw_transaction)
        if transaction.hash in self.pool:
            return Verdict(transaction.hash, "already known", -32000)
        self.pool[transaction.hash] = submitted
        return Verdict(transaction.hash, "", 0)

    # --- Blocks ----------------------------------------------------------------------------------------------

    def produce(self, *, interval_ms: int = 1000, fee_recipient: bytes = FEE_RECIPIENT) -> Committed:
        """Make the pool's transactions a block that long after the last one, commit it, announce it."""
        status = self.execution.status()
        height = status.head_height + 1
        secret = secrets_of(self.execution.context.voting_set, 1)[0]
        candidates = tuple(Candidate(each.raw_transaction, each.sender) for each in self.pool.values())
        attributes = BuildAttributes(
            time_ms=status.head_time_ms + interval_ms,
            fee_recipient=fee_recipient,
            round_=0,
            proposer_index=0,
            reveal=reveal(secret, self.genesis_hash, height),
            parent_certificate=self._certificate,
        )
        built = self.execution.build(Build(status.head_hash, attributes, candidates, 10_000))
        assert isinstance(built, Built), built
        assert not built.dropped, built.dropped
        certificate = commit_certificate([secret], self.genesis_hash, height, built.block_hash)
        committed = self.execution.commit(Commit(built.block_hash, certificate))
        assert isinstance(committed, Committed)
        self._certificate = certificate
        self.pool.clear()
        self.head = committed
        if self.announcing:
            self.push(NewHead(committed))
        return committed

    def push(self, push: Push) -> None:
        for follower in self.followers:
            follower(push)

    def add(self, raw: bytes) -> bytes:
        """Put a signed transaction into the pool, past the gateway."""
        transaction = decode_transaction(raw)
        sender = bytes.fromhex(Account.recover_transaction(raw)[2:])
        self.pool[transaction.hash] = SubmittedTransaction(raw, sender)
        return transaction.hash


class Client:
    """Calls a gateway object as a client would, JSON in and JSON out."""

    def __init__(self, node: SmallNode, gateway: Gateway, feed: HeadFeed) -> None:
        self.node = node
        self.gateway = gateway
        self.feed = feed

    async def send(self, message: object) -> Any:
        answer = await self.gateway.answer(message if isinstance(message, bytes) else orjson.dumps(message))
        return None if answer is None else orjson.loads(answer)

    async def call(self, method: str, *params: object) -> Any:
        """The result; an error fails the test."""
        answer = await self.send({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        assert "result" in answer, answer
        return answer["result"]

    async def error(self, method: str, *params: object) -> dict[str, Any]:
        answer = await self.send({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        assert "error" in answer, answer
        error: dict[str, Any] = answer["error"]
        return error


def with_client(
    body: Callable[[Client], Coroutine[Any, Any, None]],
    *,
    node: SmallNode | None = None,
    apis: tuple[str, ...] = DEFAULT_APIS,
    limits: GatewayLimits | None = None,
    now: Callable[[], float] = time.monotonic,
    dev_accounts: bool = False,
    faucet_turn: int = 0,
    mined_wait_ms: int = 0,
) -> None:
    """Run a test body against a gateway in front of a small node, all in this process."""
    node = SmallNode() if node is None else node

    async def main() -> None:
        config = GatewayConfig(
            "",
            "",
            apis=apis,
            limits=limits or GatewayLimits(),
            dev_accounts=dev_accounts,
            faucet_turn=faucet_turn,
            mined_wait_ms=mined_wait_ms,
        )
        feed = HeadFeed(config, now)
        node.followers.append(feed.on_push)
        feed.on_push(NewHead(node.head))
        gateway = Gateway(config, ChainIdentity(node.chain_id, node.genesis_hash, "AstraLink/test"), node, feed)
        background = [asyncio.create_task(each.run()) for each in (gateway.submissions, gateway.sync_watch)]
        try:
            await body(Client(node, gateway, feed))
        finally:
            node.followers.remove(feed.on_push)
            for task in background:
                task.cancel()

    run(main)


def signed(account: Any, **fields: Any) -> bytes:
    """A signed transaction's bytes; sensible defaults, type 2 unless a gas price or a type says otherwise."""
    transaction: dict[str, Any] = {"chainId": CHAIN_ID, "gas": 100_000, "value": 0, "data": b""}
    if "gasPrice" not in fields:
        transaction |= {"maxFeePerGas": 3 * 10**9, "maxPriorityFeePerGas": 10**9}
    transaction |= fields
    if isinstance(transaction.get("to"), bytes):
        transaction["to"] = checksummed(transaction["to"])
    return bytes(Account.from_key(account.private_key).sign_transaction(transaction).raw_transaction)


def checksummed(address: bytes) -> str:
    return to_checksum_address(address)


def hexed(value: bytes) -> str:
    return "0x" + value.hex()
