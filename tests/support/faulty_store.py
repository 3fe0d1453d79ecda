"""A store on a simulated disk that fails on demand: the process ends, the power fails, or the disk is full.

The disk remembers which batches reached it and which were synced. What a crash leaves is what LevelDB promises:
whole batches, in order; the end of the process loses none that was written, a power failure may lose those since
the last synced one. A crash is a BaseException, so that no handler of the code under test survives it.
"""

from collections.abc import Iterator, Mapping
from enum import Enum

from astralink_node.storage.memory import MemoryReader, MemoryStore
from astralink_node.storage.store import DiskFull, StoreFailed


class Crashed(BaseException):
    """The process has ended; nothing of it may run on."""


class Fault(Enum):
    CRASH_BEFORE = "the process ends before the write has any effect"
    CRASH_AFTER = "the process ends when the write has taken effect, before the caller learns of it"
    DISK_FULL = "the write fails for want of space"


class Disk:
    """The batches that were written, oldest first, and how many of them are safe from a power failure."""

    def __init__(self) -> None:
        self.batches: list[dict[bytes, bytes | None]] = []
        self.synced = 0

    def after_process_end(self) -> "Disk":
        """What another process finds. It had better sync before it relies on it, as LevelDB does on opening."""
        return self._first(len(self.batches))

    def after_power_failure(self, lucky: int = 0) -> "Disk":
        """Only what was synced, and the first ``lucky`` batches after it."""
        return self._first(min(self.synced + lucky, len(self.batches)))

    def unsynced(self) -> int:
        return len(self.batches) - self.synced

    def _first(self, count: int) -> "Disk":
        survivor = Disk()
        survivor.batches = self.batches[:count]
        survivor.synced = count
        return survivor


class FaultyStore:
    """A Store on ``disk`` that meets ``fault`` at its write number ``at_write`` (the first is 1)."""

    def __init__(self, disk: Disk, fault: Fault | None = None, at_write: int = 0) -> None:
        self.disk = disk
        self.writes = 0
        self._fault = fault
        self._at_write = at_write
        self._crashed = False
        self._full = False
        self._store = MemoryStore()
        for batch in disk.batches:
            self._store.write(batch, sync=True)

    def get(self, key: bytes) -> bytes | None:
        self._check_alive()
        return self._store.get(key)

    def iterate(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self._check_alive()
        return self._store.iterate(start, stop, reverse=reverse)

    def write(self, batch: Mapping[bytes, bytes | None], *, sync: bool) -> None:
        self._check_alive()
        if self._full:
            raise StoreFailed("the simulated database takes no writes after one failed")
        self.writes += 1
        fault = self._fault if self.writes == self._at_write else None
        if fault is Fault.CRASH_BEFORE:
            self._crash()
        if fault is Fault.DISK_FULL:
            self._full = True
            raise DiskFull("the simulated disk is full")
        self.disk.batches.append(dict(batch))
        if sync:
            self.disk.synced = len(self.disk.batches)
        if fault is Fault.CRASH_AFTER:
            self._crash()
        self._store.write(batch, sync=sync)

    def snapshot(self) -> MemoryReader:
        self._check_alive()
        return self._store.snapshot()

    def compact(self) -> None:
        self._check_alive()

    def approximate_bytes(self, start: bytes, stop: bytes) -> int:
        self._check_alive()
        return self._store.approximate_bytes(start, stop)

    def close(self) -> None:
        """Closing is always possible, also after a crash."""

    def _crash(self) -> None:
        self._crashed = True
        raise Crashed

    def _check_alive(self) -> None:
        if self._crashed:
            raise Crashed
