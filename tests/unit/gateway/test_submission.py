"""Transactions reach the node in batches; whoever waits hears of every way in which that can fail."""

from __future__ import annotations

import asyncio

import pytest

from astralink_node.chain.messages import Answer, LimitExceeded, Query
from astralink_node.crypto.keccak import keccak256
from astralink_node.gateway.link_messages import (
    LinkFailed,
    Reply,
    Request,
    SubmittedTransaction,
    SubmitTransactions,
    Verdict,
    Verdicts,
)
from astralink_node.gateway.reading.errors import Unavailable
from astralink_node.gateway.rpc_errors import RpcError
from astralink_node.gateway.submission import Sent, Submissions
from tests.support.asynchronous import run
from tests.support.gateways import ALICE, CHAIN_ID, ECHO, signed

RAWS = [signed(ALICE, to=ECHO, nonce=nonce) for nonce in range(12)]


class Pool:
    """Answers as a test says, once it says so."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.batches: list[tuple[SubmittedTransaction, ...]] = []
        self.reply: Reply | Unavailable | None = None

    async def query(self, query: Query) -> Answer:
        return LimitExceeded("unused")

    async def ask_node(self, request: Request) -> Reply:
        assert isinstance(request, SubmitTransactions)
        self.batches.append(request.transactions)
        await self.open.wait()
        if isinstance(self.reply, Unavailable):
            raise self.reply
        verdicts = tuple(Verdict(each.raw_transaction[:4], "", 0) for each in request.transactions)
        return Verdicts(verdicts) if self.reply is None else self.reply


def test_what_arrives_during_a_batch_makes_up_the_next_one() -> None:
    async def main() -> None:
        pool = Pool()
        submissions = Submissions(pool, CHAIN_ID, max_waiting=100, max_batch=5)
        serving = asyncio.create_task(submissions.run())
        waiting = [asyncio.create_task(submissions.submit(RAWS[0]))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting += [asyncio.create_task(submissions.submit(raw)) for raw in RAWS[1:]]
        pool.open.set()
        sent = await asyncio.gather(*waiting)
        assert sent == [Sent(keccak256(raw), ALICE.address, nonce) for nonce, raw in enumerate(RAWS)]
        assert [len(batch) for batch in pool.batches] == [1, 5, 5, 1]
        assert [each.raw_transaction for batch in pool.batches for each in batch] == RAWS
        assert {each.sender for batch in pool.batches for each in batch} == {ALICE.address}
        serving.cancel()

    run(main)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Unavailable("the node is temporarily unavailable"), "temporarily unavailable"),
        (LinkFailed("stopping"), "stopping"),
        (Verdicts(()), "unexpected answer"),
        (Verdicts((Verdict(b"", "nonce too low", -32000),)), "nonce too low"),
    ],
)
def test_every_failure_of_the_node_reaches_the_client(reply: Reply | Unavailable, words: str) -> None:
    async def main() -> None:
        pool = Pool()
        pool.reply = reply
        pool.open.set()
        submissions = Submissions(pool, CHAIN_ID, max_waiting=100, max_batch=5)
        serving = asyncio.create_task(submissions.run())
        with pytest.raises(RpcError, match=words):
            await submissions.submit(RAWS[0])
        pool.reply = None
        assert (await submissions.submit(RAWS[1])).transaction_hash == keccak256(RAWS[1])
        serving.cancel()

    run(main)


def test_a_client_that_gave_up_is_not_submitted_for() -> None:
    async def main() -> None:
        pool = Pool()
        submissions = Submissions(pool, CHAIN_ID, max_waiting=100, max_batch=5)
        gone = asyncio.create_task(submissions.submit(RAWS[0]))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        pool.open.set()
        serving = asyncio.create_task(submissions.run())
        await submissions.submit(RAWS[1])
        assert [[each.raw_transaction for each in batch] for batch in pool.batches] == [[RAWS[1]]]
        serving.cancel()

    run(main)
