"""Where readings come from: the head cache, the execution process, the node. The one place that sends questions;
transactions are handed over by gateway.submission.

Answers that mean failure become :class:`ReadError` here, whoever asked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.index_messages import IndexIncomplete
from astralink_node.chain.messages import (
    Answer,
    AtHash,
    AtHeight,
    AtLatest,
    AtPending,
    BlockSelector,
    HistoryUnavailable,
    LimitExceeded,
    NotFound,
    Query,
    Question,
)
from astralink_node.chain.trace_messages import LongQuestion, StreamEnd, TraceTransaction
from astralink_node.gateway.backend import Backend
from astralink_node.gateway.link_messages import LinkFailed, Request
from astralink_node.gateway.reading.errors import (
    CallHalted,
    CallRefused,
    CallReverted,
    IndexGap,
    NotAnswered,
    ReadError,
    StateUnavailable,
    TooMuch,
    Unavailable,
    UnknownBlock,
    UnknownTransaction,
)
from astralink_node.gateway.reading.head_cache import HeadCache

Expected = TypeVar("Expected")


class Source:
    """What every part of a :class:`~astralink_node.gateway.reading.reader.Reader` asks through."""

    def __init__(self, backend: Backend, heads: HeadCache) -> None:
        self._backend = backend
        self.heads = heads

    async def ask(self, at: BlockSelector, question: Question, expected: type[Expected]) -> Expected:
        """The answer of the kind that belongs to the question. Raises ReadError."""
        if self.beyond_head(at):
            raise UnknownBlock(by_hash=False)
        answer = await self._backend.query(Query(at, question))
        if isinstance(answer, expected):
            return answer
        raise _failure(answer, at)

    async def find(self, at: BlockSelector, question: Question, expected: type[Expected]) -> Expected | None:
        """As :meth:`ask`, with None for a block or transaction that does not exist."""
        answer = await self._backend.query(Query(at, question))
        if isinstance(answer, expected):
            return answer
        if isinstance(answer, NotFound):
            return None
        raise _failure(answer, at)

    async def parts(
        self, at: BlockSelector, question: LongQuestion, expected: type[Expected]
    ) -> AsyncGenerator[Expected]:
        """The parts of an answer, all of one kind, as they come. Raises as :meth:`ask` does, at any point.

        Closing the generator ends the work for it.
        """
        if self.beyond_head(at):
            raise UnknownBlock(by_hash=False)
        async with aclosing(self._backend.stream(Query(at, question))) as answers:
            async for answer in answers:
                if isinstance(answer, expected):
                    yield answer
                elif isinstance(answer, StreamEnd):
                    return
                elif isinstance(answer, NotFound) and isinstance(question, TraceTransaction):
                    raise UnknownTransaction
                else:
                    raise _failure(answer, at)

    async def ask_node(self, request: Request, expected: type[Expected]) -> Expected:
        """The node's reply. Raises NotAnswered and Unavailable."""
        reply = await self._backend.ask_node(request)
        if isinstance(reply, expected):
            return reply
        raise NotAnswered(reply.message if isinstance(reply, LinkFailed) else "the node could not be asked; try again")

    def beyond_head(self, at: BlockSelector) -> bool:
        """A height that no subscriber has heard of; execution may have it already, but it is not told yet."""
        return isinstance(at, AtHeight) and at.height > self.heads.head.height


async def first_of(parts: AsyncGenerator[Expected]) -> Expected:
    """The only part of an answer that has one."""
    async with aclosing(parts):
        async for part in parts:
            return part
    raise Unavailable("the execution process gave an empty answer")


def committed(at: BlockSelector) -> BlockSelector:
    """Blocks exist once they are final: what is asked of the pending one is answered by the head."""
    return AtLatest() if isinstance(at, AtPending) else at


def _failure(answer: Answer, at: BlockSelector) -> ReadError:
    match answer:
        case NotFound():
            return UnknownBlock(by_hash=isinstance(at, AtHash))
        case HistoryUnavailable(asked_height, oldest_height):
            return StateUnavailable(asked_height, oldest_height)
        case CallFailed(kind, message, output):
            match kind:
                case "reverted":
                    return CallReverted(output)
                case "halted":
                    return CallHalted(message)
                case _:
                    return CallRefused(kind, message)
        case LimitExceeded(message):
            return TooMuch(message)
        case IndexIncomplete(missing, reason):
            return IndexGap(missing.first, missing.last, reason)
        case _:
            return Unavailable(f"the execution process gave an unexpected answer: {type(answer).__name__}")
