"""Merkle proofs of accounts and storage slots, as EIP-1186 (eth_getProof) gives them.

A proof is the list of hashed nodes from the root toward the key; nodes embedded in their parent are part of it.
It proves absence as well: the path then ends at a node that leaves no room for the key. Over a historical reader
the same walk proves what an earlier state root committed to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.accounts import EMPTY_ACCOUNT, Account, decode_account
from astralink_node.state.trie_nodes import BRANCH_ITEMS, Item, Node, decode_node, decode_path, leaf_value, load_node
from astralink_node.storage.keys import ACCOUNT_NODES, storage_nodes_prefix
from astralink_node.storage.store import PointReader
from astralink_node.types import EMPTY_TRIE_ROOT, Address, Hash32


@dataclass(frozen=True, slots=True)
class SlotProof:
    slot: int
    value: int
    """0 if the slot is absent; ``nodes`` then prove that."""

    nodes: tuple[bytes, ...]
    """From the storage root; empty if the account has no storage."""


@dataclass(frozen=True, slots=True)
class AccountProof:
    account: Account | None
    """None if the account is absent; ``nodes`` then prove that."""

    nodes: tuple[bytes, ...]
    """From the state root."""

    storage: tuple[SlotProof, ...]
    """In the order asked."""


def account_proof(reader: PointReader, state_root: Hash32, address: Address, slots: Sequence[int]) -> AccountProof:
    """Prove an account and some of its slots against ``state_root``, whose nodes ``reader`` must hold.

    Raises StateDamaged if they are not there.
    """
    address_hash = keccak256(address)
    raw_account, nodes = _prove(reader.get, ACCOUNT_NODES, state_root, address_hash)
    account = None if raw_account is None else decode_account(raw_account)
    storage_root = (account or EMPTY_ACCOUNT).storage_root
    prefix = storage_nodes_prefix(address_hash)
    storage = []
    for slot in slots:
        raw_value, slot_nodes = _prove(reader.get, prefix, storage_root, keccak256(slot.to_bytes(32, "big")))
        storage.append(SlotProof(slot, 0 if raw_value is None else _decode_integer(raw_value), slot_nodes))
    return AccountProof(account, nodes, tuple(storage))


def _decode_integer(raw_value: bytes) -> int:
    """RLP of an integer of at most 32 bytes: one byte below 0x80, or a length byte and the digits."""
    return raw_value[0] if raw_value[0] < 0x80 else int.from_bytes(raw_value[1:], "big")


def _prove(
    get: Callable[[bytes], bytes | None], prefix: bytes, root: Hash32, key: bytes
) -> tuple[bytes | None, tuple[bytes, ...]]:
    """The leaf's value, or None, and the hashed nodes on the way."""
    nodes: list[bytes] = []
    reference: Item = b"" if root == EMPTY_TRIE_ROOT else root
    rest = key.hex()
    place = prefix
    while reference:
        if isinstance(reference, list):
            node: Node = reference
        else:
            raw_node = load_node(get, place, reference)
            nodes.append(raw_node)
            node = decode_node(raw_node)
        if len(node) == BRANCH_ITEMS:
            step = rest[0]
            reference = node[int(step, 16)]
        else:
            step, is_leaf = decode_path(node[0])
            if is_leaf:
                return (leaf_value(node) if step == rest else None), tuple(nodes)
            reference = node[1] if rest.startswith(step) else b""
        rest = rest[len(step) :]
        place += step.encode()
    return None, tuple(nodes)
