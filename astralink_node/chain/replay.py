"""A block executed once more, on the state that its parent left: the same walk as chain.validation's.

Nothing is checked again that needs no execution, and nothing is written. Everything comes from one snapshot, so a
replay neither sees nor hinders the blocks that are made meanwhile. Who asks for a height knows that the state of
the height below it is kept. A block that is not the chain's may stand in the place of the one that is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from astralink_node.chain.contexts import ChainRecords
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.prepared import ProtocolOutcome
from astralink_node.chain.protocol_steps import ProtocolSteps
from astralink_node.evm.blocks import Block, Header
from astralink_node.evm.pipeline import BlockContext, BlockExecution, ExecutedBlock
from astralink_node.evm.tracing.hooks import Tracer
from astralink_node.evm.transaction_execution import Outcome
from astralink_node.evm.transactions import Transaction, decode_transaction, recover_sender
from astralink_node.state.overlay import Overlay
from astralink_node.state.reverse_diffs import HistoricalState
from astralink_node.storage.store import Reader
from astralink_node.types import Address
from consensus.payload import ConsensusPayload


@dataclass(frozen=True, slots=True)
class BlockToReplay:
    header: Header
    transactions: Sequence[Transaction]
    senders: Sequence[Address]
    payload: ConsensusPayload | None
    """None for a block that is not the chain's: the protocol's own steps, which follow from it, are left out."""


def committed_block(ledger: Ledger, height: int) -> BlockToReplay:
    raw_transactions, senders = ledger.body(height)
    return BlockToReplay(
        header=ledger.header(height),
        transactions=tuple(decode_transaction(raw) for raw in raw_transactions),
        senders=tuple(Address(sender) for sender in senders),
        payload=ledger.payload(height),
    )


def given_block(ledger: Ledger, block: Block, check_time: Callable[[], None]) -> BlockToReplay:
    """Any block. Raises InvalidTransaction for what none could hold."""
    transactions = tuple(decode_transaction(raw) for raw in block.raw_transactions)
    senders = []
    for transaction in transactions:
        check_time()
        senders.append(recover_sender(transaction))
    committed_height = ledger.height_of(block.header.hash)
    payload = None if committed_height is None else ledger.payload(committed_height)
    return BlockToReplay(block.header, transactions, tuple(senders), payload)


class BlockReplay:
    """One block's execution. :meth:`start` it, apply its transactions in order, :meth:`finish` it if all are wanted."""

    def __init__(
        self,
        reader: Reader,
        records: ChainRecords,
        block: BlockToReplay,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self.header = block.header
        self.transactions = block.transactions
        self.senders = block.senders
        self.block_context = BlockContext.of_header(block.header, records.block_hash_at)
        parent_height = block.header.number - 1
        self.execution = BlockExecution(
            records.rules, self.block_context, Overlay(HistoricalState(reader, parent_height))
        )
        self.execution.set_interrupt(interrupt)
        self._steps: ProtocolSteps | None = None
        if block.payload is not None:
            self._steps = ProtocolSteps(records.context_after(parent_height), self.execution, block.payload)
        self._applied = 0

    def start(self) -> None:
        """What precedes the transactions: system calls, and on a chain with staking the protocol's own."""
        self.execution.apply_system_start()
        if self._steps is not None:
            self._steps.before_transactions()

    def skip_to(self, index: int) -> None:
        """Apply the transactions before `index`, untraced."""
        while self._applied < index:
            self.apply_next()

    def apply_next(self, tracer: Tracer | None = None) -> Outcome:
        """The next transaction. What a tracer raises leaves it as the next."""
        index = self._applied
        self.execution.set_tracer(tracer)
        try:
            self.execution.apply_transaction(self.transactions[index], self.senders[index])
        finally:
            self.execution.set_tracer(None)
        self._applied += 1
        outcome = self.execution.last_outcome
        assert outcome is not None, "a transaction was applied"
        return outcome

    def finish(self) -> ExecutedBlock:
        """The steps after the last transaction, and what the block's header says of it all."""
        self.skip_to(len(self.transactions))
        protocol = ProtocolOutcome() if self._steps is None else self._steps.after_transactions()
        return self.execution.finish((), protocol.requests)
