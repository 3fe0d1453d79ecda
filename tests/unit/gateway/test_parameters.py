"""Parameters are parsed strictly, and a refusal says where and why."""

from collections.abc import Callable

import pytest

from astralink_node.chain.call_messages import AccessListEntry
from astralink_node.chain.messages import AtHash, AtHeight, AtLatest, AtPending, BlockSelector
from astralink_node.gateway.call_parameters import call_arguments, state_overrides
from astralink_node.gateway.log_filters import check_bounds, log_filter
from astralink_node.gateway.parameters import (
    BadValue,
    address,
    block,
    block_count,
    block_number,
    block_number_or_number,
    block_or_number,
    boolean,
    byte_string,
    hash32,
    percentiles,
    picture,
    quantity,
    quantity64,
    storage_key,
    storage_request,
    whole_number,
)
from astralink_node.gateway.rpc_errors import INVALID_PARAMS, RpcError

HASH = "0x" + "ab" * 32
ACCOUNT = "0x" + "cd" * 20

NONSENSE: list[object] = [
    None,
    5,
    1.5,
    True,
    [],
    {},
    "",
    "0x",
    "12",
    "0xzz",
    "0x-1",
    "0x 1",
    "0x1_0",
    "0x" + "1" * 100,
    "é",
    "\x00",
]


@pytest.mark.parametrize("parse", [quantity, quantity64, address, hash32, block_number])
@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_is_refused_with_the_name(parse: Callable[[str, object], object], value: object) -> None:
    with pytest.raises(BadValue, match=r"^thing: "):
        parse("thing", value)


@pytest.mark.parametrize(
    ("text", "number"), [("0x0", 0), ("0x1", 1), ("0xff", 255), ("0xFf", 255), ("0x" + "f" * 64, 2**256 - 1)]
)
def test_a_quantity_is_read(text: str, number: int) -> None:
    assert quantity("n", text) == number


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0x", 'hex string "0x"'),
        ("1", "hex string without 0x prefix"),
        ("", "empty hex string"),
        ("0x01", "hex number with leading zero digits"),
        ("0x00", "hex number with leading zero digits"),
        ("0xg", "invalid hex string"),
        ("0x1" + "0" * 64, "hex number > 256 bits"),
    ],
)
def test_a_bad_quantity_is_refused_in_geths_words(value: str, reason: str) -> None:
    with pytest.raises(BadValue) as refusal:
        quantity("n", value)
    assert str(refusal.value) == f"n: {reason}"


def test_quantities_of_64_bits_end_there() -> None:
    assert quantity64("n", hex(2**64 - 1)) == 2**64 - 1
    with pytest.raises(BadValue, match="hex number > 64 bits"):
        quantity64("n", hex(2**64))


def test_bytes_have_two_digits_each() -> None:
    assert byte_string("d", "0x") == b""
    assert byte_string("d", "0x00fF") == b"\x00\xff"
    for bad in ("0x0", "0xzz", "00", None, 1):
        with pytest.raises(BadValue):
            byte_string("d", bad)


def test_booleans_are_not_guessed() -> None:
    assert boolean("b", True) is True
    for bad in ("true", 1, None, "0x1"):
        with pytest.raises(BadValue):
            boolean("b", bad)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("latest", AtLatest()),
        ("safe", AtLatest()),
        ("finalized", AtLatest()),
        ("pending", AtPending()),
        ("earliest", AtHeight(0)),
        ("0x0", AtHeight(0)),
        ("0x1b4", AtHeight(436)),
        (HASH, AtHash(b"\xab" * 32)),
        ({"blockNumber": "0x2"}, AtHeight(2)),
        ({"blockNumber": "latest"}, AtLatest()),
        ({"blockHash": HASH}, AtHash(b"\xab" * 32)),
        ({"blockHash": HASH, "requireCanonical": True}, AtHash(b"\xab" * 32)),
    ],
)
def test_a_block_is_named_by_tag_height_hash_or_eip_1898_object(value: object, expected: BlockSelector) -> None:
    assert block("block", value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "LATEST",
        "newest",
        "5",
        5,
        {},
        {"blockHash": HASH, "blockNumber": "0x1"},
        {"blockHash": "0x12"},
        {"blockHash": HASH, "requireCanonical": "yes"},
        {"blockNumber": 1},
        [],
        hex(2**63),
    ],
)
def test_a_block_named_otherwise_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match=r"^block"):
        block("block", value)


def test_a_hash_is_no_block_number() -> None:
    with pytest.raises(BadValue):
        block_number("block", HASH)


def test_storage_keys_may_be_short_and_have_leading_zeros() -> None:
    assert storage_key("key", "0x0") == (0, False)
    assert storage_key("key", "0x00") == (0, False)
    assert storage_key("key", "1f") == (31, False)
    assert storage_key("key", "0x" + "0" * 63 + "5") == (5, True)


def test_bad_storage_keys_are_refused_as_geth_does() -> None:
    with pytest.raises(RpcError, match=r'^invalid hex in storage key: "0xasdf"$') as refusal:
        storage_key("key", "0xasdf")
    assert refusal.value.code == INVALID_PARAMS
    with pytest.raises(RpcError, match=r"^storage key too long \(want at most 32 bytes\)"):
        storage_key("key", "0x" + "0" * 65)


def test_storage_requests_name_accounts_and_keys() -> None:
    assert storage_request("r", {ACCOUNT: ["0x0", "0x1"]}) == ((b"\xcd" * 20, (0, 1)),)
    with pytest.raises(RpcError, match=r"^empty request$"):
        storage_request("r", {})


def test_block_counts_are_hex_or_decimal() -> None:
    assert [block_count("n", value) for value in ("0x10", "10", 10)] == [16, 10, 10]
    for bad in ("0x", "ten", -1, 1.5, True, None, "9" * 30):
        with pytest.raises(BadValue):
            block_count("n", bad)


def test_percentiles_are_numbers() -> None:
    assert percentiles("p", [1, 2.5]) == (1.0, 2.5)
    for bad in ("1", [True], ["1"], {}):
        with pytest.raises(BadValue):
            percentiles("p", bad)


# --- Call objects --------------------------------------------------------------------------------------------


def test_a_call_object_is_read_whole() -> None:
    arguments = call_arguments(
        "transaction",
        {
            "from": ACCOUNT,
            "to": "0x" + "11" * 20,
            "gas": "0x5208",
            "maxFeePerGas": "0x10",
            "maxPriorityFeePerGas": "0x2",
            "value": "0x1",
            "input": "0x1234",
            "nonce": "0x0",
            "chainId": "0x7",
            "accessList": [{"address": ACCOUNT, "storageKeys": [HASH]}],
            "authorizationList": [
                {"chainId": "0x0", "address": ACCOUNT, "nonce": "0x1", "yParity": "0x1", "r": "0x2", "s": "0x3"}
            ],
            "somethingNewer": 1,
        },
    )
    request = arguments.request
    assert arguments.chain_id == 7
    assert (request.sender, request.to, request.gas) == (b"\xcd" * 20, b"\x11" * 20, 21000)
    assert (request.max_fee_wei, request.max_priority_fee_wei, request.gas_price_wei) == (16, 2, None)
    assert request.data == b"\x12\x34"
    assert request.access_list == (AccessListEntry(b"\xcd" * 20, (int("ab" * 32, 16),)),)
    assert request.authorizations is not None
    assert request.authorizations[0].y_parity == 1


def test_an_empty_list_of_authorizations_is_not_an_absent_one() -> None:
    assert call_arguments("t", {"authorizationList": []}).request.authorizations == ()
    assert call_arguments("t", {"authorizationList": None}).request.authorizations is None


def test_an_empty_call_object_creates_nothing_from_nobody() -> None:
    request = call_arguments("t", {}).request
    assert (request.sender, request.to, request.data, request.gas) == (bytes(20), b"", b"", None)


def test_data_is_an_older_name_of_input() -> None:
    assert call_arguments("t", {"data": "0x01"}).request.data == b"\x01"
    assert call_arguments("t", {"data": "0x01", "input": "0x01"}).request.data == b"\x01"
    with pytest.raises(BadValue, match='both "data" and "input"'):
        call_arguments("t", {"data": "0x01", "input": "0x02"})


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"to": "0x12"}, r"t\.to"),
        ({"from": 5}, r"t\.from"),
        ({"gas": "0x1" + "0" * 16}, r"t\.gas"),
        ({"value": "1"}, r"t\.value"),
        ({"data": "0x1"}, r"t\.data"),
        ({"gasPrice": "0x1", "maxFeePerGas": "0x1"}, "both gasPrice"),
        ({"maxFeePerGas": "0x1", "maxPriorityFeePerGas": "0x2"}, "maxFeePerGas"),
        ({"accessList": [{"address": ACCOUNT, "storageKeys": ["0x1"]}]}, r"t\.accessList\[0\]\.storageKeys\[0\]"),
        ({"accessList": "x"}, r"t\.accessList"),
        ({"authorizationList": [{}]}, r"t\.authorizationList\[0\]\.chainId"),
        ({"blobVersionedHashes": [HASH]}, "blob transactions are not supported"),
        ({"nonce": "0x01"}, r"t\.nonce"),
    ],
)
def test_a_bad_field_of_a_call_object_is_named(fields: dict[str, object], place: str) -> None:
    with pytest.raises(BadValue, match=place):
        call_arguments("t", fields)


def test_state_overrides_are_read() -> None:
    zero, one = "0x" + "00" * 32, "0x" + "00" * 31 + "01"
    (override,) = state_overrides(
        "o", {ACCOUNT: {"balance": "0x1", "nonce": "0x2", "code": "0x60", "state": {zero: one}}}
    )
    assert (override.balance_wei, override.nonce, override.code) == (1, 2, b"\x60")
    assert (override.state, override.state_diff) == (((0, 1),), ())
    (diff,) = state_overrides("o", {ACCOUNT: {"stateDiff": {one: zero}}})
    assert (diff.state, diff.state_diff) == (None, ((1, 0),))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        {"0x12": {}},
        {ACCOUNT: []},
        {ACCOUNT: {"balance": 1}},
        {ACCOUNT: {"stateDiff": {"0x0": HASH}}},
        {ACCOUNT: {"movePrecompileToAddress": "0x1"}},
    ],
)
def test_bad_state_overrides_are_refused(overrides: object) -> None:
    with pytest.raises(BadValue, match=r"^o"):
        state_overrides("o", overrides)


# --- Log filters ---------------------------------------------------------------------------------------------


def test_a_log_filter_is_read() -> None:
    wanted = log_filter(
        "f",
        {
            "fromBlock": "0x1",
            "toBlock": "latest",
            "address": ACCOUNT,
            "topics": [None, HASH, [HASH, HASH], [], [None, HASH]],
        },
    )
    assert (wanted.from_block, wanted.to_block, wanted.block_hash) == (AtHeight(1), AtLatest(), None)
    assert wanted.pattern.addresses == {b"\xcd" * 20}
    one = frozenset((b"\xab" * 32,))
    assert wanted.pattern.topics == (frozenset(), one, one, frozenset(), frozenset())


def test_a_pattern_matches_by_position() -> None:
    a, b = b"\x0a" * 32, b"\x0b" * 32
    pattern = log_filter("f", {"topics": [None, "0x" + b.hex()]}).pattern
    assert pattern.matches(b"x", (a, b))
    assert pattern.matches(b"x", (b, b, a))
    assert not pattern.matches(b"x", (b, a))
    assert not pattern.matches(b"x", (b,))
    either = log_filter(
        "f", {"address": [ACCOUNT, "0x" + "11" * 20], "topics": [["0x" + a.hex(), "0x" + b.hex()]]}
    ).pattern
    assert either.matches(b"\x11" * 20, (b,))
    assert not either.matches(b"\x12" * 20, (b,))
    assert log_filter("f", {}).pattern.matches(b"x", ())


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"address": "0x1"},
        {"address": [5]},
        {"topics": "x"},
        {"topics": [5]},
        {"topics": [["0x1"]]},
        {"fromBlock": 1},
        {"blockHash": "0x"},
    ],
)
def test_a_bad_log_filter_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match=r"^f"):
        log_filter("f", value)


def test_a_block_hash_excludes_a_range() -> None:
    with pytest.raises(
        RpcError, match=r"^invalid argument 0: cannot specify both BlockHash and FromBlock/ToBlock"
    ) as refusal:
        log_filter("f", {"blockHash": HASH, "fromBlock": "0x1"})
    assert refusal.value.code == INVALID_PARAMS


def test_log_filters_are_bounded() -> None:
    with pytest.raises(RpcError, match="exceed max topics"):
        check_bounds(log_filter("f", {"topics": [None] * 5}).pattern, 10, 10)
    many = ["0x" + f"{n:040x}" for n in range(11)]
    with pytest.raises(RpcError, match="exceed max addresses"):
        check_bounds(log_filter("f", {"address": many}).pattern, 10, 10)
    choices = ["0x" + f"{n:064x}" for n in range(11)]
    with pytest.raises(RpcError, match="exceed max topics"):
        check_bounds(log_filter("f", {"topics": [choices]}).pattern, 10, 10)


def test_what_is_refused_is_shown_in_few_words_however_large_or_deep_it_is() -> None:
    deep: object = []
    for _ in range(1000):
        deep = [deep]
    for value in (deep, ["x"] * 1_000_000, {str(number): number for number in range(1000)}):
        with pytest.raises(BadValue) as refusal:
            byte_string("data", value)
        assert len(str(refusal.value)) < 120


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (25, 25), ("0x19", 25), (2**64 - 1, 2**64 - 1)])
def test_whole_numbers_are_json_numbers_or_quantities(value: object, expected: int) -> None:
    assert whole_number("n", value) == expected


@pytest.mark.parametrize("value", [-1, 2**64, 1.5, True, "25", "0x", [], None])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match=r"^n: "):
        whole_number("n", value)


def test_blocks_may_be_json_numbers_where_erigon_takes_them() -> None:
    assert block_number_or_number("b", 7) == block_number_or_number("b", "0x7") == AtHeight(7)
    assert block_number_or_number("b", "latest") == AtLatest()
    assert block_or_number("b", 7) == AtHeight(7)
    assert block_or_number("b", "0x" + "ab" * 32) == AtHash(b"\xab" * 32)
    for value in (-1, True, 2**63):
        with pytest.raises(BadValue):
            block_number_or_number("b", value)


def test_a_refusal_shows_a_value_as_its_client_wrote_it() -> None:
    assert picture({"a": [True, None, 'it\'s "x"']}) == '{"a": [true, null, "it\'s \\"x\\""]}'
    assert picture("x" * 100) == '"' + "x" * 56 + "..."
    assert picture([[[[5]]]]) == "[[[[...]]]]"
