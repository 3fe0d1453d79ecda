"""Verifying a whole database: every block against its header, and the state against the head's state root.

The state is checked without building anything: a walk over the trie verifies each node against the hash that its
parent holds, up to the root, and yields the leaves in key order; the flat entries come in the same order and must
be the same. Memory follows the depth of the trie. What it finds is a list of problems, not an error.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest

from astralink_node.chain.commits import log_index_entries
from astralink_node.chain.index_check import index_problems
from astralink_node.chain.initialise import open_chain
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.records import encode_position
from astralink_node.crypto import bls, ml_dsa
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import Header, MalformedBlock, decode_receipt
from astralink_node.state.accounts import decode_account, encode_integer
from astralink_node.state.trie import ordered_root
from astralink_node.state.trie_nodes import (
    BRANCH_ITEMS,
    Item,
    Node,
    decode_node,
    decode_path,
    leaf_value,
    load_node,
)
from astralink_node.storage import keys
from astralink_node.storage.store import DatabaseDamaged, Reader
from astralink_node.types import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT
from consensus.certificate import CertificateError, decode_certificate, verify_commit
from consensus.checkpoint import verify_checkpoint
from consensus.payload import payload_root
from consensus.wire import DecodeError

MAX_PROBLEMS = 20
"""The check stops here: more would say nothing new."""

Progress = Callable[[str, int, int], None]
"""(what is being checked, how much is done, how much there is; 0 if unknown)."""


@dataclass(slots=True)
class CheckResult:
    """`problems` empty: the database is whole."""

    head_height: int = 0
    blocks: int = 0
    transactions: int = 0
    accounts: int = 0
    slots: int = 0
    trie_nodes: int = 0
    problems: list[str] = field(default_factory=list)


class _TooMany(Exception):
    """MAX_PROBLEMS were found."""


def check_database(reader: Reader, progress: Progress, *, blocks: bool = True) -> CheckResult:
    """Check everything that `reader` holds; without `blocks` only the state at the head."""
    result = CheckResult()
    try:
        chain = open_chain(reader)
        result.head_height = chain.head.height
        if reader.get(keys.IMPORT_KEY) is not None:
            result.problems.append("a snapshot is being imported: start the node to go on, the state is incomplete")
            return result
        if blocks:
            _check_blocks(reader, chain.genesis_hash, result, progress)
        _StateCheck(reader, result, progress).run(Ledger(reader).header(chain.head.height).state_root)
    except DatabaseDamaged as error:
        result.problems.append(str(error))
    except _TooMany:
        result.problems.append("and possibly more: the check stopped here")
    return result


def _report(result: CheckResult, problem: str) -> None:
    result.problems.append(problem)
    if len(result.problems) >= MAX_PROBLEMS:
        raise _TooMany


# --- Blocks ----------------------------------------------------------------------------------------------------


def _check_blocks(reader: Reader, genesis_hash: bytes, result: CheckResult, progress: Progress) -> None:
    ledger = Ledger(reader)
    parent_hash = bytes(32)
    oldest = ledger.oldest_block_height()
    for height in (0, *range(max(1, oldest), result.head_height + 1)):
        progress("blocks", height, result.head_height + 1)
        header = ledger.header(height)
        if height == oldest and oldest:
            parent_hash = ledger.header(height - 1).hash  # a snapshot: its ancestors' headers alone came along
        if header.parent_hash != parent_hash:
            _report(result, f"block {height}: its parent hash is not the hash of block {height - 1}")
        parent_hash = header.hash
        try:
            for problem in _block_problems(reader, ledger, header, genesis_hash):
                _report(result, f"block {height}: {problem}")
        except DatabaseDamaged as error:
            _report(result, str(error))
        result.blocks += 1
        result.transactions += len(ledger.body(height)[0])
    for key, raw_height in reader.iterate(*keys.prefix_range(keys.CHECKPOINTS)):
        epoch, height = keys.checkpoint_epoch(key), keys.decode_height(raw_height)
        if height == oldest and oldest:
            continue  # as it stood when the snapshot was taken: no block here carries it
        carried = ledger.carried_checkpoint(height) if height <= result.head_height else None
        if carried is None or carried.epoch != epoch:
            _report(result, f"the index of checkpoints names block {height}, which carries none of epoch {epoch}")


def _block_problems(reader: Reader, ledger: Ledger, header: Header, genesis_hash: bytes) -> Iterator[str]:
    height = header.number
    raw_transactions, senders = ledger.body(height)
    receipts = ledger.receipts(height)
    if ledger.height_of(header.hash) != height:
        yield "the index of block hashes does not name it"
    if ordered_root(raw_transactions) != header.transactions_root:
        yield "its transactions do not have the header's root"
    if ordered_root([receipt.raw_receipt for receipt in receipts]) != header.receipts_root:
        yield "its receipts do not have the header's root"
    if payload_root(ledger.payload(height)) != header.parent_beacon_block_root:
        yield "its consensus payload does not have the header's root"
    if not len(raw_transactions) == len(senders) == len(receipts):
        yield "transactions, senders and receipts differ in number"
    for index, raw in enumerate(raw_transactions):
        if reader.get(keys.transaction_key(keccak256(raw))) != encode_position(height, index):
            yield f"the transaction index does not name transaction {index}"
    try:
        logs = [log for receipt in receipts for log in decode_receipt(receipt.raw_receipt).logs]
    except MalformedBlock as error:
        yield f"a receipt does not decode: {error}"
        return
    for key, value in log_index_entries(logs, height).items():
        if reader.get(key) != value:
            yield "the log index does not name all of its logs"
            break
    yield from index_problems(reader, ledger, height)
    if height:
        yield from _certificate_problems(ledger, header, genesis_hash)
        yield from _checkpoint_problems(ledger, height, genesis_hash)


def _certificate_problems(ledger: Ledger, header: Header, genesis_hash: bytes) -> Iterator[str]:
    height = header.number
    try:
        verify_commit(
            decode_certificate(ledger.certificate(height)),
            height,
            header.hash,
            ledger.validator_set(height),
            genesis_hash,
            bls.fast_aggregate_verify,
        )
    except (CertificateError, DecodeError) as error:
        yield f"its certificate does not hold: {error}"


def _checkpoint_problems(ledger: Ledger, height: int, genesis_hash: bytes) -> Iterator[str]:
    checkpoint = ledger.carried_checkpoint(height)
    if checkpoint is None:
        return
    if ledger.checkpoint_height(checkpoint.epoch) != height:
        yield "the index of checkpoints does not name it"
    try:
        verify_checkpoint(checkpoint, ledger.validator_set(checkpoint.height), genesis_hash, ml_dsa.verify)
    except CertificateError as error:
        yield f"its checkpoint does not hold: {error}"


# --- State -----------------------------------------------------------------------------------------------------


class _StateCheck:
    def __init__(self, reader: Reader, result: CheckResult, progress: Progress) -> None:
        self._reader = reader
        self._result = result
        self._progress = progress

    def run(self, state_root: bytes) -> None:
        flat = self._reader.iterate(*keys.prefix_range(keys.ACCOUNTS))
        leaves = self._leaves(keys.ACCOUNT_NODES, state_root)
        for entry, leaf in zip_longest(((key[len(keys.ACCOUNTS) :], value) for key, value in flat), leaves):
            if not self._same("account", entry, leaf):
                return
            self._result.accounts += 1
            if self._result.accounts % 1_000 == 0:
                self._progress("accounts", self._result.accounts, 0)
            self._check_account(*leaf)
        self._check_node_count()

    def _same(self, what: str, flat: tuple[bytes, bytes] | None, leaf: tuple[bytes, bytes] | None) -> bool:
        if flat == leaf:
            return True
        if flat is None or (leaf is not None and leaf[0] < flat[0]):
            found = f"{what} {leaf[0].hex() if leaf else ''} is in the trie, but not among the flat entries"
        elif leaf is None or flat[0] < leaf[0]:
            found = f"{what} {flat[0].hex()} is among the flat entries, but not in the trie"
        else:
            found = f"{what} {flat[0].hex()} differs between the flat entries and the trie"
        _report(self._result, found)
        return False  # one difference shifts all that follow: say the first

    def _check_account(self, address_hash: bytes, raw_account: bytes) -> None:
        account = decode_account(raw_account)
        if account.code_hash != EMPTY_CODE_HASH:
            code = self._reader.get(keys.code_key(account.code_hash))
            if code is None or keccak256(code) != account.code_hash:
                problem = "missing" if code is None else "not what its hash says"
                _report(self._result, f"the code of account {address_hash.hex()} is {problem}")
        prefix = keys.storage_prefix(address_hash)
        flat = (
            (key[len(prefix) :], encode_integer(int.from_bytes(value, "big")))
            for key, value in self._reader.iterate(*keys.prefix_range(prefix))
        )
        leaves = self._leaves(keys.storage_nodes_prefix(address_hash), account.storage_root)
        for entry, leaf in zip_longest(flat, leaves):
            if not self._same(f"account {address_hash.hex()}: slot", entry, leaf):
                return
            self._result.slots += 1

    def _check_node_count(self) -> None:
        """Every stored node was met on the walk: what was not would be found by nobody, but should not be there."""
        stored = 0
        for table in (keys.ACCOUNT_NODES, keys.STORAGE_NODES):
            for _ in self._reader.iterate(*keys.prefix_range(table)):
                stored += 1
        if stored != self._result.trie_nodes:
            surplus = stored - self._result.trie_nodes
            _report(self._result, f"{surplus} stored trie nodes belong to no trie")

    def _leaves(self, prefix: bytes, root: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(hashed key, value) of every leaf in key order. Raises StateDamaged at a node that is not the right one."""
        if root == EMPTY_TRIE_ROOT:
            return
        # (path so far, reference of the node there); the last one is looked at next.
        pending: list[tuple[str, Item]] = [("", root)]
        while pending:
            path, reference = pending.pop()
            node = self._load(prefix + path.encode(), reference)
            if len(node) == BRANCH_ITEMS:
                pending.extend((path + f"{digit:x}", node[digit]) for digit in range(15, -1, -1) if node[digit])
                continue
            step, is_leaf = decode_path(node[0])
            if is_leaf:
                yield bytes.fromhex(path + step), leaf_value(node)
            else:
                pending.append((path + step, node[1]))

    def _load(self, place: bytes, reference: Item) -> Node:
        if isinstance(reference, list):
            return reference  # embedded in its parent
        self._result.trie_nodes += 1
        return decode_node(load_node(self._reader.get, place, reference))
