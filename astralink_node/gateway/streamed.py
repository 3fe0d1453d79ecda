"""Results that come in pieces, and the JSON-RPC answers made of them.

Over HTTP, an answer to a single call is passed on as it comes. Its first megabyte is held back, so that whatever
fails early is an ordinary error. What fails later finds a part of the result with the client already: the open JSON
is then closed and an ``error`` member follows ``result``. Client libraries look for ``error`` first, so that none
takes the fragment for the whole. In a batch and over WebSocket, where one message is one answer, pieces are
collected up to the limit of answers.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import orjson

from astralink_node.chain.trace_messages import StreamChunk
from astralink_node.gateway.jsonrpc import RequestId, encode_error
from astralink_node.gateway.rpc_errors import RpcError, response_too_large

HELD_BACK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Streamed:
    """A result in pieces; who takes it reads it to its end or closes it."""

    chunks: AsyncGenerator[StreamChunk]


async def collected(streamed: Streamed, max_bytes: int) -> orjson.Fragment:
    """The whole result. Raises RESPONSE_TOO_LARGE, which ends the work for it, and what the pieces raise."""
    parts: list[bytes] = []
    size = 0
    async with aclosing(streamed.chunks) as chunks:
        async for chunk in chunks:
            size += len(chunk.data)
            if size > max_bytes:
                raise response_too_large(max_bytes)
            parts.append(chunk.data)
    return orjson.Fragment(b"".join(parts))


async def answer_in_parts(
    request_id: RequestId, streamed: Streamed, failure_of: Callable[[Exception], RpcError], max_bytes: int
) -> AsyncGenerator[bytes]:
    """The answer's JSON; one that was held back whole is one part. More than `max_bytes` of result are a failure."""
    held = [b'{"jsonrpc":"2.0","id":%b,"result":' % orjson.dumps(request_id)]
    held_bytes = sent_bytes = 0
    closing = b""
    try:
        async with aclosing(streamed.chunks) as chunks:
            async for chunk in chunks:
                held.append(chunk.data)
                held_bytes += len(chunk.data)
                closing = chunk.closing
                if sent_bytes + held_bytes > max_bytes:
                    raise response_too_large(max_bytes)
                if sent_bytes or held_bytes >= HELD_BACK_BYTES:
                    yield b"".join(held)
                    held.clear()
                    sent_bytes, held_bytes = sent_bytes + held_bytes, 0
    except Exception as error:  # noqa: BLE001 - failure_of words whatever a call may raise
        failure = failure_of(error)
        if not sent_bytes:
            yield encode_error(request_id, failure)
            return
        held.append(closing + b',"error":' + orjson.dumps(failure.to_json()))
    yield b"".join(held) + b"}"
