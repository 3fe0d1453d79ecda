"""The write-ahead log of consensus: what one height's machine was fed, and the blocks it was fed about.

Only the height after the head is logged; the database alone says what is committed, and the log is cut after a
commit. Records are written before they are applied and synced before a signature leaves, so a restart feeds the same
inputs to the same machine. The layout is docs/specification.md's, "Consensus log".
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astralink_node.errors import AstraLinkError
from astralink_node.metrics import NodeMetrics
from astralink_node.storage.wal import WriteAheadLog, decode_records, encode_record
from consensus.height_machine import Input
from consensus.replay import decode_input, encode_input
from consensus.wire import DecodeError

WAL_FILE: Final = "wal"
EVIDENCE_FILE: Final = "evidence"
_HEIGHT: Final = b"\x02"
_INPUT: Final = b"\x03"
_BLOCK: Final = b"\x04"


class ConsensusLogDamaged(AstraLinkError):
    """A whole record, its checksum right, that this program did not write."""


@dataclass(frozen=True, slots=True)
class LoggedHeight:
    height: int
    inputs: tuple[Input, ...]
    raw_blocks: tuple[bytes, ...]
    """As evm.blocks.encode_block writes them."""


class ConsensusLog:
    """Blocks for the disk. Raises the errors of storage.wal."""

    def __init__(self, folder: Path, metrics: NodeMetrics | None = None) -> None:
        self._folder = folder
        self._metrics = metrics or NodeMetrics()
        self._wal = WriteAheadLog(folder / WAL_FILE)
        self.torn_bytes = self._wal.recovered.torn_bytes
        """Length of the incomplete last record that a crash left. Nothing was signed for it."""
        self._is_synced = True

    def load(self) -> LoggedHeight | None:
        """What the log holds; None if nothing. Raises ConsensusLogDamaged."""
        records = self._wal.read_all()
        if not records:
            return None
        if records[0][:1] != _HEIGHT or len(records[0]) != 9:
            raise _foreign(records[0])
        inputs: list[Input] = []
        blocks: list[bytes] = []
        for record in records[1:]:
            if record[:1] == _BLOCK:
                blocks.append(record[1:])
                continue
            try:
                if record[:1] != _INPUT:
                    raise _foreign(record)
                inputs.append(decode_input(record[1:]))
            except DecodeError as error:
                raise _foreign(record) from error
        return LoggedHeight(int.from_bytes(records[0][1:], "big"), tuple(inputs), tuple(blocks))

    def begin(self, height: int) -> None:
        """The first record of a height, into an empty log."""
        self._append(_HEIGHT + height.to_bytes(8, "big"))

    def record(self, event: Input) -> None:
        self._append(_INPUT + encode_input(event))

    def record_block(self, raw_block: bytes) -> None:
        self._append(_BLOCK + raw_block)

    def sync(self) -> None:
        """Return when everything recorded is on disk."""
        if not self._is_synced:
            started_s = time.perf_counter()
            self._wal.sync()
            self._metrics.wal_sync_seconds.observe(time.perf_counter() - started_s)
            self._is_synced = True

    def cut(self) -> None:
        """Forget everything: the height is committed."""
        self._wal.truncate()
        self._is_synced = True

    def save_evidence(self, records: Sequence[bytes]) -> None:
        """Put what is held against validators in the place of what was, whole and durably. May raise OSError."""
        path = self._folder / EVIDENCE_FILE
        temporary = path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(b"".join(encode_record(record) for record in records))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def load_evidence(self) -> tuple[bytes, ...]:
        """As it was saved last; whole records up to the first that is none."""
        try:
            content = (self._folder / EVIDENCE_FILE).read_bytes()
        except FileNotFoundError:
            return ()
        return decode_records(content)[0]

    def export_fork(self, height: int, own_certificate: bytes, other_certificate: bytes) -> Path:
        """Keep two certificates that contradict each other, durably, for people; returns where. May raise OSError."""
        path = self._folder / f"fork-{height}.json"
        content = {"height": height, "own": "0x" + own_certificate.hex(), "other": "0x" + other_certificate.hex()}
        with path.open("w") as file:
            file.write(json.dumps(content, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return path

    def forks(self) -> list[Path]:
        """Where `export_fork` put what nobody has moved away since."""
        return sorted(self._folder.glob("fork-*.json"))

    def close(self) -> None:
        self._wal.close()

    def _append(self, record: bytes) -> None:
        self._is_synced = False
        self._wal.append(record)


def _foreign(record: bytes) -> ConsensusLogDamaged:
    return ConsensusLogDamaged(
        f"consensus log: expected a record of this version, found one that begins with {record[:16].hex()}: it was "
        "written by another version of astralink-node; start that version once, and stop it cleanly"
    )
