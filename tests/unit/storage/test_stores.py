"""One suite for every implementation of Store: what a caller may rely on whichever it was given."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from astralink_node.storage.leveldb import open_leveldb
from astralink_node.storage.memory import MemoryStore
from astralink_node.storage.store import Store
from tests.support.faulty_store import Disk, FaultyStore


@pytest.fixture(params=["memory", "leveldb", "faulty"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "leveldb":
        opened = open_leveldb(tmp_path / "chain", create=True)
    else:
        opened = FaultyStore(Disk())
    yield opened
    opened.close()


def test_batch_puts_replaces_and_deletes_together(store: Store) -> None:
    store.write({b"a": b"1", b"b": b"2"}, sync=True)
    store.write({b"a": None, b"b": b"3", b"c": b"4", b"never there": None}, sync=False)
    assert [store.get(key) for key in (b"a", b"b", b"c", b"d")] == [None, b"3", b"4", None]


def test_empty_value_is_present_and_not_a_deletion(store: Store) -> None:
    store.write({b"a": b""}, sync=True)
    assert store.get(b"a") == b""
    assert list(store.iterate(b"", b"z")) == [(b"a", b"")]


def test_iteration_covers_start_and_not_stop_in_byte_order(store: Store) -> None:
    keys = [b"b", b"\x00", b"ab", b"a", b"a\x00", b"\xff", b"a\xff"]
    store.write({key: key for key in keys}, sync=True)
    assert [key for key, _ in store.iterate(b"a", b"b")] == [b"a", b"a\x00", b"ab", b"a\xff"]
    assert [key for key, _ in store.iterate(b"a", b"b", reverse=True)] == [b"a\xff", b"ab", b"a\x00", b"a"]
    assert list(store.iterate(b"b", b"a")) == []
    assert list(store.iterate(b"c", b"d")) == []


def test_iteration_does_not_see_writes_made_while_it_runs(store: Store) -> None:
    store.write({b"a": b"1", b"b": b"1", b"c": b"1"}, sync=True)
    entries = store.iterate(b"a", b"z")
    assert next(entries) == (b"a", b"1")
    store.write({b"b": None, b"c": b"2", b"d": b"2"}, sync=True)
    assert list(entries) == [(b"b", b"1"), (b"c", b"1")]


def test_unfinished_iteration_can_be_dropped(store: Store) -> None:
    store.write({bytes([number]): b"" for number in range(100)}, sync=True)
    for number in range(50):
        assert next(store.iterate(bytes([number]), b"\xff"))[0] == bytes([number])


def test_snapshot_keeps_showing_what_it_saw(store: Store) -> None:
    store.write({b"a": b"1", b"b": b"1"}, sync=True)
    snapshot = store.snapshot()
    store.write({b"a": b"2", b"b": None, b"c": b"2"}, sync=True)
    second = store.snapshot()
    store.write({b"c": b"3"}, sync=True)
    assert (snapshot.get(b"a"), snapshot.get(b"b"), snapshot.get(b"c")) == (b"1", b"1", None)
    assert list(snapshot.iterate(b"", b"z")) == [(b"a", b"1"), (b"b", b"1")]
    assert list(second.iterate(b"", b"z", reverse=True)) == [(b"c", b"2"), (b"a", b"2")]
    snapshot.close()
    second.close()
    assert store.get(b"c") == b"3"


def test_compaction_changes_no_content(store: Store) -> None:
    entries = {b"%03d" % number: bytes(1000) for number in range(300)}
    store.write(entries, sync=True)
    store.write({b"%03d" % number: None for number in range(0, 300, 2)}, sync=True)
    store.compact()
    assert [key for key, _ in store.iterate(b"", b"z")] == sorted(entries)[1::2]
    assert store.approximate_bytes(b"", b"z") > 0
    assert store.approximate_bytes(b"x", b"z") == 0
