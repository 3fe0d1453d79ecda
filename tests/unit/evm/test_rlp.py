"""Strict RLP: what strangers send is canonical and shallow, or it is refused."""

import pytest
import rlp as pyrlp
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.evm import rlp

items = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=4), max_leaves=12)

PIECES = tuple(
    bytes.fromhex(piece) for piece in ("", "00", "7f", "80", "81", "b7", "b8", "b9", "c0", "c1", "f7", "f8", "ff")
)


def nested(levels: int) -> bytes:
    encoded = b"\xc0"
    for _ in range(levels):
        encoded = rlp.encode_list_of_encoded((encoded,))
    return encoded


@given(items)
def test_what_is_encoded_decodes_to_itself(item: rlp.Item) -> None:
    assert rlp.decode(rlp.encode(item), max_depth=32) == item


@given(st.lists(items, max_size=6))
def test_a_list_splits_into_the_encodings_of_its_items(values: list[rlp.Item]) -> None:
    encoded = [rlp.encode(value) for value in values]
    assert rlp.split_list(rlp.encode_list_of_encoded(encoded)) == encoded
    assert rlp.encode_list_of_encoded(encoded) == rlp.encode(values)


@given(st.integers(0, 2**256))
def test_integers_encode_as_their_shortest_big_endian_string(value: int) -> None:
    assert rlp.encode_integer(value) == rlp.encode(rlp.big_endian(value))


@given(st.binary(max_size=300))
def test_strings_encode_as_the_library_encodes_them(value: bytes) -> None:
    assert rlp.encode_string(value) == rlp.encode(value)


@pytest.mark.parametrize(
    "malformed",
    ["", "8100", "817f", "b800", "b801ff", "b90001ff", "c0c0", "f800", "82ff", "f90001c0", "c1", "bb00"],
)
def test_non_canonical_encodings_are_refused(malformed: str) -> None:
    with pytest.raises(rlp.MalformedRlp):
        rlp.decode(bytes.fromhex(malformed))


@pytest.mark.parametrize("malformed", ["c3800081", "c28081", "c482ffff82", "c58001b90000"])
def test_a_list_that_ends_in_what_is_no_item_is_refused(malformed: str) -> None:
    with pytest.raises(rlp.MalformedRlp):
        rlp.decode(bytes.fromhex(malformed))


@pytest.mark.parametrize(
    ("malformed", "why"),
    [
        ("", "expected one RLP item, found nothing"),
        ("c28101", "RLP byte string of one byte is not in its shortest form"),
        ("c1", "longer than what holds it"),
        ("b801ff", "RLP length is not in its shortest form"),
        ("f800", "RLP length is not in its shortest form"),
        ("c0c0", "expected one RLP item, found 2"),
    ],
)
def test_a_refusal_says_why_in_words(malformed: str, why: str) -> None:
    with pytest.raises(rlp.MalformedRlp, match=why):
        rlp.decode(bytes.fromhex(malformed))


@given(st.data())
@settings(max_examples=500)
def test_whatever_decodes_is_the_one_encoding_of_what_it_decodes_to(data: st.DataObject) -> None:
    """Encodings with bytes changed, put in or taken out, prefixes above all; pyrlp, which is laxer, reads the same."""
    encoded = bytearray(rlp.encode(data.draw(items)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(encoded)))
        replaced = data.draw(st.integers(0, 1))
        encoded[place : place + replaced] = data.draw(st.sampled_from(PIECES))
    try:
        decoded = rlp.decode(bytes(encoded), max_depth=64)
    except rlp.MalformedRlp:
        return
    assert rlp.encode(decoded) == encoded
    assert pyrlp.decode(bytes(encoded)) == decoded


@pytest.mark.parametrize("malformed", ["", "80", "c0c0", "c1", "c2c1", "f800", "c28100ff", "f838" + "00" * 3, "c1b8"])
def test_what_is_no_list_does_not_split(malformed: str) -> None:
    with pytest.raises(rlp.MalformedRlp):
        rlp.split_list(bytes.fromhex(malformed))


def test_a_bomb_of_nested_lists_is_refused_without_recursion() -> None:
    with pytest.raises(rlp.MalformedRlp, match="nest deeper"):
        rlp.decode(nested(50_000))


def test_lists_as_deep_as_allowed_are_decoded_and_one_deeper_is_not() -> None:
    filler = b"\x01" * 5000
    allowed = rlp.encode_list_of_encoded((filler, nested(rlp.DEFAULT_MAX_DEPTH - 2)))
    assert isinstance(rlp.decode(allowed), list)
    with pytest.raises(rlp.MalformedRlp):
        rlp.decode(rlp.encode_list_of_encoded((filler, nested(rlp.DEFAULT_MAX_DEPTH - 1))))


def test_a_list_is_no_string_and_a_string_no_list() -> None:
    with pytest.raises(rlp.MalformedRlp):
        rlp.string_of(b"\xc0")
    with pytest.raises(rlp.MalformedRlp):
        rlp.decode_list(b"\x80")


@given(st.lists(items, max_size=6))
def test_item_places_are_where_the_items_stand(values: list[rlp.Item]) -> None:
    encoded = b"before" + rlp.encode(values)
    places = rlp.item_places(encoded, 6, len(encoded))
    assert [encoded[start:end] for start, _, end in places] == [rlp.encode(value) for value in values]
    for value, (_, payload, end) in zip(values, places, strict=True):
        if isinstance(value, bytes):
            assert encoded[payload:end] == value


@pytest.mark.parametrize("malformed", ["", "80", "c1", "c2c1", "c28201", "c2b801", "c1b8"])
def test_item_places_of_no_list_or_of_items_that_reach_out_of_it_are_refused(malformed: str) -> None:
    raw = bytes.fromhex(malformed)
    with pytest.raises(rlp.MalformedRlp):
        rlp.item_places(raw, 0, len(raw))
