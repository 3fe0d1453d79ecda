"""A committed block executed once more, on the state that its parent left: the same walk as chain.validation's.

Nothing is checked again that needs no execution, and nothing is written. Everything comes from one snapshot, so a
replay neither sees nor hinders the blocks that are made meanwhile. Who asks for a height knows that the state of
the height below it is kept.
"""

from collections.abc import Callable, Sequence

from astralink_node.chain.contexts import ChainRecords
from astralink_node.chain.protocol_steps import ProtocolSteps
from astralink_node.evm.blocks import Header
from astralink_node.evm.pipeline import BlockContext, BlockExecution, ExecutedBlock
from astralink_node.evm.tracing.hooks import Tracer
from astralink_node.evm.transaction_execution import Outcome
from astralink_node.evm.transactions import Transaction, decode_transaction
from astralink_node.state.overlay import Overlay
from astralink_node.state.reverse_diffs import HistoricalState
from astralink_node.storage.store import Reader
from astralink_node.types import Address


class BlockReplay:
    """One block's execution. :meth:`start` it, apply its transactions in order, :meth:`finish` it if all are wanted."""

    def __init__(
        self, reader: Reader, records: ChainRecords, height: int, interrupt: Callable[[], None] | None = None
    ) -> None:
        ledger = records.ledger
        self._context = records.context_after(height - 1)
        self.header: Header = ledger.header(height)
        raw_transactions, senders = ledger.body(height)
        self.transactions: Sequence[Transaction] = tuple(decode_transaction(raw) for raw in raw_transactions)
        self.senders: Sequence[Address] = tuple(Address(sender) for sender in senders)
        self.execution = BlockExecution(
            records.rules,
            BlockContext.of_header(self.header, records.block_hash_at),
            Overlay(HistoricalState(reader, height - 1)),
        )
        self.execution.set_interrupt(interrupt)
        self._steps = ProtocolSteps(self._context, self.execution, ledger.payload(height))
        self._applied = 0

    def start(self) -> None:
        """What precedes the transactions: system calls, and on a chain with staking the protocol's own."""
        self.execution.apply_system_start()
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
        protocol = self._steps.after_transactions()
        return self.execution.finish((), protocol.requests)
