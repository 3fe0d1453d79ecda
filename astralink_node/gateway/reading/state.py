"""Accounts, code, storage and proofs, at any block whose state is kept."""

from __future__ import annotations

from astralink_node.chain.messages import (
    AccountRecord,
    AccountsAnswer,
    AccountsQuestion,
    BlockSelector,
    BytesAnswer,
    CodeQuestion,
    ProofAnswer,
    ProofQuestion,
    StorageQuestion,
)
from astralink_node.gateway.reading.source import Source


class StateReader:
    def __init__(self, source: Source) -> None:
        self._source = source

    async def account(self, address: bytes, at: BlockSelector) -> AccountRecord:
        answer = await self._source.ask(at, AccountsQuestion((address,)), AccountsAnswer)
        return answer.accounts[0]

    async def code(self, address: bytes, at: BlockSelector) -> bytes:
        return (await self._source.ask(at, CodeQuestion(address), BytesAnswer)).value

    async def storage(self, address: bytes, slot: int, at: BlockSelector) -> bytes:
        """32 bytes."""
        return (await self._source.ask(at, StorageQuestion(address, slot), BytesAnswer)).value

    async def proof(self, address: bytes, slots: tuple[int, ...], at: BlockSelector) -> ProofAnswer:
        """EIP-1186."""
        return await self._source.ask(at, ProofQuestion(address, slots), ProofAnswer)
