"""JSON-RPC 2.0 between bytes and values: parse a request or a batch, encode answers and notifications.

Sans-IO: knows neither HTTP nor WebSocket, neither methods nor their parameters. It follows
https://www.jsonrpc.org/specification, and geth where that leaves room: parameters by position only; of a name that
comes twice the last one counts; an answer's id is the request's wherever that could be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from astralink_node.gateway.rpc_errors import INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, RpcError

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | orjson.Fragment
"""What a result is made of. A fragment is JSON that was encoded before, for a block that many clients ask for."""

RequestId = None | int | float | str

MAX_ID_LENGTH = 1024
"""Of a text. An id is said again in every answer, and nobody needs a longer one."""
_ID_TYPES = (str, int, float, type(None))
_SAFE_ID_BOUND = 2**63
"""Beyond it the parser keeps a number only as a float, and echoing that would name another request."""


@dataclass(frozen=True, slots=True)
class Call:
    """A well-formed request; a notification gets no answer, not even an error."""

    id: RequestId
    method: str
    params: Sequence[object]
    is_notification: bool


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something that is no request; it is answered with its error all the same."""

    id: RequestId
    error: RpcError


@dataclass(frozen=True, slots=True)
class Single:
    item: Call | Malformed


@dataclass(frozen=True, slots=True)
class Batch:
    items: tuple[Call | Malformed, ...]


def parse_message(body: bytes, max_batch_items: int) -> Single | Batch:
    """Read one message. Never raises: what cannot be read comes back as :class:`Malformed`."""
    try:
        # orjson refuses invalid UTF-8, lone surrogates, NaN, and nesting deeper than 1024.
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return Single(Malformed(None, RpcError(PARSE_ERROR, f"parse error: {error.msg}")))
    if not isinstance(message, list):
        return Single(_parse_item(message))
    if not message:
        return Single(Malformed(None, RpcError(INVALID_REQUEST, "empty batch")))
    if len(message) > max_batch_items:
        return Single(Malformed(None, RpcError(INVALID_REQUEST, f"batch too large: more than {max_batch_items} calls")))
    return Batch(tuple(_parse_item(item) for item in message))


def _parse_item(item: object) -> Call | Malformed:
    if not isinstance(item, dict):
        return Malformed(None, RpcError(INVALID_REQUEST, "invalid request: expected an object"))
    request_id = item.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, _ID_TYPES):
        return Malformed(None, RpcError(INVALID_REQUEST, "invalid request: id must be a string, a number or null"))
    if isinstance(request_id, float) and abs(request_id) >= _SAFE_ID_BOUND:
        return Malformed(None, RpcError(INVALID_REQUEST, "invalid request: id is a number of more than 64 bits"))
    if isinstance(request_id, str) and len(request_id) > MAX_ID_LENGTH:
        return Malformed(
            None, RpcError(INVALID_REQUEST, f"invalid request: id is longer than {MAX_ID_LENGTH} characters")
        )
    if item.get("jsonrpc") != "2.0":
        return Malformed(request_id, RpcError(INVALID_REQUEST, 'invalid request: "jsonrpc" must be "2.0"'))
    method = item.get("method")
    if not isinstance(method, str) or not method:
        return Malformed(request_id, RpcError(INVALID_REQUEST, 'invalid request: "method" must be a string'))
    params = item.get("params")
    if params is None:
        params = []
    if not isinstance(params, list):
        if "id" in item:
            return Malformed(request_id, RpcError(INVALID_PARAMS, "non-array args: params must be an array"))
        params = []
    return Call(request_id, method, params, is_notification="id" not in item)


def encode_result(request_id: RequestId, result: Json) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "result": result})


def encode_error(request_id: RequestId, error: RpcError) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": request_id, "error": error.to_json()})


def encode_batch(answers: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(answers) + b"]"


def notification_around() -> tuple[bytes, bytes, bytes]:
    """geth's ``eth_subscription`` notification: before the subscription's id, before the result (JSON), after it."""
    return (
        b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"',
        b'","result":',
        b"}}",
    )
