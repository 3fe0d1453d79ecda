"""The end of LevelDB's log after a power failure: what may be cut off, and what is damage that nobody may touch."""

import random
import shutil
from pathlib import Path

import pytest

from astralink_node.storage.leveldb import cut_unwritten_end, open_leveldb
from astralink_node.storage.log_tail import BLOCK_BYTES, MIN_ZEROS, SECTOR_BYTES, unwritten_record
from astralink_node.storage.store import DatabaseDamaged, DatabaseLocked

RECORDS = 8


def log_of(database: Path) -> Path:
    (log,) = database.glob("*.log")
    return log


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A database of one synced record after the other, some longer than a block of the log; where each ends."""
    database = tmp_path_factory.mktemp("written") / "db"
    store = open_leveldb(database, create=True)
    ends = []
    for number in range(RECORDS):
        store.write({b"%d" % number: random.Random(number).randbytes(9_000 + 9_000 * (number % 4))}, sync=True)
        ends.append(log_of(database).stat().st_size)
    store.close()
    return database, ends


@pytest.fixture
def database(written: tuple[Path, list[int]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(written[0], tmp_path / "db"))


def entries(database: Path) -> int:
    store = open_leveldb(database, create=False)
    try:
        return sum(1 for _ in store.iterate(b"0", b"9"))
    finally:
        store.close()


def zeroed(content: bytes, start: int) -> bytes:
    return content[:start] + bytes(len(content) - start)


def sectors_within(start: int, end: int) -> list[int]:
    first = -(-start // SECTOR_BYTES) * SECTOR_BYTES
    return list(range(first, end, SECTOR_BYTES))


def test_whatever_sectors_of_the_last_record_are_missing_it_goes_and_the_others_stay(
    database: Path, written: tuple[Path, list[int]]
) -> None:
    """Either LevelDB sees the end by itself, or cutting gives exactly the records that were acknowledged."""
    log, (*_, start, end) = log_of(database), written[1]
    content = log.read_bytes()
    for offset in sectors_within(start + 8, end):
        for more in (0, 5 * SECTOR_BYTES):
            damaged = zeroed(content, offset) + bytes(more)
            assert unwritten_record(damaged) == (start if len(damaged) - offset >= MIN_ZEROS else None), (offset, more)
    for offset in (sectors_within(start + 8, end)[0], end // BLOCK_BYTES * BLOCK_BYTES, sectors_within(start, end)[-2]):
        shutil.rmtree(database)
        shutil.copytree(written[0], database)
        log.write_bytes(zeroed(content, offset))
        with pytest.raises(DatabaseDamaged):
            entries(database)
        cut = cut_unwritten_end(database)
        assert cut is not None
        assert (cut.removed_bytes, cut.copy.read_bytes()) == (len(content) - start, zeroed(content, offset))
        assert entries(database) == RECORDS - 1


def test_zeros_behind_whole_records_are_no_damage(database: Path) -> None:
    log = log_of(database)
    content = log.read_bytes()
    for more in (1, 7, SECTOR_BYTES, BLOCK_BYTES, 3 * BLOCK_BYTES + 11):
        assert unwritten_record(content + bytes(more)) is None
    log.write_bytes(content + bytes(BLOCK_BYTES))
    assert entries(database) == RECORDS


def test_damage_with_content_behind_it_is_left_alone(database: Path, written: tuple[Path, list[int]]) -> None:
    log, ends = log_of(database), written[1]
    content = log.read_bytes()
    hole = content[: ends[4] + 600] + bytes(SECTOR_BYTES * 4) + content[ends[4] + 600 + SECTOR_BYTES * 4 :]
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    few_zeros = content[:-40] + bytes(40)
    for damaged in (hole, flipped, few_zeros):
        log.write_bytes(damaged)
        assert cut_unwritten_end(database) is None
        assert log.read_bytes() == damaged
        with pytest.raises(DatabaseDamaged):
            entries(database)


def test_zeros_from_within_an_earlier_record_cut_from_that_one(written: tuple[Path, list[int]]) -> None:
    content, ends = log_of(written[0]).read_bytes(), written[1]
    assert unwritten_record(zeroed(content, sectors_within(ends[4] + 600, ends[5])[0])) == ends[4]


def test_cut_can_be_undone(database: Path) -> None:
    log = log_of(database)
    damaged = zeroed(log.read_bytes(), log.stat().st_size // SECTOR_BYTES * SECTOR_BYTES - SECTOR_BYTES)
    log.write_bytes(damaged)
    cut = cut_unwritten_end(database)
    assert cut is not None
    cut.undo()
    assert (log.read_bytes(), cut.copy.exists()) == (damaged, False)


def test_database_in_use_is_not_cut(database: Path) -> None:
    store = open_leveldb(database, create=False)
    with pytest.raises(DatabaseLocked):
        cut_unwritten_end(database)
    store.close()


@pytest.mark.parametrize(
    "log", [b"", bytes(5), bytes(BLOCK_BYTES), b"\xff" * 5_000, b"\x00" * 6 + b"\x01" + bytes(5_000)]
)
def test_no_log_at_all_has_no_place_to_cut_except_a_first_record(log: bytes) -> None:
    assert unwritten_record(log) in (None, 0)
