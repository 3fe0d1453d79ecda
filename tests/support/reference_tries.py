"""Ethereum's tries by the `trie` library: the oracle for roots, stored nodes and proofs."""

from collections.abc import Mapping

import rlp
from trie import HexaryTrie

from astralink_node.crypto.keccak import keccak256


def reference_trie(entries: Mapping[bytes, bytes]) -> HexaryTrie:
    """A pruned trie: its database holds the nodes of these entries and no others."""
    trie = HexaryTrie({}, prune=True)
    for key, value in entries.items():
        trie[key] = value
    return trie


def reference_root(entries: Mapping[bytes, bytes]) -> bytes:
    return bytes(reference_trie(entries).root_hash)


def reference_nodes(entries: Mapping[bytes, bytes]) -> set[bytes]:
    """The RLP of every node that is stored by itself."""
    return set(reference_trie(entries).db.values()) if entries else set()


def reference_state_root(
    accounts: Mapping[bytes, tuple[int, int, bytes]], storage: Mapping[bytes, Mapping[int, int]]
) -> bytes:
    """The state root of address -> (nonce, balance, code) and address -> slot -> value."""
    leaves = {}
    for address, (nonce, balance, code) in accounts.items():
        slots = {
            keccak256(slot.to_bytes(32, "big")): rlp.encode(value)
            for slot, value in storage.get(address, {}).items()
            if value
        }
        leaves[keccak256(address)] = rlp.encode([nonce, balance, reference_root(slots), keccak256(code)])
    return reference_root(leaves)
