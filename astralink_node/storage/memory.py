"""A store in memory: the in-process stand-in for LevelDB in tests and simulation.

Nothing survives the process. Iteration and snapshots behave exactly as the LevelDB store's do, which the tests
check by running one suite on both.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping


class MemoryReader:
    """A dictionary with ordered iteration. The dictionary is never changed once a snapshot shares it."""

    def __init__(self, entries: dict[bytes, bytes]) -> None:
        self._entries = entries
        self._ordered_keys: list[bytes] | None = None

    def get(self, key: bytes) -> bytes | None:
        return self._entries.get(key)

    def iterate(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        if self._ordered_keys is None:
            self._ordered_keys = sorted(self._entries)
        keys = self._ordered_keys[bisect_left(self._ordered_keys, start) : bisect_left(self._ordered_keys, stop)]
        if reverse:
            keys.reverse()
        entries = [(key, self._entries[key]) for key in keys]
        return iter(entries)

    def close(self) -> None:
        """Nothing to release; present so that a snapshot can be closed."""


class MemoryStore(MemoryReader):
    """See :class:`astralink_node.storage.store.Store`."""

    def __init__(self) -> None:
        super().__init__({})
        self._shared = False

    def write(self, batch: Mapping[bytes, bytes | None], *, sync: bool) -> None:  # noqa: ARG002
        """Apply the batch; ``sync`` changes nothing, since memory has no disk to reach."""
        if self._shared:
            self._entries = dict(self._entries)
            self._shared = False
        self._ordered_keys = None
        entries = self._entries
        for key, value in batch.items():
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value

    def snapshot(self) -> MemoryReader:
        self._shared = True
        return MemoryReader(self._entries)

    def compact(self) -> None:
        """Nothing to reorganise."""

    def approximate_bytes(self, start: bytes, stop: bytes) -> int:
        return sum(len(key) + len(value) for key, value in self.iterate(start, stop))
