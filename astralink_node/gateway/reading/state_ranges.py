"""Accounts and slots by hash, page by page, and what the state was within and between blocks.

Blocks are executed again for all but the list of accounts; giving up a wait ends that.
"""

from __future__ import annotations

from astralink_node.chain.messages import AtHash
from astralink_node.chain.replay_messages import (
    AccountRange,
    AccountRangeQuestion,
    IntermediateRoots,
    IntermediateRootsQuestion,
    ModifiedAccounts,
    ModifiedAccountsQuestion,
    StorageRange,
    StorageRangeQuestion,
)
from astralink_node.gateway.reading.source import Source, first_of


class StateRangeReader:
    def __init__(self, source: Source) -> None:
        self._source = source

    async def accounts(
        self,
        block_hash: bytes,
        start: bytes,
        max_accounts: int,
        *,
        with_code: bool,
        with_storage: bool,
        with_unknown: bool,
    ) -> AccountRange:
        """`with_unknown`: those too whose address is not known."""
        question = AccountRangeQuestion(start, max_accounts, with_code, with_storage, with_unknown)
        return await self._source.ask(AtHash(block_hash), question, AccountRange)

    async def storage(
        self, block_hash: bytes, transaction_index: int, address: bytes, start: bytes, max_slots: int
    ) -> StorageRange:
        """Before that transaction of the block."""
        question = StorageRangeQuestion(transaction_index, address, start, max_slots)
        return await first_of(self._source.parts(AtHash(block_hash), question, StorageRange))

    async def intermediate_roots(self, block_hash: bytes) -> tuple[bytes, ...]:
        """The state root after each transaction of the block."""
        parts = self._source.parts(AtHash(block_hash), IntermediateRootsQuestion(), IntermediateRoots)
        return (await first_of(parts)).roots

    async def modified_accounts(self, since_height: int, block_hash: bytes) -> tuple[bytes, ...]:
        """Addresses of those that differ from what they were after that height."""
        question = ModifiedAccountsQuestion(since_height)
        return (await first_of(self._source.parts(AtHash(block_hash), question, ModifiedAccounts))).addresses
