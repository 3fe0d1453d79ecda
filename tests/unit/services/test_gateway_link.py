"""The node's end of the gateways' socket: answers, the head feed, and gateways that misbehave."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
import trio.testing

from astralink_node.chain.client import ExecutionGone, InProcessExecution
from astralink_node.chain.codec import decode, encode
from astralink_node.chain.frames import PUSH_ID, Frame, FrameDecoder, encode_frame
from astralink_node.chain.messages import Committed
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.transactions import decode_transaction
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
    Member,
    MetricsText,
    NewHead,
    NewPendingTransactions,
    NodeStatus,
    PendingNonce,
    PooledTransaction,
    Push,
    Reachability,
    RefusedPeer,
    Reply,
    Request,
    RoundVotes,
    SubmitEvidence,
    SubmittedTransaction,
    SubmitTransactions,
    SyncProgress,
    Verdicts,
    VotesFor,
)
from astralink_node.gateway.pool_messages import (
    GetPoolPage,
    GetPoolSenders,
    GetTransactionFate,
    HeldFate,
    HeldTransaction,
    PoolFate,
    PoolPage,
    PoolSenders,
)
from astralink_node.services import gateway_link
from astralink_node.services.evidence_desk import EvidenceUnwelcome
from astralink_node.services.gateway_link import ConsensusStateSource, GatewayLink, no_consensus_state
from astralink_node.services.transaction_pool import TransactionPool
from astralink_node.txpool.admission import PoolTransaction
from astralink_node.txpool.pool import PoolLimits
from astralink_node.types import Address
from genesis.sealing import parse_genesis
from tests.support.chains import LocalChain, candidate
from tests.support.networks import network_of

STATUS = NodeStatus("AstraLink/test", 1, bytes(32), True, 1000, 7, 0, 0, True)


class Gateway:
    """A small gateway: asks, and collects what is pushed."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._frames = FrameDecoder()
        self._ready: list[Frame] = []

    async def next_frame(self) -> Frame | None:
        while not self._ready:
            data = await self.stream.receive_some(1 << 16)
            if not data:
                return None
            self._ready += self._frames.feed(bytes(data))
        return self._ready.pop(0)

    async def next_push(self) -> Push:
        frame = await self.next_frame()
        assert frame is not None
        assert frame.request_id == PUSH_ID
        push: Push = decode(Push, frame.payload)
        return push

    async def ask(self, request: Request) -> Reply:
        await self.stream.send_all(encode_frame(5, encode(request)))
        while True:
            frame = await self.next_frame()
            assert frame is not None
            if frame.request_id == 5:
                reply: Reply = decode(Reply, frame.payload)
                return reply


@dataclass
class Bench:
    chain: LocalChain
    head: Committed
    link: GatewayLink
    port: int
    streams: list[trio.SocketStream] = field(default_factory=list)

    async def connect(self) -> Gateway:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.streams.append(stream)
        return Gateway(stream)


def with_bench(
    scenario: Callable[[Bench], Awaitable[None]],
    consensus_state: ConsensusStateSource = no_consensus_state,
    **sources: Any,
) -> None:
    async def main() -> None:
        chain = LocalChain()
        head = chain.produce([])
        rules = parse_genesis(chain.genesis).chain_rules()
        status = chain.execution.status()
        pool = TransactionPool(InProcessExecution(chain.execution), rules, PoolLimits(), status, lambda: 0)
        link = GatewayLink(pool, lambda: STATUS, head, consensus_state, **sources)
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        port = listener.socket.getsockname()[1]
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.serve, listener)
                bench = Bench(chain, head, link, port)
                try:
                    await scenario(bench)
                finally:
                    for stream in bench.streams:
                        await trio.aclose_forcefully(stream)
                    nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_gateway_is_told_the_head_first() -> None:
    async def scenario(bench: Bench) -> None:
        gateway = await bench.connect()
        assert await gateway.next_push() == NewHead(bench.head)

    with_bench(scenario)


def test_every_request_has_its_answer() -> None:
    async def scenario(bench: Bench) -> None:
        gateway = await bench.connect()
        sent = candidate(3, 0)
        transaction = SubmittedTransaction(sent.raw_transaction, sent.sender)
        verdicts = await gateway.ask(SubmitTransactions((transaction,)))
        assert isinstance(verdicts, Verdicts)
        assert [verdict.rejection for verdict in verdicts.verdicts] == [""]
        assert await gateway.ask(GetPendingNonce(sent.sender)) == PendingNonce(known=True, nonce=1)
        assert await gateway.ask(GetPendingNonce(bytes(20))) == PendingNonce(known=False, nonce=0)
        found = await gateway.ask(GetPooledTransaction(keccak256(sent.raw_transaction)))
        assert found == PooledTransaction(sent.raw_transaction, sent.sender)
        assert await gateway.ask(GetPooledTransaction(bytes(32))) == PooledTransaction(b"", b"")
        assert await gateway.ask(GetPoolSenders()) == PoolSenders(sent.sender)
        held = HeldTransaction(sent.raw_transaction, sent.sender)
        assert await gateway.ask(GetPoolPage((sent.sender,), 0)) == PoolPage((held,), (), 1, 0)
        fate = await gateway.ask(GetTransactionFate(keccak256(sent.raw_transaction)))
        assert fate == PoolFate(HeldFate(sent.sender, 0, True, "block"))
        assert await gateway.ask(GetTransactionFate(bytes(32))) == PoolFate(None)
        assert await gateway.ask(GetNodeStatus()) == STATUS
        assert await gateway.ask(GetConsensusState()) == ConsensusStateReply(None)
        assert await gateway.ask(GetNetworkView()) == NO_NETWORK
        assert await gateway.ask(CheckReachability()) == Reachability(())
        assert await gateway.ask(GetMetrics()) == MetricsText("")
        refused = await gateway.ask(SubmitEvidence(b"anything"))
        assert isinstance(refused, EvidenceVerdict)
        assert "takes no part in the network" in refused.refusal

    with_bench(scenario)


def test_the_network_and_the_metrics_are_what_their_sources_say() -> None:
    network = network_of([1, 3], refused=(RefusedPeer("node9", "another chain", 1, True),), sync=SyncProgress(1, 2, 3))
    reports = (DialedBack("node1", "/ip4/9.9.9.9/tcp/1", "reached", ""),)

    async def dial_back() -> tuple[DialedBack, ...]:
        return reports

    async def scenario(bench: Bench) -> None:
        gateway = await bench.connect()
        assert await gateway.ask(GetNetworkView()) == network
        assert await gateway.ask(CheckReachability()) == Reachability(reports)
        assert await gateway.ask(GetMetrics()) == MetricsText("astralink_peers 2\n")

    with_bench(scenario, network=lambda: network, reachability=dial_back, metrics=lambda: "astralink_peers 2\n")


def test_evidence_is_answered_with_its_hash_or_with_the_reason_against_it() -> None:
    async def submit(encoded: bytes) -> bytes:
        if encoded == b"good":
            return b"h" * 32
        if encoded == b"late":
            raise ExecutionGone("the execution process is gone")
        raise EvidenceUnwelcome("already known")

    async def scenario(bench: Bench) -> None:
        gateway = await bench.connect()
        assert await gateway.ask(SubmitEvidence(b"good")) == EvidenceVerdict(b"h" * 32, "")
        assert await gateway.ask(SubmitEvidence(b"bad")) == EvidenceVerdict(b"", "already known")
        assert await gateway.ask(SubmitEvidence(b"late")) == LinkFailed("the execution process is gone")

    with_bench(scenario, submit_evidence=submit)


def test_the_state_of_consensus_is_what_its_source_says_now() -> None:
    votes = VotesFor(bytes(32), 32, b"\x01")
    first = ConsensusState(
        height=2,
        round_=0,
        step="prevote",
        proposer_index=0,
        locked_round=-1,
        locked_hash=b"",
        valid_round=-1,
        valid_hash=b"",
        members=(Member(bytes(48), bytes(20), 32),),
        total_power=32,
        proposed_hash=b"",
        is_proposal_checked=False,
        rounds=(RoundVotes(0, 0, (votes,), ()),),
        waiting_since_ms=1_000,
        own_index=0,
        is_validator=True,
        is_signing=True,
    )
    second = replace(first, step="precommit", rounds=(RoundVotes(0, 0, (votes,), (votes,)),))
    states = iter((first, second))

    async def scenario(bench: Bench) -> None:
        gateway = await bench.connect()
        for state in (first, second):
            assert await gateway.ask(GetConsensusState()) == ConsensusStateReply(state)

    with_bench(scenario, lambda: next(states))


def pending(data: bytes = b"") -> tuple[PoolTransaction, SubmittedTransaction]:
    sent = candidate(0, 0, data=data, gas=30_000_000)
    entry = PoolTransaction(decode_transaction(sent.raw_transaction), Address(sent.sender), 0)
    return entry, SubmittedTransaction(sent.raw_transaction, sent.sender)


def test_heads_and_pending_transactions_are_pushed_to_every_gateway() -> None:
    async def scenario(bench: Bench) -> None:
        gateways = [await bench.connect(), await bench.connect()]
        for gateway in gateways:
            await gateway.next_push()
        entry, sent = pending()
        committed = bench.chain.produce([])
        bench.link.publish_head(committed)
        bench.link.publish_pending([entry])
        for gateway in gateways:
            assert await gateway.next_push() == NewHead(committed)
            assert await gateway.next_push() == NewPendingTransactions((sent,))

    with_bench(scenario)


def test_many_pending_transactions_are_pushed_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_link, "MAX_PENDING_BATCH", 2)

    async def scenario(bench: Bench) -> None:
        gateway = await bench.connect()
        await gateway.next_push()
        entry, sent = pending()
        bench.link.publish_pending([entry] * 5)
        pushed = [await gateway.next_push() for _ in range(3)]
        assert pushed == [NewPendingTransactions((sent,) * count) for count in (2, 2, 1)]

    with_bench(scenario)


def test_rubbish_ends_that_gateway_and_no_other() -> None:
    async def scenario(bench: Bench) -> None:
        bad, good = await bench.connect(), await bench.connect()
        await bad.next_push()
        await bad.stream.send_all(encode_frame(1, b"\xff\xff\xff"))
        assert await bad.next_frame() is None
        assert await good.ask(GetNodeStatus()) == STATUS

    with_bench(scenario)


def test_a_gateway_that_does_not_read_is_disconnected_and_delays_nobody() -> None:
    async def scenario(bench: Bench) -> None:
        stuck, good = await bench.connect(), await bench.connect()
        await stuck.next_push()
        await good.next_push()
        entry, big = pending(bytes(1 << 20))
        # The stuck one's socket buffers take a few frames, its queue up to its bound, and then it is gone.
        for _ in range((gateway_link.MAX_QUEUED_BYTES >> 20) + 16):
            bench.link.publish_pending([entry])
            assert await good.next_push() == NewPendingTransactions((big,))
        await trio.testing.wait_all_tasks_blocked()
        while await stuck.next_frame() is not None:
            pass
        assert await good.ask(GetNodeStatus()) == STATUS

    with_bench(scenario)


def test_a_gateway_too_many_is_turned_away() -> None:
    async def scenario(bench: Bench) -> None:
        gateways = [await bench.connect() for _ in range(gateway_link.MAX_GATEWAYS)]
        for gateway in gateways:
            await gateway.next_push()
        assert await (await bench.connect()).next_frame() is None
        assert await gateways[0].ask(GetNodeStatus()) == STATUS

    with_bench(scenario)
