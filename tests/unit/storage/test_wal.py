"""The write-ahead log: whole records survive, a torn end is cut off and counted."""

import errno
import os
from pathlib import Path

import pytest

from astralink_node.storage.store import DiskFull
from astralink_node.storage.wal import MAX_RECORD_BYTES, WalFailed, WriteAheadLog, encode_record
from tests.support.file_limits import limited_file_size

RECORDS = (b"first", b"", b"x" * 300, bytes(70), b"last")


def _written(path: Path) -> bytes:
    log = WriteAheadLog(path)
    for record in RECORDS:
        log.append(record)
    log.sync()
    log.close()
    return path.read_bytes()


def test_records_are_read_back_in_order_and_appending_goes_on(tmp_path: Path) -> None:
    _written(tmp_path / "wal")
    log = WriteAheadLog(tmp_path / "wal")
    assert log.recovered.records == RECORDS
    assert log.recovered.torn_bytes == 0
    log.append(b"more")
    assert log.read_all() == (*RECORDS, b"more")
    log.close()


def test_log_cut_at_every_byte_keeps_the_whole_records_before_the_cut(tmp_path: Path) -> None:
    content = _written(tmp_path / "wal")
    ends = [0]
    for record in RECORDS:
        ends.append(ends[-1] + len(encode_record(record)))
    for length in range(len(content) + 1):
        (tmp_path / "wal").write_bytes(content[:length])
        log = WriteAheadLog(tmp_path / "wal")
        whole = sum(1 for end in ends[1:] if end <= length)
        assert log.recovered.records == RECORDS[:whole]
        assert log.recovered.torn_bytes == length - ends[whole]
        log.append(b"after")
        log.sync()
        log.close()
        again = WriteAheadLog(tmp_path / "wal")
        assert again.recovered.records == (*RECORDS[:whole], b"after")
        assert again.recovered.torn_bytes == 0
        again.close()


@pytest.mark.parametrize("tail", [bytes(8), bytes(5000), b"\xff" * 20, bytes(range(40, 104))])
def test_garbage_after_the_last_record_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    content = _written(tmp_path / "wal")
    (tmp_path / "wal").write_bytes(content + tail)
    log = WriteAheadLog(tmp_path / "wal")
    assert log.recovered.records == RECORDS
    assert log.recovered.torn_bytes == len(tail)
    log.close()
    assert (tmp_path / "wal").read_bytes() == content


def test_flipped_bit_ends_the_log_before_the_record_that_has_it(tmp_path: Path) -> None:
    content = bytearray(_written(tmp_path / "wal"))
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 0x10
        (tmp_path / "wal").write_bytes(flipped)
        log = WriteAheadLog(tmp_path / "wal")
        assert log.recovered.records == RECORDS[: len(log.recovered.records)]
        assert len(log.recovered.records) < len(RECORDS)
        log.close()


def test_truncated_log_is_empty_for_good(tmp_path: Path) -> None:
    _written(tmp_path / "wal")
    log = WriteAheadLog(tmp_path / "wal")
    log.truncate()
    assert log.read_all() == ()
    log.append(b"new")
    log.close()
    again = WriteAheadLog(tmp_path / "wal")
    assert again.recovered.records == (b"new",)
    again.close()


def test_record_above_the_bound_is_refused(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path / "wal")
    with pytest.raises(ValueError, match="longer than"):
        log.append(bytes(MAX_RECORD_BYTES + 1))
    assert log.read_all() == ()
    log.close()


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, DiskFull), (errno.EIO, WalFailed)])
def test_failed_sync_is_typed_and_ends_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    log = WriteAheadLog(tmp_path / "wal")
    log.append(b"kept")

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(kind):
            log.sync()
    with pytest.raises(WalFailed):
        log.append(b"refused")
    with pytest.raises(WalFailed):
        log.sync()
    log.close()


def test_record_torn_by_a_failed_write_is_cut_off_at_the_next_opening(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path / "wal")
    log.append(b"kept")
    with limited_file_size(1000), pytest.raises(WalFailed, match="File too large"):
        log.append(bytes(2000))
    with pytest.raises(WalFailed):
        log.append(b"refused")
    log.close()
    again = WriteAheadLog(tmp_path / "wal")
    assert again.recovered.records == (b"kept",)
    assert again.recovered.torn_bytes == 1000 - len(encode_record(b"kept"))
    again.close()


def test_log_in_an_impossible_place_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WalFailed, match="cannot open the log"):
        WriteAheadLog(tmp_path / "file" / "wal")
