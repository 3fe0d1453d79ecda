"""Whatever a client sends is parsed, refused by name, or answered: nothing else ever comes out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.crypto.addresses import checksum_address
from astralink_node.evm.revert_reason import revert_reason
from astralink_node.gateway.access import access_policy, host_name
from astralink_node.gateway.call_parameters import call_arguments, state_overrides
from astralink_node.gateway.encoding import quantity, word
from astralink_node.gateway.jsonrpc import Batch, Single, parse_message
from astralink_node.gateway.log_filters import log_filter
from astralink_node.gateway.methods.namespaces import NAMESPACES
from astralink_node.gateway.methods.table import Method, bind
from astralink_node.gateway.parameters import BadValue, byte_string, storage_key
from astralink_node.gateway.parameters import quantity as parse_quantity
from astralink_node.gateway.rpc_errors import INVALID_PARAMS, RpcError
from astralink_node.gateway.submission import read_transaction

HEXISH = st.from_regex(r"(0x)?[0-9a-fA-FxgX_ +-]{0,70}", fullmatch=True)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | HEXISH,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | HEXISH, inner, max_size=4),
    max_leaves=12,
)
CALL_FIELDS = ("from", "to", "gas", "gasPrice", "value", "data", "input", "nonce", "accessList", "authorizationList")
OTHER_FIELDS = ("address", "topics", "fromBlock", "toBlock", "blockHash", "balance", "state", "stateDiff", "code")
FIELDS = st.sampled_from(CALL_FIELDS + OTHER_FIELDS)
OBJECTS = st.dictionaries(FIELDS, JSON, max_size=5)
METHODS = [method for namespace in NAMESPACES.values() for method in namespace]


@given(st.binary(max_size=200) | JSON.map(orjson.dumps) | st.lists(OBJECTS, max_size=3).map(orjson.dumps))
def test_any_bytes_are_a_message_of_some_kind(body: bytes) -> None:
    assert isinstance(parse_message(body, 10), Single | Batch)


def refusal_of(action: Callable[[], object]) -> Exception | None:
    """How it was refused; any exception that is no refusal goes through."""
    try:
        action()
    except (BadValue, RpcError) as error:
        return error
    return None


@given(st.sampled_from(METHODS), st.lists(JSON | OBJECTS, max_size=5))
def test_any_parameters_are_bound_or_refused_as_invalid(method: Method, values: list[object]) -> None:
    refusal = refusal_of(lambda: bind(method, values))
    if refusal is not None:
        assert isinstance(refusal, RpcError)
        assert refusal.code == INVALID_PARAMS
        assert len(refusal.message) < 500
        orjson.dumps(refusal.to_json())


@pytest.mark.parametrize("parse", [call_arguments, state_overrides, log_filter])
@given(value=OBJECTS)
def test_objects_are_parsed_or_refused(parse: Callable[[str, object], object], value: object) -> None:
    refusal = refusal_of(lambda: parse("value", value))
    assert not isinstance(refusal, BadValue) or str(refusal).startswith("value")
    assert not isinstance(refusal, RpcError) or refusal.code == INVALID_PARAMS


@given(st.integers(0, 2**256 - 1))
def test_quantities_and_words_come_back(number: int) -> None:
    assert parse_quantity("n", quantity(number)) == number
    assert storage_key("k", word(number)) == (number, True)


@given(st.binary(max_size=100))
def test_bytes_come_back(value: bytes) -> None:
    assert byte_string("d", "0x" + value.hex()) == value


@given(st.binary(min_size=20, max_size=20))
def test_checksums_agree_with_eth_utils(address: bytes) -> None:
    from eth_utils.address import to_checksum_address

    assert checksum_address(address) == to_checksum_address(address)


@given(st.binary(max_size=300))
def test_any_revert_data_has_a_reason_or_none(output: bytes) -> None:
    assert revert_reason(output) is None or isinstance(revert_reason(output), str)


TYPES = st.sampled_from([b"\x01\xf8", b"\x02\xf8", b"\x04\xf8", b"\xf8", b""])


@given(TYPES, st.binary(max_size=300))
def test_any_bytes_are_a_transaction_or_refused(start: bytes, rest: bytes) -> None:
    with suppress(RpcError):
        read_transaction(start + rest, 1)


@given(st.text(max_size=60))
def test_any_host_and_origin_gets_a_verdict(text: str) -> None:
    policy = access_policy(("localhost",), ("loopback",))
    policy.host_allowed(text)
    policy.origin_allowed(text)
    policy.websocket_origin_allowed(text)
    host_name(text)
