"""Several views of one contract in one question: each from the same state, none leaves a trace, all within bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.messages import (
    Answer,
    AtHeight,
    AtLatest,
    BlockSelector,
    HistoryUnavailable,
    LimitExceeded,
    NotFound,
    Query,
)
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.view_messages import ViewsAnswer, ViewsQuestion
from astralink_node.types import Address
from genesis.schema import GenesisAccount
from tests.support.chains import BURNER, CONTRACTS, COUNTER, LOOPER, REVERTER, LocalChain, candidate, genesis_text

TALKER = Address(bytes.fromhex("7a") * 20)
"""Raises its slot 0 by one, and gives it back with its input: PUSH0 SLOAD .. SSTORE, then slot 0 and the first word."""
_TALKER_CODE = bytes.fromhex("5f54600101805f555f525f3560205260405ff3")


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


@pytest.fixture(scope="module")
def chain() -> LocalChain:
    accounts = {**CONTRACTS, TALKER: GenesisAccount(0, 1, _TALKER_CODE, ())}
    chain = LocalChain(genesis=genesis_text(1, extra_alloc=accounts))
    chain.produce([candidate(0, 0, to=TALKER, gas=60_000)])
    return chain


def ask(chain: LocalChain, contract: bytes, *calls: bytes, at: BlockSelector | None = None) -> Answer:
    return chain.execution.query(Query(at or AtLatest(), ViewsQuestion(contract, calls)))


def test_views_are_answered_in_order_and_none_sees_another(chain: LocalChain) -> None:
    answer = ask(chain, TALKER, word(7), word(8), word(7))
    assert answer == ViewsAnswer(tuple(word(2) + word(value) for value in (7, 8, 7)))
    assert ask(chain, TALKER, word(7), at=AtHeight(0)) == ViewsAnswer((word(1) + word(7),))


def test_nothing_is_asked_and_nothing_answered(chain: LocalChain) -> None:
    assert ask(chain, TALKER) == ViewsAnswer(())


def test_an_account_without_code_answers_with_nothing(chain: LocalChain) -> None:
    assert ask(chain, b"\x99" * 20, b"\x01\x02\x03\x04") == ViewsAnswer((b"",))


def test_a_view_that_fails_is_named_with_what_it_said(chain: LocalChain) -> None:
    answer = ask(chain, REVERTER, b"")
    assert isinstance(answer, CallFailed)
    assert (answer.kind, answer.output, answer.message[:6]) == ("reverted", bytes.fromhex("deadbeef"), "view 0")
    burned = ask(chain, BURNER, b"")
    assert isinstance(burned, CallFailed)
    assert burned.kind == "halted"


def test_views_are_bounded_in_number_gas_and_time(chain: LocalChain) -> None:
    most = QueryLimits().max_views
    assert isinstance(ask(chain, COUNTER, *[b""] * most), ViewsAnswer)
    assert isinstance(ask(chain, COUNTER, *[b""] * (most + 1)), LimitExceeded)
    assert isinstance(ask(chain, b"\x01", b""), CallFailed)
    limits = replace(QueryLimits(), time_ms=1, call_gas=2**40)
    slow = LocalChain(config=ExecutionConfig(query_limits=limits))
    answer = ask(slow, LOOPER, b"")
    assert isinstance(answer, CallFailed)
    assert answer.kind == "timeout"


def test_a_block_that_is_not_there_has_no_views(chain: LocalChain) -> None:
    assert isinstance(ask(chain, TALKER, b"", at=AtHeight(9)), NotFound | HistoryUnavailable)
