"""History, kept as what each block overwrote.

For every database key of the state that a block at height h changed (flat entries and trie nodes alike), the
entry ``key || h`` holds what was there before. The value at an earlier height g is then one seek: the first entry
above g, else the present value. A list of its keys is kept by height, so that one block's diffs can be undone
(rollback of the head) or dropped (pruning) in work that follows what that block touched.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from astralink_node.errors import AstraLinkError
from astralink_node.state.errors import StateDamaged
from astralink_node.state.flat_state import HeadState
from astralink_node.storage.keys import DIFFS, decode_height, diff_key, diff_list_key, encode_height
from astralink_node.storage.store import PointReader, Reader

_ABSENT: Final = b"\x00"
_PRESENT: Final = b"\x01"
_LAST_HEIGHT: Final = 2**64 - 1
_READ_ON: Final = 16
"""Diffs that are passed over by reading on; a seek costs about as much."""
_END: Final = (b"\xff" * 128, b"")
"""Above every key."""
_LENGTHS: Final = tuple(bytes((length,)) for length in range(256))


class DiffMissing(AstraLinkError):
    """The reverse diff of a height is not kept (pruned, or the height was never committed)."""

    def __init__(self, height: int) -> None:
        super().__init__(f"no reverse diff is kept for the block at height {height}")
        self.height = height


def reverse_diff(previous: Mapping[bytes, bytes | None], height: int) -> dict[bytes, bytes | None]:
    """The entries that record ``previous`` (StateUpdate.previous) as what held before the block at ``height``.

    In key order, so that nodes that met the block's accounts in different orders store the same bytes.
    """
    suffix = encode_height(height)
    entries: dict[bytes, bytes | None] = {}
    listed: list[bytes] = []
    for key, value in sorted(previous.items()):
        sized_key = _LENGTHS[len(key)] + key
        entries[DIFFS + sized_key + suffix] = _ABSENT if value is None else _PRESENT + value
        listed.append(sized_key)
    entries[diff_list_key(height)] = b"".join(listed)
    return entries


def rollback_writes(reader: PointReader, height: int) -> dict[bytes, bytes | None]:
    """What takes the state back to before the block at ``height``, which must be the newest, and its diff away.

    Raises DiffMissing.
    """
    writes: dict[bytes, bytes | None] = {}
    for key in _listed_keys(reader, height):
        entry_key = diff_key(key, height)
        entry = reader.get(entry_key)
        if entry is None:
            raise StateDamaged(f"reverse diff {entry_key.hex()}", "an entry, since it is listed", "nothing")
        writes[key] = _decode_entry(entry)
        writes[entry_key] = None
    writes[diff_list_key(height)] = None
    return writes


def prune_writes(reader: PointReader, height: int) -> dict[bytes, bytes | None]:
    """What drops the diff of one height: heights below it can no longer be read. Nothing if there is none."""
    if reader.get(diff_list_key(height)) is None:
        return {}
    writes: dict[bytes, bytes | None] = {diff_key(key, height): None for key in _listed_keys(reader, height)}
    writes[diff_list_key(height)] = None
    return writes


class HistoricalReader:
    """The state's database keys as they stood after the block at ``height``.

    The diffs of all heights above must be there: the caller knows the oldest height that is kept.
    """

    __slots__ = ("_next_height", "_reader")

    def __init__(self, reader: Reader, height: int) -> None:
        self._reader = reader
        self._next_height = height + 1

    def get(self, key: bytes) -> bytes | None:
        for _, entry in self._reader.iterate(diff_key(key, self._next_height), diff_key(key, _LAST_HEIGHT)):
            return _decode_entry(entry)
        return self._reader.get(key)

    def entries(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The flat entries with ``start <= key < stop``, in key order. All their keys are as long as ``start``."""
        present = self._reader.iterate(start, stop)
        key, value = next(present, _END)
        for changed_key, earlier in self._changed(start, stop):
            while key < changed_key:
                yield key, value
                key, value = next(present, _END)
            if key == changed_key:
                key, value = next(present, _END)
            if earlier is not None:
                yield changed_key, earlier
        while key != _END[0]:
            yield key, value
            key, value = next(present, _END)

    def _changed(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        """(key, its value at this height) of every key in the range that a later block changed, in key order.

        A key that changes with every block has a diff for each: what is of no use is skipped, a few at a time by
        reading on, many by seeking.
        """
        length = len(start)
        table = DIFFS + _LENGTHS[length]
        position, end = table + start, table + stop
        found = b""
        """The last key whose value is known."""
        while True:
            skipped = 0
            for entry_key, entry in self._reader.iterate(position, end):
                key = entry_key[2 : 2 + length]
                if key == found:
                    skipped, position = skipped + 1, diff_key(key, _LAST_HEIGHT) + b"\x00"
                elif decode_height(entry_key[-8:]) < self._next_height:
                    skipped, position = skipped + 1, diff_key(key, self._next_height)
                else:
                    found, skipped = key, 0
                    yield key, _decode_entry(entry)
                if skipped > _READ_ON:
                    break
            else:
                return


class HistoricalState(HeadState):
    """The flat state after the block at ``height``."""

    __slots__ = ()

    def __init__(self, reader: Reader, height: int) -> None:
        super().__init__(HistoricalReader(reader, height))


def _listed_keys(reader: PointReader, height: int) -> Iterator[bytes]:
    listed = reader.get(diff_list_key(height))
    if listed is None:
        raise DiffMissing(height)
    position = 0
    while position < len(listed):
        start = position + 1
        position = start + listed[position]
        yield listed[start:position]


def _decode_entry(entry: bytes) -> bytes | None:
    return entry[1:] if entry[:1] == _PRESENT else None
