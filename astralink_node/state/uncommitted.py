"""The state after blocks that nobody will commit: the state they stand on, and over it their writes, in memory only.

Roots and tries are computed by the code that commits a block, so that a simulated block has the state root that the
same block would have. What it holds follows what those blocks touch, not the size of the state.
"""

from collections.abc import Callable, Iterator, Set
from typing import Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.commitment import commit_changes
from astralink_node.state.overlay import StateChanges
from astralink_node.storage.keys import STORAGE, STORAGE_NODES
from astralink_node.storage.store import PointReader
from astralink_node.types import Hash32

READS_PER_CHECK: Final = 64
"""How many reads, of which computing a root makes one for each thing that it changes, between two looks at the
interrupt."""
_ADDRESS_HASH = slice(1, 33)


class UncommittedState:
    """A reader of the state's keys (storage.store.Reader, so far as the state needs one)."""

    def __init__(self, base: PointReader, state_root: Hash32, interrupt: Callable[[], None] | None = None) -> None:
        """`base` holds the state with `state_root`, be it the head's or an earlier one's.

        `interrupt` is called now and then by whatever reads, and where tries grow; when it raises, the state is void.
        """
        self._base = base
        self._interrupt = interrupt
        self._reads = 0
        self._writes: dict[bytes, bytes | None] = {}
        self._dropped: set[bytes] = set()
        """Hashes of the addresses whose storage in the base is no more."""
        self.state_root = state_root

    def add(self, changes: StateChanges) -> Hash32:
        """The state with a block's changes, which were made on it; its root."""
        self._drop_storage_of(changes)
        update = commit_changes(self, self.state_root, changes, self._interrupt)
        self._writes.update(update.writes)
        self.state_root = update.state_root
        return self.state_root

    def _drop_storage_of(self, changes: StateChanges) -> None:
        """Storage may be dropped of an account with millions of slots: none of them is looked at."""
        if not changes.wiped:
            return
        wiped = {keccak256(address) for address in changes.wiped}
        self._dropped |= wiped
        for key in [key for key in self._writes if _is_storage_of(key, wiped)]:
            del self._writes[key]

    def get(self, key: bytes) -> bytes | None:
        self._reads += 1
        if self._interrupt is not None and self._reads % READS_PER_CHECK == 0:
            self._interrupt()
        try:
            return self._writes[key]
        except KeyError:
            pass
        if self._dropped and _is_storage_of(key, self._dropped):
            return None
        return self._base.get(key)

    def iterate(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Only ever of storage that has just been dropped, where nothing is left."""
        del start, stop, reverse
        return iter(())


def _is_storage_of(key: bytes, address_hashes: Set[bytes]) -> bool:
    return key[:1] in (STORAGE, STORAGE_NODES) and key[_ADDRESS_HASH] in address_hashes
