"""Finding logs of a height range through the inverted index: by emitter, by topic, by both.

Heights are searched in slices, so that neither memory nor the time between two looks at the clock follows the
length of the range. Each clause of a filter (the addresses, each topic position) names positions within blocks;
a log matches when every clause names it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import LogRecord, LogsQuestion
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import EMPTY_BLOOM, decode_receipt
from astralink_node.storage import keys
from astralink_node.storage.store import Reader

SLICE_HEIGHTS = 1_024
MAX_TOPIC_POSITIONS = 4

Matches = dict[int, set[int]]
"""Height -> positions of logs within the block."""


@dataclass(frozen=True, slots=True)
class LogLimitReached(Exception):
    """More logs match than may be answered. `height` is where the search stood."""

    height: int


def search_logs(
    reader: Reader,
    question: LogsQuestion,
    last_height: int,
    *,
    max_logs: int,
    check_time: Callable[[], None],
) -> tuple[LogRecord, ...]:
    """The matching logs up to `last_height`, in chain order. Raises LogLimitReached, and whatever `check_time` does."""
    found: list[LogRecord] = []
    clauses = _clauses(question)
    if clauses is None:
        return ()
    ledger = Ledger(reader)
    stop = min(question.to_height, last_height) + 1
    for start in range(max(question.from_height, 0), stop, SLICE_HEIGHTS):
        end = min(start + SLICE_HEIGHTS, stop)
        for height, positions in _matches(reader, ledger, clauses, start, end, check_time):
            check_time()
            found.extend(_load_logs(ledger, height, positions))
            if len(found) > max_logs:
                raise LogLimitReached(height)
    return tuple(found)


def _clauses(question: LogsQuestion) -> list[list[bytes]] | None:
    """The index prefixes of each clause; None when nothing can match."""
    clauses = [[keys.log_address_prefix(address) for address in question.addresses]]
    for place, values in enumerate(question.topics):
        if place >= MAX_TOPIC_POSITIONS:
            return None
        clauses.append([keys.log_topic_prefix(place, value) for value in values])
    return [clause for clause in clauses if clause]


def _matches(
    reader: Reader,
    ledger: Ledger,
    clauses: list[list[bytes]],
    start: int,
    end: int,
    check_time: Callable[[], None],
) -> Iterator[tuple[int, set[int] | None]]:
    """(height, positions) with start <= height < end, ascending; positions of None mean every log of the block."""
    check_time()
    if not clauses:
        for height in range(start, end):
            if ledger.header(height).logs_bloom != EMPTY_BLOOM:
                yield height, None
            check_time()
        return
    matches = _clause_matches(reader, clauses[0], start, end)
    for clause in clauses[1:]:
        if not matches:
            return
        check_time()
        others = _clause_matches(reader, clause, start, end)
        matches = {height: both for height in matches if (both := matches[height] & others.get(height, set()))}
    yield from sorted(matches.items())


def _clause_matches(reader: Reader, clause: list[bytes], start: int, end: int) -> Matches:
    matches: Matches = {}
    for prefix in clause:
        for key, raw in reader.iterate(keys.log_index_key(prefix, start), keys.log_index_key(prefix, end)):
            matches.setdefault(keys.log_index_height(key), set()).update(keys.decode_positions(raw))
    return matches


def _load_logs(ledger: Ledger, height: int, positions: set[int] | None) -> Iterator[LogRecord]:
    header = ledger.header(height)
    raw_transactions, _ = ledger.body(height)
    receipts = ledger.receipts(height)
    for index, receipt in enumerate(receipts):
        first = receipt.first_log_index
        after = receipts[index + 1].first_log_index if index + 1 < len(receipts) else None
        if positions is not None and not any(
            position >= first and (after is None or position < after) for position in positions
        ):
            continue
        for offset, log in enumerate(decode_receipt(receipt.raw_receipt).logs):
            if positions is None or first + offset in positions:
                yield LogRecord(
                    address=log.address,
                    topics=log.topics,
                    data=log.data,
                    height=height,
                    block_hash=header.hash,
                    block_timestamp=header.timestamp,
                    transaction_hash=keccak256(raw_transactions[index]),
                    transaction_index=index,
                    log_index=first + offset,
                )
