"""The search over the inverted index finds what a look at every log finds, whatever the filter and the slices."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.chain import log_search
from astralink_node.chain.log_search import MAX_LOG_DATA_BYTES, LogLimitReached, search_logs
from astralink_node.chain.messages import LogRecord, LogsQuestion
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import Address
from genesis.schema import GenesisAccount
from tests.support.chains import LocalChain, candidate, genesis_text

# Hypothesis lowers Python's recursion limit around a test, execution raises it: that it stays raised is right.
pytestmark = pytest.mark.filterwarnings("ignore:The recursion limit will not be reset")

EMITTERS = tuple(Address(bytes.fromhex(byte) * 20) for byte in ("e0", "e1", "e2"))
EMITTER_CODE = bytes.fromhex("5f5b3681101560215780604001355f528060200135813560205fa26060016001565b00")
"""Emits a LOG2 for every 96 bytes of its call data: two topics and a word of data."""
TOPICS = tuple(number.to_bytes(32, "big") for number in range(4))
GENESIS = genesis_text(extra_alloc={address: GenesisAccount(0, 1, EMITTER_CODE, ()) for address in EMITTERS})
HEIGHTS = 40


@cache
def chain_of_logs() -> LocalChain:
    """Blocks of no, few and many logs: one emitter in nearly all, one in every fifth, one in one alone."""
    chain = LocalChain(MemoryStore(), genesis=GENESIS)
    nonce = 0
    for height in range(1, HEIGHTS + 1):
        candidates = []
        for place, emitter in enumerate(EMITTERS):
            if (place == 0 and height % 7 == 0) or (place == 1 and height % 5) or (place == 2 and height != 23):
                continue
            words = [
                TOPICS[(height + at) % 3] + TOPICS[3 if height == 23 else at % 3] + at.to_bytes(32, "big")
                for at in range(1 + height % 3)
            ]
            for part in (words, [] if height % 2 else words[:1]):
                candidates.append(candidate(0, nonce, to=emitter, value=0, gas=90_000, data=b"".join(part)))
                nonce += 1
        chain.produce(candidates)
    return chain


def search(
    question: LogsQuestion, max_logs: int = 100_000, max_data_bytes: int = MAX_LOG_DATA_BYTES
) -> tuple[LogRecord, ...]:
    return search_logs(
        chain_of_logs().store,
        question,
        HEIGHTS,
        max_logs=max_logs,
        max_data_bytes=max_data_bytes,
        check_time=lambda: None,
    )


@cache
def every_log() -> tuple[LogRecord, ...]:
    return search(LogsQuestion(0, HEIGHTS, (), ()))


CHOICES = st.lists(st.sampled_from(TOPICS), max_size=3, unique=True).map(tuple)
QUESTIONS = st.builds(
    LogsQuestion,
    st.integers(0, HEIGHTS + 2),
    st.integers(0, HEIGHTS + 2),
    st.lists(st.sampled_from((*EMITTERS, Address(bytes(20)))), max_size=3, unique=True).map(tuple),
    st.lists(CHOICES, max_size=3).map(tuple),
)


def wanted(log: LogRecord, question: LogsQuestion) -> bool:
    if not question.from_height <= log.height <= question.to_height:
        return False
    if question.addresses and log.address not in question.addresses:
        return False
    return all(
        not values or (place < len(log.topics) and log.topics[place] in values)
        for place, values in enumerate(question.topics)
    )


def test_the_chain_has_logs_enough_to_tell_filters_apart() -> None:
    counts = [sum(log.address == emitter for log in every_log()) for emitter in EMITTERS]
    assert counts[0] > 4 * counts[1] > 4 * counts[2] > 0
    assert len({log.height for log in every_log()}) > HEIGHTS // 2


@settings(max_examples=60, deadline=None)
@given(QUESTIONS, st.sampled_from([3, 16, 1_024]), st.sampled_from([0, 8, 4_096]), st.sampled_from([1, 2, 32]))
def test_a_search_finds_what_a_look_at_every_log_finds(
    question: LogsQuestion, slice_heights: int, point_reads: int, read_at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_search, "SLICE_HEIGHTS", slice_heights)
        patch.setattr(log_search, "MAX_POINT_READS", point_reads)
        patch.setattr(log_search, "READ_AT_ONCE", read_at_once)
        assert search(question) == tuple(log for log in every_log() if wanted(log, question))


@pytest.mark.parametrize("addresses", [(), EMITTERS[:1]], ids=["every log", "one emitter"])
def test_more_logs_than_may_be_answered_are_refused_at_the_height_where_they_were(
    addresses: tuple[bytes, ...],
) -> None:
    question = LogsQuestion(0, HEIGHTS, addresses, ())
    found = search(question)
    assert search(question, max_logs=len(found)) == found
    with pytest.raises(LogLimitReached) as refused:
        search(question, max_logs=len(found) - 1)
    assert refused.value.height == found[-1].height


def test_logs_with_more_data_than_may_be_answered_are_refused() -> None:
    question = LogsQuestion(0, HEIGHTS, (), ())
    found = search(question)
    size = sum(len(log.data) for log in found)
    assert size
    assert search(question, max_data_bytes=size) == found
    with pytest.raises(LogLimitReached, match=f"more than {size - 1} bytes of logs match"):
        search(question, max_data_bytes=size - 1)
