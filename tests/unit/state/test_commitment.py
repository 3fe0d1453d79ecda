"""From changes to database entries: what is written, what it costs, and what is refused."""

from collections.abc import Iterator

import pytest

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.check import StateTotals, check_state
from astralink_node.state.commitment import StateUpdate, commit_changes
from astralink_node.state.errors import StateDamaged
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.storage.keys import ACCOUNT_NODES, STORAGE_NODES, account_key, code_key, prefix_range, storage_key
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import EMPTY_TRIE_ROOT, Address, Hash32
from tests.support.reference_tries import reference_state_root

CONTRACT = Address(b"\xcc" * 20)


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.root = EMPTY_TRIE_ROOT

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(key)

    def iterate(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for entry in super().iterate(start, stop, reverse=reverse):
            self.reads += 1
            yield entry

    def commit(self, overlay: Overlay) -> StateUpdate:
        update = commit_changes(self, self.root, overlay.changes())
        self.write(update.writes, sync=True)
        self.root = update.state_root
        return update


def _address(number: int) -> Address:
    return Address(keccak256(number.to_bytes(4, "big"))[:20])


def _populated(accounts: int, slots: int = 0) -> CountingStore:
    store = CountingStore()
    overlay = Overlay(HeadState(store))
    for number in range(accounts):
        overlay.set_balance(_address(number), 10**18 + number)
    overlay.set_code(CONTRACT, b"\x60\x00")
    for slot in range(slots):
        overlay.set_storage(CONTRACT, slot, slot + 1)
    store.commit(overlay)
    return store


def _changed_entries_and_reads(store: CountingStore) -> tuple[int, int]:
    """Of one block: 20 transfers and 20 slots."""
    store.reads = 0
    overlay = Overlay(HeadState(store))
    for number in range(20):
        overlay.set_balance(_address(number), number)
        overlay.set_storage(CONTRACT, number, 0 if number % 4 == 0 else 1000 + number)
    return len(store.commit(overlay).writes), store.reads


def test_cost_of_a_block_follows_what_it_touches_and_not_the_size_of_the_state() -> None:
    small = _changed_entries_and_reads(_populated(200, slots=200))
    large = _changed_entries_and_reads(_populated(20_000, slots=20_000))
    assert max(large) < 400
    assert large[0] < 2.5 * small[0]
    assert large[1] < 2.5 * small[1]


def test_block_without_changes_keeps_the_root_and_writes_nothing() -> None:
    store = _populated(10)
    update = commit_changes(store, store.root, Overlay(HeadState(store)).changes())
    assert (update.state_root, update.writes, update.previous) == (store.root, {}, {})


def test_flat_entries_hold_what_the_tries_commit_to() -> None:
    store = _populated(3, slots=2)
    contract_hash, slot_hash = keccak256(CONTRACT), keccak256((1).to_bytes(32, "big"))
    assert store.get(storage_key(contract_hash, slot_hash)) == b"\x02"
    assert store.get(code_key(keccak256(b"\x60\x00"))) == b"\x60\x00"
    assert store.get(account_key(contract_hash)) is not None
    accounts = {_address(number): (0, 10**18 + number, b"") for number in range(3)}
    assert store.root == reference_state_root(accounts | {CONTRACT: (0, 0, b"\x60\x00")}, {CONTRACT: {0: 1, 1: 2}})


def test_code_that_is_stored_already_is_not_written_again() -> None:
    store = _populated(1)
    overlay = Overlay(HeadState(store))
    overlay.set_code(_address(0), b"\x60\x00")
    assert code_key(keccak256(b"\x60\x00")) not in store.commit(overlay).writes
    assert HeadState(store).code(keccak256(b"\x60\x00")) == b"\x60\x00"


def test_deleted_contract_leaves_no_entry_but_its_code() -> None:
    store = _populated(5, slots=50)
    overlay = Overlay(HeadState(store))
    overlay.delete_account(CONTRACT)
    update = store.commit(overlay)
    assert list(store.iterate(*prefix_range(STORAGE_NODES))) == []
    assert check_state(store, update.state_root, lambda totals: None) == StateTotals(
        5, 0, len(_account_nodes(store)), 0
    )


def _account_nodes(store: MemoryStore) -> list[bytes]:
    return [key for key, _ in store.iterate(*prefix_range(ACCOUNT_NODES))]


def test_recreated_contract_has_its_new_slots_alone_and_can_be_undone() -> None:
    store = _populated(5, slots=50)
    before = dict(store.iterate(b"", b"\xff"))
    overlay = Overlay(HeadState(store))
    overlay.delete_account(CONTRACT)
    overlay.begin_transaction()
    overlay.set_nonce(CONTRACT, 1)
    for slot in (3, 99):
        overlay.set_storage(CONTRACT, slot, 4)
    update = store.commit(overlay)
    totals = check_state(store, store.root, lambda totals: None)
    assert (totals.accounts, totals.slots) == (6, 2)
    store.write(update.previous, sync=True)
    assert dict(store.iterate(b"", b"\xff")) == before


def test_wrong_parent_root_is_refused() -> None:
    store = _populated(10)
    overlay = Overlay(HeadState(store))
    overlay.set_balance(_address(0), 1)
    with pytest.raises(StateDamaged):
        commit_changes(store, Hash32(b"\x01" * 32), overlay.changes())


def test_check_convicts_every_kind_of_damage() -> None:
    store = _populated(40, slots=40)
    entries = dict(store.iterate(b"", b"\xff"))
    check_state(store, store.root, lambda totals: None)
    for key, value in entries.items():
        for damaged in (None, value[:-1] + bytes([value[-1] ^ 1])):
            store.write({key: damaged}, sync=True)
            with pytest.raises(StateDamaged):
                check_state(store, store.root, lambda totals: None)
        store.write({key: value}, sync=True)
    for left_over in (
        account_key(b"\xff" * 32),
        storage_key(keccak256(_address(1)), bytes(32)),
        storage_key(keccak256(CONTRACT), b"\xff" * 32),
        ACCOUNT_NODES + b"0123456",
        STORAGE_NODES + bytes(32),
    ):
        store.write({left_over: b"\x01"}, sync=True)
        with pytest.raises(StateDamaged):
            check_state(store, store.root, lambda totals: None)
        store.write({left_over: None}, sync=True)


def test_check_reports_its_progress() -> None:
    store = _populated(2500)
    seen: list[int] = []
    check_state(store, store.root, lambda totals: seen.append(totals.accounts))
    assert seen == [1000, 2000]


def test_missing_code_is_damage() -> None:
    store = _populated(1)
    store.write({code_key(keccak256(b"\x60\x00")): None}, sync=True)
    with pytest.raises(StateDamaged, match="code"):
        Overlay(HeadState(store)).get_code(CONTRACT)
