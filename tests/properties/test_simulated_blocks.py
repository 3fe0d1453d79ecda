"""A simulated block is the one that would be built: the same state, receipts and gas, whatever its transactions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.chain.call_messages import BlockOverride, CallFailed, CallRequest
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.messages import (
    AccountsAnswer,
    AccountsQuestion,
    AtHash,
    AtHeight,
    AtLatest,
    BlockSelector,
    Query,
)
from astralink_node.chain.queries import NANOSECONDS_PER_MS
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.simulate_messages import BlockCalls, SimulateAnswer, SimulateQuestion
from astralink_node.evm.blocks import Header, decode_header
from astralink_node.types import ZERO_HASH
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.chains import BURNER, COUNTER, GWEI, LOGGER, REVERTER, LocalChain, candidate

ACCOUNTS = 4
TARGETS = (COUNTER, LOGGER, REVERTER, BURNER, bytes(19) + b"\x77", bytes(19) + b"\x04", DEVNET_ACCOUNTS[1].address, b"")
MAX_FEE = 100 * GWEI


@dataclass(frozen=True)
class Step:
    account: int
    to: bytes
    value: int
    data: bytes
    gas: int
    tip: int


STEPS = st.lists(
    st.builds(
        Step,
        account=st.integers(0, ACCOUNTS - 1),
        to=st.sampled_from(TARGETS),
        value=st.sampled_from([0, 1, 10**18]),
        # A creation runs its data: any bytes are code that stops, returns or fails.
        data=st.binary(max_size=40),
        gas=st.integers(60_000, 150_000),
        tip=st.integers(0, 5 * GWEI),
    ),
    max_size=8,
)


@lru_cache(maxsize=1)
def shared_chain() -> LocalChain:
    return LocalChain()


def as_overrides(header: Header) -> BlockOverride:
    """What a proposer decided and no simulation can know."""
    return BlockOverride(
        time_s=header.timestamp,
        fee_recipient=header.coinbase,
        prev_randao=header.prev_randao,
        beacon_root=header.parent_beacon_block_root,
    )


def as_call(step: Step) -> CallRequest:
    return CallRequest(
        sender=DEVNET_ACCOUNTS[step.account].address,
        to=step.to,
        gas=step.gas,
        gas_price_wei=None,
        max_fee_wei=MAX_FEE,
        max_priority_fee_wei=step.tip,
        value_wei=step.value,
        data=step.data,
        access_list=(),
        authorizations=None,
    )


def simulated(chain: LocalChain, at: BlockSelector, blocks: Sequence[BlockCalls]) -> SimulateAnswer:
    answer = chain.execution.query(Query(at, SimulateQuestion(tuple(blocks), validation=True)))
    assert isinstance(answer, SimulateAnswer), answer
    return answer


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_a_simulated_block_has_the_roots_of_the_built_one(steps: list[Step]) -> None:
    chain = shared_chain()
    parent = chain.execution.context.parent
    nonces: dict[int, int] = {}
    candidates = []
    for step in steps:
        nonce = nonces.setdefault(step.account, nonce_of(chain, step.account))
        nonces[step.account] += 1
        candidates.append(
            candidate(
                step.account,
                nonce,
                to=step.to,
                value=step.value,
                gas=step.gas,
                data=step.data,
                max_fee=MAX_FEE,
                tip=step.tip,
            )
        )
    committed = chain.produce(candidates, time_ms=a_second_later(chain))
    built = decode_header(committed.block.raw_header)
    assert len(committed.block.raw_transactions) == len(steps)
    answer = simulated(
        chain, AtHash(parent.hash), [BlockCalls(as_overrides(built), calls=tuple(as_call(step) for step in steps))]
    )
    (record,) = answer.blocks
    header = decode_header(record.raw_header)
    # A transaction's signature is in its root, and in nothing else.
    assert replace(header, transactions_root=ZERO_HASH) == replace(built, transactions_root=ZERO_HASH)
    assert [call.gas_used for call in record.calls] == [receipt.gas_used for receipt in committed.receipts]


def a_second_later(chain: LocalChain) -> int:
    """Simulated blocks differ in their second, which the first block after genesis need not."""
    return chain.execution.status().head_time_ms + 1000


def nonce_of(chain: LocalChain, account: int) -> int:
    answer = chain.execution.query(Query(AtLatest(), AccountsQuestion((DEVNET_ACCOUNTS[account].address,))))
    assert isinstance(answer, AccountsAnswer)
    return answer.accounts[0].nonce


def test_empty_simulated_blocks_are_the_built_ones_hash_and_all() -> None:
    chain = LocalChain()
    built = [decode_header(chain.produce(time_ms=a_second_later(chain)).block.raw_header) for _ in range(6)]
    for start in range(4):
        answer = simulated(chain, AtHeight(start), [BlockCalls(as_overrides(header)) for header in built[start:]])
        assert [block.block_hash for block in answer.blocks] == [header.hash for header in built[start:]]


def test_many_simulated_calls_that_run_no_code_end_with_the_time_of_an_answer() -> None:
    """The clock moves when it is looked at: what looks at it once a call runs out of time."""
    ticks = itertools.count(step=NANOSECONDS_PER_MS)
    chain = LocalChain(config=ExecutionConfig(query_limits=QueryLimits(time_ms=50)), now_ns=lambda: next(ticks))
    transfer = as_call(Step(0, DEVNET_ACCOUNTS[1].address, 1, b"", 21_000, 0))
    answer = chain.execution.query(Query(AtLatest(), SimulateQuestion((BlockCalls(calls=(transfer,) * 100),))))
    assert answer == CallFailed("timeout", "execution aborted (timeout = 0.05s)")
