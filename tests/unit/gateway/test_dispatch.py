"""The dispatcher keeps order, bounds batches, time and size, and turns whatever happens into an answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import orjson
import pytest

from astralink_node.chain.process_config import DEFAULT_QUERY_THREADS
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.dispatch import BATCH_CONCURRENCY, Dispatcher
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter, method_table
from astralink_node.gateway.parameters import quantity, text
from astralink_node.gateway.reading.errors import Unavailable
from astralink_node.gateway.rpc_errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    RESPONSE_TOO_LARGE,
    SERVER_ERROR,
    TIMEOUT,
    server_error,
)
from tests.support.asynchronous import run

NO_CONTEXT = cast(RpcContext, None)
"""The methods below use none."""

seen: list[str] = []


async def echo(context: RpcContext, value: str) -> Json:
    seen.append(value)
    return value


async def double(context: RpcContext, number: int, fallback: int) -> Json:
    return [2 * number, fallback]


async def long(context: RpcContext, size: int) -> Json:
    return "x" * size


async def forever(context: RpcContext) -> Json:
    await asyncio.Event().wait()
    return None


async def silent(context: RpcContext, value: str) -> Json:
    seen.append(value)
    await asyncio.Event().wait()
    return None


async def broken(context: RpcContext, value: str) -> Json:
    raise KeyError("a bug")


async def refused(context: RpcContext) -> Json:
    raise server_error("nonce too low")


async def away(context: RpcContext) -> Json:
    raise Unavailable("the execution process is temporarily unavailable")


TABLE = method_table(
    [
        (
            Method("echo", echo, (Parameter("value", text),)),
            Method("double", double, (Parameter("number", quantity), Parameter("fallback", quantity, 7))),
            Method("long", long, (Parameter("size", quantity),)),
            Method("forever", forever),
            Method("silent", silent, (Parameter("value", text),)),
            Method("broken", broken, (Parameter("value", text),)),
            Method("refused", refused),
            Method("away", away),
        )
    ]
)


def ask(message: object, **limits: int) -> Any:
    async def main() -> bytes | None:
        body = message if isinstance(message, bytes) else orjson.dumps(message)
        return await Dispatcher(TABLE, GatewayLimits(**limits)).answer(body, NO_CONTEXT)

    answer = run(main)
    return None if answer is None else orjson.loads(answer)


def call(method: str, *params: object, request_id: object = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}


def note(method: str, *params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": method, "params": list(params)}


def code(message: object, **limits: int) -> int:
    return cast(int, ask(message, **limits)["error"]["code"])


def test_a_result_comes_back_under_its_id() -> None:
    assert ask(call("echo", "a", request_id="x")) == {"jsonrpc": "2.0", "id": "x", "result": "a"}


def test_defaults_stand_for_missing_and_null_parameters() -> None:
    assert ask(call("double", "0x2"))["result"] == [4, 7]
    assert ask(call("double", "0x2", None))["result"] == [4, 7]
    assert ask(call("double", "0x2", "0x5"))["result"] == [4, 5]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ((), "missing value for required argument 0: number"),
        ((None,), "missing value for required argument 0: number"),
        (("0x1", "0x2", "0x3"), "too many arguments, want at most 2"),
        (("1",), "invalid argument 0: number: hex string without 0x prefix"),
        (("0x1", []), "invalid argument 1: fallback: expected a hex string, found []"),
    ],
)
def test_bad_parameters_are_named(params: tuple[object, ...], words: str) -> None:
    error = ask(call("double", *params))["error"]
    assert (error["code"], error["message"]) == (INVALID_PARAMS, words)


def test_an_unknown_method_is_not_found_and_its_name_cut() -> None:
    error = ask(call("eth_nothing"))["error"]
    assert (error["code"], error["message"]) == (
        METHOD_NOT_FOUND,
        "the method eth_nothing does not exist/is not available",
    )
    assert len(ask(call("x" * 10_000))["error"]["message"]) < 200


def test_errors_of_methods_keep_code_and_words() -> None:
    assert ask(call("refused"))["error"] == {"code": SERVER_ERROR, "message": "nonce too low"}
    assert "temporarily unavailable" in ask(call("away"))["error"]["message"]


def test_a_bug_is_an_internal_error_and_the_log_names_the_method_but_no_parameter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        assert ask(call("broken", "secret words"))["error"] == {"code": INTERNAL_ERROR, "message": "internal error"}
    assert "broken" in caplog.text
    assert "secret words" not in caplog.text


def test_a_request_that_takes_too_long_times_out() -> None:
    assert ask(call("forever"), request_timeout_ms=20)["error"] == {"code": TIMEOUT, "message": "request timed out"}


def test_notifications_run_and_get_no_answer() -> None:
    seen.clear()
    assert ask(note("echo", "quiet")) is None
    assert ask([note("echo", "one"), note("nothing"), note("broken", "x")]) is None
    assert seen == ["quiet", "one"]


def test_a_batch_is_answered_in_order_with_duplicate_ids_kept() -> None:
    answers = ask([call("echo", "a"), note("echo", "b"), 5, call("echo", "c"), call("nothing", request_id=2)])
    assert [answer["id"] for answer in answers] == [1, None, 1, 2]
    assert [answers[0]["result"], answers[2]["result"]] == ["a", "c"]
    assert answers[1]["error"]["code"] == INVALID_REQUEST


def test_calls_of_a_batch_start_in_order() -> None:
    seen.clear()
    words = [str(number) for number in range(100)]
    ask([call("echo", word) for word in words])
    assert seen == words


def test_one_slow_call_of_a_batch_does_not_take_the_others_down() -> None:
    answers = ask([call("echo", "a"), call("forever"), call("echo", "b")], request_timeout_ms=20)
    assert [answers[0].get("result"), answers[2].get("result")] == ["a", "b"]
    assert answers[1]["error"]["code"] == TIMEOUT


def test_a_batch_has_no_more_at_execution_than_that_has_threads() -> None:
    seen.clear()
    ask([call("silent", "begun")] * 100, request_timeout_ms=500)
    assert 0 < len(seen) <= DEFAULT_QUERY_THREADS


def test_a_call_of_a_batch_whose_time_is_over_does_not_start() -> None:
    seen.clear()
    answers = ask([call("forever")] * BATCH_CONCURRENCY + [call("echo", "late")], request_timeout_ms=20)
    assert answers[-1]["error"]["code"] == TIMEOUT
    assert seen == []


def test_an_empty_batch_and_one_too_large_are_invalid_requests() -> None:
    assert code([]) == INVALID_REQUEST
    assert code([call("echo", "a")] * 3, batch_items=2) == INVALID_REQUEST


def test_an_answer_too_large_becomes_an_error() -> None:
    assert code(call("long", "0x1000"), response_bytes=1000) == RESPONSE_TOO_LARGE
    answers = ask([call("long", "0x200"), call("long", "0x200"), call("echo", "a")], response_bytes=1000)
    assert "result" in answers[0]
    assert [answer["error"]["code"] for answer in answers[1:]] == [RESPONSE_TOO_LARGE] * 2


def test_more_requests_than_may_be_in_flight_are_told_to_come_back() -> None:
    async def main() -> None:
        dispatcher = Dispatcher(TABLE, GatewayLimits(requests_in_flight=2, request_timeout_ms=100))
        busy = [asyncio.create_task(dispatcher.answer(orjson.dumps(call("forever")), NO_CONTEXT)) for _ in range(2)]
        await asyncio.sleep(0)
        refusal = await dispatcher.answer(orjson.dumps(call("echo", "a", request_id=9)), NO_CONTEXT)
        assert refusal is not None
        assert orjson.loads(refusal)["error"]["code"] == LIMIT_EXCEEDED
        assert orjson.loads(refusal)["id"] == 9
        assert await dispatcher.answer(orjson.dumps(note("echo", "a")), NO_CONTEXT) is None
        await asyncio.gather(*busy)
        assert await dispatcher.answer(orjson.dumps(call("echo", "a")), NO_CONTEXT) is not None

    run(main)


def test_a_method_declared_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="echo is declared twice"):
        method_table([(Method("echo", echo),), (Method("echo", echo),)])
