"""What the node asks of a key-value store, and how a store fails.

Two implementations exist: LevelDB for a node, memory for tests and in-process simulation. Keys are ordered as
byte strings. Every error names the folder it concerns and what an operator can do; none is retried here.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

from astralink_node.errors import EXIT_STORAGE, EXIT_USER, AstraLinkError


class StorageError(AstraLinkError):
    """The store cannot do what was asked."""

    exit_code = EXIT_STORAGE


class DatabaseLocked(StorageError):
    """Another process has the database open."""

    exit_code = EXIT_USER


class DatabaseMissing(StorageError):
    """There is no database at the path, and creating one was not asked for."""

    exit_code = EXIT_USER


class DatabaseDamaged(StorageError):
    """A file of the database is missing, unreadable or fails its checksum."""


class DatabaseForbidden(StorageError):
    """The operating system denies access to the database's files."""

    exit_code = EXIT_USER


class DiskFull(StorageError):
    """No space is left for the write. The batch was not applied; earlier batches are safe."""


class StoreFailed(StorageError):
    """A write failed earlier, so this store takes no further writes until it is opened again."""


class PointReader(Protocol):
    """Reads by key alone: enough for the state, whether of the head or of an earlier height."""

    def get(self, key: bytes) -> bytes | None: ...


class Reader(PointReader, Protocol):
    """A consistent view: a snapshot, or the store itself between two writes."""

    def iterate(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Entries with ``start <= key < stop`` in key order, or in falling order if ``reverse``."""
        ...


class SnapshotReader(Reader, Protocol):
    """The store as it was when the snapshot was taken. It pins old data until it is closed."""

    def close(self) -> None: ...


class Store(Reader, Protocol):
    """One writer, atomic batches."""

    def write(self, batch: Mapping[bytes, bytes | None], *, sync: bool) -> None:
        """Apply all of ``batch``, or nothing; ``None`` deletes. With ``sync`` it is on disk on return.

        A batch that is not synced survives the end of the process but not a power failure; batches never
        take effect out of order. After a failure every later write raises :class:`StoreFailed`.
        """
        ...

    def snapshot(self) -> SnapshotReader: ...

    def compact(self) -> None:
        """Reorganise the files, giving back the space of deleted entries. Slow; blocks."""
        ...

    def approximate_bytes(self, start: bytes, stop: bytes) -> int:
        """Size on disk of a key range, as far as the store knows; recent writes may be missing."""
        ...

    def close(self) -> None: ...
