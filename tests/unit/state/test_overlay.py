"""Single situations of the overlay; the machine in tests/properties combines them."""

from dataclasses import dataclass, field

import pytest

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.accounts import EMPTY_ACCOUNT, Account
from astralink_node.state.overlay import Overlay, StateChanges
from astralink_node.types import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, Address, Hash32

ALICE = Address(b"\xaa" * 20)
BOB = Address(b"\xbb" * 20)
CONTRACT = Address(b"\xcc" * 20)
STORED_ROOT = Hash32(b"\x77" * 32)
CODE = b"\x60\x01"


@dataclass
class Base:
    """A state that counts its reads. The contract has slots 1 and 2."""

    accounts: dict[Address, Account] = field(
        default_factory=lambda: {
            ALICE: Account(5, 100, EMPTY_TRIE_ROOT, EMPTY_CODE_HASH),
            CONTRACT: Account(1, 0, STORED_ROOT, keccak256(CODE)),
        }
    )
    slots: dict[int, int] = field(default_factory=lambda: {1: 11, 2: 22})
    reads: list[object] = field(default_factory=list)

    def account(self, address: Address) -> Account | None:
        self.reads.append(address)
        return self.accounts.get(address)

    def storage(self, address: Address, slot: int) -> int:
        self.reads.append((address, slot))
        return self.slots.get(slot, 0) if address == CONTRACT else 0

    def code(self, code_hash: Hash32) -> bytes:
        self.reads.append(code_hash)
        assert code_hash == keccak256(CODE)
        return CODE


@pytest.fixture
def base() -> Base:
    return Base()


@pytest.fixture
def overlay(base: Base) -> Overlay:
    return Overlay(base)


NOTHING = StateChanges({}, {}, frozenset(), {}, ())


def test_reading_changes_nothing_and_asks_the_base_once(base: Base, overlay: Overlay) -> None:
    for _ in range(3):
        assert overlay.get_balance(ALICE) == 100
        assert overlay.get_nonce(BOB) == 0
        assert overlay.get_code(CONTRACT) == CODE
        assert overlay.get_storage(CONTRACT, 1) == 11
    assert overlay.changes() == NOTHING
    assert base.reads == [ALICE, BOB, CONTRACT, keccak256(CODE), (CONTRACT, 1)]


def test_storage_of_an_account_without_any_is_not_looked_up(base: Base, overlay: Overlay) -> None:
    assert overlay.get_storage(ALICE, 1) == overlay.get_storage(BOB, 1) == 0
    assert base.reads == [ALICE, BOB]


def test_changes_list_what_differs_from_the_base(overlay: Overlay) -> None:
    overlay.set_balance(ALICE, 90)
    overlay.set_balance(BOB, 10)
    overlay.set_storage(CONTRACT, 1, 0)
    overlay.set_storage(CONTRACT, 2, 22)
    overlay.set_storage(CONTRACT, 3, 33)
    changes = overlay.changes()
    assert changes.accounts == {
        ALICE: Account(5, 90, EMPTY_TRIE_ROOT, EMPTY_CODE_HASH),
        BOB: EMPTY_ACCOUNT._replace(balance=10),
        CONTRACT: Account(1, 0, STORED_ROOT, keccak256(CODE)),
    }
    assert changes.storage == {CONTRACT: {1: 0, 3: 33}}
    assert changes.touched == ((ALICE, 5, 90), (BOB, 0, 10))
    assert (changes.wiped, changes.codes) == (frozenset(), {})


def test_values_set_and_set_back_are_no_change(overlay: Overlay) -> None:
    overlay.set_balance(ALICE, 1)
    overlay.set_storage(CONTRACT, 1, 5)
    overlay.begin_transaction()
    overlay.set_balance(ALICE, 100)
    overlay.set_storage(CONTRACT, 1, 11)
    assert overlay.changes() == NOTHING


def test_reverted_writes_are_no_change(overlay: Overlay) -> None:
    checkpoint = overlay.record()
    overlay.set_balance(ALICE, 1)
    overlay.set_code(BOB, CODE)
    overlay.set_storage(CONTRACT, 1, 5)
    overlay.set_storage(CONTRACT, 9, 5)
    overlay.delete_account(CONTRACT)
    overlay.discard(checkpoint)
    assert overlay.changes() == NOTHING
    assert overlay.get_storage(CONTRACT, 1) == 11


def test_inner_revert_keeps_the_outer_write(overlay: Overlay) -> None:
    outer = overlay.record()
    overlay.set_storage(CONTRACT, 1, 5)
    inner = overlay.record()
    overlay.set_storage(CONTRACT, 1, 6)
    overlay.discard(inner)
    overlay.commit(outer)
    assert overlay.changes().storage == {CONTRACT: {1: 5}}


def test_deleted_account_takes_its_storage_along(overlay: Overlay) -> None:
    overlay.set_storage(CONTRACT, 3, 33)
    overlay.delete_account(CONTRACT)
    changes = overlay.changes()
    assert changes.accounts == {CONTRACT: None}
    assert changes.storage == {}
    assert changes.wiped == {CONTRACT}
    assert changes.touched == ((CONTRACT, 0, 0),)
    assert overlay.get_storage(CONTRACT, 2) == 0


def test_recreated_account_sees_nothing_of_its_old_storage(base: Base, overlay: Overlay) -> None:
    overlay.get_storage(CONTRACT, 1)
    overlay.delete_account(CONTRACT)
    overlay.begin_transaction()
    overlay.set_nonce(CONTRACT, 1)
    overlay.set_storage(CONTRACT, 4, 44)
    assert [overlay.get_storage(CONTRACT, slot) for slot in (1, 2, 4)] == [0, 0, 44]
    assert (CONTRACT, 2) not in base.reads
    changes = overlay.changes()
    assert changes.accounts == {CONTRACT: EMPTY_ACCOUNT._replace(nonce=1)}
    assert changes.storage == {CONTRACT: {4: 44}}
    assert changes.wiped == {CONTRACT}


def test_account_made_and_destroyed_in_one_block_leaves_no_trace(overlay: Overlay) -> None:
    overlay.set_nonce(BOB, 1)
    overlay.set_code(BOB, CODE + CODE)
    overlay.set_storage(BOB, 1, 1)
    overlay.delete_account(BOB)
    assert overlay.changes() == NOTHING
    overlay.begin_transaction()
    overlay.set_nonce(BOB, 1)
    assert overlay.get_storage(BOB, 1) == 0
    assert overlay.changes().wiped == frozenset()
    assert overlay.changes().storage == {}


def test_reverted_deletion_restores_account_and_storage(overlay: Overlay) -> None:
    overlay.set_storage(CONTRACT, 1, 5)
    checkpoint = overlay.record()
    overlay.delete_account(CONTRACT)
    overlay.set_storage(CONTRACT, 1, 6)
    overlay.set_storage(CONTRACT, 2, 7)
    overlay.discard(checkpoint)
    assert [overlay.get_storage(CONTRACT, slot) for slot in (1, 2)] == [5, 22]
    assert overlay.get_code(CONTRACT) == CODE
    assert overlay.changes().storage == {CONTRACT: {1: 5}}
    assert overlay.changes().wiped == frozenset()


def test_second_deletion_that_is_reverted_leaves_the_first_in_force(overlay: Overlay) -> None:
    overlay.delete_storage(CONTRACT)
    overlay.set_storage(CONTRACT, 5, 55)
    checkpoint = overlay.record()
    overlay.delete_storage(CONTRACT)
    overlay.discard(checkpoint)
    assert [overlay.get_storage(CONTRACT, slot) for slot in (1, 5)] == [0, 55]
    assert overlay.changes().wiped == {CONTRACT}
    assert overlay.changes().storage == {CONTRACT: {5: 55}}


def test_creation_where_slots_are_stored_drops_them_at_once(overlay: Overlay) -> None:
    assert overlay.account_has_storage(CONTRACT)
    overlay.delete_storage(CONTRACT)
    assert not overlay.account_has_storage(CONTRACT)
    assert overlay.changes().accounts[CONTRACT] == Account(1, 0, EMPTY_TRIE_ROOT, keccak256(CODE))
    assert overlay.changes().wiped == {CONTRACT}


def test_deleting_the_storage_of_an_absent_account_does_not_make_it_exist(overlay: Overlay) -> None:
    overlay.delete_storage(BOB)
    assert not overlay.account_exists(BOB)
    assert overlay.changes() == NOTHING


def test_original_value_is_that_of_the_transaction_start_whatever_happens_since(overlay: Overlay) -> None:
    overlay.set_storage(CONTRACT, 1, 5)
    overlay.begin_transaction()
    assert overlay.get_storage(CONTRACT, 1, from_journal=False) == 5
    overlay.set_storage(CONTRACT, 1, 6)
    checkpoint = overlay.record()
    overlay.set_storage(CONTRACT, 1, 7)
    overlay.delete_storage(CONTRACT)
    overlay.set_storage(CONTRACT, 1, 8)
    overlay.set_storage(CONTRACT, 2, 9)
    assert overlay.get_storage(CONTRACT, 1, from_journal=False) == 5
    assert overlay.get_storage(CONTRACT, 2, from_journal=False) == 22
    overlay.discard(checkpoint)
    assert overlay.get_storage(CONTRACT, 1) == 6
    assert overlay.get_storage(CONTRACT, 1, from_journal=False) == 5


def test_original_value_of_storage_wiped_in_an_earlier_transaction_is_zero(overlay: Overlay) -> None:
    overlay.delete_storage(CONTRACT)
    overlay.set_storage(CONTRACT, 1, 5)
    overlay.begin_transaction()
    overlay.delete_storage(CONTRACT)
    assert overlay.get_storage(CONTRACT, 1, from_journal=False) == 5
    assert overlay.get_storage(CONTRACT, 2, from_journal=False) == 0


def test_touched_empty_account_is_cleared_and_an_untouched_one_stays(base: Base, overlay: Overlay) -> None:
    base.accounts[BOB] = EMPTY_ACCOUNT._replace(storage_root=STORED_ROOT)
    overlay.get_balance(BOB)
    overlay.clear_empty_accounts()
    assert overlay.account_exists(BOB)
    overlay.touch_account(BOB)
    overlay.clear_empty_accounts()
    assert not overlay.account_exists(BOB)
    assert overlay.changes().accounts == {BOB: None}
    assert overlay.changes().wiped == {BOB}


def test_touch_in_a_reverted_call_does_not_clear(base: Base, overlay: Overlay) -> None:
    base.accounts[BOB] = EMPTY_ACCOUNT
    checkpoint = overlay.record()
    overlay.touch_account(BOB)
    overlay.discard(checkpoint)
    overlay.clear_empty_accounts()
    assert overlay.changes() == NOTHING


def test_delegation_is_set_changed_and_removed(overlay: Overlay) -> None:
    first, second = b"\xef\x01\x00" + BOB, b"\xef\x01\x00" + CONTRACT
    overlay.set_code(ALICE, first)
    overlay.begin_transaction()
    overlay.set_code(ALICE, second)
    assert overlay.get_code(ALICE) == second
    assert overlay.changes().codes == {keccak256(second): second}
    overlay.begin_transaction()
    overlay.delete_code(ALICE)
    assert overlay.get_code(ALICE) == b""
    assert overlay.changes() == NOTHING


def test_code_of_a_reverted_creation_is_not_kept(overlay: Overlay) -> None:
    checkpoint = overlay.record()
    overlay.set_code(BOB, b"\x00")
    overlay.discard(checkpoint)
    overlay.set_balance(BOB, 1)
    assert overlay.changes().codes == {}


def test_warmth_and_transient_storage_end_with_the_call_or_the_transaction(overlay: Overlay) -> None:
    overlay.mark_address_warm(ALICE)
    overlay.set_transient(ALICE, 1, b"\x01")
    checkpoint = overlay.record()
    overlay.mark_address_warm(ALICE)
    overlay.mark_address_warm(BOB)
    overlay.mark_storage_warm(BOB, 1)
    overlay.set_transient(ALICE, 1, b"\x02")
    overlay.set_transient(BOB, 1, b"\x03")
    overlay.discard(checkpoint)
    assert overlay.is_address_warm(ALICE)
    assert not overlay.is_address_warm(BOB)
    assert not overlay.is_storage_warm(BOB, 1)
    assert overlay.get_transient(ALICE, 1) == b"\x01"
    assert overlay.get_transient(BOB, 1) == b""
    overlay.begin_transaction()
    assert not overlay.is_address_warm(ALICE)
    assert overlay.get_transient(ALICE, 1) == b""


def test_pipeline_may_assign_accounts_that_it_has_read(overlay: Overlay) -> None:
    account = overlay.account(ALICE)
    assert account is not None
    overlay.accounts[ALICE] = account._replace(nonce=6)
    assert overlay.changes().touched == ((ALICE, 6, 100),)
