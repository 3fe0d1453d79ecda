"""Proofs that certain leaves are all the leaves of a trie in a range of keys: nothing changed, added or left out.

A subtrie that lies wholly inside the range is rebuilt from the leaves and must be what its parent says, down from
the root that is trusted. Only nodes whose subtries lie partly inside have to travel: those on the way to the range's
two ends. Keys are 32-byte hashes, so every leaf lies at depth 64. Values are not looked into.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.trie import subtrie
from astralink_node.state.trie_nodes import (
    BRANCH_ITEMS,
    Item,
    Node,
    decode_node,
    decode_path,
    leaf_value,
    load_node,
)
from astralink_node.types import EMPTY_TRIE_ROOT, Hash32

KEY_BYTES: Final = 32
FIRST_KEY: Final = bytes(KEY_BYTES)
LAST_KEY: Final = b"\xff" * KEY_BYTES
_DIGITS: Final = "0123456789abcdef"
_DEPTH: Final = 2 * KEY_BYTES

Entry = tuple[bytes, bytes]
"""(hashed key, the leaf's value)."""


class RangeRefused(Exception):
    """Entries that are not all the leaves of the range. `rule` is a stable short name, the rest are facts."""

    def __init__(self, rule: str, expected: str, found: str) -> None:
        super().__init__(f"{rule}: expected {expected}, found {found}")
        self.rule = rule
        self.expected = expected
        self.found = found


def prove_range(
    get: Callable[[bytes], bytes | None], prefix: bytes, root: Hash32, first: bytes, last: bytes
) -> dict[bytes, bytes]:
    """The boundary nodes, by hash, of the leaves with ``first <= key <= last`` in the trie stored under ``prefix``.

    None are needed for the whole trie. Raises StateDamaged if the database does not hold them.
    """
    nodes: dict[bytes, bytes] = {}
    waiting: list[tuple[str, Item]] = [] if root == EMPTY_TRIE_ROOT else [("", root)]
    bounds = (first.hex(), last.hex())
    while waiting:
        path, reference = waiting.pop()
        if not reference or not _straddles(path, bounds):
            continue
        if isinstance(reference, list):
            node = reference
        else:
            raw_node = nodes[reference] = load_node(get, prefix + path.encode(), reference)
            node = decode_node(raw_node)
        if len(node) == BRANCH_ITEMS:
            waiting.extend((path + digit, node[slot]) for slot, digit in enumerate(_DIGITS))
        else:
            step, is_leaf = decode_path(node[0])
            if not is_leaf:
                waiting.append((path + step, node[1]))
    return nodes


def verify_range(
    root: Hash32, first: bytes, last: bytes, entries: Sequence[Entry], nodes: Mapping[bytes, bytes]
) -> set[bytes]:
    """Raises RangeRefused unless ``entries`` are all leaves with ``first <= key <= last``, in order, of that trie.

    ``nodes`` maps hashes to what hashes to them (the caller computes the hashes). Returns the hashes that were used.
    """
    previous = b""
    for key, value in entries:
        if len(key) != KEY_BYTES or not value:
            raise RangeRefused("entry", f"a key of {KEY_BYTES} bytes with a value", f"{key.hex()} with {value.hex()}")
        if not first <= key <= last or key <= previous:
            lowest = max(previous, first).hex()
            raise RangeRefused("order", f"keys ascending from {lowest} to {last.hex()}", key.hex())
        previous = key
    check = _Check(first.hex(), last.hex(), entries, nodes)
    if not check.straddles(""):
        check.compare("", b"" if root == EMPTY_TRIE_ROOT else root, check.items)
    else:
        check.walk("", b"" if root == EMPTY_TRIE_ROOT else root, check.items)
    return check.used


class _Check:
    """One range on its way through the boundary of one trie."""

    __slots__ = ("_bounds", "_nodes", "items", "used")

    def __init__(self, first: str, last: str, entries: Sequence[Entry], nodes: Mapping[bytes, bytes]) -> None:
        self._bounds = (first, last)
        self._nodes = nodes
        self.items = [(key.hex(), value) for key, value in entries]
        self.used: set[bytes] = set()

    def straddles(self, path: str) -> bool:
        return _straddles(path, self._bounds)

    def compare(self, path: str, reference: Item, items: list[tuple[str, bytes]]) -> None:
        """A subtrie wholly inside the range holds exactly its items; one wholly outside has none to compare."""
        if not items and _is_outside(path, self._bounds):
            return
        found = subtrie(items, len(path))
        if found != reference:
            raise RangeRefused(
                "subtrie", f"below 0x{path} what hashes to {_shown(reference)}", f"{len(items)} leaves: {_shown(found)}"
            )

    def walk(self, path: str, reference: Item, items: list[tuple[str, bytes]]) -> None:
        """A subtrie partly inside: its node must be known, and its parts are looked at."""
        if not reference:
            self._expect_none(path, items)
            return
        node = self._node(path, reference)
        if len(node) == BRANCH_ITEMS:
            start = 0
            for slot, digit in enumerate(_DIGITS):
                child = path + digit
                stop = bisect_left(items, (child + "g",), start)  # "g" lies above all hex digits
                self._child(child, node[slot], items[start:stop])
                start = stop
            return
        step, is_leaf = decode_path(node[0])
        child = path + step
        inside = [item for item in items if item[0].startswith(child)]
        if len(inside) != len(items):
            self._expect_none(path, [item for item in items if not item[0].startswith(child)])
        if not is_leaf:
            self._child(child, node[1], inside)
        elif self._bounds[0] <= child <= self._bounds[1]:
            expected = [(child, leaf_value(node))]
            if inside != expected:
                raise RangeRefused("leaf", f"{child} with its value", f"{len(inside)} others")

    def _child(self, path: str, reference: Item, items: list[tuple[str, bytes]]) -> None:
        if len(path) < _DEPTH and self.straddles(path):
            self.walk(path, reference, items)
        else:
            self.compare(path, reference, items)

    def _node(self, path: str, reference: Item) -> Node:
        if isinstance(reference, list):
            return reference
        raw_node = self._nodes.get(reference)
        if raw_node is None:
            raise RangeRefused("boundary", f"node {reference.hex()} at 0x{path}", "nothing")
        self.used.add(reference)
        return decode_node(raw_node)

    def _expect_none(self, path: str, items: list[tuple[str, bytes]]) -> None:
        if items:
            raise RangeRefused("surplus", f"no leaves here below 0x{path}", items[0][0])


def nodes_by_hash(raw_nodes: Sequence[bytes]) -> dict[bytes, bytes]:
    return {keccak256(raw_node): raw_node for raw_node in raw_nodes}


def _straddles(path: str, bounds: tuple[str, str]) -> bool:
    """Whether some keys below ``path`` are inside the bounds and others are not."""
    first, last = bounds
    lowest, highest = path + "0" * (_DEPTH - len(path)), path + "f" * (_DEPTH - len(path))
    is_inside = first <= lowest and highest <= last
    return not is_inside and not (highest < first or last < lowest)


def _is_outside(path: str, bounds: tuple[str, str]) -> bool:
    first, last = bounds
    return path + "f" * (_DEPTH - len(path)) < first or last < path + "0" * (_DEPTH - len(path))


def _shown(reference: Item) -> str:
    if isinstance(reference, list):
        return "a node of its own"
    return reference.hex() or "nothing"
