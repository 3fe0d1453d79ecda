"""The layout of database keys: tables apart, heights in order, one key's diffs apart from another's."""

import pytest

from astralink_node.storage import keys
from astralink_node.storage.memory import MemoryStore


def test_every_table_has_its_own_first_byte_and_a_name() -> None:
    tables = [
        value for name, value in vars(keys).items() if name.isupper() and isinstance(value, bytes) and len(value) == 1
    ]
    assert len(tables) == len(set(tables)) == len(keys.TABLE_NAMES)
    assert set(tables) == set(keys.TABLE_NAMES)


def test_height_keys_iterate_in_height_order() -> None:
    store = MemoryStore()
    heights = [0, 1, 255, 256, 65536, 2**32, 2**63]
    store.write({keys.header_key(height): b"" for height in reversed(heights)}, sync=True)
    found = [keys.decode_height(key[1:]) for key, _ in store.iterate(*keys.prefix_range(keys.HEADERS))]
    assert found == heights


@pytest.mark.parametrize("prefix", [b"A", b"A\x00", b"A\xff", b"A\xfe\xff\xff"])
def test_prefix_range_holds_exactly_the_keys_with_the_prefix(prefix: bytes) -> None:
    start, stop = keys.prefix_range(prefix)
    for inside in (prefix, prefix + b"\x00", prefix + b"\xff" * 40):
        assert start <= inside < stop
    before = prefix[:-1] + bytes([prefix[-1] - 1]) + b"\xff" if prefix[-1] else prefix[:-1]
    assert not start <= before < stop
    assert not start <= stop < stop


def test_diffs_of_one_key_are_contiguous_whatever_longer_key_it_begins() -> None:
    short, long = b"Tab", b"Tab\x00\x00\x00\x00\x00\x00\x00\x01"
    entries = sorted(keys.diff_key(key, height) for key in (short, long) for height in (0, 1, 7))
    assert entries[:3] == [keys.diff_key(short, height) for height in (0, 1, 7)]


def test_log_index_keeps_positions_and_heights() -> None:
    prefix = keys.log_topic_prefix(3, bytes(32))
    assert keys.log_index_height(keys.log_index_key(prefix, 77)) == 77
    assert keys.decode_positions(keys.encode_positions([0, 1, 70_000])) == [0, 1, 70_000]
    assert keys.decode_positions(b"") == []
    others = {keys.log_topic_prefix(position, bytes(32)) for position in range(4)}
    assert len(others | {keys.log_address_prefix(bytes(20))}) == 5
