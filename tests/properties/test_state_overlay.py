"""The overlay against the plainest model: a copy of the whole state at every checkpoint.

Operations come in any order over few accounts and slots, across calls, transactions and blocks. Reads happen only
where the machine chooses to, so that what is loaded late is tested late; every block's root is compared with the
root of the model's state, and the database is checked in full.
"""

from copy import deepcopy
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from astralink_node.state.accounts import EMPTY_ACCOUNT
from astralink_node.state.check import check_state
from astralink_node.state.commitment import commit_changes
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import EMPTY_TRIE_ROOT, Address
from tests.support.reference_tries import reference_state_root

ADDRESSES = [Address(bytes([number]) * 20) for number in (1, 2)]
ADDRESS = st.sampled_from(ADDRESSES)
SLOT = st.sampled_from([0, 2**256 - 1])
VALUE = st.sampled_from([0, 1, 2, 2**255])
CODE = st.sampled_from([b"", b"\x60\x00", b"\xef\x01\x00" + bytes(20)])


@dataclass
class Model:
    accounts: dict[Address, tuple[int, int, bytes]] = field(default_factory=dict)
    storage: dict[Address, dict[int, int]] = field(default_factory=dict)
    touched: set[Address] = field(default_factory=set)
    warm: set[object] = field(default_factory=set)
    transient: dict[tuple[Address, int], bytes] = field(default_factory=dict)

    def put(self, address: Address, nonce: int, balance: int, code: bytes) -> None:
        self.accounts[address] = (nonce, balance, code)
        self.touched.add(address)

    def get(self, address: Address) -> tuple[int, int, bytes]:
        return self.accounts.get(address, (0, 0, b""))

    def slot(self, address: Address, slot: int) -> int:
        return self.storage.get(address, {}).get(slot, 0)


class OverlayMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.root = EMPTY_TRIE_ROOT
        self.overlay = Overlay(HeadState(self.store))
        self.model = Model()
        self.at_transaction_start = Model()
        self.at_block_start = Model()
        self.checkpoints: list[tuple[int, Model]] = []

    @initialize(
        slots=st.dictionaries(st.tuples(ADDRESS, SLOT), st.integers(1, 9)),
        balances=st.dictionaries(ADDRESS, st.integers(0, 9)),
    )
    def begin_with_some_state(self, slots: dict[tuple[Address, int], int], balances: dict[Address, int]) -> None:
        """Includes what only genesis can make: accounts that are empty but for their storage."""
        for address, balance in balances.items():
            self.set_balance(address, balance)
        for (address, slot), value in slots.items():
            self.set_storage(address, slot, value)
        self.end_block()

    # --- Writes

    @rule(address=ADDRESS, balance=st.integers(0, 3))
    def set_balance(self, address: Address, balance: int) -> None:
        self.overlay.set_balance(address, balance)
        nonce, _, code = self.model.get(address)
        self.model.put(address, nonce, balance, code)

    @rule(address=ADDRESS)
    def increment_nonce(self, address: Address) -> None:
        self.overlay.increment_nonce(address)
        nonce, balance, code = self.model.get(address)
        self.model.put(address, nonce + 1, balance, code)

    @rule(address=ADDRESS, code=CODE)
    def set_code(self, address: Address, code: bytes) -> None:
        self.overlay.set_code(address, code)
        nonce, balance, _ = self.model.get(address)
        self.model.put(address, nonce, balance, code)

    @rule(address=ADDRESS, slot=SLOT, value=VALUE)
    def set_storage(self, address: Address, slot: int, value: int) -> None:
        self.overlay.set_storage(address, slot, value)
        if self.model.slot(address, slot) != value:
            if address not in self.model.accounts:
                self.model.put(address, 0, 0, b"")
            self.model.storage.setdefault(address, {})[slot] = value

    @rule(address=ADDRESS)
    def delete_storage(self, address: Address) -> None:
        if self.overlay.account_exists(address):
            self.overlay.touch_account(address)
            self.model.touched.add(address)
        self.overlay.delete_storage(address)
        self.model.storage.pop(address, None)

    @rule(address=ADDRESS)
    def touch(self, address: Address) -> None:
        self.overlay.touch_account(address)
        self.model.put(address, *self.model.get(address))

    @rule(address=ADDRESS)
    def delete_account(self, address: Address) -> None:
        self.overlay.delete_account(address)
        self.model.accounts.pop(address, None)
        self.model.storage.pop(address, None)

    @rule(address=ADDRESS, slot=SLOT, value=st.binary(max_size=2))
    def set_transient(self, address: Address, slot: int, value: bytes) -> None:
        self.overlay.set_transient(address, slot, value)
        self.model.transient[address, slot] = value

    @rule(address=ADDRESS, slot=SLOT)
    def warm_up(self, address: Address, slot: int) -> None:
        self.overlay.mark_address_warm(address)
        self.overlay.mark_storage_warm(address, slot)
        self.model.warm |= {address, (address, slot)}

    # --- Calls, transactions, blocks

    @rule()
    def record(self) -> None:
        self.checkpoints.append((self.overlay.record(), deepcopy(self.model)))

    @precondition(lambda self: self.checkpoints)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        depth = data.draw(st.integers(0, len(self.checkpoints) - 1))
        checkpoint, self.model = self.checkpoints[depth]
        del self.checkpoints[depth:]
        self.overlay.discard(checkpoint)

    @precondition(lambda self: self.checkpoints)
    @rule()
    def commit(self) -> None:
        self.overlay.commit(self.checkpoints.pop()[0])

    @rule(clear=st.booleans())
    def begin_transaction(self, clear: bool) -> None:
        if clear:
            self.overlay.clear_empty_accounts()
            for address in self.model.touched:
                if self.model.accounts.get(address) == (0, 0, b""):
                    del self.model.accounts[address]
                    self.model.storage.pop(address, None)
        self.overlay.begin_transaction()
        self.model = Model(self.model.accounts, self.model.storage)
        self.at_transaction_start = deepcopy(self.model)
        self.checkpoints.clear()

    @rule()
    def end_block(self) -> None:
        self.begin_transaction(clear=False)
        changes = self.overlay.changes()
        update = commit_changes(self.store, self.root, changes)
        assert update.state_root == reference_state_root(self.model.accounts, self.model.storage)
        assert update.previous == {key: self.store.get(key) for key in update.writes}
        self.store.write(update.writes, sync=True)
        totals = check_state(self.store, update.state_root, lambda totals: None)
        assert totals.accounts == len(self.model.accounts)
        before = self.at_block_start.accounts
        now = self.model.accounts
        assert {address: (nonce, balance) for address, nonce, balance in changes.touched} == {
            address: now.get(address, (0, 0))[:2]
            for address in before.keys() | now.keys()
            if before.get(address, (0, 0))[:2] != now.get(address, (0, 0))[:2]
        }
        self.root = update.state_root
        self.overlay = Overlay(HeadState(self.store))
        self.at_block_start = deepcopy(self.model)

    @rule()
    def changes_can_be_asked_for_at_any_time(self) -> None:
        """A builder asks before it knows whether the block is full; nothing may depend on it."""
        self.overlay.changes()

    # --- Reads

    @rule(address=ADDRESS, slot=SLOT)
    def read_storage(self, address: Address, slot: int) -> None:
        assert self.overlay.get_storage(address, slot) == self.model.slot(address, slot)

    @rule(address=ADDRESS, slot=SLOT)
    def read_storage_as_of_transaction_start(self, address: Address, slot: int) -> None:
        expected = self.at_transaction_start.slot(address, slot)
        assert self.overlay.get_storage(address, slot, from_journal=False) == expected

    @rule(address=ADDRESS)
    def read_account(self, address: Address) -> None:
        nonce, balance, code = self.model.get(address)
        overlay = self.overlay
        assert overlay.get_balance(address) == balance
        assert overlay.get_nonce(address) == nonce
        assert overlay.get_code(address) == code
        assert overlay.account_exists(address) == (address in self.model.accounts)
        assert overlay.account_is_empty(address) == ((nonce, balance, code) == (0, 0, b""))
        assert overlay.account_has_code_or_nonce(address) == (nonce != 0 or code != b"")
        if any(self.model.storage.get(address, {}).values()):
            assert overlay.account_has_storage(address)
        if address not in self.model.storage:
            assert not overlay.account_has_storage(address)
        if address not in self.model.accounts:
            assert overlay.get_code_hash(address) == EMPTY_ACCOUNT.code_hash

    @rule(address=ADDRESS, slot=SLOT)
    def read_warmth_and_transient(self, address: Address, slot: int) -> None:
        assert self.overlay.is_address_warm(address) == (address in self.model.warm)
        assert self.overlay.is_storage_warm(address, slot) == ((address, slot) in self.model.warm)
        assert self.overlay.get_transient(address, slot) == self.model.transient.get((address, slot), b"")

    def teardown(self) -> None:
        self.end_block()


OverlayMachine.TestCase.settings = settings(deadline=None, max_examples=120, stateful_step_count=40)
TestOverlay = OverlayMachine.TestCase
