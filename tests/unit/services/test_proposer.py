"""The proposer: when its turn comes, what its block carries, and that execution takes the block as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.messages import Build, Built, Candidate, CannotBuild, Valid, Validate
from astralink_node.config import BlocksConfig
from astralink_node.crypto.ml_dsa import Seed
from astralink_node.evm.blocks import decode_block
from astralink_node.services.offload import inline
from astralink_node.services.own_validator import OwnValidator
from astralink_node.services.proposer import Carried, Head, Proposer, longest_build_ms
from astralink_node.types import Address
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import keys_of
from astralink_node.validator.local_signer import LocalSigner, RefusedToSign
from astralink_node.validator.signing_history import create_history, history_path, open_history
from consensus.certificate import decode_certificate, encode_certificate, signer_indices
from consensus.height_machine import CertificateReceived, HeightState, StartHeight, VoteReceived, step
from consensus.params import LATE_CREDIT_HEIGHTS, ConsensusParams
from consensus.payload import ConsensusPayload, decode_payload
from consensus.proposer_selection import proposer
from tests.support.chains import LocalChain, candidate
from tests.support.signed_messages import PRECOMMIT, SignedSet

PARAMS = ConsensusParams(min_block_interval_ms=200)
NOTHING = Carried({}, {}, b"")
RECIPIENT = Address(bytes(19) + b"\xfe")


@dataclass
class Pool:
    """A mempool with what it is given."""

    offered: tuple[Candidate, ...] = ()
    payable: trio.Event = field(default_factory=trio.Event)
    dropped: list[bytes] = field(default_factory=list)
    put_off_: list[bytes] = field(default_factory=list)
    long_runs: list[bool] = field(default_factory=list)

    def candidates(self, *, long_run: bool = True) -> tuple[Candidate, ...]:
        self.long_runs.append(long_run)
        return self.offered

    def drop(self, transaction_hash: bytes, reason: str) -> None:
        self.dropped.append(transaction_hash)

    def put_off(self, transaction_hash: bytes) -> None:
        self.put_off_.append(transaction_hash)

    def known_senders(self, raw_transactions: Sequence[bytes]) -> tuple[bytes, ...]:
        return (b"",) * len(raw_transactions)

    async def wait_for_payable(self) -> None:
        await self.payable.wait()


class Watched(InProcessExecution):
    """Notes what it is asked to build."""

    requests: list[Build]

    async def build(self, request: Build) -> Built | CannotBuild:
        self.requests.append(request)
        return await super().build(request)


class Bench:
    """Four validators' chain, and the proposer of whose turn it is in round 0; `clock_ms` is the wall clock's start."""

    def __init__(self, folder: Path, blocks: BlocksConfig, heights: int) -> None:
        self.chain = LocalChain(validators=4)
        for _ in range(heights):
            self.chain.produce()
        status = self.chain.execution.status()
        self.members = SignedSet(4, status.genesis_hash)
        self.head = Head(status.head_height, status.head_hash, status.head_time_ms, status.head_certificate)
        context = self.chain.execution.context
        self.index = proposer(context.priorities, context.voting_set, 0)
        number = self.members.numbers[self.index]
        keys = keys_of(self.chain.secrets[self.index], Seed(bytes([number + 1]) * 32), None)
        storage = HistoryFile(history_path(folder, keys.public.voting_key))
        create_history(storage, keys.public.voting_key, key_is_new=True)
        storage.close()
        self.history = open_history(folder, keys.public.voting_key)
        self.signer = LocalSigner(keys, self.history, status.genesis_hash)
        self.clock_ms = self.head.time_ms + 10_000
        self.pool = Pool()
        self.execution = Watched(self.chain.execution)
        self.execution.requests = []
        self.proposer = Proposer(self.execution, self.pool, PARAMS, blocks, self.now_ms, inline)  # type: ignore[arg-type]

    def now_ms(self) -> int:
        return self.clock_ms + int(trio.current_time() * 1000)

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        trio.run(scenario, clock=MockClock(autojump_threshold=0))

    async def build(self, carried: Carried = NOTHING, round_: int = 0) -> Built | CannotBuild:
        own = OwnValidator(self.signer, RECIPIENT, inline)
        return await self.proposer.build(self.head, round_, self.index, own, carried)

    async def payload(self, carried: Carried = NOTHING) -> ConsensusPayload:
        """Of the block that is built, which everybody finds valid."""
        built = await self.build(carried)
        assert isinstance(built, Built), built
        assert await self.execution.validate(Validate(built.raw_block)) == Valid(built.block_hash)
        return decode_payload(decode_block(built.raw_block).raw_payload)

    def decided(self, height: int, by: tuple[int, ...] = (0, 1, 2)) -> HeightState:
        return self.members.decided(height, self.chain.execution.context.block_hash_at(height), by)


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """With the number of committed heights and the settings that a test's marker gives, or 3 and the defaults."""
    heights, blocks = getattr(request, "param", (3, BlocksConfig()))
    made = Bench(tmp_path, blocks, heights)
    yield made
    made.history.close()


def with_settings(**settings: object) -> pytest.MarkDecorator:
    blocks = BlocksConfig(**settings)  # type: ignore[arg-type]
    return pytest.mark.parametrize("bench", [(1, blocks)], indirect=True, ids=[""])


# --- What a block carries --------------------------------------------------------------------------------------


def test_the_parents_certificate_holds_precommits_that_came_after_the_commit(bench: Bench) -> None:
    async def scenario() -> None:
        state = bench.decided(3)
        late = bench.members.vote(3, PRECOMMIT, bench.head.block_hash, height=3)
        state, _ = step(state, VoteReceived(late))
        payload = await bench.payload(Carried({3: state}, {}, b""))
        assert payload.parent_certificate is not None
        assert signer_indices(payload.parent_certificate.signers) == (0, 1, 2, 3)

    bench.run(scenario)


def test_without_any_memory_of_the_parents_votes_its_own_certificate_is_carried(bench: Bench) -> None:
    async def scenario() -> None:
        payload = await bench.payload()
        assert payload.parent_certificate == decode_certificate(bench.head.certificate)
        assert payload.late_credits == ()

    bench.run(scenario)


def test_a_parent_that_came_with_a_certificate_is_carried_with_it(bench: Bench) -> None:
    async def scenario() -> None:
        state, _ = step(bench.members.state(3), StartHeight())
        certificate = bench.members.certificate(block_hash=bench.head.block_hash, height=3)
        state, _ = step(state, CertificateReceived(certificate))
        state = replace(state, decision=state.tally.quorum(0, PRECOMMIT, (bench.head.block_hash, -1)))
        late = bench.members.vote(3, PRECOMMIT, bench.head.block_hash, height=3)
        state, _ = step(state, VoteReceived(late))
        payload = await bench.payload(Carried({3: state}, {}, b""))
        assert payload.parent_certificate == certificate

    bench.run(scenario)


@pytest.mark.parametrize("bench", [(1, BlocksConfig())], indirect=True, ids=[""])
def test_the_block_after_genesis_carries_no_certificate(tmp_path: Path, bench: Bench) -> None:
    (tmp_path / "other").mkdir()
    first = Bench(tmp_path / "other", BlocksConfig(), heights=0)

    async def scenario() -> None:
        assert (await first.payload()).parent_certificate is None

    first.run(scenario)
    first.history.close()


def test_signers_whom_earlier_certificates_missed_are_credited_late(bench: Bench) -> None:
    async def scenario() -> None:
        recent = {height: bench.decided(height, (0, 1, 2, 3)) for height in (1, 2, 3)}
        credited = {1: frozenset({0, 1, 2, 3}), 2: frozenset({0, 1, 2})}
        payload = await bench.payload(Carried(recent, credited, b""))
        (credit,) = payload.late_credits
        assert (credit.height, signer_indices(credit.signers)) == (2, (3,))

    bench.run(scenario)


def test_what_no_committed_block_credited_anybody_for_is_left_alone(bench: Bench) -> None:
    """The block that would carry it is not known here: it was committed before this node's last start."""

    async def scenario() -> None:
        recent = {height: bench.decided(height, (0, 1, 2, 3)) for height in (1, 2, 3)}
        payload = await bench.payload(Carried(recent, {}, b""))
        assert payload.late_credits == ()

    bench.run(scenario)


@pytest.mark.parametrize("bench", [(LATE_CREDIT_HEIGHTS + 2, BlocksConfig())], indirect=True, ids=[""])
def test_late_credits_reach_back_as_far_as_they_may_and_leave_the_parent_out(bench: Bench) -> None:
    async def scenario() -> None:
        head = bench.head.height
        recent = {height: bench.decided(height, (0, 1, 2, 3)) for height in range(1, head + 1)}
        credited = {height: frozenset({0, 1, 2}) for height in recent}
        payload = await bench.payload(Carried(recent, credited, b""))
        heights = [credit.height for credit in payload.late_credits]
        assert heights == list(range(head + 1 - LATE_CREDIT_HEIGHTS, head))
        assert all(signer_indices(credit.signers) == (3,) for credit in payload.late_credits)

    bench.run(scenario)


def test_a_checkpoint_is_passed_on_as_it_is(bench: Bench) -> None:
    async def scenario() -> None:
        answer = await bench.build(Carried({}, {}, b"no checkpoint"))
        assert bench.execution.requests[0].attributes.checkpoint == b"no checkpoint"
        assert isinstance(answer, CannotBuild), "execution looks into it"

    bench.run(scenario)


def test_the_reveal_and_whom_it_pays(bench: Bench) -> None:
    async def scenario() -> None:
        payload = await bench.payload()
        assert payload.reveal == bench.signer.sign_reveal(4)
        assert bench.execution.requests[0].attributes.fee_recipient == RECIPIENT

    bench.run(scenario)


def test_a_reveal_that_the_signer_refuses_is_told(bench: Bench) -> None:
    async def scenario() -> None:
        bench.signer.sign_reveal(9)
        with pytest.raises(RefusedToSign, match="below height 9"):
            await bench.build()
        assert bench.execution.requests == []

    bench.run(scenario)


# --- Candidates ------------------------------------------------------------------------------------------------


def test_candidates_that_no_block_can_hold_leave_the_pool(bench: Bench) -> None:
    async def scenario() -> None:
        bench.pool.offered = (candidate(0, 0), candidate(1, 0, chain_id=7))
        built = await bench.build()
        assert isinstance(built, Built)
        assert built.included == 1
        assert bench.pool.dropped == [dropped.transaction_hash for dropped in built.dropped]
        assert len(bench.pool.dropped) == 1

    bench.run(scenario)


def test_long_runs_are_for_round_0(bench: Bench) -> None:
    async def scenario() -> None:
        await bench.build()
        await bench.build(round_=1)
        assert bench.pool.long_runs == [True, False]

    bench.run(scenario)


# --- Time ------------------------------------------------------------------------------------------------------


def test_a_proposer_whose_clock_is_behind_its_parent_waits_for_it(bench: Bench) -> None:
    async def scenario() -> None:
        bench.clock_ms = bench.head.time_ms - 5_000
        payload = await bench.payload()
        assert trio.current_time() == pytest.approx(5.2)
        assert payload.time_ms == bench.head.time_ms + PARAMS.min_block_interval_ms

    bench.run(scenario)


def test_a_clock_that_is_set_meanwhile_ends_the_wait(bench: Bench) -> None:
    async def scenario() -> None:
        bench.clock_ms = bench.head.time_ms - 86_400_000

        async def set_clock() -> None:
            await trio.sleep(10)
            bench.clock_ms += 86_400_000

        async with trio.open_nursery() as nursery:
            nursery.start_soon(set_clock)
            await bench.build()
        assert trio.current_time() < 12

    bench.run(scenario)


def test_a_blocks_time_is_the_proposers_clock(bench: Bench) -> None:
    async def scenario() -> None:
        assert (await bench.payload()).time_ms == bench.clock_ms

    bench.run(scenario)


@pytest.mark.parametrize(
    ("propose_ms", "delay_ms", "longest_ms"), [(3_000, 2_000, 1_500), (3_000, 1_000, 750), (801, 2_000, 400)]
)
def test_building_leaves_time_to_validate_and_to_arrive(propose_ms: int, delay_ms: int, longest_ms: int) -> None:
    params = ConsensusParams(propose_timeout_ms=propose_ms, message_delay_ms=delay_ms)
    assert longest_build_ms(params) == longest_ms


@pytest.mark.parametrize(
    ("bench", "budget_ms"),
    [((1, BlocksConfig(build_budget_ms=100)), 100), ((1, BlocksConfig(build_budget_ms=9_999)), 1_500)],
    indirect=["bench"],
    ids=["as configured", "at most what consensus leaves"],
)
def test_the_budget_of_a_build(bench: Bench, budget_ms: int) -> None:
    async def scenario() -> None:
        await bench.build()
        (request,) = bench.execution.requests
        assert (request.budget_ms, request.first_budget_ms) == (budget_ms, longest_build_ms(PARAMS))

    bench.run(scenario)


# --- Turns -----------------------------------------------------------------------------------------------------


async def turn_after_ms(bench: Bench, payable_at_ms: int | None = None) -> int:
    """When the turn comes, from the parent's time on."""
    bench.clock_ms = bench.head.time_ms

    async def pay() -> None:
        if payable_at_ms is not None:
            await trio.sleep(payable_at_ms / 1000)
            bench.pool.payable.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay)
        with trio.move_on_after(60):
            await bench.proposer.wait_for_turn(bench.head)
        nursery.cancel_scope.cancel()
    return round(trio.current_time() * 1000)


@with_settings(interval_ms=1_000)
def test_a_turn_comes_at_the_interval_whether_somebody_pays_or_not(bench: Bench) -> None:
    async def scenario() -> None:
        assert await turn_after_ms(bench, payable_at_ms=300) == 1_000

    bench.run(scenario)


@with_settings(interval_ms=1_000, on_demand=True)
def test_on_demand_a_turn_comes_with_the_first_transaction_that_pays(bench: Bench) -> None:
    async def scenario() -> None:
        assert await turn_after_ms(bench, payable_at_ms=300) == 300

    bench.run(scenario)


@with_settings(interval_ms=1_000, on_demand=True)
def test_but_not_before_a_block_may_follow_its_parent(bench: Bench) -> None:
    async def scenario() -> None:
        assert await turn_after_ms(bench, payable_at_ms=50) == PARAMS.min_block_interval_ms

    bench.run(scenario)


@with_settings(interval_ms=1_000, on_demand=True)
def test_on_demand_the_interval_still_brings_an_empty_block(bench: Bench) -> None:
    async def scenario() -> None:
        assert await turn_after_ms(bench) == 1_000

    bench.run(scenario)


@with_settings(interval_ms=1_000, empty=False)
def test_without_empty_blocks_a_turn_waits_for_whoever_pays(bench: Bench) -> None:
    async def scenario() -> None:
        assert await turn_after_ms(bench, payable_at_ms=7_000) == 7_000

    bench.run(scenario)


@with_settings(interval_ms=0)
def test_without_an_interval_too(bench: Bench) -> None:
    async def scenario() -> None:
        assert await turn_after_ms(bench, payable_at_ms=7_000) == 7_000

    bench.run(scenario)


# --- Certificates alone ----------------------------------------------------------------------------------------


def test_what_is_carried_is_a_certificate_as_everybody_encodes_it(bench: Bench) -> None:
    state = bench.decided(3)
    certificate, credits_ = Carried({3: state}, {}, b"").encoded(bench.head)
    assert encode_certificate(bench.members.certificate(block_hash=bench.head.block_hash, height=3)) == certificate
    assert credits_ == ()
