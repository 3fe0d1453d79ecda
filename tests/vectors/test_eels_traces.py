"""Our EIP-3155 lines are those of Ethereum's execution specifications, line by line, for 1,000 recorded cases.

``data/eels_traces.json.xz`` is written by ``make eels-traces``; ``tests/campaigns/eels_traces.py`` says which cases it
holds and where the specification's lines are normalised.
"""

from __future__ import annotations

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from eth.exceptions import InsufficientStack, InvalidInstruction, OutOfGas, VMError

from astralink_node.evm.fork_rules import fork_named, plain_ethereum
from astralink_node.evm.pipeline import BlockExecution
from astralink_node.evm.scratch_state import ScratchState, parse_bytes
from astralink_node.evm.spec_tests import context_of_environment
from astralink_node.evm.tracing.calls import CallTracer
from astralink_node.evm.tracing.eip3155 import Eip3155Tracer
from astralink_node.evm.tracing.failure_words import describe
from astralink_node.evm.tracing.together import TracersTogether
from astralink_node.evm.transactions import decode_transaction, recover_sender
from tests.campaigns.eels_traces import CASES, FIXTURES, OUTPUT, digest

GROUPS = 20
"""Tests that the cases are spread over, so that several workers share them."""


@cache
def recorded() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(lzma.decompress(Path(OUTPUT).read_bytes()))
    return content


def our_trace(file: str, name: str, fork: str, position: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Lines and summary of our side."""
    case = json.loads((FIXTURES / file).read_bytes())[name]
    execution = BlockExecution(
        plain_ethereum(fork_named(fork), int(case["config"]["chainid"], 16)),
        context_of_environment(case["env"]),
        ScratchState(case["pre"]).overlay(),
    )
    written: list[str] = []
    calls = CallTracer()
    execution.set_tracer(TracersTogether([Eip3155Tracer(written.append), calls]))
    transaction = decode_transaction(parse_bytes(case["post"][fork][position]["txbytes"]))
    execution.apply_transaction(transaction, recover_sender(transaction))
    outcome = execution.last_outcome
    assert outcome is not None
    root = calls.result().frames[0]
    summary: dict[str, Any] = {"output": "0x" + outcome.output.hex(), "gasUsed": hex(root.gas_used)}
    if outcome.error is not None:
        summary["error"] = _family(outcome.error)
    return [_without_reason(json.loads(line)) for line in written], summary


def _without_reason(line: dict[str, Any]) -> dict[str, Any]:
    """The specification does not say why gas is out, as geth does of an SSTORE and of long initcode."""
    if str(line.get("error")).startswith("out of gas: "):
        line["error"] = "out of gas"
    return line


def _family(error: VMError) -> str:
    """The specification has one class of error where geth has several messages."""
    if isinstance(error, OutOfGas):
        return "out of gas"
    if isinstance(error, InsufficientStack):
        return "stack underflow"
    return "invalid opcode" if isinstance(error, InvalidInstruction) else describe(error)


def test_the_recording_is_whole_and_says_where_it_is_from() -> None:
    content = recorded()
    assert content["package"].startswith("ethereum-execution ")
    assert content["command"] == "make eels-traces"
    assert len(content["cases"]) == CASES
    assert len({tuple(entry["case"]) for entry in content["cases"]}) == CASES


@pytest.mark.parametrize("group", range(GROUPS))
def test_every_line_is_the_specifications(group: int) -> None:
    for entry in recorded()["cases"][group::GROUPS]:
        lines, summary = our_trace(*entry["case"])
        for position, expected in enumerate(entry["shown"]):
            assert lines[position : position + 1] == [expected], f"{entry['case']}, line {position}"
        assert (len(lines), digest(lines)) == (entry["count"], entry["digest"]), entry["case"]
        assert summary == entry["summary"], entry["case"]


def test_a_changed_line_is_noticed() -> None:
    entry = recorded()["cases"][0]
    lines, _ = our_trace(*entry["case"])
    lines[-1]["gasCost"] = hex(int(lines[-1]["gasCost"], 16) + 1)
    assert digest(lines) != entry["digest"]
