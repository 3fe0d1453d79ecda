"""Random batches: our trie and the `trie` library agree on every root and on every stored node."""

from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.trie import ordered_root, trie_root, update_trie
from astralink_node.types import EMPTY_TRIE_ROOT
from tests.support.reference_tries import reference_nodes, reference_root

PREFIX = b"T"

SHORT_KEYS = st.binary(min_size=3, max_size=3)
FORKING_KEYS = st.lists(
    st.sampled_from([b"\x00\x00", b"\x11\x11", b"\x00\x01", b"\x01\x00"]), min_size=2, max_size=2
).map(b"".join)
"""Few keys that share long paths: extensions appear, split, join, and lose all that is below them."""

HASHED_KEYS = st.integers(0, 11).map(lambda number: keccak256(bytes([number])))
VALUES = st.one_of(st.just(b""), st.binary(min_size=1, max_size=4), st.binary(min_size=28, max_size=80))
"""Empty deletes; short ones make nodes that are embedded in their parents."""

BATCHES = st.one_of(
    st.lists(st.dictionaries(keys, VALUES, max_size=14), min_size=1, max_size=8)
    for keys in (SHORT_KEYS, FORKING_KEYS, HASHED_KEYS)
)


@settings(deadline=None, max_examples=150)
@given(batches=BATCHES)
def test_batches_of_changes_give_the_root_and_the_nodes_of_a_trie_built_afresh(
    batches: list[dict[bytes, bytes]],
) -> None:
    database: dict[bytes, bytes] = {}
    entries: dict[bytes, bytes] = {}
    root = EMPTY_TRIE_ROOT
    for batch in batches:
        update = update_trie(database.get, PREFIX, root, batch)
        root = update.root
        assert update.previous == {key: database.get(key) for key in update.writes}
        assert all(update.previous[key] != value for key, value in update.writes.items())
        for key, node in update.writes.items():
            if node is None:
                del database[key]
            else:
                database[key] = node
        entries.update(batch)
        entries = {key: value for key, value in entries.items() if value}
        assert root == reference_root(entries) == trie_root(entries.items())
        assert set(database.values()) == reference_nodes(entries)
        fresh = update_trie({}.get, PREFIX, EMPTY_TRIE_ROOT, entries)
        assert database == fresh.writes


@settings(deadline=None, max_examples=100)
@given(values=st.lists(st.binary(min_size=1, max_size=200), max_size=300))
def test_ordered_root_is_that_of_a_trie_keyed_by_index(values: list[bytes]) -> None:
    keys = [b"\x80" if index == 0 else index.to_bytes((index.bit_length() + 7) // 8, "big") for index in range(300)]
    keys = [
        key if key == b"\x80" or (key[0] < 0x80 and len(key) == 1) else bytes([0x80 + len(key)]) + key for key in keys
    ]
    assert ordered_root(values) == reference_root(dict(zip(keys, values, strict=False)))
