"""JSON-RPC 2.0 to the letter, over HTTP and over WebSocket, asked of a real gateway process.

The table has the specification's own examples (section 7), with this node's methods in the place of `subtract`, and
its edge cases. docs/rpc.md ("Messages") says the same in words.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.jsonrpc import MAX_ID_LENGTH
from astralink_node.gateway.rpc_errors import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR
from tests.support.asynchronous import run
from tests.support.gateway_processes import GatewayProcess, running_gateway
from tests.support.gateways import ALICE, CHAIN_ID, hexed

CHAIN = hex(CHAIN_ID)
KECCAK_OF_NOTHING = "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


@dataclass(frozen=True)
class Result:
    id: Any
    result: Any = CHAIN


@dataclass(frozen=True)
class Error:
    id: Any
    code: int
    words: str = ""


Expected = Result | Error | list[Result | Error] | None
"""None: no answer at all."""


def call(request_id: object = 1, method: str = "eth_chainId", params: object = None, **members: object) -> bytes:
    message: dict[str, object] = {"jsonrpc": "2.0", "id": request_id, "method": method}
    if params is not None:
        message["params"] = params
    return orjson.dumps(message | members)


def batch(*items: bytes) -> bytes:
    return b"[" + b",".join(items) + b"]"


NOTE = b'{"jsonrpc":"2.0","method":"eth_chainId"}'
BALANCE_OF_NOBODY = call(1, "eth_getBalance", [])

CASES: dict[str, tuple[bytes, Expected]] = {
    # --- The specification's examples ------------------------------------------------------------------------
    "positional parameters": (call(1, "web3_sha3", ["0x"]), Result(1, KECCAK_OF_NOTHING)),
    "positional parameters, another id": (call(2, "web3_sha3", ["0x"]), Result(2, KECCAK_OF_NOTHING)),
    "named parameters": (call(3, "web3_sha3", {"data": "0x"}), Error(3, INVALID_PARAMS, "non-array args")),
    "a notification": (b'{"jsonrpc":"2.0","method":"web3_sha3","params":["0x"]}', None),
    "a notification of an unknown method": (b'{"jsonrpc": "2.0", "method": "foobar"}', None),
    "a call of an unknown method": (
        b'{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
        Error("1", METHOD_NOT_FOUND, "the method foobar does not exist/is not available"),
    ),
    "invalid JSON": (b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', Error(None, PARSE_ERROR)),
    "no request object": (b'{"jsonrpc": "2.0", "method": 1, "params": "bar"}', Error(None, INVALID_REQUEST)),
    "a batch of invalid JSON": (
        b'[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]',
        Error(None, PARSE_ERROR),
    ),
    "an empty array": (b"[]", Error(None, INVALID_REQUEST, "empty batch")),
    "an invalid batch": (b"[1]", [Error(None, INVALID_REQUEST)]),
    "an invalid batch of three": (b"[1,2,3]", [Error(None, INVALID_REQUEST)] * 3),
    "a batch of everything": (
        batch(
            call("1", "web3_sha3", ["0x"]),
            b'{"jsonrpc": "2.0", "method": "eth_chainId", "params": []}',
            call("2"),
            b'{"foo": "boo"}',
            call("5", "foo.get", {"name": "myself"}),
            call("9", "net_version"),
        ),
        [
            Result("1", KECCAK_OF_NOTHING),
            Result("2"),
            Error(None, INVALID_REQUEST),
            Error("5", INVALID_PARAMS),
            Result("9", str(CHAIN_ID)),
        ],
    ),
    "a batch of notifications": (batch(NOTE, NOTE), None),
    # --- Versions and members --------------------------------------------------------------------------------
    "version 1.0": (call(1, jsonrpc="1.0"), Error(1, INVALID_REQUEST, '"jsonrpc" must be "2.0"')),
    "version as a number": (b'{"jsonrpc":2.0,"id":1,"method":"eth_chainId"}', Error(1, INVALID_REQUEST)),
    "no version": (b'{"id":1,"method":"eth_chainId"}', Error(1, INVALID_REQUEST)),
    "no version and no id": (b'{"method":"eth_chainId"}', Error(None, INVALID_REQUEST)),
    "no method": (b'{"jsonrpc":"2.0","id":1}', Error(1, INVALID_REQUEST)),
    "an empty method": (call(1, ""), Error(1, INVALID_REQUEST)),
    "a method that is null": (b'{"jsonrpc":"2.0","id":1,"method":null}', Error(1, INVALID_REQUEST)),
    "a response instead of a request": (b'{"jsonrpc":"2.0","id":1,"result":"0x1"}', Error(1, INVALID_REQUEST)),
    "members that nobody knows": (call(1, comment="?", meta={"a": [1]}), Result(1)),
    "a member in other letters": (b'{"jsonrpc":"2.0","ID":1,"Method":"eth_chainId"}', Error(None, INVALID_REQUEST)),
    "an id twice": (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"eth_chainId"}', Result(2)),
    "a method twice": (b'{"jsonrpc":"2.0","id":1,"method":"foobar","method":"eth_chainId"}', Result(1)),
    "space around": (b" \r\n\t" + call() + b"\n\n ", Result(1)),
    "escapes": (b'{"jsonrpc":"2.0","id":"\\u00e9\\n","method":"eth\\u005fchainId"}', Result("é\n")),
    # --- Ids -------------------------------------------------------------------------------------------------
    "id null": (call(None), Result(None)),
    "id 0": (call(0), Result(0)),
    "a negative id": (call(-7), Result(-7)),
    "a fractional id": (call(1.5), Result(1.5)),
    "an empty text for an id": (call(""), Result("")),
    "id 2^53 + 1, which is no float": (call(2**53 + 1), Result(2**53 + 1)),
    "the largest id": (call(2**64 - 1), Result(2**64 - 1)),
    "an id beyond 64 bits": (
        b'{"jsonrpc":"2.0","id":18446744073709551616,"method":"eth_chainId"}',
        Error(None, INVALID_REQUEST, "more than 64 bits"),
    ),
    "an id of 1000 digits": (
        b'{"jsonrpc":"2.0","id":' + b"9" * 1000 + b',"method":"eth_chainId"}',
        Error(None, PARSE_ERROR),
    ),
    "an id that is true": (call(True), Error(None, INVALID_REQUEST, "id must be")),
    "an id that is an array": (call([1]), Error(None, INVALID_REQUEST)),
    "an id that is an object": (call({}), Error(None, INVALID_REQUEST)),
    "the longest id": (call("x" * MAX_ID_LENGTH), Result("x" * MAX_ID_LENGTH)),
    "an id that is too long": (call("x" * (MAX_ID_LENGTH + 1)), Error(None, INVALID_REQUEST, "longer than 1024")),
    "an id of a megabyte": (call("x" * 1_000_000), Error(None, INVALID_REQUEST, "longer than 1024")),
    # --- Parameters ------------------------------------------------------------------------------------------
    "no parameters": (call(1, params=[]), Result(1)),
    "parameters that are null": (b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":null}', Result(1)),
    "parameters that are a text": (call(1, params="0x"), Error(1, INVALID_PARAMS, "non-array args")),
    "a missing parameter": (
        call(1, "web3_sha3", []),
        Error(1, INVALID_PARAMS, "missing value for required argument 0: data"),
    ),
    "a required parameter that is null": (call(1, "web3_sha3", [None]), Error(1, INVALID_PARAMS, "argument 0")),
    "an optional parameter left out": (call(1, "eth_getCode", [hexed(ALICE.address)]), Result(1, "0x")),
    "an optional parameter that is null": (call(1, "eth_getCode", [hexed(ALICE.address), None]), Result(1, "0x")),
    "too many parameters": (call(1, params=[1]), Error(1, INVALID_PARAMS, "too many arguments, want at most 0")),
    "a wrong parameter": (call(1, "web3_sha3", [5]), Error(1, INVALID_PARAMS, "invalid argument 0: data")),
    "named parameters in a notification": (b'{"jsonrpc":"2.0","method":"web3_sha3","params":{"data":"0x"}}', None),
    # --- Bytes -----------------------------------------------------------------------------------------------
    "nothing": (b"", Error(None, PARSE_ERROR)),
    "one brace": (b"{", Error(None, PARSE_ERROR)),
    "a number": (b"5", Error(None, INVALID_REQUEST)),
    "a text": (b'"eth_chainId"', Error(None, INVALID_REQUEST)),
    "null": (b"null", Error(None, INVALID_REQUEST)),
    "an empty object": (b"{}", Error(None, INVALID_REQUEST)),
    "trailing garbage": (call() + b"x", Error(None, PARSE_ERROR)),
    "two messages": (call(1) + call(2), Error(None, PARSE_ERROR)),
    "a trailing comma": (b"[" + call() + b",]", Error(None, PARSE_ERROR)),
    "NUL after it": (call() + b"\0", Error(None, PARSE_ERROR)),
    "NUL in a text": (b'{"jsonrpc":"2.0","id":1,"method":"eth_\0chainId"}', Error(None, PARSE_ERROR)),
    "NUL escaped": (b'{"jsonrpc":"2.0","id":1,"method":"eth_\\u0000chainId"}', Error(1, METHOD_NOT_FOUND)),
    "a byte-order mark": (b"\xef\xbb\xbf" + call(), Error(None, PARSE_ERROR)),
    "a lone surrogate": (b'{"jsonrpc":"2.0","id":"\\ud800","method":"eth_chainId"}', Error(None, PARSE_ERROR)),
    "not a number": (b'{"jsonrpc":"2.0","id":NaN,"method":"eth_chainId"}', Error(None, PARSE_ERROR)),
    "a number beyond floats": (b'{"jsonrpc":"2.0","id":1e999,"method":"eth_chainId"}', Error(None, PARSE_ERROR)),
    "1,000 levels deep": (
        b'{"jsonrpc":"2.0","id":1,"method":"web3_sha3","params":[' + b"[" * 1000 + b"]" * 1000 + b"]}",
        Error(1, INVALID_PARAMS, "invalid argument 0: data"),
    ),
    "100,000 levels deep": (b"[" * 100_000 + b"]" * 100_000, Error(None, PARSE_ERROR)),
    "100,000 objects deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, Error(None, PARSE_ERROR)),
    # --- Batches ---------------------------------------------------------------------------------------------
    "a batch of one": (batch(call()), [Result(1)]),
    "a batch with the same id twice": (batch(call(1), call(1, "net_version")), [Result(1), Result(1, str(CHAIN_ID))]),
    "a batch with a notification": (batch(NOTE, call(2), NOTE), [Result(2)]),
    "a batch of notifications and rubbish": (batch(NOTE, b"5"), [Error(None, INVALID_REQUEST)]),
    "a batch within a batch": (batch(batch(call())), [Error(None, INVALID_REQUEST)]),
    "a batch with errors": (
        batch(call(1), BALANCE_OF_NOBODY, call(3, "foobar"), call(4)),
        [Result(1), Error(1, INVALID_PARAMS), Error(3, METHOD_NOT_FOUND), Result(4)],
    ),
    "the largest batch": (batch(*[call(number) for number in range(50)]), [Result(number) for number in range(50)]),
    "a batch that is too large": (batch(*[call()] * 51), Error(None, INVALID_REQUEST, "more than 50 calls")),
}
OVER_HTTP_ALONE: dict[str, tuple[bytes, Expected]] = {
    "invalid UTF-8": (b'{"jsonrpc":"2.0","id":"\xc3\x28","method":"eth_chainId"}', Error(None, PARSE_ERROR)),
    "a subscription": (
        call(1, "eth_subscribe", ["newHeads"]),
        Error(1, METHOD_NOT_FOUND, "notifications not supported"),
    ),
}
"""A WebSocket closes for invalid UTF-8 (RFC 6455, 8.1), and has subscriptions."""

LIMITS = GatewayLimits(batch_items=50)


def departures(expected: Expected, answer: Any) -> list[str]:
    """How an answer differs from what is expected."""
    if expected is None:
        return [] if answer is None else [f"expected no answer, found {answer}"]
    if isinstance(expected, list):
        if not isinstance(answer, list) or len(answer) != len(expected):
            return [f"expected {len(expected)} answers, found {answer}"]
        return [found for each, item in zip(expected, answer, strict=True) for found in departures(each, item)]
    if not isinstance(answer, dict) or answer.get("jsonrpc") != "2.0":
        return [f"expected one answer of version 2.0, found {answer}"]
    if type(answer.get("id")) is not type(expected.id) or answer["id"] != expected.id:
        return [f"expected id {expected.id!r}, found {answer}"]
    if isinstance(expected, Result):
        wanted = {"jsonrpc": "2.0", "id": expected.id, "result": expected.result}
        return [] if answer == wanted else [f"expected {wanted}, found {answer}"]
    error = answer.get("error", {})
    if set(answer) != {"jsonrpc", "id", "error"} or error.get("code") != expected.code:
        return [f"expected code {expected.code}, found {answer}"]
    return [] if expected.words in error["message"] else [f"expected {expected.words!r}, found {error}"]


def test_the_table_over_http(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path, limits=LIMITS) as gateway:
            wrong = {}
            for name, (body, expected) in {**CASES, **OVER_HTTP_ALONE}.items():
                response = await gateway.request(body)
                found = departures(expected, response.json() if response.body else None)
                if response.status != (204 if expected is None else 200):
                    found.append(f"status {response.status}")
                if found:
                    wrong[name] = found
            assert not wrong
            await log_is_clean(gateway)

    run(main, timeout_s=60)


def test_the_table_over_websocket(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running_gateway(tmp_path, limits=LIMITS) as gateway,
            connect(f"ws://{gateway.host}:{gateway.port}", max_size=None) as socket,
        ):
            wrong = {}
            for name, (body, expected) in CASES.items():
                for kind in ("text", "binary"):
                    found = departures(
                        expected, await exchange(socket, body, answers=expected is not None, as_text=kind == "text")
                    )
                    if found:
                        wrong[f"{name}, {kind}"] = found
            assert not wrong
            invalid, expected = OVER_HTTP_ALONE["invalid UTF-8"]
            assert departures(expected, await exchange(socket, invalid, answers=True, as_text=False)) == []
            await log_is_clean(gateway)

    run(main, timeout_s=60)


async def exchange(socket: ClientConnection, body: bytes, *, answers: bool, as_text: bool) -> Any:
    """The answer; None when nothing but that of a later question comes. A batch's may come after a later call's."""
    await socket.send(body, text=as_text)
    await socket.send(call("later"), text=as_text)
    found = [orjson.loads(await socket.recv()) for _ in range(2 if answers else 1)]
    others = [each for each in found if not (isinstance(each, dict) and each["id"] == "later")]
    assert len(others) == len(found) - 1
    return others[0] if others else None


async def log_is_clean(gateway: GatewayProcess) -> None:
    gateway.process.terminate()
    _, log = await gateway.process.communicate()
    assert b"Traceback" not in log
    assert b"ERROR" not in log


def test_a_message_is_one_answer_however_many_fragments_it_comes_in(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running_gateway(tmp_path) as gateway,
            connect(f"ws://{gateway.host}:{gateway.port}") as socket,
        ):
            body = call("in pieces").decode()
            await socket.send([body[at : at + 3] for at in range(0, len(body), 3)])
            pong = await socket.ping(b"between")
            await pong
            assert orjson.loads(await socket.recv()) == {"jsonrpc": "2.0", "id": "in pieces", "result": CHAIN}

    run(main, timeout_s=60)


def test_a_text_message_that_is_no_utf_8_closes_the_connection_and_nothing_is_logged(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            running_gateway(tmp_path) as gateway,
            connect(f"ws://{gateway.host}:{gateway.port}") as socket,
        ):
            await socket.send(OVER_HTTP_ALONE["invalid UTF-8"][0], text=True)
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1007
            await log_is_clean(gateway)

    run(main, timeout_s=60)


def test_packed_bodies_are_refused_with_an_error_that_says_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            for coding, body in (("gzip", gzip.compress(call())), ("br", b"\x0b"), ("deflate, gzip", b"\x78")):
                response = await gateway.request(body, content_encoding=coding)
                assert (response.status, response.headers["accept-encoding"]) == (415, "identity")
                assert departures(Error(None, INVALID_REQUEST, "is not supported"), response.json()) == []
            assert (await gateway.request(call(), content_encoding="identity")).json()["result"] == CHAIN
            await log_is_clean(gateway)

    run(main, timeout_s=60)


def test_a_body_of_8_megabytes_is_refused_with_an_error_that_clients_can_read(tmp_path: Path) -> None:
    big = call("x" * 8_000_000)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (big[:5_000_000], big[5_000_000:])) + b"0\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    ways = {
        "announced": head + b"content-length: %d\r\n\r\n" % len(big) + big,
        "chunked": head + b"transfer-encoding: chunked\r\n\r\n" + chunks,
    }

    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            for way, data in ways.items():
                answer = await gateway.raw(data)
                status, _, body = answer.partition(b"\r\n\r\n")
                assert status.startswith(b"HTTP/1.1 413"), way
                assert b"content-type: application/json" in status
                found = orjson.loads(body)
                assert departures(Error(None, INVALID_REQUEST, "more than 5242880 bytes"), found) == [], way
            without_length = await gateway.raw(head + b"connection: close\r\n\r\n" + call())
            assert b"parse error" in without_length, "HTTP/1.1 has no body without a length"
            await log_is_clean(gateway)

    run(main, timeout_s=60)
