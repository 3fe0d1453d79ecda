"""Where two answers differ, and which of the differences between this node and anvil 1.7.1 are meant.

Each known difference names its reason: what geth does (and where anvil, which stands on revm, does not), or what this
chain has of its own. A difference that no line explains is a finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from astralink_node.evm.fork_rules import TX_GAS_CAP

ABSENT: Final = "absent"
ESTIMATE_TOLERANCE: Final = 0.016
"""geth's search ends when its bounds are 1.5 % apart; anvil's goes on to the last gas."""
_PRECOMPILES: Final = frozenset(f"0x{number:040x}" for number in (*range(1, 0x12), 0x100))


@dataclass(frozen=True, slots=True)
class Difference:
    question: str
    path: str
    """Of the JSON, with every index as `[]` and every address, slot or selector as `0x`."""
    ours: Any
    theirs: Any

    @property
    def place(self) -> str:
        return f"{self.question} {self.path}"


@dataclass(frozen=True, slots=True)
class Known:
    place: re.Pattern[str]
    reason: str
    holds: Callable[[Any, Any], bool]
    """Of our value and theirs."""


def _known(place: str, reason: str, holds: Callable[[Any, Any], bool] = lambda _ours, _theirs: True) -> Known:
    return Known(re.compile(f"^(?:{place})$"), reason, holds)


def _ours_absent(ours: Any, _theirs: Any) -> bool:
    return bool(ours == ABSENT)


def _theirs_absent(_ours: Any, theirs: Any) -> bool:
    return bool(theirs == ABSENT)


def _both_there(ours: Any, theirs: Any) -> bool:
    return ABSENT not in (ours, theirs)


def _theirs_empty(ours: Any, theirs: Any) -> bool:
    """Also of an account: no balance, and slots of zero."""
    if isinstance(theirs, dict):
        slots = theirs.get("storage", {}).values()
        is_empty = theirs.keys() <= {"balance", "storage"} and not any(
            _number(value) for value in (theirs.get("balance", 0), *slots)
        )
    else:
        is_empty = theirs in (0, [], "0x")
    return ours == ABSENT and is_empty


def _ours_more(ours: Any, theirs: Any) -> bool:
    return _both_there(ours, theirs) and _number(ours) > _number(theirs)


def _theirs_more(ours: Any, theirs: Any) -> bool:
    return _both_there(ours, theirs) and _number(theirs) > _number(ours)


def _fewer(ours: Any, theirs: Any) -> bool:
    return _ours_absent(ours, theirs) or _theirs_more(ours, theirs)


def _close(ours: Any, theirs: Any) -> bool:
    return _both_there(ours, theirs) and abs(_number(ours) - _number(theirs)) <= ESTIMATE_TOLERANCE * _number(ours)


def _came_into_being(ours: Any, theirs: Any) -> bool:
    return ABSENT in (ours, theirs) or (isinstance(ours, dict) and set(ours) == {"+"} and theirs == "=")


def _number(value: Any) -> int:
    return int(value, 16) if isinstance(value, str) else int(value)


_OWN: Final = (
    _known(
        r".*\.(?:extraData|mixHash|parentBeaconBlockRoot|stateRoot|size)",
        "Headers hold fee parameters, randomness and the hash of the consensus payload; the state holds staking.",
    ),
    _known(r"eth_feeHistory \.result\.baseFeePerGas\[\]", "The base fee's step is a parameter of this chain."),
)
_BLOCKS: Final = (
    _known(r".*\.totalDifficulty", "geth has dropped it.", _ours_absent),
    _known(r".*\.blobGasPrice", "geth shows it in receipts of blob transactions alone.", _ours_absent),
    _known(r"eth_get.*Receipts? .*\.blockTimestamp", "geth shows it in logs and in no receipt.", _ours_absent),
    _known(r"ots_.*\.(?:logs|logsBloom)", "Erigon blanks them.", lambda ours, _theirs: ours is None),
    _known(r"ots_getBlockTransactions .*\.timestamp", "Erigon shows it in searches alone.", _ours_absent),
    _known(
        r"eth_getProof \.result\.(?:accountProof|storageProof\[\]\.proof|storageHash).*",
        "anvil has other accounts, and keeps slots of zero; our proofs are verified.",
    ),
)
_CALLS: Final = (
    _known(r"eth_(?:call|estimateGas) \.error\.(?:code|message)", "geth's codes and words.", _both_there),
    _known(r"eth_estimateGas \.result", "geth's search stops when its bounds are 1.5 % apart.", _close),
    _known(
        r"eth_estimateGas \.result",
        "geth takes what the call used of all the gas for the least that it needs, also where it burns what it gets.",
        _ours_more,
    ),
    _known(
        r"eth_estimateGas \.error",
        "anvil runs no precompile for a call without data.",
        lambda ours, theirs: "invalid input length" in str(ours) and theirs == ABSENT,
    ),
    _known(
        r"eth_estimateGas \.error",
        "anvil estimates more gas than a transaction may have (EIP-7825).",
        lambda ours, theirs: f"exceeds allowance ({TX_GAS_CAP})" in str(ours) and theirs == ABSENT,
    ),
    _known(r"eth_estimateGas \.result", "Our error stands beside it.", _ours_absent),
    _known(r"eth_createAccessList \.(?:error|result)", "geth gives the list of a call that fails, beside its error."),
    _known(
        r"eth_createAccessList \.result\.accessList\.0x(?:\.length|\[\])?",
        "In geth an opcode that cannot be paid touches what it names.",
        lambda _ours, theirs: theirs == ABSENT or isinstance(theirs, int),
    ),
    _known(r"eth_createAccessList \.result\.gasUsed", "Of a call with a longer list, which costs more.", _ours_more),
    _known(
        r"eth_simulateV1 \.result\[\]\.(?!calls).*",
        "anvil's simulated blocks have the number of the block below, and neither parent nor roots.",
    ),
    _known(
        r"eth_simulateV1 .*\.calls\[\]\.(?:maxUsedGas|error\.\w+|logs\[\]\.(?:block|transaction)\w+)",
        "geth's codes, words and fields; hashes of simulated blocks.",
    ),
    _known(
        r"eth_simulateV1 .*\.calls\[\]\.(?:gasUsed|logs\[\]\.data)",
        "To anvil's simulated blocks NUMBER and TIMESTAMP are those of the block below.",
        _both_there,
    ),
    _known(
        r"eth_simulateV1 .*\.calls\[\]\.returnData",
        "geth shows a revert's data in its error alone.",
        lambda ours, _theirs: ours == "0x",
    ),
)
_OTHER_FORKS_OPCODES: Final = frozenset({"DUPN", "SWAPN", "EXCHANGE"})
"""EIP-8024."""
_STRUCT_LOGS: Final = r"debug_trace\w+ structLogs.* \.result\.structLogs\[\]"
_CALL_TRACER: Final = r"debug_trace\w+ callTracer.* \.result(?:\[\]\.result)?"
_PRESTATE: Final = r"debug_trace\w+ prestateTracer.* \.result"
_TRACES: Final = (
    _known(rf"{_STRUCT_LOGS}\.(?:refund|memory|returnData|storage)", "geth leaves out what is empty.", _theirs_empty),
    _known(
        rf"{_STRUCT_LOGS}\.refund",
        "In geth the refund on an SSTORE's line counts that SSTORE already.",
        lambda ours, _theirs: ours != ABSENT,
    ),
    _known(rf"{_STRUCT_LOGS}\.error", "geth's words, and none for opcodes that fail while they run."),
    _known(
        rf"{_STRUCT_LOGS}\.gasCost", "Of an opcode that cannot be paid geth shows all that it asks for.", _both_there
    ),
    _known(rf"{_STRUCT_LOGS}\.op", "geth names undefined opcodes.", lambda _ours, theirs: theirs == "Unknown"),
    _known(
        rf"{_STRUCT_LOGS}\.op",
        "anvil names opcodes of forks that this chain does not have.",
        lambda ours, theirs: str(ours).endswith("not defined") and theirs in _OTHER_FORKS_OPCODES,
    ),
    _known(
        rf"{_STRUCT_LOGS}\.storage\.0x",
        "geth shows what an SSTORE was about to write, also of one that fails.",
    ),
    _known(
        r"debug_traceTransaction structLogs.* \.result\.gas",
        "anvil adds the gas of the transactions before it in the block.",
        _theirs_more,
    ),
    _known(rf"{_CALL_TRACER}\.gasUsed", "anvil adds the gas of the transactions before it in the block.", _theirs_more),
    _known(rf"{_CALL_TRACER}\.gas", "The root call's is the transaction's in geth.", _ours_more),
    _known(rf"{_CALL_TRACER}(?:\.calls\[\])*\.error", "geth's words.", _both_there),
    _known(
        rf"{_CALL_TRACER}\.revertReason",
        "geth has one of a REVERT alone, anvil also of a creation whose code is too long and begins as a reason does.",
        _ours_absent,
    ),
    _known(rf"{_CALL_TRACER}(?:\.calls\[\])*\.logs", "geth takes out logs of what failed.", _ours_absent),
    _known(rf"{_CALL_TRACER}(?:\.calls\[\])*\.logs\[\]\.index", "anvil counts logs that were undone.", _theirs_more),
    _known(
        r"debug_trace\w+ callTracer onlyTopCall \.result\.(?:calls|logs\[\]\.position)",
        "anvil counts and shows self-destructions as calls.",
    ),
    _known(rf"{_PRESTATE}(?:\.pre)?\.0x", "geth leaves out accounts that were empty, unless asked for.", _theirs_empty),
    _known(rf"{_PRESTATE}\.0x", "geth shows the signers of authorizations that were skipped, too.", _theirs_absent),
    _known(
        rf"{_PRESTATE}(?:\.pre)?\.0x\.storage(?:\.0x)?",
        "geth shows the slot of an SSTORE that fails while it runs.",
        _theirs_absent,
    ),
    _known(
        rf"{_PRESTATE}(?:\.pre)?\.0x(?:\.storage(?:\.0x)?)?",
        "In geth an opcode that cannot be paid touches nothing.",
        _ours_absent,
    ),
    _known(r"debug_trace\w+ 4byteTracer .*", "geth leaves out calls of precompiles.", _fewer),
    _known(r"trace_\w+ .*\.error", "OpenEthereum's words.", _both_there),
    _known(
        r"trace_replayBlockTransactions .*\.stateDiff\.0x\.(?:balance|nonce|code)(?:\.[+*])?",
        "To anvil every account has always been there.",
        _came_into_being,
    ),
    _known(
        r"trace_replayBlockTransactions .*\.stateDiff\.0x\.code",
        "anvil does not show a delegation that was set.",
        lambda ours, theirs: "0xef0100" in str(ours) and theirs == "=",
    ),
)
KNOWN: Final = (*_OWN, *_BLOCKS, *_CALLS, *_TRACES)


def explanation(difference: Difference) -> str:
    """The reason why it is meant; empty if nobody knows one."""
    for known in KNOWN:
        if known.place.match(difference.place) and known.holds(difference.ours, difference.theirs):
            return known.reason
    return ""


# --- Comparing -------------------------------------------------------------------------------------------------------


def differences(question: str, ours: Any, theirs: Any) -> Iterator[Difference]:
    for path, one, other in _walk(_normal(question, ours), _normal(question, theirs), ""):
        yield Difference(question, re.sub(r"\.0x[0-9a-f]{8,}", ".0x", path), one, other)


def _walk(ours: Any, theirs: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            yield from _walk(ours.get(name, ABSENT), theirs.get(name, ABSENT), f"{path}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield f"{path}.length", len(ours), len(theirs)
        for one, other in zip(ours, theirs, strict=False):
            yield from _walk(one, other, f"{path}[]")
    elif ours != theirs:
        yield path, ours, theirs


def with_names(answer: Any, names: Mapping[str, str]) -> Any:
    """The answer with block hashes, which must differ, replaced by names, which must not."""
    if isinstance(answer, dict):
        return {with_names(name, names): with_names(value, names) for name, value in answer.items()}
    if isinstance(answer, list):
        return [with_names(value, names) for value in answer]
    return names.get(answer, answer) if isinstance(answer, str) else answer


def _normal(question: str, answer: Any) -> Any:
    """Without what has no meaning: the order of an access list; precompiles among flat traces, and the places of
    those behind them; the STOP that revm runs where there is no code."""
    if "result" not in answer:
        return answer
    result = answer["result"]
    if question == "eth_createAccessList":
        result = {**result, "accessList": _sorted_access_list(result["accessList"])}
    elif question in ("trace_transaction", "trace_block", "trace_filter"):
        result = _without_precompiles(result)
    elif " structLogs" in question and "structLogs" in result:
        result = {**result, "structLogs": [line for line in result["structLogs"] if line["pc"] or line["op"] != "STOP"]}
    elif question.startswith("trace_replayBlockTransactions"):
        result = [{**run, "trace": _without_precompiles(run["trace"])} for run in result]
    return {**answer, "result": result}


def _sorted_access_list(given: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {entry["address"]: sorted(entry["storageKeys"]) for entry in given}


def _without_precompiles(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The clients that have these methods do not agree on which calls of precompiles are shown."""
    kept = []
    for trace in traces:
        is_hidden = trace["traceAddress"] and trace["action"].get("to") in _PRECOMPILES
        if not is_hidden:
            depth = len(trace["traceAddress"])
            kept.append({**trace, "traceAddress": depth, "subtraces": None})
    return kept
