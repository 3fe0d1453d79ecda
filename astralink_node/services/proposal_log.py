"""The write-ahead log of proposals for the height after the head: on disk before anything is signed for them.

The database alone defines the committed height; this log concerns the next one and is cut after its commit. It
makes a restart sign the very same block again instead of another one for the same height and round.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astralink_node.errors import AstraLinkError
from astralink_node.storage.wal import WriteAheadLog

WAL_FILE: Final = "wal"
_VERSION: Final = b"\x01"
_HEAD_BYTES: Final = 1 + 8 + 4


class ProposalLogDamaged(AstraLinkError):
    """A whole record, its checksum right, that this program did not write."""


@dataclass(frozen=True, slots=True)
class Proposed:
    height: int
    round_: int
    raw_block: bytes
    """As evm.blocks.encode_block writes it: block and consensus payload."""


class ProposalLog:
    """Blocks for the disk. Raises the errors of storage.wal."""

    def __init__(self, folder: Path) -> None:
        self._wal = WriteAheadLog(folder / WAL_FILE)
        self.torn_bytes = self._wal.recovered.torn_bytes
        """Length of the incomplete last record that a crash left. Nothing was signed for it."""

    def load(self) -> tuple[Proposed, ...]:
        """What the log holds, oldest first."""
        return tuple(_decode(record) for record in self._wal.read_all())

    def record(self, proposed: Proposed) -> None:
        """Return when the proposal is on disk."""
        self._wal.append(_encode(proposed))
        self._wal.sync()

    def cut(self) -> None:
        """Forget everything: the height is committed."""
        self._wal.truncate()

    def close(self) -> None:
        self._wal.close()


def _encode(proposed: Proposed) -> bytes:
    """Version 1, height 8, round 4, then the block."""
    return _VERSION + proposed.height.to_bytes(8, "big") + proposed.round_.to_bytes(4, "big") + proposed.raw_block


def _decode(record: bytes) -> Proposed:
    if len(record) <= _HEAD_BYTES or record[:1] != _VERSION:
        raise ProposalLogDamaged(
            f"consensus log: expected a record of version {_VERSION[0]}, found {record[:_HEAD_BYTES].hex()}: it was "
            "written by another version of astralink-node; start that version once, and stop it cleanly"
        )
    return Proposed(int.from_bytes(record[1:9], "big"), int.from_bytes(record[9:13], "big"), record[_HEAD_BYTES:])
