"""Range proofs against a trie of the `trie` library: what is complete is believed, and nothing else is."""

from bisect import bisect_left, bisect_right

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.range_proofs import (
    FIRST_KEY,
    LAST_KEY,
    RangeRefused,
    nodes_by_hash,
    prove_range,
    verify_range,
)
from astralink_node.state.rebuild import rebuild_trie
from astralink_node.state.trie import update_trie
from astralink_node.types import EMPTY_TRIE_ROOT, Hash32
from tests.support.reference_tries import reference_nodes, reference_root

PREFIX = b"T"

HASHED_KEYS = st.integers(0, 40).map(lambda number: keccak256(bytes([number])))
FORKING_KEYS = st.tuples(
    st.sampled_from([b"\x00" * 31, b"\x11" * 31, b"\x11" * 30 + b"\x12", b"\xff" * 31, b"\x00" * 15 + b"\x01" * 16]),
    st.sampled_from([b"\x00", b"\x01", b"\x10", b"\xff"]),
).map(b"".join)
"""Keys that share long paths: extensions, leaves with empty paths, and both ends of the key space."""
KEYS = st.one_of(HASHED_KEYS, FORKING_KEYS)
VALUES = st.one_of(st.binary(min_size=1, max_size=4), st.binary(min_size=30, max_size=80))
"""Short ones make nodes that are embedded in their parents."""
TRIES = st.dictionaries(KEYS, VALUES, max_size=40)
BOUNDS = st.one_of(KEYS, st.binary(min_size=32, max_size=32), st.sampled_from([FIRST_KEY, LAST_KEY]))


class Trie:
    def __init__(self, entries: dict[bytes, bytes]) -> None:
        update = update_trie({}.get, PREFIX, EMPTY_TRIE_ROOT, entries)
        self.root = update.root
        self.nodes = {key: node for key, node in update.writes.items() if node is not None}
        self.sorted = sorted(entries.items())

    def within(self, first: bytes, last: bytes) -> list[tuple[bytes, bytes]]:
        keys = [key for key, _ in self.sorted]
        return self.sorted[bisect_left(keys, first) : bisect_right(keys, last)]

    def proof(self, first: bytes, last: bytes) -> dict[bytes, bytes]:
        proven = prove_range(self.nodes.get, PREFIX, self.root, first, last)
        assert proven == nodes_by_hash(list(proven.values()))
        return proven


@settings(deadline=None, max_examples=300)
@given(entries=TRIES, one=BOUNDS, other=BOUNDS)
def test_all_leaves_of_a_range_are_believed_with_every_node_of_the_proof_used(
    entries: dict[bytes, bytes], one: bytes, other: bytes
) -> None:
    trie = Trie(entries)
    assert trie.root == reference_root(entries)
    first, last = sorted((one, other))
    proof = trie.proof(first, last)
    assert verify_range(trie.root, first, last, trie.within(first, last), proof) == set(proof)
    assert set(proof.values()) <= reference_nodes(entries)
    assert (first, last) != (FIRST_KEY, LAST_KEY) or proof == {}


@settings(deadline=None, max_examples=600)
@given(entries=TRIES, one=BOUNDS, other=BOUNDS, data=st.data())
def test_any_other_leaves_are_refused(
    entries: dict[bytes, bytes], one: bytes, other: bytes, data: st.DataObject
) -> None:
    trie = Trie(entries)
    first, last = sorted((one, other))
    honest = trie.within(first, last)
    forged = list(honest)
    lie = data.draw(st.sampled_from(["omit", "add", "change", "swap", "double", "outside"]))
    if lie == "add":
        key = data.draw(KEYS | st.binary(min_size=32, max_size=32))
        assume(first <= key <= last and key not in entries)
        forged = sorted([*forged, (key, data.draw(VALUES))])
    elif lie == "outside":
        outside = [item for item in trie.sorted if item not in honest]
        assume(outside)
        forged = sorted([*forged, data.draw(st.sampled_from(outside))])
    else:
        assume(len(forged) > (lie == "swap"))
        at = data.draw(st.integers(0, len(forged) - 1 - (lie == "swap")))
        if lie == "omit":
            del forged[at]
        elif lie == "change":
            value = data.draw(VALUES)
            assume(value != forged[at][1])
            forged[at] = (forged[at][0], value)
        elif lie == "swap":
            forged[at], forged[at + 1] = forged[at + 1], forged[at]
        else:
            forged.insert(at, forged[at])
    nodes = trie.proof(first, last)
    if data.draw(st.booleans()):
        nodes = nodes | nodes_by_hash(list(trie.nodes.values()))  # a liar may send whatever nodes it likes
    with pytest.raises(RangeRefused):
        verify_range(trie.root, first, last, forged, nodes)


@settings(deadline=None, max_examples=200)
@given(entries=TRIES, one=BOUNDS, other=BOUNDS, data=st.data())
def test_a_proof_without_one_of_its_nodes_is_refused(
    entries: dict[bytes, bytes], one: bytes, other: bytes, data: st.DataObject
) -> None:
    trie = Trie(entries)
    first, last = sorted((one, other))
    proof = trie.proof(first, last)
    assume(proof)
    missing = data.draw(st.sampled_from(sorted(proof)))
    nodes = {node_hash: node for node_hash, node in proof.items() if node_hash != missing}
    with pytest.raises(RangeRefused) as refusal:
        verify_range(trie.root, first, last, trie.within(first, last), nodes)
    assert refusal.value.rule == "boundary"


@settings(deadline=None, max_examples=200)
@given(entries=TRIES, others=TRIES, one=BOUNDS, other=BOUNDS)
def test_a_range_of_another_trie_is_refused_unless_it_is_the_same_there(
    entries: dict[bytes, bytes], others: dict[bytes, bytes], one: bytes, other: bytes
) -> None:
    trie, wrong = Trie(entries), Trie(others)
    first, last = sorted((one, other))
    assume(trie.within(first, last) != wrong.within(first, last))
    with pytest.raises(RangeRefused):
        verify_range(trie.root, first, last, wrong.within(first, last), wrong.proof(first, last))


@settings(deadline=None, max_examples=300)
@given(entries=TRIES)
def test_rebuilding_gives_the_same_nodes_as_updating(entries: dict[bytes, bytes]) -> None:
    trie = Trie(entries)
    rebuilt: dict[bytes, bytes] = {}
    root = rebuild_trie(trie.sorted, PREFIX, rebuilt.__setitem__)
    assert root == trie.root == reference_root(entries)
    assert rebuilt == trie.nodes


def test_the_empty_trie_has_no_leaves_in_any_range() -> None:
    empty = Hash32(EMPTY_TRIE_ROOT)
    assert verify_range(empty, FIRST_KEY, LAST_KEY, [], {}) == set()
    assert verify_range(empty, b"\x01" * 32, b"\x02" * 32, [], {}) == set()
    with pytest.raises(RangeRefused):
        verify_range(empty, b"\x01" * 32, b"\x02" * 32, [(b"\x01" * 32, b"\x05")], {})
