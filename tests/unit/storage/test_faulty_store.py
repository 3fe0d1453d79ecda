"""The simulated disk keeps its promises, or crash tests built on it would prove nothing."""

import pytest

from astralink_node.storage.store import DiskFull, StoreFailed
from tests.support.faulty_store import Crashed, Disk, Fault, FaultyStore


def _written(fault: Fault | None = None, at_write: int = 0) -> tuple[Disk, int]:
    """Four batches, the second and the third not synced; how many writes returned."""
    disk = Disk()
    store = FaultyStore(disk, fault, at_write)
    returned = 0
    try:
        for number, sync in enumerate((True, False, False, True)):
            store.write({b"%d" % number: b"", b"last": b"%d" % number}, sync=sync)
            returned += 1
    except (Crashed, DiskFull):
        pass
    return disk, returned


def _last(disk: Disk) -> bytes | None:
    return FaultyStore(disk).get(b"last")


@pytest.mark.parametrize("at_write", [1, 2, 3, 4])
def test_crash_before_a_write_leaves_the_writes_that_returned(at_write: int) -> None:
    disk, returned = _written(Fault.CRASH_BEFORE, at_write)
    assert returned == at_write - 1
    assert _last(disk.after_process_end()) == (b"%d" % (at_write - 2) if at_write > 1 else None)


@pytest.mark.parametrize("at_write", [1, 2, 3, 4])
def test_crash_after_a_write_leaves_it_although_it_never_returned(at_write: int) -> None:
    disk, returned = _written(Fault.CRASH_AFTER, at_write)
    assert returned == at_write - 1
    assert _last(disk.after_process_end()) == b"%d" % (at_write - 1)


def test_power_failure_loses_what_was_not_synced_from_the_end() -> None:
    disk, _ = _written(Fault.CRASH_AFTER, 3)
    assert disk.unsynced() == 2
    assert [_last(disk.after_power_failure(lucky)) for lucky in range(3)] == [b"0", b"1", b"2"]
    disk, _ = _written()
    assert _last(disk.after_power_failure()) == b"3"


def test_crashed_store_answers_nothing_more() -> None:
    store = FaultyStore(Disk(), Fault.CRASH_BEFORE, 1)
    for act in (
        lambda: store.write({}, sync=True),
        lambda: store.get(b""),
        lambda: store.iterate(b"", b"x"),
        store.snapshot,
        store.compact,
        lambda: store.approximate_bytes(b"", b"x"),
    ):
        with pytest.raises(Crashed):
            act()
    store.close()


def test_full_disk_refuses_the_write_and_all_later_ones_and_reads_go_on() -> None:
    store = FaultyStore(Disk(), Fault.DISK_FULL, 2)
    store.write({b"a": b"1"}, sync=True)
    with pytest.raises(DiskFull):
        store.write({b"a": b"2"}, sync=True)
    with pytest.raises(StoreFailed):
        store.write({b"a": b"3"}, sync=True)
    assert store.get(b"a") == b"1"
    assert _last(store.disk) is None
