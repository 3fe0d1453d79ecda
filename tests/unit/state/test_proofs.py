"""EIP-1186 proofs, verified by another implementation, for what is there and for what is not."""

import pytest
import rlp
from trie import HexaryTrie

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.accounts import decode_account
from astralink_node.state.commitment import commit_changes
from astralink_node.state.errors import StateDamaged
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.state.proofs import account_proof
from astralink_node.state.reverse_diffs import DiffMissing, HistoricalReader, reverse_diff, rollback_writes
from astralink_node.storage.keys import ACCOUNT_NODES
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import EMPTY_TRIE_ROOT, Address, Hash32

CONTRACT = Address(b"\xcc" * 20)
SLOTS = [0, 1, 5, 2**256 - 1]


def _verified(root: bytes, key: bytes, nodes: tuple[bytes, ...]) -> bytes:
    """The value that the nodes prove; empty for a proved absence."""
    return bytes(HexaryTrie.get_from_proof(root, keccak256(key), [rlp.decode(node) for node in nodes]))


def _state(accounts: int) -> tuple[MemoryStore, Hash32]:
    store = MemoryStore()
    overlay = Overlay(HeadState(store))
    for number in range(accounts):
        overlay.set_balance(Address(bytes([number]) * 20), number + 1)
    overlay.set_nonce(CONTRACT, 1)
    for slot in (0, 1, 2, 3, 2**256 - 1):
        overlay.set_storage(CONTRACT, slot, slot + 1 if slot < 9 else slot)
    update = commit_changes(store, EMPTY_TRIE_ROOT, overlay.changes())
    store.write(update.writes, sync=True)
    return store, update.state_root


@pytest.mark.parametrize("accounts", [0, 1, 3, 100])
def test_proofs_of_accounts_verify_elsewhere(accounts: int) -> None:
    store, root = _state(accounts)
    for number in range(accounts + 5):
        address = Address(bytes([number]) * 20)
        proof = account_proof(store, root, address, [])
        proved = _verified(root, address, proof.nodes)
        if number < accounts:
            assert proof.account is not None
            assert decode_account(proved) == proof.account
            assert proof.account.balance == number + 1
        else:
            assert proof.account is None
            assert proved == b""
        assert keccak256(proof.nodes[0]) == root


def test_proofs_of_slots_verify_elsewhere() -> None:
    store, root = _state(10)
    proof = account_proof(store, root, CONTRACT, SLOTS)
    assert proof.account is not None
    assert [slot.slot for slot in proof.storage] == SLOTS
    assert [slot.value for slot in proof.storage] == [1, 2, 0, 2**256 - 1]
    for slot in proof.storage:
        proved = _verified(proof.account.storage_root, slot.slot.to_bytes(32, "big"), slot.nodes)
        assert proved == (rlp.encode(slot.value) if slot.value else b"")


def test_account_without_storage_has_empty_slot_proofs() -> None:
    store, root = _state(3)
    present, absent = Address(bytes([1]) * 20), Address(b"\x99" * 20)
    for address in (present, absent):
        (slot,) = account_proof(store, root, address, [7]).storage
        assert (slot.value, slot.nodes) == (0, ())


def test_empty_state_proves_absence_with_no_nodes() -> None:
    assert account_proof(MemoryStore(), EMPTY_TRIE_ROOT, CONTRACT, []).nodes == ()


def test_proof_from_a_damaged_database_is_not_given() -> None:
    store, root = _state(100)
    store.write({ACCOUNT_NODES: b"\xc0"}, sync=True)
    with pytest.raises(StateDamaged):
        account_proof(store, root, CONTRACT, [])


def test_earlier_height_is_proved_after_the_state_moved_on() -> None:
    store, root = _state(100)
    overlay = Overlay(HeadState(store))
    overlay.delete_account(CONTRACT)
    for number in range(50):
        overlay.delete_account(Address(bytes([number]) * 20))
    update = commit_changes(store, root, overlay.changes())
    store.write({**update.writes, **reverse_diff(update.previous, 1)}, sync=True)
    proof = account_proof(HistoricalReader(store, 0), root, CONTRACT, SLOTS)
    assert proof.account is not None
    for slot in proof.storage:
        proved = _verified(proof.account.storage_root, slot.slot.to_bytes(32, "big"), slot.nodes)
        assert proved == (rlp.encode(slot.value) if slot.value else b"")
    assert account_proof(HistoricalReader(store, 1), update.state_root, CONTRACT, []).account is None


def test_rollback_without_a_diff_is_refused() -> None:
    with pytest.raises(DiffMissing, match="height 7"):
        rollback_writes(MemoryStore(), 7)
