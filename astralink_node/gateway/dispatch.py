"""Runs calls against the method table: one message of bytes in, one answer of bytes out.

Knows no transport. Applies the limits on batches, time and answer size, and is the outermost frame of every
request: whatever a method raises ends here as a JSON-RPC error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, nullcontext
from functools import partial

from astralink_node.errors import AstraLinkError
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.deadlines import Deadlines
from astralink_node.gateway.jsonrpc import (
    Batch,
    Call,
    Json,
    Malformed,
    Single,
    encode_batch,
    encode_error,
    encode_result,
    parse_message,
)
from astralink_node.gateway.long_calls import LongCalls
from astralink_node.gateway.methods.table import Method, bind
from astralink_node.gateway.rate_limits import Allowance, TooManyRequests
from astralink_node.gateway.reading.errors import ReadError
from astralink_node.gateway.rpc_errors import (
    INTERNAL_ERROR,
    LIMIT_EXCEEDED,
    TIMEOUT,
    RpcError,
    method_not_found,
    of_read_error,
    response_too_large,
    too_many_requests,
)
from astralink_node.gateway.streamed import Streamed, answer_in_parts, collected

logger = logging.getLogger(__name__)

BATCH_CONCURRENCY = 16
"""Calls of one batch that run at once; they start in their order, so that transactions reach the pool in it."""
BATCH_QUERIES = 4
"""Of those, the ones that may ask the execution process: no more than that has threads for queries. Others then wait
for one query of a batch, not for many."""


class RateLimited(AstraLinkError):
    """A message beyond its sender's rate: what to answer, which nothing was done for, and when to come back."""

    def __init__(self, answer: bytes | None, retry_after_ms: int) -> None:
        super().__init__(f"come back in {retry_after_ms} ms")
        self.answer = answer
        self.retry_after_ms = retry_after_ms


class Dispatcher:
    def __init__(self, table: Mapping[str, Method], limits: GatewayLimits) -> None:
        self._table = table
        self._limits = limits
        self._in_flight = 0
        self._long_calls = LongCalls(limits)
        self._deadlines, self._long_deadlines = Deadlines(), Deadlines()

    async def stop(self, grace_s: float) -> None:
        """End what takes long with an error, at once, and after so many seconds the rest; until nothing runs."""
        await asyncio.gather(self._long_deadlines.stop(0), self._deadlines.stop(grace_s))

    async def answer(self, body: bytes, context: RpcContext, allowance: Allowance | None = None) -> bytes | None:
        """The answer to one message; None when it held only notifications. Raises RateLimited."""
        return await self._answer(self._admitted(body, allowance), context)

    async def answer_in_parts(
        self, body: bytes, context: RpcContext, allowance: Allowance | None = None, *, whole: bool = False
    ) -> bytes | AsyncGenerator[bytes] | None:
        """As :meth:`answer`; but of a message with calls that take long the answer comes as a generator.

        Closing the generator ends the work for it. What a single call gets comes in parts, as they are ready, unless it
        is to be `whole`.
        """
        message = self._admitted(body, allowance)
        match message:
            case Single(Call(is_notification=False) as call) if self._takes_long(call) and not whole:
                return self._answer_long(call, context)
            case _ if self._has_long(message):
                return self._answer_whole(message, context)
            case _:
                return await self._answer(message, context)

    def _admitted(self, body: bytes, allowance: Allowance | None) -> Single | Batch:
        """The message, if its sender may ask so much. Raises RateLimited."""
        message = parse_message(body, self._limits.batch_items)
        if allowance is not None:
            try:
                allowance.take(1 if isinstance(message, Single) else len(message.items))
            except TooManyRequests as error:
                refusal = too_many_requests(error.per_second, error.whose, error.retry_after_ms)
                raise RateLimited(_refuse(message, refusal), error.retry_after_ms) from error
        return message

    async def _answer(self, message: Single | Batch, context: RpcContext) -> bytes | None:
        if self._has_long(message):
            # It would hold a place of the others for too long.
            try:
                with self._long_calls.message():
                    return await self._answer_message(message, context)
            except RpcError as error:
                return _refuse(message, error)
        if self._in_flight >= self._limits.requests_in_flight:
            return _refuse(
                message, RpcError(LIMIT_EXCEEDED, "the node is busy: too many requests in flight; try again")
            )
        self._in_flight += 1
        try:
            return await self._answer_message(message, context)
        finally:
            self._in_flight -= 1

    async def _answer_message(self, message: Single | Batch, context: RpcContext) -> bytes | None:
        match message:
            case Single(item):
                return await self._answer_single(item, context)
            case Batch(items):
                return await self._answer_batch(items, context)

    async def _answer_whole(self, message: Single | Batch, context: RpcContext) -> AsyncGenerator[bytes]:
        answer = await self._answer(message, context)
        assert answer is not None, "one of its calls wants an answer"
        yield answer

    async def _answer_long(self, call: Call, context: RpcContext) -> AsyncGenerator[bytes]:
        max_bytes = self._limits.response_bytes
        try:
            with self._long_calls.message():
                async with self._long_deadlines.until(None):
                    await self._long_calls.place.acquire()
                try:
                    async with self._long_deadlines.until(self._deadline(call)):
                        result = await self._run(call, context)
                    if isinstance(result, Streamed):
                        streamed = Streamed(self._long_deadlines.each(result.chunks))
                        parts = answer_in_parts(call.id, streamed, partial(_failure, call), self._limits.streamed_bytes)
                        async with aclosing(parts):
                            async for part in parts:
                                yield part
                        return
                finally:
                    self._long_calls.place.release()
        except Exception as error:  # noqa: BLE001 - every request's outermost frame
            answer = encode_error(call.id, _failure(call, error))
        else:
            answer = encode_result(call.id, result)
            if len(answer) > max_bytes:
                answer = encode_error(call.id, response_too_large(max_bytes))
        yield answer

    async def _answer_single(self, item: Call | Malformed, context: RpcContext) -> bytes | None:
        answer = await self._answer_item(item, context, self._deadline(item))
        if answer is not None and len(answer) > self._limits.response_bytes:
            return encode_error(item.id, response_too_large(self._limits.response_bytes))
        return answer

    async def _answer_batch(self, items: Sequence[Call | Malformed], context: RpcContext) -> bytes | None:
        """The time limit covers the batch; calls that would make the answer too large get an error instead."""
        deadline = asyncio.get_running_loop().time() + self._limits.request_timeout_ms / 1000
        gate, queries = asyncio.Semaphore(BATCH_CONCURRENCY), asyncio.Semaphore(BATCH_QUERIES)
        size = 0

        async def run(item: Call | Malformed) -> bytes | None:
            nonlocal size
            async with gate, nullcontext() if self._submits(item) else queries:
                if size > self._limits.response_bytes:
                    return _unless_notification(item, response_too_large(self._limits.response_bytes))
                answer = await self._answer_item(item, context, deadline)
                if answer is None:
                    return None
                size += len(answer)
                if size > self._limits.response_bytes:
                    return encode_error(item.id, response_too_large(self._limits.response_bytes))
                return answer

        answers = await asyncio.gather(*(run(item) for item in items))
        given = [answer for answer in answers if answer is not None]
        return encode_batch(given) if given else None

    async def _answer_item(self, item: Call | Malformed, context: RpcContext, deadline: float) -> bytes | None:
        if isinstance(item, Malformed):
            return encode_error(item.id, item.error)
        if item.is_notification and self._takes_long(item):
            # It would run for nobody: what takes long has no effect but its answer.
            return None
        try:
            if self._takes_long(item):
                async with self._long_deadlines.until(deadline), self._long_calls.place:
                    result = await self._run_whole(item, context)
            else:
                async with self._deadlines.until(deadline):
                    result = await self._run_whole(item, context)
            return None if item.is_notification else encode_result(item.id, result)
        except Exception as error:  # noqa: BLE001 - every request's outermost frame
            return _unless_notification(item, _failure(item, error))

    async def _run(self, call: Call, context: RpcContext) -> Json | Streamed:
        method = self._table.get(call.method)
        if method is None:
            raise method_not_found(call.method)
        return await method.handler(context, *bind(method, call.params))

    async def _run_whole(self, call: Call, context: RpcContext) -> Json:
        result = await self._run(call, context)
        return await collected(result, self._limits.response_bytes) if isinstance(result, Streamed) else result

    def _has_long(self, message: Single | Batch) -> bool:
        """A call that takes long, and runs because somebody waits for its answer."""
        items = (message.item,) if isinstance(message, Single) else message.items
        return any(self._takes_long(item) and not _is_notification(item) for item in items)

    def _takes_long(self, item: Call | Malformed) -> bool:
        method = self._table.get(item.method) if isinstance(item, Call) else None
        return method is not None and method.takes_long

    def _submits(self, item: Call | Malformed) -> bool:
        method = self._table.get(item.method) if isinstance(item, Call) else None
        return method is not None and method.submits

    def _deadline(self, item: Call | Malformed) -> float:
        """Of a message with this one call."""
        limits = self._limits
        time_ms = limits.long_request_timeout_ms if self._takes_long(item) else limits.request_timeout_ms
        return asyncio.get_running_loop().time() + time_ms / 1000


def _failure(call: Call, error: Exception) -> RpcError:
    match error:
        case RpcError():
            return error
        case ReadError():
            return of_read_error(error)
        case TimeoutError():
            return RpcError(TIMEOUT, "request timed out")
        case _:
            # Parameters may hold what a user would not want in a log; the method's name and the trace do not.
            logger.error("method %s failed", call.method, exc_info=error)
            return RpcError(INTERNAL_ERROR, "internal error")


def _refuse(message: Single | Batch, error: RpcError) -> bytes | None:
    """The same error for each call that wants an answer."""
    items = (message.item,) if isinstance(message, Single) else message.items
    answers = [encode_error(item.id, error) for item in items if not _is_notification(item)]
    if not answers:
        return None
    return answers[0] if isinstance(message, Single) else encode_batch(answers)


def _is_notification(item: Call | Malformed) -> bool:
    return isinstance(item, Call) and item.is_notification


def _unless_notification(item: Call | Malformed, error: RpcError) -> bytes | None:
    return None if _is_notification(item) else encode_error(item.id, error)
