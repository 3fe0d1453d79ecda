"""eth_sendRawTransaction's way to the mempool: decode, recover the sender, hand over in batches.

Requests that arrive while a batch is with the node make up the next one, in their order, so that a wallet's
nonces reach the pool ascending. The queue is bounded; when it is full a client is told to try again. Decoding and
recovery (about 0.1 ms) happen in the request's own task: what a client sends can fail nobody else's request.
Wallets send again what they have no receipt of: senders recovered lately are remembered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.transactions import (
    BlobTransactionUnsupported,
    InvalidTransaction,
    Transaction,
    TransactionRule,
    decode_transaction,
    recover_sender,
)
from astralink_node.gateway.backend import Backend
from astralink_node.gateway.link_messages import (
    LinkFailed,
    SubmittedTransaction,
    SubmitTransactions,
    Verdicts,
)
from astralink_node.gateway.reading.errors import Unavailable
from astralink_node.gateway.rpc_errors import LIMIT_EXCEEDED, RpcError, server_error
from astralink_node.types import Address

MAX_RECOVERED = 16_384
"""Senders of transactions that are remembered; the one longest ago goes first."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction that the mempool took."""

    transaction_hash: bytes
    sender: bytes
    nonce: int


@dataclass(slots=True)
class _Waiting:
    submitted: SubmittedTransaction
    done: asyncio.Future[None]


class Submissions:
    def __init__(self, backend: Backend, chain_id: int, *, max_waiting: int, max_batch: int) -> None:
        self._backend = backend
        self._chain_id = chain_id
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._recovered: OrderedDict[bytes, Sent] = OrderedDict()
        """By transaction hash, which stands for the signature as well; taken or not."""

    async def submit(self, raw: bytes) -> Sent:
        """Returns once the mempool has taken the transaction; raises the RpcError of its refusal."""
        if len(self._queue) >= self._max_waiting:
            raise RpcError(LIMIT_EXCEEDED, "the node is busy: too many transactions are being submitted; try again")
        sent = self._read(raw)
        waiting = _Waiting(SubmittedTransaction(raw, sent.sender), asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        await waiting.done
        return sent

    def _read(self, raw: bytes) -> Sent:
        transaction_hash = keccak256(raw)
        known = self._recovered.get(transaction_hash)
        if known is not None:
            return known
        transaction, sender = read_transaction(raw, self._chain_id)
        sent = self._recovered[transaction_hash] = Sent(transaction_hash, sender, transaction.nonce)
        if len(self._recovered) > MAX_RECOVERED:
            self._recovered.popitem(last=False)
        return sent

    async def run(self) -> None:
        """Serve the queue until cancelled."""
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            await self._hand_over(self._take_batch())

    def _take_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if not waiting.done.done():  # otherwise its client gave up
                batch.append(waiting)
        return batch

    async def _hand_over(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            reply = await self._backend.ask_node(SubmitTransactions(tuple(waiting.submitted for waiting in batch)))
        except Unavailable as error:
            _fail(batch, server_error(str(error)))
            return
        if not isinstance(reply, Verdicts) or len(reply.verdicts) != len(batch):
            reason = reply.message if isinstance(reply, LinkFailed) else "the node gave an unexpected answer"
            _fail(batch, server_error(reason))
            return
        for waiting, verdict in zip(batch, reply.verdicts, strict=True):
            if waiting.done.done():
                continue
            if verdict.rejection:
                waiting.done.set_exception(RpcError(verdict.code, verdict.rejection))
            else:
                waiting.done.set_result(None)


def read_transaction(raw: bytes, chain_id: int) -> tuple[Transaction, Address]:
    """Decode, and recover the sender; what only the pool can judge (nonce, balance, fees) is left to it."""
    try:
        transaction = decode_transaction(raw)
        _check_chain(transaction, chain_id)
        return transaction, recover_sender(transaction)
    except BlobTransactionUnsupported as error:
        raise server_error("transaction type not supported: this chain carries no blob transactions") from error
    except InvalidTransaction as error:
        if error.rule is TransactionRule.TYPE:
            raise server_error("transaction type not supported") from error
        if error.rule is TransactionRule.SIGNATURE:
            raise server_error(f"invalid sender: {error}") from error
        raise server_error(f"malformed transaction: {error}") from error


def _check_chain(transaction: Transaction, chain_id: int) -> None:
    """Another chain's signature recovers to a stranger, so say what is wrong before the pool says "no funds"."""
    if transaction.chain_id is not None and transaction.chain_id != chain_id:
        raise server_error(f"invalid sender: invalid chain id for signer: have {transaction.chain_id} want {chain_id}")


def _fail(batch: list[_Waiting], error: RpcError) -> None:
    for waiting in batch:
        if not waiting.done.done():
            waiting.done.set_exception(error)
