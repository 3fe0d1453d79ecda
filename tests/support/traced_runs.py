"""Execution-spec-test cases run twice, without a tracer and with all of them, for the comparison of the outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from astralink_node.evm.blocks import Receipt
from astralink_node.evm.pipeline import BlockExecution
from astralink_node.evm.spec_tests import CaseResult, run_fixture
from astralink_node.evm.tracing.access_list import AccessListTracer
from astralink_node.evm.tracing.call_json import call_trace_json
from astralink_node.evm.tracing.calls import CallTracer
from astralink_node.evm.tracing.eip3155 import Eip3155Tracer
from astralink_node.evm.tracing.hooks import Tracer
from astralink_node.evm.tracing.options import CallFrames, StructLogs, TouchedAccounts
from astralink_node.evm.tracing.prestate import PrestateTracer
from astralink_node.evm.tracing.selectors import SelectorTracer
from astralink_node.evm.tracing.struct_logger import StructLogger
from astralink_node.evm.tracing.together import TracersTogether
from astralink_node.evm.tracing.vm_trace import VmTracer
from astralink_node.types import Address

if TYPE_CHECKING:
    from astralink_node.evm.transaction_execution import Outcome
    from astralink_node.evm.transactions import Transaction
    from astralink_node.evm.vm import ExecutionState

TOO_LARGE = "the trace is larger than"
"""How the result of a case begins whose trace exceeds its bound; Parity's, which keeps every opcode, is the first."""


class AllTracers(TracersTogether):
    """Every tracer there is, fresh for each transaction.

    Without ``texts`` the two that only write the same things as others at length are left out: EIP-3155's lines, and
    the memory of struct logs. Without ``vm_trace`` there is none, without ``opcodes`` nothing that sees every opcode,
    and without ``inner_calls`` the call tracer shows the top call alone.
    """

    def __init__(
        self, *, texts: bool = True, vm_trace: bool = True, opcodes: bool = True, inner_calls: bool = True
    ) -> None:
        self._texts, self._vm_trace, self._opcodes, self._inner_calls = texts, vm_trace, opcodes, inner_calls
        self.lines = 0
        super().__init__(self._fresh())

    def begin(self, state: ExecutionState, transaction: Transaction, sender: Address) -> None:
        super().__init__(self._fresh())
        super().begin(state, transaction, sender)

    def end(self, state: ExecutionState, outcome: Outcome) -> None:
        super().end(state, outcome)
        assert call_trace_json(self._calls.result())

    def _fresh(self) -> list[Tracer]:
        self._calls = CallTracer(CallFrames(only_top_call=not self._inner_calls, with_logs=True))
        tracers: list[Tracer] = [
            self._calls,
            CallTracer(CallFrames(only_top_call=True)),
            PrestateTracer(),
            PrestateTracer(TouchedAccounts(diff_mode=True)),
            SelectorTracer(),
            AccessListTracer((), excluded=frozenset()),
        ]
        if self._opcodes:
            options = StructLogs(with_memory=self._texts, with_return_data=self._texts)
            tracers.append(StructLogger(self._count, options))
            if self._texts:
                tracers.append(Eip3155Tracer(self._count))
            if self._vm_trace:
                tracers.append(VmTracer())
        return tracers

    def _count(self, line: bytes | str) -> None:
        self.lines += bool(line)


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """What a run must not change."""

    result: CaseResult
    receipts: tuple[Receipt, ...]
    """Gas used and logs among them."""
    output: bytes
    """Of the last transaction."""


@dataclass(slots=True)
class _Watcher:
    tracer: AllTracers | None
    executions: list[BlockExecution] = field(default_factory=list)

    def prepare(self, execution: BlockExecution) -> None:
        self.executions.append(execution)
        if self.tracer is not None:
            execution.set_tracer(self.tracer)
            execution.collect_addresses()


def outcomes(fixture: Mapping[str, Any], tracer: AllTracers | None) -> list[CaseOutcome]:
    """Of every case in a fixture file."""
    found = []
    watcher = _Watcher(tracer)
    for result in run_fixture(fixture, watcher.prepare):
        executions, watcher.executions = watcher.executions, []
        receipts = tuple(receipt for execution in executions for receipt in execution.receipts)
        last = executions[-1].last_outcome if executions else None
        found.append(CaseOutcome(result, receipts, b"" if last is None else last.output))
    return found
