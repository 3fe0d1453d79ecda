"""Reads of the chain for the methods: from the head cache where it can answer, else from the execution process.

Turns the answers that mean failure into JSON-RPC errors, in geth's words, in one place.
"""

from __future__ import annotations

from typing import TypeVar

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.messages import (
    AccountRecord,
    AccountsAnswer,
    AccountsQuestion,
    Answer,
    AtHash,
    AtHeight,
    AtLatest,
    AtPending,
    BlockAnswer,
    BlockQuestion,
    BlockSelector,
    BytesAnswer,
    CodeQuestion,
    HistoryUnavailable,
    LimitExceeded,
    NotFound,
    Query,
    Question,
    ReceiptsAnswer,
    ReceiptsQuestion,
    StorageQuestion,
    TransactionAnswer,
    TransactionQuestion,
)
from astralink_node.evm.blocks import decode_header
from astralink_node.gateway.backend import Backend, Unavailable
from astralink_node.gateway.block_view import BlockView
from astralink_node.gateway.head_cache import HeadCache
from astralink_node.gateway.rpc_errors import (
    LIMIT_EXCEEDED,
    RpcError,
    StateUnavailable,
    execution_reverted,
    halted,
    server_error,
)

Expected = TypeVar("Expected")


class ChainReader:
    def __init__(self, backend: Backend, heads: HeadCache) -> None:
        self._backend = backend
        self.heads = heads

    async def ask(self, at: BlockSelector, question: Question, expected: type[Expected]) -> Expected:
        """The answer of the kind that belongs to the question; any failure is raised as an RpcError."""
        if self.beyond_head(at):
            raise server_error("header not found")
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

    # --- State -----------------------------------------------------------------------------------------------

    async def account(self, address: bytes, at: BlockSelector) -> AccountRecord:
        answer = await self.ask(at, AccountsQuestion((address,)), AccountsAnswer)
        return answer.accounts[0]

    async def code(self, address: bytes, at: BlockSelector) -> bytes:
        return (await self.ask(at, CodeQuestion(address), BytesAnswer)).value

    async def storage(self, address: bytes, slot: int, at: BlockSelector) -> bytes:
        return (await self.ask(at, StorageQuestion(address, slot), BytesAnswer)).value

    # --- Blocks ----------------------------------------------------------------------------------------------

    def height_of(self, at: BlockSelector) -> int | None:
        """The height a selector names, as far as the gateway can tell alone; pending counts as the head."""
        match at:
            case AtHeight(height):
                return height
            case AtLatest() | AtPending():
                return self.heads.head.height
            case AtHash(block_hash):
                view = self.heads.by_hash(block_hash)
                return None if view is None else view.height

    def cached(self, at: BlockSelector) -> BlockView | None:
        match at:
            case AtHeight(height):
                return self.heads.by_height(height)
            case AtLatest() | AtPending():
                return self.heads.head.view
            case AtHash(block_hash):
                return self.heads.by_hash(block_hash)

    def beyond_head(self, at: BlockSelector) -> bool:
        """A height that no subscriber has heard of; execution may have it already, but it is not told yet."""
        return isinstance(at, AtHeight) and at.height > self.heads.head.height

    async def block(self, at: BlockSelector) -> BlockView | None:
        view = self.cached(at)
        if view is not None or self.beyond_head(at):
            return view
        answer = await self.find(_concrete(at), BlockQuestion(), BlockAnswer)
        return None if answer is None else await self._told(BlockView(answer.block, None))

    async def block_with_receipts(self, at: BlockSelector) -> BlockView | None:
        view = self.cached(at)
        if view is not None and view.receipts is not None:
            return view
        if self.beyond_head(at):
            return None
        # A head that came without receipts is asked for by its hash: the chain may have moved on since.
        place = _concrete(at) if view is None else AtHash(view.block_hash)
        answer = await self.find(place, ReceiptsQuestion(), ReceiptsAnswer)
        if answer is None:
            return None
        told = await self._told(BlockView(answer.block, answer.receipts))
        told.learn_receipts(answer.receipts)
        return told

    async def transaction(self, transaction_hash: bytes) -> tuple[BlockView, int] | TransactionAnswer | None:
        """A committed transaction: in a cached block, or as the execution process finds it."""
        cached = self.heads.transaction(transaction_hash)
        if cached is not None:
            return cached
        answer = await self.find(AtLatest(), TransactionQuestion(transaction_hash), TransactionAnswer)
        if answer is None:
            return None
        await self.heads.reach(decode_header(answer.transaction.raw_header).number)
        return self.heads.transaction(transaction_hash) or answer

    async def _told(self, view: BlockView) -> BlockView:
        """Hold back a block that execution committed a moment ago until the node has announced it."""
        await self.heads.reach(view.height)
        return self.heads.by_hash(view.block_hash) or view


def _concrete(at: BlockSelector) -> BlockSelector:
    return AtLatest() if isinstance(at, AtPending) else at


def _failure(answer: Answer, at: BlockSelector) -> RpcError:
    match answer:
        case NotFound():
            return server_error("header for hash not found" if isinstance(at, AtHash) else "header not found")
        case HistoryUnavailable(asked_height, oldest_height):
            return StateUnavailable(asked_height, oldest_height)
        case CallFailed(kind, message, output):
            match kind:
                case "reverted":
                    return execution_reverted(output)
                case "halted":
                    return halted(message)
                case _:
                    return server_error(message)
        case LimitExceeded(message):
            return RpcError(LIMIT_EXCEEDED, message)
        case _:
            raise Unavailable(f"the execution process gave an unexpected answer: {type(answer).__name__}")
