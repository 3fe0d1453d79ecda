"""Which heights the explorer index holds, and how well: a list of stretches, changed in the entries' own batch.

A stretch was indexed with its transactions' internal calls, or, where the state was gone, from bodies and receipts
alone. What lies in none is a gap: a question that would have to look into one is refused, never answered from what
happens to be there. Pure, but for what loads it from the database.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from astralink_node.chain.ledger import Ledger
from astralink_node.chain.records import damaged
from astralink_node.storage import keys
from astralink_node.storage.store import PointReader, Reader

MAX_STRETCHES: Final = 64
"""Each time the setting is switched off and on again makes one. Beyond, the lowest is given up: it becomes a gap, which
`db index` fills again."""
_ENTRY_BYTES: Final = 17


@dataclass(frozen=True, slots=True)
class Stretch:
    first: int
    last: int
    """Inclusive."""
    with_calls: bool
    """False: senders, recipients, contracts that transactions deployed and emitters of logs, but no internal calls."""

    def overlap(self, first: int, last: int) -> "Stretch | None":
        low, high = max(self.first, first), min(self.last, last)
        return replace(self, first=low, last=high) if low <= high else None


Coverage = tuple[Stretch, ...]
"""Rising and disjoint; neighbours of one kind are one stretch."""


def extended(coverage: Coverage, added: Stretch) -> Coverage:
    """With a stretch whose heights were in none."""
    stretches: list[Stretch] = []
    for stretch in sorted((*coverage, added), key=lambda each: each.first):
        before = stretches[-1] if stretches else None
        if before is not None and before.last + 1 == stretch.first and before.with_calls == stretch.with_calls:
            stretches[-1] = replace(before, last=stretch.last)
        else:
            stretches.append(stretch)
    return tuple(stretches[-MAX_STRETCHES:])


def truncated(coverage: Coverage, last: int) -> Coverage:
    """Without the heights above `last`."""
    kept = (stretch.overlap(0, last) for stretch in coverage)
    return tuple(stretch for stretch in kept if stretch is not None)


def covers(coverage: Coverage, height: int) -> bool:
    return any(stretch.first <= height <= stretch.last for stretch in coverage)


def gaps(coverage: Coverage, first: int, last: int) -> Iterator[tuple[int, int]]:
    """The (first, last) of heights between those given that no stretch holds, rising."""
    position = first
    for stretch in coverage:
        if stretch.last < position:
            continue
        if stretch.first > last:
            break
        if stretch.first > position:
            yield position, stretch.first - 1
        position = stretch.last + 1
    if position <= last:
        yield position, last


def without_calls(coverage: Coverage, first: int, last: int) -> Iterator[tuple[int, int]]:
    """The parts of a range that were indexed without internal calls."""
    for stretch in coverage:
        part = None if stretch.with_calls else stretch.overlap(first, last)
        if part is not None:
            yield part.first, part.last


def load_coverage(reader: PointReader) -> Coverage:
    raw = reader.get(keys.EXPLORER_COVERAGE_KEY)
    return () if raw is None else decode_coverage(raw)


def missing(reader: Reader) -> Iterator[tuple[int, int]]:
    """The gaps among the blocks that this node has, rising; genesis has no transactions."""
    ledger = Ledger(reader)
    return gaps(load_coverage(reader), max(1, ledger.oldest_block_height()), ledger.head().height)


def encode_coverage(coverage: Coverage) -> bytes | None:
    """Of each stretch: kind (1 with internal calls, 0 without), first and last height of 8 bytes. None of nothing."""
    parts = (
        bytes((stretch.with_calls,)) + keys.encode_height(stretch.first) + keys.encode_height(stretch.last)
        for stretch in coverage
    )
    return b"".join(parts) or None


def decode_coverage(raw: bytes) -> Coverage:
    if len(raw) % _ENTRY_BYTES or any(kind > 1 for kind in raw[::_ENTRY_BYTES]):
        raise damaged("the coverage of the explorer index", f"{len(raw)} bytes of another shape")
    return tuple(
        Stretch(
            keys.decode_height(raw[at + 1 : at + 9]), keys.decode_height(raw[at + 9 : at + _ENTRY_BYTES]), bool(raw[at])
        )
        for at in range(0, len(raw), _ENTRY_BYTES)
    )
