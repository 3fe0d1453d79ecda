"""Parity's trace formats, as OpenEthereum defined them and Erigon, Nethermind and reth serve them: pure functions.

Flat call traces (also geth's ``flatCallTracer``) are made from the frames of a call trace; state differences from a
prestate in diff mode. Calls of precompiles that move no value are left out, as there. Error words are
OpenEthereum's; block rewards, which its traces have, do not exist on this chain as traces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from astralink_node.evm.tracing.records import CallFrame, CallTrace, Prestate, TouchedAccount
from astralink_node.gateway.encoding import JsonObject, data, quantity

REVERTED: Final = "execution reverted"

_ERROR_WORDS: Final = {
    REVERTED: "Reverted",
    "out of gas": "Out of gas",
    "gas uint64 overflow": "Out of gas",
    "contract creation code storage out of gas": "Out of gas",
    "max code size exceeded": "Out of gas",
    "max initcode size exceeded": "Out of gas",
    "invalid jump destination": "Bad jump destination",
    "return data out of bounds": "Out of bounds",
    "stack limit reached 1024 (1023)": "Out of stack",
    "write protection": "Mutable Call In Static Context",
    "contract address collision": "Out of gas",
    "invalid code: must not begin with 0xef": "Bad instruction",
}
_ERROR_BEGINNINGS: Final = {
    "invalid opcode": "Bad instruction",
    "out of gas: ": "Out of gas",
    "stack underflow": "Stack underflow",
}
_NEVER_BEGAN: Final = frozenset({"insufficient balance for transfer", "max call depth exceeded"})
# Of the errors above, those that geth's tracer has no word of OpenEthereum's for. It leaves them as they are.
_UNCONVERTED_BY_GETH: Final = frozenset(
    {
        "max initcode size exceeded",
        "write protection",
        "contract address collision",
        "invalid code: must not begin with 0xef",
    }
)
_CONVERTED_BY_GETH: Final = frozenset({"invalid input length"})
"""Of precompiles' failures."""


@dataclass(frozen=True, slots=True)
class TracePlace:
    """The committed transaction that a trace is of."""

    block_hash: bytes
    height: int
    transaction_hash: bytes
    index: int

    def fields(self) -> JsonObject:
        """Numbers, where Ethereum's other methods have quantities."""
        return {
            "blockHash": data(self.block_hash),
            "blockNumber": self.height,
            "transactionHash": data(self.transaction_hash),
            "transactionPosition": self.index,
        }


@dataclass(frozen=True, slots=True)
class FlatOptions:
    """OpenEthereum's form, or what geth's ``flatCallTracer`` makes of it."""

    parity_errors: bool = True
    with_precompiles: bool = False
    as_geth: bool = False
    """The first trace shows the transaction's gas, its intrinsic gas included; what is null is left out; there is no
    ``creationMethod``; CALLs of precompiles are left out whatever they move, and DELEGATECALLs are not."""


PARITY: Final = FlatOptions()


@dataclass(frozen=True, slots=True)
class FlatTrace:
    """One trace and whom it is about: what a filter looks at."""

    sender: bytes
    to: bytes
    """Callee, created contract or beneficiary; empty for a creation that failed."""
    trace_address: tuple[int, ...]
    fields: JsonObject


def flat_traces(
    trace: CallTrace, place: TracePlace | None = None, options: FlatOptions = PARITY
) -> Iterator[FlatTrace]:
    """In the order in which the calls began. `trace_address` is the path to a call through its callers' calls."""
    silent = _is_silent_in_geth if options.as_geth else _is_silent
    shown = [frame for frame in trace.frames if options.with_precompiles or not silent(frame)]
    subtraces = _subtraces(shown)
    context = {} if place is None else place.fields()
    for position, (frame, address) in enumerate(zip(shown, _addresses(shown), strict=True)):
        gas, gas_used = frame.gas, frame.gas_used
        if options.as_geth and not position:
            gas, gas_used = trace.gas_limit, trace.gas_used
        fields: JsonObject = {"action": _action(frame, gas, options), **context}
        if frame.error:
            fields["error"] = _error(frame, options)
        # Revert data is the result of a reverted call, as Erigon and geth show it.
        result = _result(frame, gas_used, options) if frame.error in ("", REVERTED) else None
        if result is not None or not options.as_geth:
            fields["result"] = result
        fields["subtraces"] = subtraces[position]
        fields["traceAddress"] = address
        fields["type"] = _type(frame)
        to = b"" if frame.is_creation and frame.error else frame.to
        yield FlatTrace(frame.sender, to, address, fields)


def _error(frame: CallFrame, options: FlatOptions) -> str:
    if not options.parity_errors:
        return frame.error
    if not options.as_geth:
        return parity_error(frame)
    if frame.error in _UNCONVERTED_BY_GETH or frame.error.startswith("out of gas: "):
        return frame.error
    is_converted = not frame.precompile or frame.error in _ERROR_WORDS or frame.error in _CONVERTED_BY_GETH
    return parity_error(frame) if is_converted else frame.error


def parity_error(frame: CallFrame) -> str:
    if frame.precompile and frame.error not in _NEVER_BEGAN | {REVERTED, "out of gas"}:
        return "Built-in failed"
    found = _ERROR_WORDS.get(frame.error)
    if found is not None:
        return found
    return next((word for start, word in _ERROR_BEGINNINGS.items() if frame.error.startswith(start)), frame.error)


def _is_silent(frame: CallFrame) -> bool:
    """A precompile's call that moves nothing, as OpenEthereum and Erigon have it."""
    return frame.precompile and frame.depth > 0 and not (frame.kind in ("CALL", "CALLCODE") and frame.value)


def _is_silent_in_geth(frame: CallFrame) -> bool:
    return frame.precompile and frame.depth > 0 and frame.kind in ("CALL", "STATICCALL")


def _subtraces(frames: Sequence[CallFrame]) -> list[int]:
    """Each frame's direct calls, from the depths of frames that stand in order."""
    counts = [0] * len(frames)
    open_frames: list[int] = []
    for position, frame in enumerate(frames):
        del open_frames[frame.depth :]
        if open_frames:
            counts[open_frames[-1]] += 1
        open_frames.append(position)
    return counts


def _addresses(frames: Sequence[CallFrame]) -> Iterator[tuple[int, ...]]:
    """Each frame's path. One at a time: those of many deep calls would take far more room than the frames."""
    address: list[int] = []
    made: list[int] = []
    """Calls that each of the open frames has made so far, the outermost first."""
    for frame in frames:
        del made[frame.depth :]
        if made:
            del address[len(made) - 1 :]
            address.append(made[-1])
            made[-1] += 1
        made.append(0)
        yield tuple(address)


def _type(frame: CallFrame) -> str:
    if frame.is_creation:
        return "create"
    return "suicide" if frame.kind == "SELFDESTRUCT" else "call"


def _action(frame: CallFrame, gas: int, options: FlatOptions) -> JsonObject:
    if frame.is_creation:
        creation: JsonObject = {
            "from": data(frame.sender),
            "gas": quantity(gas),
            "init": data(frame.input),
            "value": quantity(frame.value or 0),
        }
        return creation if options.as_geth else {**creation, "creationMethod": frame.kind.lower()}
    if frame.kind == "SELFDESTRUCT":
        return {
            "address": data(frame.sender),
            "refundAddress": data(frame.to),
            "balance": quantity(frame.value or 0),
        }
    return {
        "from": data(frame.sender),
        "callType": frame.kind.lower(),
        "gas": quantity(gas),
        "input": data(frame.input),
        "to": data(frame.to),
        "value": quantity(frame.value or 0),
    }


def _result(frame: CallFrame, gas_used: int, options: FlatOptions) -> JsonObject | None:
    """Of a creation that reverted Erigon and reth show where it would have been, geth does not."""
    if frame.kind == "SELFDESTRUCT":
        return None
    if not frame.is_creation:
        return {"gasUsed": quantity(gas_used), "output": data(frame.output)}
    if frame.error and options.as_geth:
        return {"gasUsed": quantity(gas_used), "code": data(frame.output)}
    return {"gasUsed": quantity(gas_used), "code": data(frame.output), "address": data(frame.to)}


# --- State differences -----------------------------------------------------------------------------------------

_SAME: Final = "="


def state_difference(changed: Prestate) -> JsonObject:
    """By account: each field is ``=``, or ``*`` from and to, or ``+`` and ``-`` of an account that came or went."""
    before = {account.address: account for account in changed.pre}
    after = {account.address: account for account in changed.post}
    return {
        data(address): _account_difference(before.get(address), after.get(address))
        for address in sorted(before.keys() | after.keys())
    }


def _account_difference(before: TouchedAccount | None, after: TouchedAccount | None) -> JsonObject:
    if before is None and after is not None:
        return _one_sided("+", after)
    if after is None and before is not None:
        return _one_sided("-", before)
    assert before is not None
    assert after is not None
    slots_before, slots_after = dict(before.storage), dict(after.storage)
    storage: JsonObject = {
        _word(slot): {"*": {"from": _word(slots_before.get(slot, 0)), "to": _word(slots_after.get(slot, 0))}}
        for slot in sorted(slots_before.keys() | slots_after.keys())
    }
    return {
        "balance": _changed(before.balance or 0, after.balance),
        "nonce": _changed(before.nonce or 0, after.nonce),
        "code": _SAME if after.code is None else {"*": {"from": data(before.code or b""), "to": data(after.code)}},
        "storage": storage,
    }


def _one_sided(sign: str, account: TouchedAccount) -> JsonObject:
    return {
        "balance": {sign: quantity(account.balance or 0)},
        "nonce": {sign: quantity(account.nonce or 0)},
        "code": {sign: data(account.code or b"")},
        "storage": {_word(slot): {sign: _word(value)} for slot, value in account.storage},
    }


def _changed(before: int, after: int | None) -> str | JsonObject:
    return _SAME if after is None else {"*": {"from": quantity(before), "to": quantity(after)}}


def _word(value: int) -> str:
    return f"0x{value:064x}"
