"""From what a question asks to tracers of the EVM, and from what they found to what is answered."""

from collections.abc import Callable
from typing import Final, assert_never

import orjson

from astralink_node.chain.json_stream import JsonStream
from astralink_node.chain.trace_messages import RunTrace, TraceResult, TypedTracers
from astralink_node.evm.simulate import result_of
from astralink_node.evm.tracing.calls import CallTracer
from astralink_node.evm.tracing.hooks import SilentTracer, Tracer
from astralink_node.evm.tracing.kept_bytes import KeptBytes
from astralink_node.evm.tracing.options import CallFrames, Selectors, StructLogs, TouchedAccounts, TypedTracer, VmSteps
from astralink_node.evm.tracing.prestate import PrestateTracer
from astralink_node.evm.tracing.selectors import SelectorTracer
from astralink_node.evm.tracing.struct_logger import StructLogger
from astralink_node.evm.tracing.together import TracersTogether
from astralink_node.evm.tracing.vm_trace import VmTracer
from astralink_node.evm.transaction_execution import Outcome

Result = Callable[[], TraceResult]


class TypedRun:
    """One run's tracers. Watches the run through :attr:`tracer`; :meth:`trace` then says what they found."""

    def __init__(self, how: TypedTracers, kept: KeptBytes) -> None:
        made = [_made(choice, kept) for choice in how.tracers]
        self._results = [result for _, result in made]
        tracers = [tracer for tracer, _ in made]
        self.tracer: Tracer = SilentTracer() if not tracers else tracers[0]
        if len(tracers) > 1:
            self.tracer = TracersTogether(tracers)

    def trace(self, outcome: Outcome, index: int, transaction_hash: bytes = b"") -> RunTrace:
        return _run_trace(outcome, index, transaction_hash, results=tuple(result() for result in self._results))


def failed_run(outcome: Outcome, index: int, transaction_hash: bytes, failure: str) -> RunTrace:
    """Of a run that could not be traced."""
    return _run_trace(outcome, index, transaction_hash, failure=failure)


def _run_trace(
    outcome: Outcome, index: int, transaction_hash: bytes, results: tuple[TraceResult, ...] = (), failure: str = ""
) -> RunTrace:
    found = result_of(outcome)
    return RunTrace(
        transaction_hash=transaction_hash,
        index=index,
        gas_used=found.gas_used,
        output=found.output,
        error=found.halt_reason,
        results=results,
        failure=failure,
    )


def _made(choice: TypedTracer, kept: KeptBytes) -> tuple[Tracer, Result]:
    match choice:
        case CallFrames():
            calls = CallTracer(choice, kept)
            return calls, calls.result
        case TouchedAccounts():
            accounts = PrestateTracer(choice, kept)
            return accounts, accounts.result
        case Selectors():
            selectors = SelectorTracer(kept)
            return selectors, selectors.result
        case VmSteps():
            steps = VmTracer(kept)
            return steps, steps.result
        case _:
            assert_never(choice)


# --- Struct logs -----------------------------------------------------------------------------------------------

_OPENING: Final = b'{"structLogs":['
_CLOSING: Final = b"]}"


def stream_struct_logs(stream: JsonStream, options: StructLogs, run: Callable[[Tracer], object]) -> None:
    """One run's struct log object. The steps come first, because what stands around them is known last."""
    logger = StructLogger(stream.item, options)
    stream.open(_OPENING, _CLOSING)
    run(logger)
    found = logger.result()
    assert found is not None, "the run is over"
    rest = orjson.dumps({"gas": found.gas, "failed": found.failed, "returnValue": "0x" + found.return_value.hex()})
    stream.close(b"]," + rest[1:])
