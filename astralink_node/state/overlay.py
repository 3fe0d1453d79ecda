"""The state of a block in the making: the parent's state, and over it what transactions have changed so far.

Everything is kept twice: as the base has it, and as it is now. What a block changed is the difference of the
two, so no record of dirty entries can go wrong when a call reverts. Reverts replay an undo journal backwards; a
checkpoint is a position in it. The methods in Ethereum's vocabulary (``get_balance`` and so on) are those that
py-evm calls on its account database, so an overlay can stand in for it; nothing of py-evm is imported here.

The journal covers accounts, storage, the warm sets of EIP-2929 and transient storage (EIP-1153), and lasts one
transaction. The pipeline may assign to ``accounts`` directly while no checkpoint is open: it reads through
:meth:`Overlay.account` first, which is what makes the entry's base value known.
"""

from dataclasses import dataclass
from typing import Final, Literal

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.accounts import EMPTY_ACCOUNT, Account
from astralink_node.state.flat_state import StateReader
from astralink_node.types import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, Address, Hash32

_ACCOUNT: Final = 0
_SLOT: Final = 1
_WARM_ADDRESS: Final = 2
_WARM_SLOT: Final = 3
_WIPE: Final = 4
_TRANSIENT: Final = 5

_JournalEntry = (
    tuple[Literal[0], Address, Account | None]  # the account before
    | tuple[Literal[1], Address, int, int]  # the slot and its value before
    | tuple[Literal[2], Address]
    | tuple[Literal[3], tuple[Address, int]]
    | tuple[Literal[4], Address, dict[int, int] | None, bool]  # the slots before; whether wiped before
    | tuple[Literal[5], tuple[Address, int], bytes]  # the value before
)


@dataclass(frozen=True, slots=True)
class StateChanges:
    """What a block changed, as it stands after the block."""

    accounts: dict[Address, Account | None]
    """Changed accounts, and those whose storage changed; None: deleted. ``storage_root`` is still the base's (the
    empty root where the storage was wiped): the new one is known only once the changes are committed to."""

    storage: dict[Address, dict[int, int]]
    """Changed slots of accounts that exist; 0: cleared."""

    wiped: frozenset[Address]
    """Accounts all of whose stored slots are dropped before ``storage`` applies."""

    codes: dict[Hash32, bytes]
    """Code that the block gave to an account in ``accounts``."""

    touched: tuple[tuple[Address, int, int], ...]
    """(address, nonce, balance) of every account whose nonce or balance is no longer the base's, by address."""


class Overlay:
    """See the module's description. Of no further use once an error has escaped from the base."""

    __slots__ = (
        "_base",
        "_base_accounts",
        "_base_codes",
        "_base_storage",
        "_codes",
        "_journal",
        "_originals",
        "_replaced_slots",
        "_storage",
        "_transient",
        "_warm_addresses",
        "_warm_slots",
        "_wiped",
        "accounts",
    )

    def __init__(self, base: StateReader) -> None:
        self._base = base
        # The block's view. Whatever is in `accounts` is in `_base_accounts` too; likewise each slot of
        # `_storage`, unless the account's storage was wiped.
        self.accounts: dict[Address, Account | None] = {}
        self._base_accounts: dict[Address, Account | None] = {}
        self._storage: dict[Address, dict[int, int]] = {}
        self._base_storage: dict[Address, dict[int, int]] = {}
        self._wiped: set[Address] = set()
        self._codes: dict[Hash32, bytes] = {}
        self._base_codes: dict[Hash32, bytes] = {}
        # The transaction's view.
        self._journal: list[_JournalEntry] = []
        self._warm_addresses: set[Address] = set()
        self._warm_slots: set[tuple[Address, int]] = set()
        self._transient: dict[tuple[Address, int], bytes] = {}
        # Values at the start of the transaction, of slots written since; and the slots (with whether they stood
        # on a wiped account) of storage that was first wiped in this transaction. Neither needs undoing.
        self._originals: dict[tuple[Address, int], int] = {}
        self._replaced_slots: dict[Address, tuple[dict[int, int], bool]] = {}

    # --- The block ------------------------------------------------------------------------------------------------

    def begin_transaction(self) -> None:
        """Make the present state the start of a transaction: nothing warm, nothing to revert to."""
        self._journal.clear()
        self._warm_addresses.clear()
        self._warm_slots.clear()
        self._transient.clear()
        self._originals.clear()
        self._replaced_slots.clear()

    def clear_empty_accounts(self) -> None:
        """At a transaction's end: remove every account that it touched and left empty (EIP-161)."""
        for address in dict.fromkeys([entry[1] for entry in self._journal if entry[0] == _ACCOUNT]):
            if self.accounts[address] is not None and self.account_is_empty(address):
                self.delete_account(address)

    def changes(self) -> StateChanges:
        """The difference to the base."""
        accounts: dict[Address, Account | None] = {}
        touched: list[tuple[Address, int, int]] = []
        codes: dict[Hash32, bytes] = {}
        base_accounts = self._base_accounts
        for address, account in self.accounts.items():
            base_account = base_accounts[address]
            if account is base_account or account == base_account:
                continue
            accounts[address] = account
            now, before = account or EMPTY_ACCOUNT, base_account or EMPTY_ACCOUNT
            if now.balance != before.balance or now.nonce != before.nonce:
                touched.append((address, now.nonce, now.balance))
            if now.code_hash != before.code_hash and now.code_hash in self._codes:
                codes[now.code_hash] = self._codes[now.code_hash]
        storage: dict[Address, dict[int, int]] = {}
        for address, slots in self._storage.items():
            account = self.accounts[address]
            changed = self._changed_slots(address, slots)
            if changed and account is not None:
                storage[address] = changed
                accounts[address] = account
        wiped = frozenset(address for address in self._wiped if _has_stored_slots(base_accounts[address]))
        return StateChanges(accounts, storage, wiped, codes, tuple(sorted(touched)))

    def _changed_slots(self, address: Address, slots: dict[int, int]) -> dict[int, int]:
        if address in self._wiped:
            return {slot: value for slot, value in slots.items() if value}
        base_slots = self._base_storage[address]
        return {slot: value for slot, value in slots.items() if value != base_slots[slot]}

    # --- Checkpoints ----------------------------------------------------------------------------------------------

    def record(self) -> int:
        """A checkpoint to revert to, within this transaction."""
        return len(self._journal)

    def commit(self, checkpoint: int) -> None:
        """Keep what happened since the checkpoint. The enclosing checkpoint may still revert it."""

    def discard(self, checkpoint: int) -> None:
        """Undo everything since the checkpoint."""
        journal = self._journal
        while len(journal) > checkpoint:
            entry = journal.pop()
            if entry[0] == _ACCOUNT:
                self.accounts[entry[1]] = entry[2]
            elif entry[0] == _SLOT:
                self._storage[entry[1]][entry[2]] = entry[3]
            elif entry[0] == _WARM_ADDRESS:
                self._warm_addresses.discard(entry[1])
            elif entry[0] == _WARM_SLOT:
                self._warm_slots.discard(entry[1])
            elif entry[0] == _WIPE:
                self._unwipe(entry[1], entry[2], wiped_before=entry[3])
            else:
                self._transient[entry[1]] = entry[2]

    def _unwipe(self, address: Address, slots: dict[int, int] | None, *, wiped_before: bool) -> None:
        if slots is None:
            self._storage.pop(address, None)
        else:
            self._storage[address] = slots
        if not wiped_before:
            self._wiped.discard(address)

    # --- Accounts -------------------------------------------------------------------------------------------------

    def account(self, address: Address) -> Account | None:
        """The account as it is now; None if there is none. Its ``storage_root`` is not kept up to date."""
        try:
            return self.accounts[address]
        except KeyError:
            account = self.accounts[address] = self._base_accounts[address] = self._base.account(address)
            return account

    def put_account(self, address: Address, account: Account | None) -> None:
        """Replace the account (not its storage), revertibly."""
        self._journal.append((_ACCOUNT, address, self.account(address)))
        self.accounts[address] = account

    def get_balance(self, address: Address) -> int:
        account = self.account(address)
        return 0 if account is None else account[1]

    def set_balance(self, address: Address, balance: int) -> None:
        nonce, _, storage_root, code_hash = self.account(address) or EMPTY_ACCOUNT
        self.put_account(address, Account(nonce, balance, storage_root, code_hash))

    def get_nonce(self, address: Address) -> int:
        account = self.account(address)
        return 0 if account is None else account[0]

    def set_nonce(self, address: Address, nonce: int) -> None:
        _, balance, storage_root, code_hash = self.account(address) or EMPTY_ACCOUNT
        self.put_account(address, Account(nonce, balance, storage_root, code_hash))

    def increment_nonce(self, address: Address) -> None:
        self.set_nonce(address, self.get_nonce(address) + 1)

    def account_exists(self, address: Address) -> bool:
        return self.account(address) is not None

    def account_has_code_or_nonce(self, address: Address) -> bool:
        account = self.account(address)
        return account is not None and (account[0] != 0 or account[3] != EMPTY_CODE_HASH)

    def account_has_storage(self, address: Address) -> bool:
        """Whether a creation must not be deployed here for its storage's sake (EIP-7610).

        True also if the base's slots were all cleared in this block: that takes code, which collides anyway.
        """
        return _has_stored_slots(self.account(address)) or any(self._storage.get(address, {}).values())

    def account_is_empty(self, address: Address) -> bool:
        """Absent, or empty in the sense of EIP-161: no nonce, no balance, no code."""
        account = self.account(address)
        return account is None or (account[1] == 0 and account[0] == 0 and account[3] == EMPTY_CODE_HASH)

    def touch_account(self, address: Address) -> None:
        """Make the account exist, and subject to EIP-161 at the transaction's end even if it existed before."""
        self.put_account(address, self.account(address) or EMPTY_ACCOUNT)

    def delete_account(self, address: Address) -> None:
        """Remove the account, its code and its storage."""
        self.delete_storage(address)
        if self.account(address) is not None:
            self.put_account(address, None)

    # --- Code -----------------------------------------------------------------------------------------------------

    def get_code_hash(self, address: Address) -> Hash32:
        """The empty code's hash for an absent account too; EXTCODEHASH makes its own distinction (EIP-1052)."""
        account = self.account(address)
        return EMPTY_CODE_HASH if account is None else account[3]

    def get_code(self, address: Address) -> bytes:
        account = self.account(address)
        if account is None or account[3] == EMPTY_CODE_HASH:
            return b""
        code_hash = account[3]
        code = self._codes.get(code_hash)
        if code is None:
            code = self._base_codes.get(code_hash)
        if code is None:
            code = self._base_codes[code_hash] = self._base.code(code_hash)
        return code

    def set_code(self, address: Address, code: bytes) -> None:
        """Any code, a delegation designator of EIP-7702 included; empty code is no code."""
        code_hash = Hash32(keccak256(code))
        if code:
            self._codes[code_hash] = code
        nonce, balance, storage_root, _ = self.account(address) or EMPTY_ACCOUNT
        self.put_account(address, Account(nonce, balance, storage_root, code_hash))

    def delete_code(self, address: Address) -> None:
        self.set_code(address, b"")

    # --- Storage --------------------------------------------------------------------------------------------------

    def get_storage(self, address: Address, slot: int, from_journal: bool = True) -> int:
        """The slot's value now; with ``from_journal=False``, at the start of the transaction (EIP-2200)."""
        if not from_journal:
            return self._original_slot(address, slot)
        try:
            return self._storage[address][slot]
        except KeyError:
            pass
        value = 0 if address in self._wiped else self._base_slot(address, slot)
        self._storage.setdefault(address, {})[slot] = value
        return value

    def set_storage(self, address: Address, slot: int, value: int) -> None:
        before = self.get_storage(address, slot)
        if before == value:
            return
        place = (address, slot)
        if place not in self._originals:
            self._originals[place] = self._original_slot(address, slot) if self._replaced_slots else before
        if self.account(address) is None:
            self.put_account(address, EMPTY_ACCOUNT)
        self._journal.append((_SLOT, address, slot, before))
        self._storage[address][slot] = value

    def delete_storage(self, address: Address) -> None:
        """Drop all slots, those in the database included."""
        account = self.account(address)
        slots = self._storage.get(address)
        if not slots and not _has_stored_slots(account):
            return
        wiped_before = address in self._wiped
        self._journal.append((_WIPE, address, slots, wiped_before))
        self._replaced_slots.setdefault(address, ({} if slots is None else slots, wiped_before))
        self._storage[address] = {}
        self._wiped.add(address)
        if account is not None and account.storage_root != EMPTY_TRIE_ROOT:
            self.put_account(address, account._replace(storage_root=EMPTY_TRIE_ROOT))

    def _base_slot(self, address: Address, slot: int) -> int:
        base_slots = self._base_storage.setdefault(address, {})
        value = base_slots.get(slot)
        if value is None:
            self.account(address)
            stored = _has_stored_slots(self._base_accounts[address])
            value = base_slots[slot] = self._base.storage(address, slot) if stored else 0
        return value

    def _original_slot(self, address: Address, slot: int) -> int:
        original = self._originals.get((address, slot))
        if original is not None:
            return original
        replaced = self._replaced_slots.get(address)
        if replaced is None:
            return self.get_storage(address, slot)
        slots, wiped_before = replaced
        original = slots.get(slot)
        if original is not None:
            return original
        return 0 if wiped_before else self._base_slot(address, slot)

    # --- Warm sets (EIP-2929) and transient storage (EIP-1153) ------------------------------------------------------

    def is_address_warm(self, address: Address) -> bool:
        return address in self._warm_addresses

    def mark_address_warm(self, address: Address) -> None:
        if address not in self._warm_addresses:
            self._warm_addresses.add(address)
            self._journal.append((_WARM_ADDRESS, address))

    def is_storage_warm(self, address: Address, slot: int) -> bool:
        return (address, slot) in self._warm_slots

    def mark_storage_warm(self, address: Address, slot: int) -> None:
        place = (address, slot)
        if place not in self._warm_slots:
            self._warm_slots.add(place)
            self._journal.append((_WARM_SLOT, place))

    def get_transient(self, address: Address, slot: int) -> bytes:
        """The value as py-evm's stack gave it; empty if none was set in this transaction."""
        return self._transient.get((address, slot), b"")

    def set_transient(self, address: Address, slot: int, value: bytes) -> None:
        place = (address, slot)
        self._journal.append((_TRANSIENT, place, self._transient.get(place, b"")))
        self._transient[place] = value


def _has_stored_slots(account: Account | None) -> bool:
    return account is not None and account[2] != EMPTY_TRIE_ROOT
