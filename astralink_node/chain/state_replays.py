"""What the state was within blocks: a contract's storage before a transaction, the roots between transactions, and
which accounts a run of blocks modified. Each block is executed again (chain.replay).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.call_requests import TRACE_TIMEOUT, answered
from astralink_node.chain.contexts import ChainRecords
from astralink_node.chain.json_stream import Emit
from astralink_node.chain.messages import HistoryUnavailable, LimitExceeded
from astralink_node.chain.preimages import Preimages
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.replay import BlockReplay, committed_block
from astralink_node.chain.replay_messages import (
    IntermediateRoots,
    IntermediateRootsQuestion,
    ModifiedAccounts,
    ModifiedAccountsQuestion,
    ReplayQuestion,
    StorageRange,
    StorageRangeQuestion,
)
from astralink_node.chain.state_ranges import HASH_BYTES, StateEntries, storage_range
from astralink_node.chain.trace_messages import StreamEnd
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.pipeline import BlockExecution
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.state.reverse_diffs import HistoricalReader, HistoricalState
from astralink_node.state.uncommitted import UncommittedState
from astralink_node.storage.store import Reader
from astralink_node.types import ADDRESS_BYTES, Address

Ending = StreamEnd | HistoryUnavailable | CallFailed | LimitExceeded


@dataclass(frozen=True, slots=True)
class StateReplays:
    """What a question is answered with: one moment of the chain, and how far the answer may go."""

    reader: Reader
    records: ChainRecords
    preimages: Preimages
    limits: QueryLimits
    check_time: Callable[[], None]
    emit: Emit

    def answer(self, question: ReplayQuestion, height: int) -> Ending:
        """`height` is the selected block's."""
        lowest = height
        if isinstance(question, ModifiedAccountsQuestion):
            lowest = question.since_height + 1
        problem = self._problem_of(question, height, lowest)
        if problem is not None:
            return problem
        missing = self.records.missing_state(lowest - 1)
        if missing is not None:
            return missing
        return answered(lambda: self._emitted(question, height), TRACE_TIMEOUT)

    def _problem_of(self, question: ReplayQuestion, height: int, lowest: int) -> CallFailed | LimitExceeded | None:
        match question:
            case StorageRangeQuestion(index, address, start, max_slots):
                if len(address) != ADDRESS_BYTES or len(start) > HASH_BYTES or max_slots < 0 or index < 0:
                    return CallFailed("invalid", "expected an address, a hash to begin at, and numbers not below 0")
                if height == 0:
                    return CallFailed("invalid", "no transaction in genesis")
                if index >= max(1, len(self.records.ledger.body(height)[0])):
                    block_hash = self.records.block_hash_at(height).hex()
                    return CallFailed("invalid", f"transaction index {index} out of range for block 0x{block_hash}")
            case IntermediateRootsQuestion():
                if height == 0:
                    return CallFailed("invalid", "genesis is not traceable")
            case ModifiedAccountsQuestion():
                most = self.limits.max_replayed_heights
                if not 1 <= lowest <= height:
                    return CallFailed("invalid", "expected blocks in their order")
                if height - lowest + 1 > most:
                    return LimitExceeded(
                        f"at most {most} blocks may be executed again, asked for {height - lowest + 1}"
                    )
            case _:
                assert_never(question)
        return None

    def _emitted(self, question: ReplayQuestion, height: int) -> StreamEnd:
        match question:
            case StorageRangeQuestion():
                self.emit(self._storage_range(question, height))
            case IntermediateRootsQuestion():
                self.emit(self._intermediate_roots(height))
            case ModifiedAccountsQuestion(since_height):
                self.emit(self._modified_accounts(since_height, height))
            case _:
                assert_never(question)
        return StreamEnd()

    def _replay(self, height: int) -> BlockReplay:
        return BlockReplay(self.reader, self.records, committed_block(self.records.ledger, height), self.check_time)

    def _storage_range(self, question: StorageRangeQuestion, height: int) -> StorageRange:
        replay = self._replay(height)
        replay.start()
        replay.skip_to(question.transaction_index)
        changes = replay.execution.overlay.changes()
        address = Address(question.address)
        written = changes.storage.get(address, {})
        entries = StateEntries(self.reader, height - 1, self.records.ledger.head().height, self.check_time)
        return storage_range(
            iter(()) if address in changes.wiped else entries.slots(keccak256(address), question.start),
            written,
            self.preimages.slots(address, written),
            question.start,
            min(question.max_slots, self.limits.max_range_slots),
        )

    def _intermediate_roots(self, height: int) -> IntermediateRoots:
        """Each transaction on what those before it left, committed to in memory: work follows what each touches."""
        replay = self._replay(height)
        replay.start()
        parent = self.records.ledger.header(height - 1)
        state = UncommittedState(HistoricalReader(self.reader, height - 1), parent.state_root, self.check_time)
        state.add(replay.execution.overlay.changes())
        roots = []
        for transaction, sender in zip(replay.transactions, replay.senders, strict=True):
            execution = BlockExecution(self.records.rules, replay.block_context, Overlay(HeadState(state)))
            execution.set_interrupt(self.check_time)
            execution.apply_transaction(transaction, sender)
            roots.append(state.add(execution.overlay.changes()))
        return IntermediateRoots(tuple(roots))

    def _modified_accounts(self, since_height: int, height: int) -> ModifiedAccounts:
        written: set[Address] = set()
        for each in range(since_height + 1, height + 1):
            replay = self._replay(each)
            replay.start()
            replay.finish()
            written.update(replay.execution.overlay.changes().accounts)
        before, after = (HistoricalState(self.reader, each) for each in (since_height, height))
        modified = []
        for address in sorted(written, key=keccak256):
            self.check_time()
            account = after.account(address)
            if account is not None and account != before.account(address):
                modified.append(address)
        return ModifiedAccounts(tuple(modified))
