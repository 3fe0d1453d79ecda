"""Transactions between mempools over a network in memory, with a real pool on a real chain: how they are batched, what
is sent on, and how what peers send is judged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.messages import Candidate
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.rlp import decode as rlp_decode
from astralink_node.evm.rlp import encode as rlp_encode
from astralink_node.gateway.link_messages import SubmittedTransaction
from astralink_node.services import transaction_gossip
from astralink_node.services.offload import inline
from astralink_node.services.transaction_gossip import (
    BATCH_INTERVAL_S,
    BATCH_S,
    MAX_BATCH_BYTES,
    MAX_BATCH_TRANSACTIONS,
    TransactionGossip,
    decode_batch,
    encode_batch,
)
from astralink_node.services.transaction_pool import TransactionPool
from astralink_node.txpool.pool import PoolLimits
from consensus.wire import DecodeError
from genesis.sealing import parse_genesis
from p2p.gossip_events import Verdict
from p2p.memory_transport import MemoryNetwork, MemoryTransport
from p2p.peer_id import PeerId
from p2p.topics import Topic
from tests.support.chains import GWEI, LocalChain, candidate
from tests.support.judged_transport import JudgedTransport

OWN, ANN, BOB = PeerId(b"own"), PeerId(b"ann"), PeerId(b"bob")
NOW_MS = 1_800_000_000_000


class Bench:
    """One node's pool and gossip, and two peers that look on."""

    def __init__(self, limits: PoolLimits | None = None) -> None:
        self.clock = MockClock()
        self.chain = LocalChain()
        rules = parse_genesis(self.chain.genesis).chain_rules()
        execution = InProcessExecution(self.chain.execution)
        self.pool = TransactionPool(
            execution, rules, limits or PoolLimits(), self.chain.execution.status(), lambda: NOW_MS
        )
        network = MemoryNetwork()
        self.transport = JudgedTransport(network.join(OWN))
        self.ann, self.bob = network.join(ANN), network.join(BOB)
        self.gossip = TransactionGossip(self.transport, self.pool, inline)
        self.pool.on_pending = self.gossip.announce

    async def submit(self, *entries: Candidate) -> list[str]:
        """From this node's own users: each one's rejection, empty where it was taken."""
        submitted = [SubmittedTransaction(entry.raw_transaction, entry.sender) for entry in entries]
        return [verdict.rejection for verdict in await self.pool.submit(submitted)]

    async def hear(self, *entries: Candidate | bytes, peer: MemoryTransport | None = None) -> Verdict:
        """A batch from a peer: the verdict on it."""
        raw = [entry if isinstance(entry, bytes) else entry.raw_transaction for entry in entries]
        return await self.hear_bytes(encode_batch(raw), peer)

    async def hear_bytes(self, data: bytes, peer: MemoryTransport | None = None) -> Verdict:
        sender = peer or self.ann
        sender.send(OWN, Topic.TRANSACTION, data)
        await wait_all_tasks_blocked()
        (found,) = self.transport.verdicts
        self.transport.verdicts.clear()
        assert found[:2] == (sender.own_id, data)
        return found[2]

    async def sent(self) -> list[list[bytes]]:
        """The batches that went out until now, as a peer sees them."""
        await wait_all_tasks_blocked()
        messages = self.bob.receive_waiting(1_000)
        assert {message.topic for message in messages} <= {Topic.TRANSACTION}
        return [decode_batch(message.data) for message in messages]

    async def all_sent(self) -> list[list[bytes]]:
        """Also what waited for company."""
        await wait_all_tasks_blocked()
        self.clock.jump(BATCH_INTERVAL_S)
        return await self.sent()

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.gossip.run)
                await scenario()
                nursery.cancel_scope.cancel()

        trio.run(main, clock=self.clock)


def raws(entries: Sequence[Candidate]) -> list[bytes]:
    return [entry.raw_transaction for entry in entries]


def long_one(account: int, nonce: int, size: int) -> Candidate:
    """With so many bytes of data."""
    return candidate(account, nonce, data=bytes(size), gas=21_000 + 10 * size)


# --- Out -----------------------------------------------------------------------------------------------------------


def test_transactions_that_come_within_a_moment_go_out_as_one_batch() -> None:
    bench = Bench()
    entries = [candidate(account, 0) for account in range(3)]

    async def scenario() -> None:
        for entry in entries:
            assert await bench.submit(entry) == [""]
            assert await bench.sent() == []
            bench.clock.jump(BATCH_S / 4)
        assert await bench.sent() == []
        bench.clock.jump(BATCH_S / 4)
        assert await bench.sent() == [raws(entries)]

    bench.run(scenario)


def test_under_load_a_batch_waits_until_the_last_one_is_an_interval_ago() -> None:
    bench = Bench()

    async def scenario() -> None:
        await bench.submit(candidate(0, 0))
        await wait_all_tasks_blocked()
        bench.clock.jump(BATCH_S)
        assert await bench.sent() == [raws([candidate(0, 0)])]
        await bench.submit(candidate(1, 0))
        await wait_all_tasks_blocked()
        bench.clock.jump(BATCH_INTERVAL_S * 0.9)
        await bench.submit(candidate(2, 0))
        assert await bench.sent() == []
        bench.clock.jump(BATCH_INTERVAL_S * 0.1)
        assert await bench.sent() == [raws([candidate(1, 0), candidate(2, 0)])]
        bench.clock.jump(BATCH_INTERVAL_S)
        await bench.submit(candidate(3, 0))
        await wait_all_tasks_blocked()
        bench.clock.jump(BATCH_S)
        assert await bench.sent() == [raws([candidate(3, 0)])]

    bench.run(scenario)


def test_a_batch_that_is_full_by_count_goes_at_once() -> None:
    bench = Bench()
    entries = [candidate(account, nonce) for nonce in range(30) for account in range(10)]

    async def scenario() -> None:
        assert set(await bench.submit(*entries)) == {""}
        (full,) = await bench.sent()
        assert len(full) == MAX_BATCH_TRANSACTIONS
        (rest,) = await bench.all_sent()
        assert sorted(full + rest) == sorted(raws(entries))

    bench.run(scenario)


def test_a_batch_that_is_full_by_size_goes_at_once_and_the_next_begins() -> None:
    bench = Bench()
    entries = [long_one(account, 0, 30_000) for account in range(5)]

    async def scenario() -> None:
        assert set(await bench.submit(*entries)) == {""}
        batches = await bench.sent() + await bench.all_sent()
        assert [len(batch) for batch in batches] == [3, 2]
        assert all(sum(map(len, batch)) <= MAX_BATCH_BYTES for batch in batches)
        assert sorted(raw for batch in batches for raw in batch) == sorted(raws(entries))

    bench.run(scenario)


def test_one_that_is_larger_than_a_batch_goes_alone_at_once() -> None:
    bench = Bench()
    small, large = candidate(0, 0), long_one(1, 0, MAX_BATCH_BYTES)

    async def scenario() -> None:
        assert await bench.submit(small) == [""]
        assert await bench.submit(large) == [""]
        assert await bench.sent() == [raws([small]), raws([large])]

    bench.run(scenario)


def test_one_that_waits_for_an_earlier_nonce_goes_out_when_that_comes() -> None:
    bench = Bench()
    first, second = candidate(0, 0), candidate(0, 1)

    async def scenario() -> None:
        await bench.submit(second)
        assert await bench.all_sent() == []
        await bench.submit(first)
        assert await bench.all_sent() == [raws([first, second])]

    bench.run(scenario)


def test_what_waits_to_be_sent_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction_gossip, "MAX_WAITING", 4)
    bench = Bench()
    entries = [candidate(account, 0) for account in range(8)]

    async def before_it_runs() -> None:
        assert set(await bench.submit(*entries)) == {""}

    trio.run(before_it_runs)

    async def scenario() -> None:
        assert await bench.all_sent() == [raws(entries[:4])]
        assert bench.pool.pool.pending_count == 8, "the others stay in the own pool"

    bench.run(scenario)


def test_what_left_the_pool_before_its_turn_is_not_sent() -> None:
    bench = Bench()
    entries = [candidate(account, 0) for account in range(3)]

    async def scenario() -> None:
        assert set(await bench.submit(*entries)) == {""}
        bench.pool.drop(keccak256(entries[1].raw_transaction), "cannot be included")
        assert await bench.all_sent() == [raws([entries[0], entries[2]])]

    bench.run(scenario)


# --- In ------------------------------------------------------------------------------------------------------------


def test_what_a_peer_sent_is_taken_and_not_sent_again() -> None:
    bench = Bench()
    heard, own = candidate(0, 0), candidate(1, 0)

    async def scenario() -> None:
        assert await bench.hear(heard) is Verdict.ACCEPT
        assert bench.pool.pool.pending_count == 1
        assert await bench.all_sent() == []
        assert await bench.submit(heard, own) == ["already known", ""]
        assert await bench.all_sent() == [raws([own])]

    bench.run(scenario)


def test_what_a_peer_sent_is_not_sent_again_when_it_is_promoted() -> None:
    bench = Bench()
    first, second, third = (candidate(0, nonce) for nonce in range(3))

    async def scenario() -> None:
        assert await bench.hear(second) is Verdict.ACCEPT
        assert bench.pool.pool.queued_count == 1
        assert await bench.hear(second, peer=bench.bob) is Verdict.IGNORE
        await bench.submit(third)
        await bench.submit(first)
        assert bench.pool.pool.pending_count == 3
        assert await bench.all_sent() == [raws([first, third])]

    bench.run(scenario)


def test_what_a_peer_sent_is_not_sent_again_when_a_block_promotes_it() -> None:
    bench = Bench()
    first, second = candidate(0, 0), candidate(0, 1)

    async def scenario() -> None:
        assert await bench.hear(second) is Verdict.ACCEPT
        bench.pool.on_committed(bench.chain.produce([first]))
        assert bench.pool.pool.pending_count == 1
        assert await bench.all_sent() == []

    bench.run(scenario)


def test_what_the_pool_refused_of_a_peer_is_sent_when_it_comes_again_and_is_taken() -> None:
    """Else a peer that sends somebody's transaction at the wrong moment keeps it from ever leaving this node."""
    bench = Bench(PoolLimits(max_transactions=2))
    cheap, dear = candidate(0, 0, tip=1), [candidate(account, 0, tip=2 * GWEI) for account in (1, 2)]

    async def scenario() -> None:
        await bench.submit(*dear)
        await bench.all_sent()
        assert await bench.hear(cheap) is Verdict.IGNORE
        bench.pool.on_committed(bench.chain.produce(dear))
        assert await bench.submit(cheap) == [""]
        assert await bench.all_sent() == [raws([cheap])]

    bench.run(scenario)


def test_a_batch_with_nothing_new_is_ignored_and_one_with_anything_new_goes_on() -> None:
    bench = Bench()
    one, two = candidate(0, 0), candidate(1, 0)

    async def scenario() -> None:
        assert await bench.hear(one) is Verdict.ACCEPT
        assert await bench.hear(one, peer=bench.bob) is Verdict.IGNORE
        assert await bench.hear(one, two) is Verdict.ACCEPT
        assert await bench.hear(one, two) is Verdict.IGNORE
        assert await bench.hear(candidate(2, 0, value=10**30)) is Verdict.IGNORE, "its sender is too poor: no lie"
        bench.pool.on_committed(bench.chain.produce([one, two]))
        assert await bench.hear(one, two) is Verdict.IGNORE

    bench.run(scenario)


def unsigned(entry: Candidate) -> bytes:
    """The same with no signature that anybody made."""
    fields = rlp_decode(entry.raw_transaction[1:])
    assert isinstance(fields, list)
    return entry.raw_transaction[:1] + rlp_encode([*fields[:-3], b"", b"", b""])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\0",
        b"\0\0\0\x05\x02abc",
        encode_batch([b"\x02rubbish"]),
        encode_batch([b"\x03" + candidate(0, 0).raw_transaction[1:]]),
        encode_batch([candidate(0, 0).raw_transaction, unsigned(candidate(1, 0))]),
        encode_batch([candidate(0, 0).raw_transaction]) + b"\0",
        encode_batch([candidate(0, 0).raw_transaction] * (MAX_BATCH_TRANSACTIONS + 1)),
        encode_batch([candidate(0, 0).raw_transaction, long_one(1, 0, MAX_BATCH_BYTES).raw_transaction]),
    ],
    ids=[
        "empty",
        "cut length",
        "no bytes",
        "cut transaction",
        "no transaction",
        "blob",
        "unsigned",
        "trailing byte",
        "too many",
        "too large",
    ],
)
def test_a_batch_that_an_honest_node_does_not_send_is_rejected_and_nothing_of_it_taken(data: bytes) -> None:
    bench = Bench()

    async def scenario() -> None:
        assert await bench.hear_bytes(data) is Verdict.REJECT
        assert len(bench.pool.pool) == 0
        assert await bench.hear(candidate(0, 0)) is Verdict.ACCEPT, "and it goes on"

    bench.run(scenario)


@settings(max_examples=200)
@given(st.data())
def test_no_bytes_of_a_peer_stop_it(data: st.DataObject) -> None:
    good = bytearray(candidate(0, 0).raw_transaction)
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(0, 255))
    kind = data.draw(st.sampled_from([b"", b"\x01", b"\x02", b"\x04", b"\xf8"]))
    transactions = data.draw(st.permutations([bytes(good), kind + data.draw(st.binary(max_size=60))]))
    message = data.draw(st.sampled_from([encode_batch(transactions[:1]), encode_batch(transactions), transactions[0]]))
    bench = BENCH
    bench.transport.verdicts.clear()

    async def scenario() -> None:
        assert await bench.hear_bytes(message) in Verdict

    bench.run(scenario)


BENCH = Bench()
"""For the test above: a chain of its own for each example would take most of the time."""


def test_what_was_heard_is_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction_gossip, "MAX_HEARD", 2)
    bench = Bench()
    waiting = [candidate(account, 1) for account in range(3)]

    async def scenario() -> None:
        for entry in waiting:
            assert await bench.hear(entry) is Verdict.ACCEPT
        await bench.submit(*(candidate(account, 0) for account in range(3)))
        (batch,) = await bench.all_sent()
        assert [raw for raw in batch if raw in raws(waiting)] == raws(waiting[:1]), "forgotten, so once more"

    bench.run(scenario)


# --- The batch -----------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=MAX_BATCH_TRANSACTIONS))
def test_a_batch_survives_encoding(transactions: list[bytes]) -> None:
    assert decode_batch(encode_batch(transactions)) == transactions


@given(st.binary(max_size=300))
def test_bytes_have_one_reading_as_a_batch_or_none(data: bytes) -> None:
    try:
        transactions = decode_batch(data)
    except DecodeError:
        return
    assert encode_batch(transactions) == data


def test_the_bounds_of_a_batch() -> None:
    most = [b"t"] * MAX_BATCH_TRANSACTIONS
    assert decode_batch(encode_batch(most)) == most
    with pytest.raises(DecodeError, match=f"transactions: expected at most {MAX_BATCH_TRANSACTIONS}, found more"):
        decode_batch(encode_batch([*most, b"t"]))
    half = bytes(MAX_BATCH_BYTES // 2)
    assert decode_batch(encode_batch([half, half])) == [half, half]
    with pytest.raises(DecodeError, match=f"batch: expected at most {MAX_BATCH_BYTES} bytes"):
        decode_batch(encode_batch([half, half, b"t"]))
    alone = bytes(MAX_BATCH_BYTES + 1)
    assert decode_batch(encode_batch([alone])) == [alone]
    with pytest.raises(DecodeError, match="transactions: expected at least 1, found none"):
        decode_batch(b"")
