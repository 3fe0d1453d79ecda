"""The sans-IO core reads requests and batches, and names what is wrong with the rest."""

import orjson
import pytest

from astralink_node.gateway.jsonrpc import (
    Batch,
    Call,
    Malformed,
    Single,
    encode_error,
    encode_result,
    parse_message,
)
from astralink_node.gateway.rpc_errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, RpcError

LIMIT = 10


def single(body: bytes) -> Call | Malformed:
    message = parse_message(body, LIMIT)
    assert isinstance(message, Single)
    return message.item


def malformed(body: bytes) -> Malformed:
    item = single(body)
    assert isinstance(item, Malformed)
    return item


def test_a_call_is_read() -> None:
    item = single(b'{"jsonrpc":"2.0","id":7,"method":"eth_call","params":[1,"a",null]}')
    assert item == Call(7, "eth_call", [1, "a", None], is_notification=False)


@pytest.mark.parametrize("request_id", [b"1", b"-5", b"1.5", b'"x"', b"null", b"9007199254740993", b'""'])
def test_an_id_comes_back_as_it_was_given(request_id: bytes) -> None:
    item = single(b'{"jsonrpc":"2.0","id":%b,"method":"m"}' % request_id)
    assert isinstance(item, Call)
    assert b'"id":%b,' % request_id in encode_result(item.id, None)


def test_missing_and_null_params_are_no_params() -> None:
    for params in (b"", b',"params":null', b',"params":[]'):
        item = single(b'{"jsonrpc":"2.0","id":1,"method":"m"%b}' % params)
        assert isinstance(item, Call)
        assert item.params == []


def test_a_request_without_id_is_a_notification() -> None:
    item = single(b'{"jsonrpc":"2.0","method":"m"}')
    assert isinstance(item, Call)
    assert item.is_notification
    with_null = single(b'{"jsonrpc":"2.0","id":null,"method":"m"}')
    assert isinstance(with_null, Call)
    assert not with_null.is_notification


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"a":1',
        b"\xff\xfe",
        b'{"id":"\xc3\x28"}',
        b'"\\ud800"',
        b"[" * 5000,
        b"NaN",
        b'{"id":1e999}',
    ],
)
def test_what_is_not_json_is_a_parse_error_with_null_id(body: bytes) -> None:
    item = malformed(body)
    assert item.error.code == PARSE_ERROR
    assert item.id is None


def test_deep_nesting_within_params_is_a_parse_error() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"m","params":' + b"[" * 2000 + b"]" * 2000 + b"}"
    assert malformed(body).error.code == PARSE_ERROR


@pytest.mark.parametrize(
    "body",
    [
        b"1",
        b"null",
        b'"eth_call"',
        b"{}",
        b'{"jsonrpc":"1.0","id":1,"method":"m"}',
        b'{"id":1,"method":"m"}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":1,"method":5}',
        b'{"jsonrpc":"2.0","id":1,"method":""}',
        b'{"jsonrpc":"2.0","id":[1],"method":"m"}',
        b'{"jsonrpc":"2.0","id":{},"method":"m"}',
        b'{"jsonrpc":"2.0","id":true,"method":"m"}',
        b'{"jsonrpc":"2.0","id":1,"result":"0x1"}',
        b'{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"m"}',
    ],
)
def test_json_that_is_no_request_is_an_invalid_request(body: bytes) -> None:
    assert malformed(body).error.code == INVALID_REQUEST


def test_params_by_name_are_refused() -> None:
    item = malformed(b'{"jsonrpc":"2.0","id":3,"method":"m","params":{"a":1}}')
    assert item.error.code == INVALID_PARAMS
    assert item.id == 3


def test_an_empty_batch_is_one_invalid_request() -> None:
    assert malformed(b"[]").error.code == INVALID_REQUEST


def test_a_batch_keeps_its_order_and_its_malformed_items() -> None:
    message = parse_message(b'[{"jsonrpc":"2.0","id":1,"method":"a"},5,{"jsonrpc":"2.0","id":1,"method":"b"}]', LIMIT)
    assert isinstance(message, Batch)
    first, second, third = message.items
    assert isinstance(first, Call)
    assert isinstance(second, Malformed)
    assert isinstance(third, Call)
    assert (first.method, third.method) == ("a", "b")


def test_a_batch_above_the_limit_is_refused_whole() -> None:
    call = b'{"jsonrpc":"2.0","id":1,"method":"m"}'
    assert isinstance(parse_message(b"[" + b",".join([call] * LIMIT) + b"]", LIMIT), Batch)
    assert malformed(b"[" + b",".join([call] * (LIMIT + 1)) + b"]").error.code == INVALID_REQUEST


def test_errors_carry_data_only_when_there_is_some() -> None:
    assert orjson.loads(encode_error("x", RpcError(3, "execution reverted", "0x12"))) == {
        "jsonrpc": "2.0",
        "id": "x",
        "error": {"code": 3, "message": "execution reverted", "data": "0x12"},
    }
    assert "data" not in orjson.loads(encode_error(1, RpcError(-32000, "no")))["error"]
