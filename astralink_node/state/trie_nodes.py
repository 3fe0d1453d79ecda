"""Nodes of Ethereum's Merkle Patricia trie (yellow paper, appendix D): their bytes, and loading one checked.

A node in memory is its decoded RLP: a list of two items (hex-prefix path; value of a leaf or reference of an
extension) or of seventeen (references of the children; an unused value). A reference is a node's keccak, the
node itself if its RLP is shorter than 32 bytes, or empty. Paths are strings of hex digits, one a nibble.
"""

from collections.abc import Callable
from typing import Final

from rusty_rlp import encode_raw

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.errors import StateDamaged

Node = list["Item"]
Item = bytes | Node

BRANCH_ITEMS: Final = 17

_FULL_BRANCH_BYTES: Final = 532
"""A branch of sixteen hashed children: head (3), 16 times 33, empty value (1)."""

_FULL_BRANCH_HASHES: Final = tuple(slice(start, start + 32) for start in range(4, 531, 33))


def encode_node(node: Node) -> bytes:
    return encode_raw(node)


def decode_node(raw_node: bytes) -> Node:
    """The node that ``raw_node`` encodes. It must be a node that was verified against its hash."""
    if len(raw_node) == _FULL_BRANCH_BYTES:
        full: Node = [raw_node[hash_bytes] for hash_bytes in _FULL_BRANCH_HASHES]
        full.append(b"")
        return full
    head = raw_node[0]
    position = 1 if head < 0xF8 else head - 0xF6
    end = len(raw_node)
    node: Node = []
    append = node.append
    while position < end:
        first = raw_node[position]
        if first == 0x80:
            append(b"")
            position += 1
        elif first == 0xA0:
            stop = position + 33
            append(raw_node[position + 1 : stop])
            position = stop
        elif first < 0x80:
            append(raw_node[position : position + 1])
            position += 1
        elif first < 0xB8:
            stop = position + first - 0x7F
            append(raw_node[position + 1 : stop])
            position = stop
        elif first < 0xC0:
            start = position + first - 0xB6
            stop = start + int.from_bytes(raw_node[position + 1 : start], "big")
            append(raw_node[start:stop])
            position = stop
        else:  # an embedded node: shorter than 32 bytes, hence a short list
            stop = position + first - 0xBF
            append(decode_node(raw_node[position:stop]))
            position = stop
    return node


def encode_path(path: str, *, is_leaf: bool) -> bytes:
    """Hex-prefix encoding (yellow paper, appendix C)."""
    if len(path) & 1:
        return bytes.fromhex(("3" if is_leaf else "1") + path)
    return bytes.fromhex(("20" if is_leaf else "00") + path)


def decode_path(encoded_path: Item) -> tuple[str, bool]:
    """The nibbles, and whether the node is a leaf."""
    if not isinstance(encoded_path, bytes):
        raise TypeError("a node's path is a byte string")
    digits = encoded_path.hex()
    flag = digits[0]
    return digits[1:] if flag in "13" else digits[2:], flag in "23"


def leaf_value(leaf: Node) -> bytes:
    value = leaf[1]
    if not isinstance(value, bytes):
        raise TypeError("a leaf's value is a byte string")
    return value


def load_node(get: Callable[[bytes], bytes | None], place: bytes, node_hash: bytes) -> bytes:
    """The RLP of the node at ``place``, which must have this hash; StateDamaged otherwise."""
    raw_node = get(place)
    if raw_node is None or keccak256(raw_node) != node_hash:
        found = "nothing" if raw_node is None else raw_node.hex()
        raise StateDamaged(f"trie node {place!r}", f"a node with hash {node_hash.hex()}", found)
    return raw_node
