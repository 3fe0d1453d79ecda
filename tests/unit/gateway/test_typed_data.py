"""EIP-712: digests against eth-account's, the EIP's own example, and what does not fit its type."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.gateway.parameters import BadValue
from astralink_node.gateway.typed_data import (
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_NAME_LENGTH,
    MAX_TYPES,
    MAX_VALUES,
    encode_type,
    typed_data_digest,
)

DOMAIN = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]
MAIL: dict[str, Any] = {
    "types": {
        "EIP712Domain": DOMAIN,
        "Person": [{"name": "name", "type": "string"}, {"name": "wallet", "type": "address"}],
        "Mail": [
            {"name": "from", "type": "Person"},
            {"name": "to", "type": "Person"},
            {"name": "contents", "type": "string"},
        ],
    },
    "primaryType": "Mail",
    "domain": {"name": "Ether Mail", "version": "1", "chainId": 1, "verifyingContract": "0x" + "cc" * 20},
    "message": {
        "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
        "to": {"name": "Bob", "wallet": "0x" + "bb" * 19 + "bb"},
        "contents": "Hello, Bob!",
    },
}
MAIL["message"]["to"]["wallet"] = "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"
MAIL["domain"]["verifyingContract"] = "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"


def of_one(kind: str, value: object) -> dict[str, Any]:
    return {
        "types": {"EIP712Domain": [], "Box": [{"name": "held", "type": kind}]},
        "primaryType": "Box",
        "domain": {},
        "message": {"held": value},
    }


def reference(data: dict[str, Any]) -> bytes:
    return bytes(_hash_eip191_message(encode_typed_data(full_message=data)))


def test_the_eips_own_example() -> None:
    digest = typed_data_digest("typedData", MAIL)
    assert digest.hex() == "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
    assert digest == reference(MAIL)


def test_a_type_names_those_that_it_refers_to_in_order() -> None:
    types = {"Z": [("b", "B[]"), ("a", "A")], "A": [("self", "A[2]")], "B": [("x", "uint8")]}
    assert encode_type("Z", types) == "Z(B[] b,A a)A(A[2] self)B(uint8 x)"


ATOMS = st.one_of(
    st.tuples(st.just("uint8"), st.integers(0, 255)),
    st.tuples(st.just("uint256"), st.integers(0, 2**256 - 1)),
    st.tuples(st.just("int256"), st.integers(-(2**255), 2**255 - 1)),
    st.tuples(st.just("int8"), st.integers(-128, 127)),
    st.tuples(st.just("bool"), st.booleans()),
    st.tuples(st.just("string"), st.text(st.characters(exclude_categories=("Cs",)), max_size=40)),
    st.tuples(st.just("bytes"), st.binary(max_size=40).map(lambda value: "0x" + value.hex())),
    st.tuples(st.just("bytes32"), st.binary(min_size=32, max_size=32).map(lambda value: "0x" + value.hex())),
    st.tuples(st.just("bytes3"), st.binary(min_size=3, max_size=3).map(lambda value: "0x" + value.hex())),
    st.tuples(st.just("address"), st.binary(min_size=20, max_size=20).map(lambda value: "0x" + value.hex())),
    st.tuples(st.just("uint16[]"), st.lists(st.integers(0, 65_535), max_size=4)),
    st.tuples(st.just("bool[2][]"), st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=3)),
)


@given(ATOMS)
def test_digests_equal_eth_accounts(atom: tuple[str, Any]) -> None:
    data = of_one(*atom)
    assert typed_data_digest("typedData", data) == reference(data)


@pytest.mark.parametrize(("text", "number"), [("17", 17), ("0x11", 17), ("-1", -1), ("-0x1", -1)])
def test_numbers_may_be_written_as_text(text: str, number: int) -> None:
    assert typed_data_digest("t", of_one("int64", text)) == typed_data_digest("t", of_one("int64", number))


def test_a_struct_may_hold_itself_and_ends_where_it_is_null() -> None:
    data = of_one("Box", None)
    data["message"] = {"held": {"held": None}}
    once = typed_data_digest("t", data)
    data["message"] = {"held": None}
    assert typed_data_digest("t", data) != once
    assert once == reference({**data, "message": {"held": {"held": None}}})


def test_data_nested_deeper_than_the_bound_is_refused() -> None:
    held: dict[str, Any] | None = None
    for _ in range(MAX_DEPTH + 2):
        held = {"held": held}
    with pytest.raises(BadValue, match=f"nested deeper than {MAX_DEPTH}"):
        typed_data_digest("t", of_one("Box", held))


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("uint8", 256, "t.message.held: does not fit 8 bits"),
        ("uint8", -1, "does not fit 8 bits"),
        ("int8", 128, "does not fit 8 bits"),
        ("uint8", True, "expected a whole number"),
        ("uint8", 1.5, "expected a whole number"),
        ("uint8", None, "expected a whole number"),
        ("uint7", 1, "unknown type 'uint7'"),
        ("bytes33", "0x", "unknown type 'bytes33'"),
        ("bytes3", "0x00", "expected 3 bytes, found 1"),
        ("bytes", "00", "hex string without 0x prefix"),
        ("bool", 1, "expected true or false"),
        ("string", 1, "expected a string"),
        ("address", "0x00", "want 40 for an address"),
        ("uint8[2]", [1], r"expected 2 items for uint8\[2\], found 1"),
        ("uint8[]", 1, r"expected an array for uint8\[\]"),
        ("uint8[]", [1, 256], r"t.message.held\[1\]: does not fit 8 bits"),
        ("Nobody", {}, "unknown type 'Nobody'"),
        ("Box", 5, "t.message.held: expected an object"),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_named(kind: str, value: object, words: str) -> None:
    with pytest.raises(BadValue, match=words):
        typed_data_digest("t", of_one(kind, value))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"primaryType": "Letter"}, "t.primaryType: expected the name of one of the types"),
        ({"types": {"Mail": []}}, "t.types: expected EIP712Domain among them"),
        ({"types": []}, "t.types: expected an object"),
        ({"types": {"EIP712Domain": [], "Mail": [{"name": "a"}]}}, r"t.types.Mail\[0\]: expected a name and a type"),
        ({"types": {"EIP712Domain": [], "Mail": [], "No name": []}}, "expected a type's name"),
        ({"types": {f"T{n}": [] for n in range(MAX_TYPES + 1)}}, "types: expected at most"),
        ({"domain": None}, "t.domain: expected an object"),
    ],
)
def test_what_is_no_typed_data_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadValue, match=words):
        typed_data_digest("t", {**MAIL, **change})


def test_the_domain_alone_may_be_signed() -> None:
    data = {**MAIL, "primaryType": "EIP712Domain"}
    assert typed_data_digest("t", data) != typed_data_digest("t", MAIL)


def of_itself(fields: int, kind: str = "Node") -> dict[str, Any]:
    names = [{"name": f"n{number}", "type": kind} for number in range(fields)]
    return {"types": {"EIP712Domain": [], "Node": names}, "primaryType": "Node", "domain": {}, "message": {}}


def test_a_type_with_two_fields_of_one_name_is_refused() -> None:
    """The work would double with every level of the message."""
    data = of_itself(1)
    data["types"]["Node"] *= 2
    with pytest.raises(BadValue, match=r"types\.Node\[1\]: the name of another field"):
        typed_data_digest("data", data)


def test_so_many_values_are_hashed_and_no_more() -> None:
    data = of_itself(1, "Node[]")
    data["message"] = {"n0": [None] * (MAX_VALUES - 1)}
    assert typed_data_digest("data", data)
    data["message"]["n0"].append(None)
    with pytest.raises(BadValue, match=f"more than {MAX_VALUES} values"):
        typed_data_digest("data", data)


def test_values_of_wide_structs_within_one_another_are_counted_together() -> None:
    data = of_itself(100)
    leaf: dict[str, Any] = {}
    data["message"] = {f"n{outer}": {f"n{inner}": leaf for inner in range(100)} for outer in range(100)}
    with pytest.raises(BadValue, match="values"):
        typed_data_digest("data", data)


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ({"A": [{"name": f"n{number}", "type": "bool"} for number in range(MAX_FIELDS + 1)]}, "fields"),
        ({"A": [{"name": "n" * (MAX_NAME_LENGTH + 1), "type": "bool"}]}, "characters"),
        ({"A": [{"name": "n", "type": "b" * (MAX_NAME_LENGTH + 1)}]}, "characters"),
        ({"A" * (MAX_NAME_LENGTH + 1): []}, "a type's name"),
        ({"A": [{"name": f"{number:0{MAX_NAME_LENGTH}}", "type": "bool"} for number in range(100)]}, "of names"),
    ],
)
def test_types_are_bounded(types: dict[str, Any], words: str) -> None:
    data = of_itself(0)
    data["types"].update(types)
    with pytest.raises(BadValue, match=words):
        typed_data_digest("data", data)
