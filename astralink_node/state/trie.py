"""The state's tries, updated in one batch a block.

Updates are sorted and walk down the trie together, so that every node they share is loaded, decoded, encoded and
hashed once, whatever the number of updates below it. Nodes are stored by their place (a prefix for the trie, then
the path), so a changed node replaces its predecessor and a removed one is deleted: the database holds the nodes
of the present state and no others. A node whose RLP is shorter than 32 bytes lives inside its parent alone,
except for the root. Every node that is loaded must hash to what its parent says: a damaged database is convicted
before it can lead to a wrong root.

Keys must not be prefixes of one another (all our tries' keys are hashes, or the RLP of an index), so a branch
never has a value of its own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.accounts import encode_integer
from astralink_node.state.trie_nodes import (
    BRANCH_ITEMS,
    Item,
    Node,
    decode_node,
    decode_path,
    encode_node,
    encode_path,
    leaf_value,
    load_node,
)
from astralink_node.types import EMPTY_TRIE_ROOT, Hash32

_HASHED_FROM_BYTES: Final = 32
_DIGITS: Final = "0123456789abcdef"
_DIGIT_BYTES: Final = tuple(digit.encode() for digit in _DIGITS)
_SLOT_OF: Final = {digit: slot for slot, digit in enumerate(_DIGITS)}

_Update = tuple[str, bytes]
"""The whole key in hex digits, and the new value; empty deletes."""


class TrieUpdate(NamedTuple):
    root: Hash32
    writes: dict[bytes, bytes | None]
    """Database key of every node that changed -> its RLP; None: deleted."""

    previous: dict[bytes, bytes | None]
    """The same keys -> what the database holds now."""


def update_trie(
    get: Callable[[bytes], bytes | None],
    prefix: bytes,
    root: Hash32,
    updates: Mapping[bytes, bytes],
    interrupt: Callable[[], None] | None = None,
) -> TrieUpdate:
    """The trie with ``root``, whose nodes are stored under ``prefix``, after ``updates`` (an empty value deletes).

    ``interrupt`` is called for each new branch, which nothing is read for; what it raises ends the work.
    Raises StateDamaged when a node that it needs is missing or is not the one that the root commits to.
    """
    if not updates:
        return TrieUpdate(root, {}, {})
    walk = _Walk(get, interrupt)
    items = sorted([(key.hex(), value) for key, value in updates.items()])
    node = None if root == EMPTY_TRIE_ROOT else walk.load(root, prefix)
    node = walk.update(node, prefix, 0, items)
    new_root = walk.finish(node, prefix)
    loaded, sealed = walk.loaded, walk.sealed
    writes: dict[bytes, bytes | None] = {}
    previous: dict[bytes, bytes | None] = {}
    for key, raw_node in sealed.items():
        before = loaded.get(key)
        if before != raw_node:
            writes[key] = raw_node
            previous[key] = before
    for key, before in loaded.items():
        if key not in sealed:
            writes[key] = None
            previous[key] = before
    return TrieUpdate(new_root, writes, previous)


def trie_root(items: Iterable[tuple[bytes, bytes]]) -> Hash32:
    """The root of a trie of just these entries; no value may be empty."""
    walk = _Walk(_get_nothing)
    return walk.finish(walk.build(b"", 0, sorted([(key.hex(), value) for key, value in items])), b"")


def subtrie(items: list[tuple[str, bytes]], depth: int) -> Item:
    """What a node at ``depth`` holds for the subtrie of ``items``: a hash, a small node itself, or nothing.

    Items are (key in hex digits, value), sorted, alike in their first ``depth`` digits.
    """
    walk = _Walk(_get_nothing)
    node = walk.build(b"", depth, items)
    if depth:
        return b"" if node is None else walk.seal(node, b"")
    return b"" if node is None else walk.finish(node, b"")


def ordered_root(values: Sequence[bytes]) -> Hash32:
    """The root over a block's transactions, receipts or withdrawals: keyed by the RLP of their index."""
    return trie_root((encode_integer(index), value) for index, value in enumerate(values))


def _get_nothing(_: bytes) -> None:
    return None


class _Walk:
    """One batch on its way through one trie.

    A node's place is its database key. ``update``, ``build`` and ``join`` return nodes that are not yet encoded,
    since the parent may still have to merge them; sealing encodes a node for good.
    """

    __slots__ = ("_get", "_interrupt", "loaded", "sealed")

    def __init__(self, get: Callable[[bytes], bytes | None], interrupt: Callable[[], None] | None = None) -> None:
        self._get = get
        self._interrupt = interrupt
        self.loaded: dict[bytes, bytes] = {}
        self.sealed: dict[bytes, bytes] = {}

    def load(self, reference: Item, place: bytes) -> Node:
        if isinstance(reference, list):
            return reference
        raw_node = self.loaded[place] = load_node(self._get, place, reference)
        return decode_node(raw_node)

    def seal(self, node: Node, place: bytes) -> Item:
        """Encode the node; what its parent holds for it."""
        raw_node = encode_node(node)
        if len(raw_node) < _HASHED_FROM_BYTES:
            return node
        self.sealed[place] = raw_node
        return keccak256(raw_node)

    def finish(self, node: Node | None, place: bytes) -> Hash32:
        """Seal the root, which is hashed and stored whatever its size."""
        if node is None:
            return EMPTY_TRIE_ROOT
        raw_node = self.sealed[place] = encode_node(node)
        return Hash32(keccak256(raw_node))

    def update(self, node: Node | None, place: bytes, depth: int, items: list[_Update]) -> Node | None:
        """The node after ``items``, which are sorted and all lead here (their first ``depth`` digits)."""
        if node is None:
            return self.build(place, depth, [item for item in items if item[1]])
        if len(node) == BRANCH_ITEMS:
            return self._update_branch(node, place, depth, items)
        path, is_leaf = decode_path(node[0])
        if not is_leaf:
            return self._update_extension(path, node, place, depth, items)
        if len(items) == 1 and items[0][0].endswith(path):
            value = items[0][1]
            return [node[0], value] if value else None
        merged = {items[0][0][:depth] + path: leaf_value(node)}
        merged.update(items)
        return self.build(place, depth, sorted([item for item in merged.items() if item[1]]))

    def build(self, place: bytes, depth: int, items: list[_Update]) -> Node | None:
        """A new subtrie of ``items``: sorted, none a deletion."""
        if not items:
            return None
        first = items[0][0]
        if len(items) == 1:
            return [encode_path(first[depth:], is_leaf=True), items[0][1]]
        if self._interrupt is not None:
            self._interrupt()
        last = items[-1][0]
        fork = depth
        while first[fork] == last[fork]:
            fork += 1
        branch_place = place + first[depth:fork].encode() if fork > depth else place
        branch: Node = [b""] * BRANCH_ITEMS
        for slot, group in _groups(items, fork):
            child_place = branch_place + _DIGIT_BYTES[slot]
            child = self.build(child_place, fork + 1, group)
            if child is not None:
                branch[slot] = self.seal(child, child_place)
        return branch if fork == depth else self._join(first[depth:fork], branch, branch_place)

    def _update_branch(self, branch: Node, place: bytes, depth: int, items: list[_Update]) -> Node | None:
        shrunk = False
        for slot, group in _groups(items, depth):
            reference = branch[slot]
            child_place = place + _DIGIT_BYTES[slot]
            child = self.load(reference, child_place) if reference else None
            child = self.update(child, child_place, depth + 1, group)
            if child is None:
                branch[slot] = b""
                shrunk = True
            else:
                branch[slot] = self.seal(child, child_place)
        return self._collapse(branch, place) if shrunk else branch

    def _collapse(self, branch: Node, place: bytes) -> Node | None:
        """A branch needs two children: with fewer, the one left takes its place."""
        slots = [slot for slot in range(16) if branch[slot]]
        if len(slots) != 1:
            return branch if slots else None
        slot = slots[0]
        child_place = place + _DIGIT_BYTES[slot]
        raw_child = self.sealed.pop(child_place, None)
        child = self.load(branch[slot], child_place) if raw_child is None else decode_node(raw_child)
        return self._join(_DIGITS[slot], child, child_place)

    def _update_extension(self, path: str, node: Node, place: bytes, depth: int, items: list[_Update]) -> Node | None:
        shared = min([_shared_digits(path, key, depth) for key, value in items if value], default=len(path))
        if shared < len(path):
            return self._split_extension(path, shared, node, place, depth, items)
        inside = [item for item in items if item[0].startswith(path, depth)]
        if not inside:
            return node
        child_place = place + path.encode()
        child = self.update(self.load(node[1], child_place), child_place, depth + len(path), inside)
        return None if child is None else self._join(path, child, child_place)

    def _split_extension(
        self, path: str, shared: int, node: Node, place: bytes, depth: int, items: list[_Update]
    ) -> Node | None:
        """Some insertion leaves the extension's path after ``shared`` digits: a branch must stand there."""
        branch_place = place + path[:shared].encode()
        fork = depth + shared
        slot = _SLOT_OF[path[shared]]
        rest = path[shared + 1 :]
        branch: Node = [b""] * BRANCH_ITEMS
        items = [item for item in items if item[0].startswith(path[:shared], depth)]
        if rest:
            rest_place = branch_place + _DIGIT_BYTES[slot]
            rest_node: Node | None = [encode_path(rest, is_leaf=False), node[1]]
            inside = [item for item in items if item[0][fork] == path[shared]]
            if inside:
                rest_node = self.update(rest_node, rest_place, fork + 1, inside)
            if rest_node is not None:
                branch[slot] = self.seal(rest_node, rest_place)
            items = [item for item in items if item[0][fork] != path[shared]]
        else:
            branch[slot] = node[1]
        updated = self._update_branch(branch, branch_place, fork, items)
        whole = None if updated is None else self._collapse_if_branch(updated, branch_place)
        if whole is None or not shared:
            return whole
        return self._join(path[:shared], whole, branch_place)

    def _collapse_if_branch(self, node: Node, place: bytes) -> Node | None:
        return self._collapse(node, place) if len(node) == BRANCH_ITEMS else node

    def _join(self, path: str, child: Node, child_place: bytes) -> Node:
        """``child`` with ``path`` before it: a branch gets an extension, the other kinds a longer path."""
        if len(child) == BRANCH_ITEMS:
            return [encode_path(path, is_leaf=False), self.seal(child, child_place)]
        rest, is_leaf = decode_path(child[0])
        return [encode_path(path + rest, is_leaf=is_leaf), child[1]]


def _groups(items: list[_Update], depth: int) -> list[tuple[int, list[_Update]]]:
    """The sorted items by their digit at ``depth``."""
    if len(items) == 1:
        return [(_SLOT_OF[items[0][0][depth]], items)]
    groups: list[tuple[int, list[_Update]]] = []
    digit = ""
    for item in items:
        if item[0][depth] != digit:
            digit = item[0][depth]
            group = [item]
            groups.append((_SLOT_OF[digit], group))
        else:
            group.append(item)
    return groups


def _shared_digits(path: str, key: str, depth: int) -> int:
    """How many digits of ``path`` the key follows from ``depth`` on."""
    shared = 0
    for digit in path:
        if key[depth + shared] != digit:
            break
        shared += 1
    return shared
