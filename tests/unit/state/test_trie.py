"""The batched trie: published vectors, shapes of its own, cost, and a damaged database."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import rlp

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.errors import StateDamaged
from astralink_node.state.trie import ordered_root, trie_root, update_trie
from astralink_node.state.trie_nodes import decode_node, encode_node
from astralink_node.types import EMPTY_TRIE_ROOT, Hash32

VECTORS = Path("tests/fixtures/unpacked/ethereum_tests/TrieTests")
PREFIX = b"T"


def _bytes(text: str | None) -> bytes:
    if text is None:
        return b""
    return bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()


def _secure_vectors() -> Iterator[object]:
    for name in ("trietest_secureTrie", "trieanyorder_secureTrie", "hex_encoded_securetrie_test"):
        for case, vector in json.loads((VECTORS / f"{name}.json").read_text()).items():
            steps = vector["in"].items() if isinstance(vector["in"], dict) else vector["in"]
            yield pytest.param(
                [(keccak256(_bytes(key)), _bytes(value)) for key, value in steps], _bytes(vector["root"]), id=case
            )


VECTOR_CASES = list(_secure_vectors())


class Database:
    """A trie's nodes, counting the reads."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.root = EMPTY_TRIE_ROOT
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return self.nodes.get(key)

    def update(self, updates: dict[bytes, bytes]) -> int:
        """Apply and return the number of changed nodes."""
        update = update_trie(self.get, PREFIX, self.root, updates)
        for key, node in update.writes.items():
            if node is None:
                del self.nodes[key]
            else:
                self.nodes[key] = node
        self.root = update.root
        return len(update.writes)


@pytest.mark.parametrize(("steps", "root"), VECTOR_CASES)
def test_published_vector_has_its_root_step_by_step(steps: list[tuple[bytes, bytes]], root: bytes) -> None:
    database = Database()
    for key, value in steps:
        database.update({key: value})
    assert database.root == root


@pytest.mark.parametrize(("steps", "root"), VECTOR_CASES)
def test_published_vector_has_its_root_in_one_batch(steps: list[tuple[bytes, bytes]], root: bytes) -> None:
    database = Database()
    database.update(dict(steps))
    assert database.root == root


def test_empty_trie_has_the_known_root_and_no_nodes() -> None:
    database = Database()
    assert database.update({}) == 0
    assert database.update({bytes(32): b""}) == 0
    assert trie_root([]) == ordered_root([]) == database.root == EMPTY_TRIE_ROOT
    database.update({bytes(32): b"\x01"})
    database.update({bytes(32): b""})
    assert (database.root, database.nodes) == (EMPTY_TRIE_ROOT, {})


def test_short_root_is_stored_although_it_is_shorter_than_a_hash() -> None:
    database = Database()
    database.update({b"k": b"v"})
    assert list(database.nodes) == [PREFIX]
    assert len(database.nodes[PREFIX]) < 32
    assert database.root == keccak256(database.nodes[PREFIX])


def test_node_that_grows_moves_out_of_its_parent_and_back_in() -> None:
    database = Database()
    database.update({b"\x00\x00": b"1", b"\x00\x10": b"2"})
    small = dict(database.nodes)
    assert list(small) == [PREFIX]
    database.update({b"\x00\x00": bytes(40)})
    assert len(database.nodes) > 1
    database.update({b"\x00\x00": b"1"})
    assert database.nodes == small


def test_rewriting_a_value_with_itself_or_deleting_what_is_absent_writes_nothing() -> None:
    database = Database()
    entries = {keccak256(bytes([number])): bytes([number + 1]) for number in range(200)}
    database.update(entries)
    root = database.root
    assert database.update(dict(list(entries.items())[:50])) == 0
    assert database.update({keccak256(b"absent %d" % number): b"" for number in range(50)}) == 0
    assert database.root == root


def test_nodes_are_read_once_a_batch_and_only_on_the_paths_of_the_updates() -> None:
    database = Database()
    keys = [keccak256(number.to_bytes(4, "big")) for number in range(20_000)]
    database.update(dict.fromkeys(keys, b"value"))
    database.reads = 0
    assert database.update({keys[0]: b"other"}) == database.reads <= 7
    database.reads = 0
    changed = database.update(dict.fromkeys(keys[:1000], b"another"))
    assert database.reads == changed < 1000 * 7 / 2
    assert len(database.nodes) > 20_000


def test_deletion_that_leaves_one_child_reads_and_merges_it() -> None:
    database = Database()
    left, right, far = b"\x11" * 32, b"\x11" * 31 + b"\x12", b"\x99" * 32
    database.update({left: bytes(40), far: bytes(40)})
    before = dict(database.nodes)
    database.update({right: bytes(40)})
    database.update({right: b""})
    assert database.nodes == before


def test_child_that_changes_while_its_only_sibling_goes_is_stored_at_its_new_place_alone() -> None:
    kept, gone, far = b"\x11" * 32, b"\x11" * 31 + b"\x91", b"\x99" * 32
    database = Database()
    database.update({kept: bytes(40), gone: bytes(40), far: bytes(40)})
    database.update({kept: b"x" * 40, gone: b""})
    expected = Database()
    expected.update({kept: b"x" * 40, far: bytes(40)})
    assert (database.root, database.nodes) == (expected.root, expected.nodes)


@pytest.mark.parametrize("survivor", [b"\x11" * 20 + b"\x92" * 12, b"\x11" * 16 + b"\x99" * 16, b"\x91" * 32])
def test_insertion_that_leaves_an_extension_whose_subtrie_is_deleted_takes_its_place(survivor: bytes) -> None:
    below = [b"\x11" * 31 + bytes([last]) for last in (0x11, 0x12, 0x21)]
    database = Database()
    database.update(dict.fromkeys(below, bytes(40)))
    database.update({**dict.fromkeys(below, b""), survivor: bytes(40)})
    expected = Database()
    expected.update({survivor: bytes(40)})
    assert (database.root, database.nodes) == (expected.root, expected.nodes)


def _big_database() -> tuple[Database, list[bytes]]:
    database = Database()
    keys = [keccak256(bytes([number])) for number in range(80)]
    database.update({key: bytes(40) for key in keys})
    return database, keys


def test_damaged_node_on_the_path_of_an_update_is_convicted() -> None:
    database, keys = _big_database()
    convicted = 0
    for place, node in list(database.nodes.items()):
        for damaged in (None, node[:-1] + bytes([node[-1] ^ 1])):
            if damaged is None:
                del database.nodes[place]
            else:
                database.nodes[place] = damaged
            with pytest.raises(StateDamaged) as caught:
                update_trie(database.get, PREFIX, database.root, dict.fromkeys(keys, b"new"))
            assert repr(place) in caught.value.entry
            database.nodes[place] = node
            convicted += 1
    assert convicted == 2 * len(database.nodes)


def test_database_of_another_state_is_convicted_by_its_root() -> None:
    database, keys = _big_database()
    with pytest.raises(StateDamaged, match="expected a node with hash 0707"):
        update_trie(database.get, PREFIX, Hash32(b"\x07" * 32), {keys[0]: b"new"})


@pytest.mark.parametrize(
    "item", [b"", b"\x01", b"\x80", b"x" * 31, b"x" * 32, b"x" * 33, b"x" * 55, b"x" * 56, b"x" * 300]
)
def test_nodes_are_decoded_as_rlp_does(item: bytes) -> None:
    for node in (
        [b"\x20" + bytes(32), item],
        [b"\x00\xab", [b"\x3a", b"\x01"]],
        [item, *[b"y" * 32] * 15, b""],
        [*[b"y" * 32] * 15, [b"\x31", b"short"], b""],
        [b"y" * 32] * 16 + [b""],
    ):
        raw_node = rlp.encode(node)
        assert encode_node(node) == raw_node
        assert decode_node(raw_node) == node
