"""The mempool's service on a real execution facade: admission with account look-ups, commits, delegations."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import trio
import trio.testing

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.messages import Answer, Candidate, Query
from astralink_node.crypto.keccak import keccak256
from astralink_node.gateway.link_messages import SubmittedTransaction
from astralink_node.services.transaction_pool import MAX_BATCH, TransactionPool
from astralink_node.txpool.pool import PoolLimits
from astralink_node.types import Address
from genesis.sealing import parse_genesis
from tests.support.chains import GWEI, LocalChain, candidate

NOW_MS = 1_800_000_000_000


def submitted(entry: Candidate) -> SubmittedTransaction:
    return SubmittedTransaction(entry.raw_transaction, entry.sender)


class Slow(InProcessExecution):
    """Lets something happen between a question and its answer."""

    meanwhile: Callable[[], Awaitable[None]] | None = None
    questions = 0

    async def query(self, query: Query) -> Answer:
        self.questions += 1
        answer = await super().query(query)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return answer


class Bench:
    def __init__(self, limits: PoolLimits | None = None) -> None:
        self.chain = LocalChain()
        self.execution = Slow(self.chain.execution)
        rules = parse_genesis(self.chain.genesis).chain_rules()
        head = self.chain.execution.status()
        self.service = TransactionPool(self.execution, rules, limits or PoolLimits(), head, lambda: NOW_MS)
        self.pool = self.service.pool
        self.announced: list[bytes] = []
        self.service.on_pending = lambda entries: self.announced.extend(entry.transaction.raw for entry in entries)

    def submit(self, candidates: Sequence[Candidate]) -> list[str]:
        """Each candidate's rejection, empty where it was taken."""
        verdicts = trio.run(self.service.submit, [submitted(entry) for entry in candidates])
        return [verdict.rejection for verdict in verdicts]

    @property
    def counts(self) -> tuple[int, int]:
        return self.pool.pending_count, self.pool.queued_count


def test_a_batch_is_admitted_with_one_question_and_announced() -> None:
    bench = Bench()
    batch = [*(candidate(account, 0) for account in range(3)), candidate(0, 1)]
    verdicts = trio.run(bench.service.submit, [submitted(entry) for entry in batch])
    assert [verdict.rejection for verdict in verdicts] == ["", "", "", ""]
    assert [verdict.transaction_hash for verdict in verdicts] == [keccak256(t.raw_transaction) for t in batch]
    assert bench.execution.questions == 1
    assert sorted(bench.announced) == sorted(entry.raw_transaction for entry in batch)
    assert bench.counts == (4, 0)
    assert bench.pool.pending_nonce(Address(batch[0].sender)) == 2


def test_each_transaction_of_a_batch_has_its_own_verdict() -> None:
    bench = Bench()
    good = candidate(0, 0)
    rejections = bench.submit(
        [
            good,
            good,
            Candidate(b"\x02rubbish", bytes(20)),
            Candidate(b"\x03\xc0", bytes(20)),
            candidate(1, 0, value=10**30),
            candidate(2, 0, chain_id=1),
        ]
    )
    assert rejections[:2] == ["", "already known"]
    assert "expected" in rejections[2]
    assert rejections[3] == "transaction type not supported: tx type 3 not supported"
    assert rejections[4].startswith("insufficient funds for gas * price + value")
    assert "chain" in rejections[5]


def test_a_commit_while_the_accounts_are_looked_up_makes_the_pool_ask_again() -> None:
    bench = Bench()
    first = candidate(0, 0)

    async def commit_first() -> None:
        await trio.lowlevel.checkpoint()
        bench.service.on_committed(bench.chain.produce([first]))

    bench.execution.meanwhile = commit_first
    rejections = bench.submit([first, candidate(0, 1)])
    assert rejections[0].startswith("nonce too low")
    assert rejections[1] == ""
    assert bench.execution.questions == 2


def test_a_head_that_moves_at_every_look_up_is_told_as_busy() -> None:
    bench = Bench()

    async def commit() -> None:
        await trio.lowlevel.checkpoint()
        bench.service.on_committed(bench.chain.produce([]))
        bench.execution.meanwhile = commit

    bench.execution.meanwhile = commit
    assert bench.submit([candidate(0, 0)]) == ["the node is busy: the head moves too fast; try again"]


def test_a_commit_takes_its_transactions_out_and_promotes_what_waited() -> None:
    bench = Bench()
    first, second = candidate(0, 0), candidate(0, 1)
    bench.submit([second])
    assert bench.counts == (0, 1)
    bench.announced.clear()
    bench.service.on_committed(bench.chain.produce([first]))
    assert bench.counts == (1, 0)
    assert bench.announced == [second.raw_transaction]
    assert bench.service.candidates() == (replace(second, may_run_long=True),)


def test_the_best_tip_comes_first_and_nonces_stay_in_order() -> None:
    bench = Bench()
    cheap, dear, after = candidate(0, 0, tip=1), candidate(1, 0, tip=2 * GWEI), candidate(0, 1, tip=3 * GWEI)
    bench.submit([after, cheap, dear])
    assert bench.service.candidates() == (replace(dear, may_run_long=True), cheap, after)


def test_what_the_clock_stopped_begins_the_next_block_but_not_a_further_round() -> None:
    bench = Bench()
    dear, heavy = candidate(1, 0, tip=2 * GWEI), candidate(0, 0)
    bench.submit([dear, heavy])
    bench.service.put_off(keccak256(heavy.raw_transaction))
    assert bench.service.candidates(long_run=False) == (dear,)
    assert bench.service.candidates() == (replace(heavy, may_run_long=True), dear)


def test_a_proposer_that_waits_is_woken_by_a_submission() -> None:
    bench = Bench()

    async def main() -> None:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bench.service.wait_for_payable)
                await trio.testing.wait_all_tasks_blocked()
                await bench.service.submit([submitted(candidate(0, 0))])

    trio.run(main)


def test_a_batch_too_long_is_refused_unread() -> None:
    bench = Bench()
    rejections = bench.submit([Candidate(b"", bytes(20))] * (MAX_BATCH + 1))
    assert set(rejections) == {f"too many transactions in one batch, limit {MAX_BATCH}"}
    assert bench.execution.questions == 0


def test_a_sender_whose_last_transaction_is_evicted_by_its_own_batch_is_told_to_try_again() -> None:
    bench = Bench(PoolLimits(max_transactions=1))
    assert bench.submit([candidate(0, 0, tip=1)]) == [""]
    rejections = bench.submit([candidate(1, 0, tip=2), candidate(0, 1, tip=3)])
    assert rejections == ["", "the node is busy: the head moves too fast; try again"]
