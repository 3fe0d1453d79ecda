"""Building: which candidates go in, which are dropped for good, and what stops a build."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from astralink_node.chain.codec import decode, encode
from astralink_node.chain.messages import (
    BlockWork,
    BlockWorkAnswer,
    Build,
    Candidate,
    CannotBuild,
    Valid,
    Validate,
)
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import decode_block, ethereum_block_rlp
from astralink_node.evm.fork_rules import MAX_BLOCK_RLP_BYTES
from tests.support.chains import BURNER, COUNTER, GWEI, LOOPER, REVERTER, LocalChain, candidate

MS = 1_000_000


class SteppingClock:
    """A monotonic clock that moves by the same step at every look."""

    def __init__(self, step_ns: int) -> None:
        self.now = 0
        self.step_ns = step_ns

    def __call__(self) -> int:
        self.now += self.step_ns
        return self.now


def test_candidates_go_in_in_the_order_given() -> None:
    chain = LocalChain()
    candidates = [candidate(3, 0), candidate(1, 0), candidate(1, 1), candidate(2, 0)]
    built = chain.build(candidates)
    raw_transactions = decode_block(built.raw_block).block.raw_transactions
    assert raw_transactions == tuple(entry.raw_transaction for entry in candidates)
    assert (built.included, built.dropped, built.stopped_by) == (4, (), "exhausted")


def test_a_transaction_that_fails_in_the_evm_is_included_all_the_same() -> None:
    built = LocalChain().build([candidate(0, 0, to=REVERTER, gas=60_000)])
    assert built.included == 1


@pytest.mark.parametrize(
    ("unusable", "reason"),
    [
        (candidate(0, 0, chain_id=5), "chain id"),
        (candidate(0, 0, gas=20_000), "intrinsic gas"),
        (candidate(0, 0, value=10**30), "insufficient funds"),
        (candidate(0, 0, gas=2**24 + 1), "gas limit"),
        (replace(candidate(0, 0), raw_transaction=b"\x02\xc0"), "encoding"),
        (replace(candidate(0, 0), raw_transaction=b"\x03\xc0"), "blob"),
        (replace(candidate(0, 0), raw_transaction=b""), "encoding"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_candidate_that_can_never_go_is_dropped_with_its_reason(unusable: object, reason: str) -> None:
    chain = LocalChain()
    built = chain.build([unusable, candidate(1, 0)])  # type: ignore[list-item]
    assert built.included == 1
    (dropped,) = built.dropped
    assert dropped.transaction_hash == keccak256(unusable.raw_transaction)  # type: ignore[attr-defined]
    assert reason in dropped.reason


def test_a_used_nonce_is_dropped_and_a_later_one_only_passed_over() -> None:
    chain = LocalChain()
    chain.produce([candidate(0, 0)])
    built = chain.build([candidate(0, 0, value=2), candidate(0, 5), candidate(0, 1)])
    assert built.included == 1
    assert [dropped.transaction_hash for dropped in built.dropped] == [
        keccak256(candidate(0, 0, value=2).raw_transaction)
    ]


def test_a_fee_below_the_base_fee_is_passed_over() -> None:
    built = LocalChain().build([candidate(0, 0, max_fee=GWEI // 2, tip=0)])
    assert (built.included, built.dropped) == (0, ())


def test_what_does_not_fit_the_gas_limit_waits_while_smaller_ones_go_in() -> None:
    chain = LocalChain()
    big = [candidate(account, 0, gas=14_000_000, to=BURNER) for account in (0, 1)]
    built = chain.build([*big, candidate(3, 0, gas=3_000_000), candidate(2, 0)])
    assert (built.included, built.dropped, built.stopped_by) == (3, (), "gas")


def test_a_full_block_stops_the_build() -> None:
    chain = LocalChain()
    fillers = [candidate(account, 0, gas=15_000_000, to=BURNER) for account in (0, 1)]
    built = chain.build([*fillers, candidate(2, 0)])
    assert (built.included, built.stopped_by) == (2, "gas")
    assert decode_block(built.raw_block).block.header.gas_used == 30_000_000


def test_a_block_stays_below_the_size_limit() -> None:
    chain = LocalChain()
    # Zero bytes are the cheapest: 4 MB of them still cost 10 gas each under EIP-7623, so few fit by gas alone.
    candidates = [candidate(account, 0, data=bytes(1_400_000), gas=14_900_000) for account in range(10)]
    built = chain.build(candidates)
    assert len(ethereum_block_rlp(decode_block(built.raw_block).block)) <= MAX_BLOCK_RLP_BYTES
    assert built.stopped_by == "gas"
    oversized = candidate(0, 0, data=bytes(MAX_BLOCK_RLP_BYTES), gas=2**24)
    built = chain.build([oversized, candidate(1, 0)])
    assert (built.included, built.stopped_by) == (1, "size")


def test_the_budget_stops_between_transactions() -> None:
    chain = LocalChain(now_ns=SteppingClock(MS))
    built = chain.build([candidate(0, nonce) for nonce in range(50)], budget_ms=30)
    assert built.stopped_by == "time"
    assert 0 < built.included < 50
    assert LocalChain().execution.validate(Validate(built.raw_block)) == Valid(built.block_hash)


def slow_chain() -> LocalChain:
    """Where a look at the clock, of which LOOPER causes one every few hundred operations, takes 0.1 ms."""
    return LocalChain(now_ns=SteppingClock(MS // 10))


LONG = candidate(1, 0, to=LOOPER, gas=300_000)
"""Takes some 10 ms of a slow chain."""
ENDLESS = candidate(1, 0, to=LOOPER, gas=16_000_000)


def long_run(entry: Candidate) -> Candidate:
    return replace(entry, may_run_long=True)


def test_the_budget_stops_a_transaction_in_the_middle_which_leaves_no_trace_and_is_put_off() -> None:
    built = slow_chain().build([candidate(0, 0), ENDLESS, candidate(2, 0)], budget_ms=5, first_budget_ms=50)
    assert (built.included, built.stopped_by, built.dropped) == (1, "time", ())
    assert built.put_off == keccak256(ENDLESS.raw_transaction)
    assert built.raw_block == LocalChain().build([candidate(0, 0)]).raw_block


def test_the_first_transaction_of_a_block_may_run_longer_and_ends_it() -> None:
    built = slow_chain().build([long_run(LONG), candidate(0, 0)], budget_ms=5, first_budget_ms=500)
    assert (built.included, built.stopped_by, built.dropped, built.put_off) == (1, "time", (), b"")
    assert LocalChain().execution.validate(Validate(built.raw_block)) == Valid(built.block_hash)


def test_a_long_run_that_ends_within_the_ordinary_budget_leaves_time_for_others() -> None:
    built = slow_chain().build([long_run(LONG), candidate(0, 0)], budget_ms=500, first_budget_ms=900)
    assert (built.included, built.stopped_by) == (2, "exhausted")


def test_a_first_transaction_that_may_not_run_long_is_put_off() -> None:
    built = slow_chain().build([LONG, candidate(0, 0)], budget_ms=5, first_budget_ms=500)
    assert (built.included, built.dropped, built.put_off) == (0, (), keccak256(LONG.raw_transaction))


def test_only_the_first_transaction_of_a_block_may_run_long() -> None:
    built = slow_chain().build([candidate(0, 0), long_run(LONG)], budget_ms=5, first_budget_ms=500)
    assert (built.included, built.dropped, built.put_off) == (1, (), keccak256(LONG.raw_transaction))


def test_a_transaction_passed_over_does_not_use_up_the_first_place() -> None:
    late = candidate(0, 7)
    built = slow_chain().build([late, long_run(LONG)], budget_ms=5, first_budget_ms=500)
    assert (built.included, built.put_off) == (1, b"")


@pytest.mark.parametrize(
    ("first", "first_budget_ms"),
    [(long_run(ENDLESS), 20), (long_run(ENDLESS), 0), (ENDLESS, 0)],
    ids=["too long even so", "no long runs here", "no long runs at all"],
)
def test_what_no_block_has_the_time_for_is_dropped_so_that_the_next_build_gets_on(
    first: Candidate, first_budget_ms: int
) -> None:
    chain = slow_chain()
    built = chain.build([first, candidate(0, 0)], budget_ms=5, first_budget_ms=first_budget_ms)
    assert (built.included, built.stopped_by, built.put_off) == (0, "time", b"")
    (dropped,) = built.dropped
    assert dropped.transaction_hash == keccak256(ENDLESS.raw_transaction)
    assert dropped.reason == "runs longer than a block may take to build"


def test_the_bounds_of_a_build_cross_to_the_execution_process() -> None:
    request = LocalChain().build_request([long_run(LONG)], budget_ms=1_000, first_budget_ms=7_500)
    assert decode(BlockWork, encode(request)) == request
    built = slow_chain().build([LONG], budget_ms=5, first_budget_ms=500)
    assert decode(BlockWorkAnswer, encode(built)) == built


def test_a_budget_of_nothing_gives_an_empty_valid_block() -> None:
    built = LocalChain().build([candidate(0, 0)], budget_ms=0)
    assert (built.included, built.stopped_by) == (0, "time")
    assert LocalChain().execution.validate(Validate(built.raw_block)) == Valid(built.block_hash)


def test_fees_of_a_block_follow_eip_1559() -> None:
    chain = LocalChain()
    first = chain.execution.status().next_base_fee_wei
    assert first == GWEI - GWEI // 8
    chain.produce([candidate(account, 0, gas=15_000_000, to=BURNER) for account in (0, 1)])
    assert chain.execution.status().next_base_fee_wei == first + first // 8


def test_the_base_fee_never_falls_below_the_minimum() -> None:
    chain = LocalChain()
    for _ in range(30):
        chain.produce()
    assert chain.execution.status().next_base_fee_wei == GWEI // 10


Change = Callable[[Build], Build]


def attributes(**changes: object) -> Change:
    return lambda request: replace(request, attributes=replace(request.attributes, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (attributes(reveal=bytes(96)), "reveal"),
        (attributes(reveal=b""), "reveal: expected 96 bytes, found 0"),
        (attributes(proposer_index=1), "proposer index"),
        (attributes(proposer_index=-1), "proposer index"),
        (attributes(round_=-1), "round"),
        (attributes(round_=65_000), "build round"),
        (attributes(fee_recipient=b""), "fee recipient: expected 20 bytes, found 0"),
        (attributes(parent_certificate=b""), "parent certificate"),
        (attributes(parent_certificate=b"\x01"), "parent certificate"),
        (attributes(time_ms=2**60), "time"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_attributes_that_nobody_would_accept_are_refused_before_any_work(change: Change, reason: str) -> None:
    chain = LocalChain()
    chain.produce()
    answer = chain.execution.build(change(chain.build_request([candidate(0, 0, to=COUNTER, gas=60_000)])))
    assert isinstance(answer, CannotBuild)
    assert reason in answer.reason
