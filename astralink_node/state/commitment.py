"""From what a block changed to the new state root and the database entries that say so.

One pass: the storage tries of the accounts whose slots changed, then the account trie. Its cost follows what the
block touched, not the size of the state, with one exception that current rules make unreachable in practice: an
account whose stored slots are all dropped costs what it stored (only genesis can make one, see EIP-7610 and
EIP-6780).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.accounts import Account, encode_account, encode_integer
from astralink_node.state.overlay import StateChanges
from astralink_node.state.trie import update_trie
from astralink_node.storage.keys import (
    ACCOUNT_NODES,
    ACCOUNTS,
    STORAGE,
    STORAGE_NODES,
    code_key,
    prefix_range,
    storage_nodes_prefix,
    storage_prefix,
)
from astralink_node.storage.store import Reader
from astralink_node.types import Address, Hash32


@dataclass(frozen=True, slots=True)
class StateUpdate:
    state_root: Hash32

    writes: dict[bytes, bytes | None]
    """Flat entries, trie nodes and codes by database key; None deletes. Not yet written."""

    previous: dict[bytes, bytes | None]
    """What the database holds under each key of ``writes`` now: the block's reverse diff is made of it."""


def commit_changes(
    reader: Reader, parent_root: Hash32, changes: StateChanges, interrupt: Callable[[], None] | None = None
) -> StateUpdate:
    """Compute the state after ``changes``. ``reader`` must hold the state with ``parent_root``.

    ``interrupt`` is called now and then where tries grow and nothing is read. Raises StateDamaged if the nodes that it
    needs are not those which ``parent_root`` commits to.
    """
    commitment = _Commitment(reader, interrupt)
    for address, account in changes.accounts.items():
        commitment.add_account(address, account, changes.storage.get(address), wiped=address in changes.wiped)
    state_root = commitment.update_trie(ACCOUNT_NODES, parent_root, commitment.leaves)
    commitment.add_codes(changes.codes)
    return StateUpdate(state_root, commitment.writes, commitment.previous)


class _Commitment:
    """The writes of one block while they are collected."""

    __slots__ = ("_get", "_interrupt", "_reader", "leaves", "previous", "writes")

    def __init__(self, reader: Reader, interrupt: Callable[[], None] | None) -> None:
        self._interrupt = interrupt
        self._reader = reader
        self._get = reader.get
        self.leaves: dict[bytes, bytes] = {}
        self.writes: dict[bytes, bytes | None] = {}
        self.previous: dict[bytes, bytes | None] = {}

    def add_account(
        self, address: Address, account: Account | None, slots: dict[int, int] | None, *, wiped: bool
    ) -> None:
        address_hash = keccak256(address)
        if wiped:
            self._drop_storage(address_hash)
        key = ACCOUNTS + address_hash
        self.previous[key] = self._get(key)
        if account is None:
            self.writes[key] = None
            self.leaves[address_hash] = b""
            return
        if slots:
            account = account._replace(storage_root=self._add_slots(address_hash, account.storage_root, slots))
        self.writes[key] = self.leaves[address_hash] = encode_account(account)

    def add_codes(self, codes: dict[Hash32, bytes]) -> None:
        """Code is stored once, whoever has it, and kept for good: history may ask for it."""
        for code_hash, code in codes.items():
            key = code_key(code_hash)
            if self._get(key) is None:
                self.writes[key] = code
                self.previous[key] = None

    def update_trie(self, prefix: bytes, root: Hash32, leaves: dict[bytes, bytes]) -> Hash32:
        update = update_trie(self._get, prefix, root, leaves, self._interrupt)
        self.writes.update(update.writes)
        for key, value in update.previous.items():
            # A node of a dropped trie keeps what `_drop_storage` found: the new trie did not look there.
            self.previous.setdefault(key, value)
        return update.root

    def _add_slots(self, address_hash: bytes, storage_root: Hash32, slots: dict[int, int]) -> Hash32:
        leaves: dict[bytes, bytes] = {}
        prefix = STORAGE + address_hash
        for slot, value in slots.items():
            slot_hash = keccak256(slot.to_bytes(32, "big"))
            key = prefix + slot_hash
            self.previous[key] = self._get(key)
            if value:
                self.writes[key] = value.to_bytes((value.bit_length() + 7) >> 3, "big")
                leaves[slot_hash] = encode_integer(value)
            else:
                self.writes[key] = None
                leaves[slot_hash] = b""
        return self.update_trie(STORAGE_NODES + address_hash, storage_root, leaves)

    def _drop_storage(self, address_hash: bytes) -> None:
        for prefix in (storage_prefix(address_hash), storage_nodes_prefix(address_hash)):
            self._drop(self._reader.iterate(*prefix_range(prefix)))

    def _drop(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        for key, value in entries:
            self.writes[key] = None
            self.previous[key] = value
