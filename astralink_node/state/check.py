"""A complete check of the stored state against a state root, in one ordered pass.

Every trie node is loaded and must hash to what its parent says; every leaf must be matched by the flat entry with
its key, in order, and every code by its hash; and no table may hold an entry that the tries do not account for.
Memory holds the hashes of the codes seen, and no more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.accounts import decode_account, encode_integer
from astralink_node.state.errors import StateDamaged
from astralink_node.state.trie_nodes import BRANCH_ITEMS, Item, decode_node, decode_path, leaf_value, load_node
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
from astralink_node.types import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, Hash32

_ACCOUNTS_PER_REPORT: Final = 1000


@dataclass(slots=True)
class StateTotals:
    """What the check has seen so far."""

    accounts: int = 0
    slots: int = 0
    account_nodes: int = 0
    storage_nodes: int = 0


def check_state(reader: Reader, state_root: Hash32, report: Callable[[StateTotals], None]) -> StateTotals:
    """Check everything; ``report`` is called every thousand accounts.

    Raises StateDamaged at the first entry that is missing, wrong or left over.
    """
    totals = StateTotals()
    walk = _TrieWalk(reader)
    flat_accounts = reader.iterate(*prefix_range(ACCOUNTS))
    checked_codes = {EMPTY_CODE_HASH}
    for digits, leaf in walk.leaves(ACCOUNT_NODES, state_root):
        address_hash = bytes.fromhex(digits)
        _expect(next(flat_accounts, None), ACCOUNTS + address_hash, leaf)
        account = decode_account(leaf)
        if account.code_hash not in checked_codes:
            _check_code(reader, account.code_hash)
            checked_codes.add(account.code_hash)
        if account.storage_root != EMPTY_TRIE_ROOT:
            slots, nodes = _check_storage(reader, address_hash, account.storage_root)
            totals.slots += slots
            totals.storage_nodes += nodes
        totals.accounts += 1
        if totals.accounts % _ACCOUNTS_PER_REPORT == 0:
            report(totals)
    totals.account_nodes = walk.stored_nodes
    _expect_end(next(flat_accounts, None))
    for prefix, expected in (
        (STORAGE, totals.slots),
        (ACCOUNT_NODES, totals.account_nodes),
        (STORAGE_NODES, totals.storage_nodes),
    ):
        found = sum(1 for _ in reader.iterate(*prefix_range(prefix)))
        if found != expected:
            raise StateDamaged(f"table {prefix.decode()}", f"{expected} entries", f"{found}")
    return totals


def _check_storage(reader: Reader, address_hash: bytes, storage_root: Hash32) -> tuple[int, int]:
    """(slots, nodes) of one account."""
    walk = _TrieWalk(reader)
    slots = 0
    flat_slots = reader.iterate(*prefix_range(storage_prefix(address_hash)))
    for digits, leaf in walk.leaves(storage_nodes_prefix(address_hash), storage_root):
        entry = next(flat_slots, None)
        as_leaf = None if entry is None else (entry[0], encode_integer(int.from_bytes(entry[1], "big")))
        _expect(as_leaf, storage_prefix(address_hash) + bytes.fromhex(digits), leaf)
        slots += 1
    _expect_end(next(flat_slots, None))
    return slots, walk.stored_nodes


def _check_code(reader: Reader, code_hash: Hash32) -> None:
    code = reader.get(code_key(code_hash))
    if code is None or keccak256(code) != code_hash:
        raise StateDamaged(f"code {code_hash.hex()}", "code with this hash", "nothing" if code is None else code.hex())


def _expect(entry: tuple[bytes, bytes] | None, key: bytes, value: bytes) -> None:
    if entry != (key, value):
        found = "the end of the table" if entry is None else f"{entry[0].hex()} = {entry[1].hex()}"
        raise StateDamaged(f"flat entry {key.hex()}", value.hex(), found)


def _expect_end(entry: tuple[bytes, bytes] | None) -> None:
    if entry is not None:
        raise StateDamaged(f"flat entry {entry[0].hex()}", "no such entry, since no trie has it", entry[1].hex())


class _TrieWalk:
    """Every leaf of one trie, in key order."""

    def __init__(self, reader: Reader) -> None:
        self._get = reader.get
        self.stored_nodes = 0

    def leaves(self, prefix: bytes, root: Hash32) -> Iterator[tuple[str, bytes]]:
        """(key in hex digits, value); every node on the way is verified."""
        waiting: list[tuple[str, Item]] = [] if root == EMPTY_TRIE_ROOT else [("", root)]
        while waiting:
            path, reference = waiting.pop()
            if isinstance(reference, list):
                node = reference
            else:
                node = decode_node(load_node(self._get, prefix + path.encode(), reference))
                self.stored_nodes += 1
            if len(node) == BRANCH_ITEMS:
                children = [(path + f"{slot:x}", child) for slot, child in enumerate(node[:16]) if child]
                waiting.extend(reversed(children))
                continue
            step, is_leaf = decode_path(node[0])
            if is_leaf:
                yield path + step, leaf_value(node)
            else:
                waiting.append((path + step, node[1]))
