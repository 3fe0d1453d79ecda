"""Runs calls against the method table: one message of bytes in, one answer of bytes out.

Knows no transport. Applies the limits on batches, time and answer size, and is the outermost frame of every
request: whatever a method raises ends here as a JSON-RPC error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from astralink_node.gateway.backend import Unavailable
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.jsonrpc import (
    Batch,
    Call,
    Malformed,
    Single,
    encode_batch,
    encode_error,
    encode_result,
    parse_message,
)
from astralink_node.gateway.methods.table import Method, bind
from astralink_node.gateway.reading.errors import ReadError
from astralink_node.gateway.rpc_errors import (
    INTERNAL_ERROR,
    LIMIT_EXCEEDED,
    RESPONSE_TOO_LARGE,
    TIMEOUT,
    RpcError,
    method_not_found,
    of_read_error,
    server_error,
)

logger = logging.getLogger(__name__)

BATCH_CONCURRENCY = 16
"""Calls of one batch that run at once; they start in their order, so that transactions reach the pool in it."""


class Dispatcher:
    def __init__(self, table: Mapping[str, Method], limits: GatewayLimits) -> None:
        self._table = table
        self._limits = limits
        self._in_flight = 0

    async def answer(self, body: bytes, context: RpcContext) -> bytes | None:
        """The answer to one message; None when it held only notifications."""
        message = parse_message(body, self._limits.batch_items)
        if self._in_flight >= self._limits.requests_in_flight:
            return self._refuse_busy(message)
        self._in_flight += 1
        try:
            match message:
                case Single(item):
                    return await self._answer_single(item, context)
                case Batch(items):
                    return await self._answer_batch(items, context)
        finally:
            self._in_flight -= 1

    def _refuse_busy(self, message: Single | Batch) -> bytes | None:
        busy = RpcError(LIMIT_EXCEEDED, "the node is busy: too many requests in flight; try again")
        items = (message.item,) if isinstance(message, Single) else message.items
        answers = [
            encode_error(item.id, busy) for item in items if isinstance(item, Malformed) or not item.is_notification
        ]
        if not answers:
            return None
        return answers[0] if isinstance(message, Single) else encode_batch(answers)

    async def _answer_single(self, item: Call | Malformed, context: RpcContext) -> bytes | None:
        deadline = asyncio.get_running_loop().time() + self._limits.request_timeout_ms / 1000
        answer = await self._answer_item(item, context, deadline)
        if answer is not None and len(answer) > self._limits.response_bytes:
            return encode_error(item.id, _response_too_large(self._limits.response_bytes))
        return answer

    async def _answer_batch(self, items: Sequence[Call | Malformed], context: RpcContext) -> bytes | None:
        """The time limit covers the batch; calls that would make the answer too large get an error instead."""
        deadline = asyncio.get_running_loop().time() + self._limits.request_timeout_ms / 1000
        gate = asyncio.Semaphore(BATCH_CONCURRENCY)
        size = 0

        async def run(item: Call | Malformed) -> bytes | None:
            nonlocal size
            async with gate:
                if size > self._limits.response_bytes:
                    return _unless_notification(item, _response_too_large(self._limits.response_bytes))
                answer = await self._answer_item(item, context, deadline)
                if answer is None:
                    return None
                size += len(answer)
                if size > self._limits.response_bytes:
                    return encode_error(item.id, _response_too_large(self._limits.response_bytes))
                return answer

        answers = await asyncio.gather(*(run(item) for item in items))
        given = [answer for answer in answers if answer is not None]
        return encode_batch(given) if given else None

    async def _answer_item(self, item: Call | Malformed, context: RpcContext, deadline: float) -> bytes | None:
        if isinstance(item, Malformed):
            return encode_error(item.id, item.error)
        try:
            async with asyncio.timeout_at(deadline):
                method = self._table.get(item.method)
                if method is None:
                    raise method_not_found(item.method)
                result = await method.handler(context, *bind(method, item.params))
            return None if item.is_notification else encode_result(item.id, result)
        except RpcError as error:
            failure = error
        except ReadError as error:
            failure = of_read_error(error)
        except Unavailable as error:
            failure = server_error(str(error))
        except TimeoutError:
            failure = RpcError(TIMEOUT, "request timed out")
        except Exception:
            # Parameters may hold what a user would not want in a log; the method's name and the trace do not.
            logger.exception("method %s failed", item.method)
            failure = RpcError(INTERNAL_ERROR, "internal error")
        return _unless_notification(item, failure)


def _unless_notification(item: Call | Malformed, error: RpcError) -> bytes | None:
    if isinstance(item, Call) and item.is_notification:
        return None
    return encode_error(item.id, error)


def _response_too_large(limit: int) -> RpcError:
    return RpcError(RESPONSE_TOO_LARGE, f"response too large: more than {limit} bytes")
