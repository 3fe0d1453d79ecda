"""Each transaction's sender is recovered once on a node, whichever way it comes in and however often.

What is counted is every recovery from a transaction's signature, in all parts of the node, which this process holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.messages import Answer, Candidate, LimitExceeded, Query, Valid, Validate
from astralink_node.config import BlocksConfig
from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.secp256k1 import recover_address
from astralink_node.evm import transactions
from astralink_node.gateway.link_messages import (
    Reply,
    Request,
    SubmittedTransaction,
    SubmitTransactions,
    Verdict,
    Verdicts,
)
from astralink_node.gateway.submission import Submissions
from astralink_node.services.offload import inline
from astralink_node.services.proposer import Proposer
from astralink_node.services.transaction_gossip import TransactionGossip, encode_batch
from astralink_node.services.transaction_pool import TransactionPool
from astralink_node.txpool.pool import PoolLimits
from astralink_node.types import Address
from consensus.params import ConsensusParams
from genesis.devnet_terms import DEVNET_CHAIN_ID
from genesis.sealing import parse_genesis
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from p2p.topics import Topic
from tests.support.asynchronous import run
from tests.support.chains import LocalChain, candidate

NOW_MS = 1_800_000_000_000
ENTRIES = [*(candidate(account, 0) for account in range(4)), candidate(0, 1)]
SENDERS = [entry.sender for entry in ENTRIES]


@pytest.fixture
def recovered(monkeypatch: pytest.MonkeyPatch) -> list[Address]:
    """Everybody who was recovered, in order."""
    found: list[Address] = []

    def noting(message_hash: bytes, r: int, s: int, y_parity: int) -> Address:
        found.append(recover_address(message_hash, r, s, y_parity))
        return found[-1]

    monkeypatch.setattr(transactions, "recover_address", noting)
    return found


class Node:
    """A chain with its mempool, which hears of transactions by gossip and validates blocks."""

    def __init__(self) -> None:
        self.chain = LocalChain()
        execution = InProcessExecution(self.chain.execution)
        rules = parse_genesis(self.chain.genesis).chain_rules()
        self.pool = TransactionPool(execution, rules, PoolLimits(), self.chain.execution.status(), lambda: NOW_MS)
        self.proposer = Proposer(execution, self.pool, ConsensusParams(), BlocksConfig(), lambda: NOW_MS, inline)

    async def submit(self, submitted: Sequence[SubmittedTransaction]) -> None:
        verdicts = await self.pool.submit(submitted)
        assert {verdict.rejection for verdict in verdicts} == {""}

    async def hear(self, *batches: Sequence[Candidate]) -> None:
        network = MemoryNetwork()
        own, peer = network.join(PeerId(b"own")), network.join(PeerId(b"peer"))
        gossip = TransactionGossip(own, self.pool, inline)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gossip.run)
            for batch in batches:
                peer.send(own.own_id, Topic.TRANSACTION, encode_batch([entry.raw_transaction for entry in batch]))
                await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        heard = {keccak256(entry.raw_transaction) for batch in batches for entry in batch}
        assert all(transaction_hash in self.pool.pool for transaction_hash in heard)

    async def validate(self, raw_block: bytes) -> None:
        senders = await self.proposer.known_senders(raw_block)
        assert isinstance(self.chain.execution.validate(Validate(raw_block, senders)), Valid)


class HandedOver:
    """A node that takes whatever a gateway hands it."""

    def __init__(self) -> None:
        self.submitted: list[SubmittedTransaction] = []

    async def query(self, query: Query) -> Answer:
        return LimitExceeded(f"unused: {query}")

    async def ask_node(self, request: Request) -> Reply:
        assert isinstance(request, SubmitTransactions)
        self.submitted += request.transactions
        return Verdicts(tuple(Verdict(keccak256(each.raw_transaction), "", 0) for each in request.transactions))


def through_a_gateway(*entries: Candidate) -> list[SubmittedTransaction]:
    """What reaches the node."""
    node = HandedOver()

    async def main() -> None:
        submissions = Submissions(node, DEVNET_CHAIN_ID, max_waiting=100, max_batch=100)
        serving = asyncio.create_task(submissions.run())
        for entry in entries:
            await submissions.submit(entry.raw_transaction)
        serving.cancel()

    run(main)
    return node.submitted


def test_from_a_client_to_a_committed_block_it_is_the_gateway_that_recovers(recovered: list[Address]) -> None:
    node = Node()
    submitted = through_a_gateway(*ENTRIES)
    trio.run(node.submit, submitted)
    built = node.chain.build(node.pool.candidates())
    assert built.included == len(ENTRIES)
    trio.run(node.validate, built.raw_block)
    node.pool.on_committed(node.chain.commit(built.block_hash))
    assert recovered == SENDERS


def test_what_a_client_sends_again_is_not_recovered_again(recovered: list[Address]) -> None:
    assert [each.sender for each in through_a_gateway(ENTRIES[0], ENTRIES[1], ENTRIES[0])] == [
        SENDERS[0],
        SENDERS[1],
        SENDERS[0],
    ]
    assert recovered == SENDERS[:2]


def test_a_proposed_block_of_transactions_heard_before_needs_no_recovery(recovered: list[Address]) -> None:
    node = Node()
    raw_block = LocalChain().build(ENTRIES).raw_block
    trio.run(node.hear, ENTRIES)
    assert recovered == SENDERS
    trio.run(node.validate, raw_block)
    assert recovered == SENDERS


def test_of_a_proposed_block_only_what_is_not_in_the_pool_is_recovered(recovered: list[Address]) -> None:
    node = Node()
    raw_block = LocalChain().build(ENTRIES).raw_block
    trio.run(node.hear, ENTRIES[:3])
    recovered.clear()
    trio.run(node.validate, raw_block)
    assert recovered == SENDERS[3:]


def test_what_comes_from_a_client_and_from_peers_is_recovered_for_the_client_alone(recovered: list[Address]) -> None:
    node = Node()
    trio.run(node.submit, through_a_gateway(*ENTRIES[:3]))
    trio.run(node.hear, ENTRIES, ENTRIES)
    assert recovered == SENDERS


def test_what_is_no_block_is_left_to_execution() -> None:
    assert trio.run(Node().proposer.known_senders, b"no block") == ()
