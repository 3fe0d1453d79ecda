"""A trie's nodes from its leaves in key order, one pass, in memory that follows the depth of the trie.

It shares no logic with `trie`, which updates: what an import put together is thereby checked by a second opinion.
"""

from collections.abc import Callable, Iterable
from typing import Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.trie_nodes import BRANCH_ITEMS, Item, Node, encode_node, encode_path
from astralink_node.types import EMPTY_TRIE_ROOT, Hash32

_HASHED_FROM_BYTES: Final = 32

Put = Callable[[bytes, bytes], None]
"""Takes a node: its database key and its RLP."""


def rebuild_trie(leaves: Iterable[tuple[bytes, bytes]], prefix: bytes, put: Put) -> Hash32:
    """The root of the trie of ``leaves`` ((key, value), keys ascending and equally long); its nodes go to ``put``."""
    pending: tuple[str, bytes] | None = None
    builder = _Builder(prefix, put)
    for raw_key, value in leaves:
        key = raw_key.hex()
        if pending is not None:
            builder.close(*pending, fork=_shared_digits(pending[0], key))
        pending = (key, value)
    return EMPTY_TRIE_ROOT if pending is None else builder.finish(*pending)


class _Builder:
    """The branches on the path of the newest leaf, from the root downward: (depth, slots)."""

    __slots__ = ("_open", "_prefix", "_put")

    def __init__(self, prefix: bytes, put: Put) -> None:
        self._prefix = prefix
        self._put = put
        self._open: list[tuple[int, Node]] = []

    def close(self, key: str, value: bytes, fork: int) -> None:
        """Place a leaf, then close every branch that the next leaf, which leaves its path at ``fork``, cannot join."""
        self._open_at(fork)
        self._place(key, self._open[-1][0] + 1, [encode_path(key[self._open[-1][0] + 1 :], is_leaf=True), value])
        while self._open[-1][0] > fork:
            depth, branch = self._open.pop()
            if not self._open or self._open[-1][0] < fork:
                self._open.append((fork, [b""] * BRANCH_ITEMS))
            above = self._open[-1][0] + 1
            self._place(key, above, self._with_path(key, above, depth, branch))

    def finish(self, key: str, value: bytes) -> Hash32:
        """Place the last leaf and close everything: the root, which is stored whatever its size."""
        root: Node = [encode_path(key, is_leaf=True), value]
        if self._open:
            depth = self._open[-1][0]
            self._place(key, depth + 1, [encode_path(key[depth + 1 :], is_leaf=True), value])
            while len(self._open) > 1:
                depth, branch = self._open.pop()
                above = self._open[-1][0] + 1
                self._place(key, above, self._with_path(key, above, depth, branch))
            depth, branch = self._open.pop()
            root = self._with_path(key, 0, depth, branch)
        raw_node = encode_node(root)
        self._put(self._prefix, raw_node)
        return Hash32(keccak256(raw_node))

    def _open_at(self, fork: int) -> None:
        if not self._open or self._open[-1][0] < fork:
            self._open.append((fork, [b""] * BRANCH_ITEMS))

    def _with_path(self, key: str, above: int, depth: int, branch: Node) -> Node:
        """The branch at ``depth``, below an extension if it does not stand right at ``above``."""
        if depth == above:
            return branch
        return [encode_path(key[above:depth], is_leaf=False), self._seal(branch, key[:depth])]

    def _place(self, key: str, depth: int, node: Node) -> None:
        """Put a node at ``key[:depth]`` into the innermost open branch."""
        self._open[-1][1][int(key[depth - 1], 16)] = self._seal(node, key[:depth])

    def _seal(self, node: Node, path: str) -> Item:
        raw_node = encode_node(node)
        if len(raw_node) < _HASHED_FROM_BYTES:
            return node
        self._put(self._prefix + path.encode(), raw_node)
        return keccak256(raw_node)


def _shared_digits(left: str, right: str) -> int:
    shared = 0
    while left[shared] == right[shared]:
        shared += 1
    return shared
