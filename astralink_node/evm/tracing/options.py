"""What tracers are asked to show, as plain values: chosen at the edge, carried in messages, taken by the tracers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StructLogs:
    """geth's opcode logger, which writes JSON as it goes; defaults are those of its trace configuration."""

    with_memory: bool = False
    with_stack: bool = True
    with_storage: bool = True
    with_return_data: bool = False
    limit: int = 0
    """Of the steps listed; 0 lists all. The transaction runs to its end in any case."""


@dataclass(frozen=True, slots=True)
class CallFrames:
    """The tree of calls (geth's callTracer), as records.CallTrace."""

    only_top_call: bool = False
    with_logs: bool = False


@dataclass(frozen=True, slots=True)
class TouchedAccounts:
    """Accounts and slots touched (geth's prestateTracer), as records.Prestate."""

    diff_mode: bool = False
    with_code: bool = True
    with_storage: bool = True
    with_empty: bool = False
    """Accounts that did not exist; not with ``diff_mode``."""


@dataclass(frozen=True, slots=True)
class Selectors:
    """Functions called (geth's 4byteTracer), as records.SelectorCounts."""


@dataclass(frozen=True, slots=True)
class VmSteps:
    """Effects of every opcode (Parity's vmTrace), as records.VmTrace."""


TypedTracer = CallFrames | TouchedAccounts | Selectors | VmSteps
