"""The tree of a transaction's calls: geth's ``callTracer``, and the matter of ``flatCallTracer`` and Parity's traces.

The result is flat, in the order in which the calls began, each with its depth: a message between processes cannot
nest, and a tree of depth 1024 would meet recursion limits everywhere. :func:`call_trace_json` makes geth's nested JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from eth.exceptions import Revert, VMError

from astralink_node.evm.blocks import Log
from astralink_node.evm.tracing.failure_words import describe
from astralink_node.evm.tracing.hooks import RefusedCall, SilentTracer
from astralink_node.evm.tracing.instructions import (
    CALLCODE,
    CREATIONS,
    DELEGATECALL,
    FRAME_KINDS,
    LOGS,
    NO_OPCODES,
    STATICCALL,
)
from astralink_node.evm.tracing.kept_bytes import KeptBytes
from astralink_node.evm.tracing.options import CallFrames
from astralink_node.evm.tracing.records import CallFrame, CallTrace, FrameLog
from astralink_node.types import Address

if TYPE_CHECKING:
    from astralink_node.evm.transaction_execution import Outcome
    from astralink_node.evm.transactions import Transaction
    from astralink_node.evm.vm import Computation, ExecutionState

FRAME_BYTES: Final = 1000
"""What a frame or a log is counted as, apart from its data."""


@dataclass(slots=True)
class _OpenFrame:
    position: int
    """Of its frame in the list."""
    children: int = 0
    logs: list[FrameLog] = field(default_factory=list)


class CallTracer(SilentTracer):
    """One instance traces one transaction, or one root call."""

    def __init__(self, options: CallFrames | None = None, kept: KeptBytes | None = None) -> None:
        self._options = options or CallFrames()
        self.watched = LOGS if self._options.with_logs else NO_OPCODES
        self._frames: list[CallFrame] = []
        self._open: list[_OpenFrame] = []
        self._kept = kept or KeptBytes()
        self._gas_limit = 0
        self._gas_used = 0
        self._precompiles: frozenset[bytes] = frozenset()

    def result(self) -> CallTrace:
        return CallTrace(tuple(self._frames), self._gas_limit, self._gas_used)

    def begin(self, state: ExecutionState, transaction: Transaction, sender: Address) -> None:  # noqa: ARG002
        self._gas_limit = transaction.gas_limit

    def end(self, state: ExecutionState, outcome: Outcome) -> None:  # noqa: ARG002
        self._gas_used = outcome.gas_used

    def enter(self, computation: Computation) -> None:
        depth = computation.msg.depth
        self._precompiles = computation.state.precompile_addresses
        if self._options.only_top_call and depth:
            return
        if self._open:
            self._open[-1].children += 1
        self._open.append(_OpenFrame(len(self._frames)))
        self._add(frame_of(computation))

    def leave(self, computation: Computation) -> None:
        if self._options.only_top_call and computation.msg.depth:
            return
        open_frame = self._open.pop()
        frame = closed(self._frames[open_frame.position], computation)
        self._kept.add(len(frame.output))
        if frame.error:
            self._drop_logs(open_frame.position)
        elif open_frame.logs:
            frame = replace(frame, logs=tuple(open_frame.logs))
        self._frames[open_frame.position] = frame

    def refuse(self, refused: RefusedCall) -> None:
        if self._options.only_top_call and refused.depth:
            return
        if self._open:
            self._open[-1].children += 1
        self._add(
            CallFrame(
                kind=FRAME_KINDS[refused.opcode],
                depth=refused.depth,
                sender=refused.sender,
                to=refused.to,
                code_address=refused.to,
                value=refused.value,
                gas=refused.gas,
                gas_used=refused.gas_used,
                input=refused.input,
                output=b"",
                error=refused.error,
                precompile=refused.to in self._precompiles,
                logs=(),
            )
        )

    def selfdestruct(self, computation: Computation, beneficiary: Address, balance: int) -> None:
        if self._options.only_top_call:
            return
        self._open[-1].children += 1
        self._add(
            CallFrame(
                kind="SELFDESTRUCT",
                depth=computation.msg.depth + 1,
                sender=computation.storage_address,
                to=beneficiary,
                code_address=beneficiary,
                value=balance,
                gas=0,
                gas_used=0,
                input=b"",
                output=b"",
                error="",
                precompile=False,
                logs=(),
            )
        )

    def after_opcode(self, computation: Computation, opcode: int, error: VMError | None) -> None:  # noqa: ARG002
        if error is not None or (self._options.only_top_call and computation.msg.depth):
            return
        logs = computation.state.logs
        address, topics, data = logs[-1]
        log = Log(address, tuple(topic.to_bytes(32, "big") for topic in topics), data)
        self._kept.add(FRAME_BYTES + len(data))
        frame = self._open[-1]
        frame.logs.append(FrameLog(log, len(logs) - 1, frame.children))

    def _add(self, frame: CallFrame) -> None:
        self._kept.add(FRAME_BYTES + len(frame.input))
        self._frames.append(frame)

    def _drop_logs(self, position: int) -> None:
        """A failed call's inner calls have failed with it, whatever they returned."""
        for inner in range(position + 1, len(self._frames)):
            if self._frames[inner].logs:
                self._frames[inner] = replace(self._frames[inner], logs=())


def frame_of(computation: Computation) -> CallFrame:
    """The frame of a call that begins."""
    message, state = computation.msg, computation.state
    opcode, target = state.call_site.opcode, state.call_site.target
    sender, to, value, data = message.sender, message.storage_address, message.value, message.data
    if opcode in CREATIONS:
        data = message.code
    elif opcode == DELEGATECALL:
        sender, to = message.storage_address, target
    elif opcode == CALLCODE:
        to = target
    code_address = to if opcode in CREATIONS else Address(message.code_address)
    return CallFrame(
        kind=FRAME_KINDS[opcode],
        depth=message.depth,
        sender=sender,
        to=to,
        code_address=code_address,
        value=None if opcode == STATICCALL else value,
        gas=message.gas,
        gas_used=0,
        input=bytes(data),
        output=b"",
        error="",
        precompile=not message.is_delegation and code_address in state.precompile_addresses,
        logs=(),
    )


def closed(frame: CallFrame, computation: Computation) -> CallFrame:
    """The frame with what came of its call."""
    error = computation.failure
    shown = error is None or isinstance(error, Revert)
    return replace(
        frame,
        gas_used=frame.gas - computation.get_gas_remaining(),
        output=bytes(computation.output) if shown else b"",
        error="" if error is None else describe(error),
    )
