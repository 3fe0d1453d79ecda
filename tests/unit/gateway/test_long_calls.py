"""Calls that take long: answers part by part, places of their own, and work that ends when nobody wants it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import orjson
import pytest

from astralink_node.chain.trace_messages import StreamChunk
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.dispatch import Dispatcher
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method, Parameter, method_table
from astralink_node.gateway.parameters import quantity
from astralink_node.gateway.reading.errors import CallRefused
from astralink_node.gateway.rpc_errors import INTERNAL_ERROR, LIMIT_EXCEEDED, RESPONSE_TOO_LARGE, SERVER_ERROR
from astralink_node.gateway.streamed import HELD_BACK_BYTES, Streamed
from tests.support.asynchronous import run

NO_CONTEXT = cast(RpcContext, None)
PIECE = b"x" * 1000


class Work:
    """A method that lists so many strings, as slowly as the test lets it."""

    def __init__(self) -> None:
        self.running = 0
        self.most_running = 0
        self.runs = 0
        self.began = asyncio.Semaphore(0)
        self.closed = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.may_finish = asyncio.Event()

    async def held(self, context: RpcContext) -> Json:
        """Takes no place of those that take long."""
        self.began.release()
        await self.may_finish.wait()
        return "held"

    async def strings(self, context: RpcContext, count: int) -> Streamed:
        return Streamed(self._strings(count, None))

    async def strings_then_failure(self, context: RpcContext, count: int) -> Streamed:
        return Streamed(self._strings(count, CallRefused("timeout", "execution timeout")))

    async def strings_then_bug(self, context: RpcContext, count: int) -> Streamed:
        return Streamed(self._strings(count, KeyError("a bug")))

    async def whole(self, context: RpcContext, count: int) -> Json:
        self.running += 1
        self.runs += 1
        self.began.release()
        self.most_running = max(self.most_running, self.running)
        try:
            await self.may_go_on.wait()
        finally:
            self.running -= 1
        return "x" * count

    async def _strings(self, count: int, failure: Exception | None) -> AsyncGenerator[StreamChunk]:
        try:
            for number in range(count):
                await self.may_go_on.wait()
                start = b"," if number else b"["
                yield StreamChunk(start + b'"' + PIECE + b'"', b"]")
            if failure is not None:
                raise failure
            yield StreamChunk(b"]", b"")
        finally:
            self.closed += 1


async def short(context: RpcContext) -> Json:
    return "short"


def dispatcher(work: Work, **limits: int) -> Dispatcher:
    count = (Parameter("count", quantity),)
    methods = (
        Method("strings", work.strings, count, takes_long=True),
        Method("fail", work.strings_then_failure, count, takes_long=True),
        Method("bug", work.strings_then_bug, count, takes_long=True),
        Method("whole", work.whole, count, takes_long=True),
        Method("short", short),
        Method("held", work.held),
    )
    return Dispatcher(method_table([methods]), GatewayLimits(**limits))


def call(method: str, *params: object, request_id: object = 7) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}


async def parts_of(rpc: Dispatcher, message: object) -> list[bytes]:
    answer = await rpc.answer_in_parts(orjson.dumps(message), NO_CONTEXT)
    assert isinstance(answer, AsyncGenerator)
    return [part async for part in answer]


async def whole_of(rpc: Dispatcher, message: object) -> Any:
    answer = await rpc.answer(orjson.dumps(message), NO_CONTEXT)
    assert answer is not None
    return orjson.loads(answer)


def test_a_short_result_is_one_part() -> None:
    async def main() -> None:
        (part,) = await parts_of(dispatcher(Work()), call("strings", "0x3"))
        assert orjson.loads(part) == {"jsonrpc": "2.0", "id": 7, "result": [PIECE.decode()] * 3}

    run(main)


def test_a_long_result_comes_in_parts_after_the_first_megabyte() -> None:
    async def main() -> None:
        work = Work()
        parts = await parts_of(dispatcher(work, response_bytes=1000), call("strings", "0x1000"))
        assert HELD_BACK_BYTES <= len(parts[0]) < HELD_BACK_BYTES + 2000
        assert len(parts) > 1000
        assert len(orjson.loads(b"".join(parts))["result"]) == 0x1000
        assert work.closed == 1

    run(main)


def test_a_failure_before_the_first_megabyte_is_an_ordinary_error() -> None:
    async def main() -> None:
        (part,) = await parts_of(dispatcher(Work()), call("fail", "0x100"))
        error = {"code": SERVER_ERROR, "message": "execution timeout"}
        assert orjson.loads(part) == {"jsonrpc": "2.0", "id": 7, "error": error}

    run(main)


def test_a_failure_after_it_closes_the_json_and_adds_an_error() -> None:
    async def main() -> None:
        answer = orjson.loads(b"".join(await parts_of(dispatcher(Work()), call("fail", "0x1000"))))
        assert answer["error"] == {"code": SERVER_ERROR, "message": "execution timeout"}
        assert len(answer["result"]) == 0x1000
        answer = orjson.loads(b"".join(await parts_of(dispatcher(Work()), call("bug", "0x1000"))))
        assert answer["error"] == {"code": INTERNAL_ERROR, "message": "internal error"}

    run(main)


def test_a_streamed_result_has_a_bound_too() -> None:
    async def main() -> None:
        work = Work()
        parts = await parts_of(dispatcher(work, streamed_bytes=2 * HELD_BACK_BYTES), call("strings", "0x10000"))
        answer = orjson.loads(b"".join(parts))
        assert answer["error"]["code"] == RESPONSE_TOO_LARGE
        assert len(b"".join(parts)) < 2 * HELD_BACK_BYTES + 2000
        assert work.closed == 1

    run(main)


def test_whoever_cannot_take_parts_gets_the_whole_up_to_the_limit() -> None:
    async def main() -> None:
        work = Work()
        rpc = dispatcher(work, response_bytes=100_000)
        assert len((await whole_of(rpc, call("strings", "0x10")))["result"]) == 16
        assert (await whole_of(rpc, call("strings", "0x100")))["error"]["code"] == RESPONSE_TOO_LARGE
        found = await whole_of(rpc, [call("strings", "0x1"), call("strings", "0x100"), call("short")])
        assert len(found[0]["result"]) == 1
        assert found[1]["error"]["code"] == RESPONSE_TOO_LARGE
        assert work.closed == 4

    run(main)


def test_what_fails_before_it_runs_is_an_ordinary_error() -> None:
    async def main() -> None:
        rpc = dispatcher(Work())
        (part,) = await parts_of(rpc, call("strings"))
        assert "missing value" in orjson.loads(part)["error"]["message"]
        (part,) = await parts_of(dispatcher(Work(), response_bytes=100), call("whole", "0x100"))
        assert orjson.loads(part)["error"]["code"] == RESPONSE_TOO_LARGE

    run(main)


def test_closing_the_answer_ends_the_work() -> None:
    async def main() -> None:
        work = Work()
        answer = await dispatcher(work).answer_in_parts(orjson.dumps(call("strings", "0x10000")), NO_CONTEXT)
        assert isinstance(answer, AsyncGenerator)
        await anext(answer)
        await answer.aclose()
        assert work.closed == 1

    run(main)


def test_so_many_run_so_many_wait_and_more_are_refused() -> None:
    async def main() -> None:
        work = Work()
        work.may_go_on.clear()
        rpc = dispatcher(work, long_in_flight=2, long_waiting=3)
        accepted = [asyncio.create_task(whole_of(rpc, call("whole", "0x1"))) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        refused = await whole_of(rpc, call("whole", "0x1"))
        assert refused["error"]["code"] == LIMIT_EXCEEDED
        (part,) = await parts_of(rpc, call("whole", "0x1"))
        assert orjson.loads(part)["error"]["code"] == LIMIT_EXCEEDED
        refused_batch = await whole_of(rpc, [call("whole", "0x1"), call("short")])
        assert [each["error"]["code"] for each in refused_batch] == [LIMIT_EXCEEDED] * 2
        work.may_go_on.set()
        assert [each["result"] for each in await asyncio.gather(*accepted)] == ["x"] * 5
        assert work.most_running == 2
        assert (await whole_of(rpc, call("whole", "0x1")))["result"] == "x"

    run(main)


def test_long_calls_take_no_place_of_short_ones() -> None:
    async def main() -> None:
        work = Work()
        work.may_go_on.clear()
        rpc = dispatcher(work, requests_in_flight=1)
        long = [asyncio.create_task(whole_of(rpc, call("whole", "0x1"))) for _ in range(3)]
        await asyncio.sleep(0)
        assert (await whole_of(rpc, call("short")))["result"] == "short"
        work.may_go_on.set()
        await asyncio.gather(*long)

    run(main)


def test_a_notification_that_would_take_long_does_not_run() -> None:
    """Nothing reads what it finds, so that it would hold its place for nobody."""

    async def main() -> None:
        work = Work()
        served = dispatcher(work)
        notification = {"jsonrpc": "2.0", "method": "whole", "params": ["0x1"]}
        assert await served.answer_in_parts(orjson.dumps(notification), NO_CONTEXT) is None
        assert await served.answer(orjson.dumps([notification, notification]), NO_CONTEXT) is None
        mixed = [notification, {**notification, "id": 1}]
        answer = await served.answer(orjson.dumps(mixed), NO_CONTEXT)
        assert orjson.loads(answer or b"") == [{"jsonrpc": "2.0", "id": 1, "result": "x"}]
        assert work.runs == 1

    run(main)


@pytest.mark.parametrize(("calls", "running"), [(100, 2), (0, 1)], ids=["batch", "a call whose answer is to be whole"])
def test_whoever_closes_an_answer_that_comes_whole_ends_the_work_for_it(calls: int, running: int) -> None:
    async def main() -> None:
        work = Work()
        work.may_go_on.clear()
        call = {"jsonrpc": "2.0", "id": 1, "method": "whole", "params": ["0x1"]}
        body = orjson.dumps([call] * calls or call)
        parts = await dispatcher(work, long_in_flight=2).answer_in_parts(body, NO_CONTEXT, whole=True)
        assert isinstance(parts, AsyncGenerator)
        reading = asyncio.ensure_future(anext(parts))
        for _ in range(running):
            await work.began.acquire()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert (work.running, work.runs) == (0, running)

    run(main)


def test_a_stop_ends_what_takes_long_with_an_error_and_lets_the_rest_finish() -> None:
    """Whether it runs, waits for a place, or has begun to answer; what comes after it does not run."""

    async def main() -> None:
        work = Work()
        rpc = dispatcher(work, long_in_flight=3)
        streamed = await rpc.answer_in_parts(orjson.dumps(call("strings", "0x10000")), NO_CONTEXT)
        assert isinstance(streamed, AsyncGenerator)
        parts = [await anext(streamed)]
        work.may_go_on.clear()
        rest = asyncio.create_task(anext(streamed))
        messages = [call("whole", "0x1"), [call("whole", "0x1")], call("whole", "0x1")]
        others = [asyncio.create_task(whole_of(rpc, message)) for message in messages]
        waiting = asyncio.create_task(parts_of(rpc, call("whole", "0x1")))
        for _ in range(2):
            await work.began.acquire()
        held = asyncio.create_task(whole_of(rpc, call("held")))
        await work.began.acquire()
        stopping = asyncio.create_task(rpc.stop(60))
        single, (batched,), third = await asyncio.gather(*others)
        parts.append(await rest)
        (fourth,) = await waiting
        answers = [single, batched, third, orjson.loads(fourth), orjson.loads(b"".join(parts))]
        assert [each["error"] for each in answers] == [{"code": SERVER_ERROR, "message": "the node is stopping"}] * 5
        assert answers[4]["result"]
        assert not stopping.done()
        assert work.runs == 2
        work.may_finish.set()
        assert (await held)["result"] == "held"
        await stopping
        assert (await whole_of(rpc, call("whole", "0x1")))["error"]["message"] == "the node is stopping"
        assert work.runs == 2

    run(main)
