"""Accounts and slots of a state in the order of their hashes, page by page: debug_accountRange and storageRangeAt.

A page reads what it gives and the key after it. The head's state is read as it stands, an earlier one through the
reverse diffs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from itertools import islice

from astralink_node.chain.messages import LimitExceeded
from astralink_node.chain.preimages import Preimages, slot_hash
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.replay_messages import (
    AccountRange,
    AccountRangeQuestion,
    ListedAccount,
    StorageRange,
    StoredSlot,
)
from astralink_node.state.accounts import decode_account
from astralink_node.state.flat_state import HeadState
from astralink_node.state.reverse_diffs import HistoricalReader
from astralink_node.storage.keys import ACCOUNTS, account_key, prefix_range, storage_prefix
from astralink_node.storage.store import PointReader, Reader
from astralink_node.types import EMPTY_TRIE_ROOT

READS_PER_CHECK = 64
HASH_BYTES = 32

Entries = Iterator[tuple[bytes, bytes]]


class StateEntries:
    """The flat state after a committed block, by key and in key order."""

    def __init__(self, reader: Reader, height: int, head_height: int, check_time: Callable[[], None]) -> None:
        self._reader = reader
        self._check_time = check_time
        self._reads = 0
        self._history = None if height == head_height else HistoricalReader(self, height)

    @property
    def points(self) -> PointReader:
        return self if self._history is None else self._history

    def accounts(self, start: bytes) -> Entries:
        """(hash, encoded account) from a hash on."""
        for key, value in self._from(ACCOUNTS, start):
            yield key[1:], value

    def slots(self, address_hash: bytes, start: bytes = b"") -> Entries:
        """(hash, value without leading zeros) from a hash on."""
        prefix = storage_prefix(address_hash)
        for key, value in self._from(prefix, start):
            yield key[len(prefix) :], value

    def _from(self, prefix: bytes, start: bytes) -> Entries:
        first, stop = prefix + start.ljust(HASH_BYTES, b"\0"), prefix_range(prefix)[1]
        return self.iterate(first, stop) if self._history is None else self._history.entries(first, stop)

    # --- What history is read through: a storage.store.Reader that looks at the time -------------------------------

    def get(self, key: bytes) -> bytes | None:
        self._count()
        return self._reader.get(key)

    def iterate(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Entries:
        for entry in self._reader.iterate(start, stop, reverse=reverse):
            self._count()
            yield entry

    def _count(self) -> None:
        self._reads += 1
        if self._reads % READS_PER_CHECK == 0:
            self._check_time()


# --- Storage -----------------------------------------------------------------------------------------------------


def storage_range(
    stored: Entries, changed: Mapping[int, int], known: Mapping[bytes, int], start: bytes, max_slots: int
) -> StorageRange:
    """`stored` from `start` on, with the slots in `changed` as they are there (0: cleared)."""
    changes = {slot_hash(slot): value for slot, value in changed.items()}
    first = start.ljust(HASH_BYTES, b"\0")
    before = ((key, int.from_bytes(value, "big")) for key, value in stored if key not in changes)
    now = sorted((key, value) for key, value in changes.items() if value and key >= first)
    page = list(islice(merge(before, now), max_slots + 1))
    slots = tuple(StoredSlot(key, known.get(key), value) for key, value in page[:max_slots])
    return StorageRange(slots, page[max_slots][0] if len(page) > max_slots else b"")


# --- Accounts ----------------------------------------------------------------------------------------------------


def account_range(
    entries: StateEntries, preimages: Preimages, question: AccountRangeQuestion, limits: QueryLimits
) -> AccountRange | LimitExceeded:
    max_accounts = min(question.max_accounts, limits.max_range_accounts)
    room = limits.max_range_slots
    listed: list[ListedAccount] = []
    for address_hash, raw_account in _accounts(entries, preimages, question):
        if len(listed) == max_accounts:
            return AccountRange(tuple(listed), address_hash)
        account = _listed(entries, preimages, question, address_hash, raw_account, room)
        if account is not None:
            listed.append(account)
            room -= len(account.slots)
        elif listed:
            return AccountRange(tuple(listed), address_hash)
        else:
            return LimitExceeded(
                f"the account with hash 0x{address_hash.hex()} has more than {limits.max_range_slots} slots: leave "
                "storage out, and read it with debug_storageRangeAt"
            )
    return AccountRange(tuple(listed), b"")


def _accounts(entries: StateEntries, preimages: Preimages, question: AccountRangeQuestion) -> Entries:
    if question.with_unknown:
        yield from entries.accounts(question.start)
        return
    # Few are known, however large the state: each is looked up.
    for address_hash in preimages.addresses:
        if address_hash >= question.start:
            raw_account = entries.points.get(account_key(address_hash))
            if raw_account is not None:
                yield address_hash, raw_account


def _listed(
    entries: StateEntries,
    preimages: Preimages,
    question: AccountRangeQuestion,
    address_hash: bytes,
    raw_account: bytes,
    max_slots: int,
) -> ListedAccount | None:
    """None: its storage does not fit."""
    nonce, balance, storage_root, code_hash = decode_account(raw_account)
    address = preimages.addresses.get(address_hash)
    slots: tuple[StoredSlot, ...] = ()
    if question.with_storage and storage_root != EMPTY_TRIE_ROOT:
        found = storage_range(entries.slots(address_hash), {}, preimages.slots(address), b"", max_slots)
        if found.next_hash:
            return None
        slots = found.slots
    return ListedAccount(
        address_hash=address_hash,
        address=address or b"",
        nonce=nonce,
        balance_wei=balance,
        storage_root=storage_root,
        code_hash=code_hash,
        code=HeadState(entries.points).code(code_hash) if question.with_code else b"",
        slots=slots,
    )
