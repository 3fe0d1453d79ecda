"""Finding logs of a height range through the inverted index: by emitter, by topic, by both.

Heights are searched in slices, so that neither memory nor the time between two looks at the clock follows the
length of the range. Each clause of a filter (the addresses, each topic position) names positions within blocks; a log
matches when every clause names it. Within a slice the clauses are read side by side until the one with the fewest
entries is at its end; the others are then asked about its blocks alone, so a busy contract does not make a search for
its rare events dear. Of the blocks that match, only the logs that do are decoded (chain.log_loading).
"""

from collections.abc import Callable, Iterator
from itertools import islice

from astralink_node.chain.ledger import Ledger
from astralink_node.chain.log_loading import load_logs
from astralink_node.chain.messages import LogRecord, LogsQuestion
from astralink_node.evm.blocks import EMPTY_BLOOM
from astralink_node.storage import keys
from astralink_node.storage.store import Reader

SLICE_HEIGHTS = 1_024
WIDEST_SLICE_HEIGHTS = 8_192
"""Where little is found the next slice is twice as wide, up to this."""
FEW_BLOCKS = 64
READ_AT_ONCE = 32
"""Entries of one clause before the next one's turn."""
MAX_POINT_READS = 4_096
"""Blocks times values of a clause; beyond, its entries in the slice are read through."""
MAX_TOPIC_POSITIONS = 4
MAX_LOG_DATA_BYTES = 12 * 1024 * 1024
"""Of the logs found: as hex it is about the longest answer that a gateway gives. Eight gas buy a byte of it, so that
a few blocks may hold more than anybody can be sent."""

Matches = dict[int, set[int]]
"""Height -> positions of logs within the block."""
Clause = list[bytes]
"""Prefixes of index keys, of which one has to name the log."""


class LogLimitReached(Exception):
    """More logs match than may be answered. `height` is where the search stood."""

    def __init__(self, too_much: str, height: int) -> None:
        super().__init__(f"more than {too_much} match, the last one at height {height}: ask for less")
        self.height = height


def search_logs(
    reader: Reader,
    question: LogsQuestion,
    last_height: int,
    *,
    max_logs: int,
    max_data_bytes: int = MAX_LOG_DATA_BYTES,
    check_time: Callable[[], None],
) -> tuple[LogRecord, ...]:
    """The matching logs up to `last_height`, in chain order. Raises LogLimitReached, and whatever `check_time` does."""
    clauses = _clauses(question)
    if clauses is None:
        return ()
    ledger = Ledger(reader)
    matches: list[tuple[int, list[int] | None]] = []
    count = 0
    start, stop = max(question.from_height, 0), min(question.to_height, last_height) + 1
    width = SLICE_HEIGHTS
    while start < stop:
        end = min(start + width, stop)
        before = len(matches)
        for height, positions in _matches(reader, ledger, clauses, start, end, check_time):
            # The index counts: what is too much is refused before any of it is loaded.
            count += 1 if positions is None else len(positions)
            if count > max_logs:
                raise LogLimitReached(f"{max_logs} logs", height)
            matches.append((height, positions))
        width = min(2 * width, WIDEST_SLICE_HEIGHTS) if len(matches) - before < FEW_BLOCKS else SLICE_HEIGHTS
        start = end
    found: list[LogRecord] = []
    data_bytes = 0
    for height, positions in matches:
        check_time()
        loaded = load_logs(ledger, height, positions, check_time)
        data_bytes += sum(len(log.data) for log in loaded)
        found.extend(loaded)
        if len(found) > max_logs:
            raise LogLimitReached(f"{max_logs} logs", height)
        if data_bytes > max_data_bytes:
            raise LogLimitReached(f"{max_data_bytes} bytes of logs", height)
    return tuple(found)


def _clauses(question: LogsQuestion) -> list[Clause] | None:
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
    clauses: list[Clause],
    start: int,
    end: int,
    check_time: Callable[[], None],
) -> Iterator[tuple[int, list[int] | None]]:
    """(height, rising positions) with start <= height < end, ascending; None means every log of the block."""
    check_time()
    if not clauses:
        for height in range(start, end):
            if ledger.header(height).logs_bloom != EMPTY_BLOOM:
                yield height, None
            check_time()
        return
    matches, others = _of_rarest_clause(reader, clauses, start, end, check_time)
    for clause in others:
        if not matches:
            return
        check_time()
        matches = _narrowed(reader, clause, matches, start, end, check_time)
    for height in sorted(matches):
        yield height, sorted(matches[height])


def _of_rarest_clause(
    reader: Reader, clauses: list[Clause], start: int, end: int, check_time: Callable[[], None]
) -> tuple[Matches, list[Clause]]:
    """What the clause with about the fewest entries in the slice names, and the other clauses."""
    cursors = [_entries(reader, clause, start, end) for clause in clauses]
    read: list[Matches] = [{} for _ in clauses]
    while True:
        for place, cursor in enumerate(cursors):
            check_time()
            count = 0
            for key, raw in islice(cursor, READ_AT_ONCE):
                count += 1
                read[place].setdefault(keys.log_index_height(key), set()).update(keys.decode_positions(raw))
            if count < READ_AT_ONCE:
                return read[place], clauses[:place] + clauses[place + 1 :]


def _narrowed(
    reader: Reader, clause: Clause, matches: Matches, start: int, end: int, check_time: Callable[[], None]
) -> Matches:
    """The matches that a further clause names as well."""
    narrowed: Matches = {}
    if len(matches) * len(clause) <= MAX_POINT_READS:
        for height, positions in matches.items():
            named: set[int] = set()
            for prefix in clause:
                raw = reader.get(keys.log_index_key(prefix, height))
                if raw is not None:
                    named.update(keys.decode_positions(raw))
            if both := positions & named:
                narrowed[height] = both
        return narrowed
    for key, raw in _entries(reader, clause, start, end):
        height = keys.log_index_height(key)
        candidates = matches.get(height)
        if candidates is not None and (both := candidates.intersection(keys.decode_positions(raw))):
            narrowed.setdefault(height, set()).update(both)
            check_time()
    return narrowed


def _entries(reader: Reader, clause: Clause, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    for prefix in clause:
        yield from reader.iterate(keys.log_index_key(prefix, start), keys.log_index_key(prefix, end))
