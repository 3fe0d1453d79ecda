"""Runs every execution-spec-test of the repository without and with all tracers; nothing may differ.

    python -m tests.campaigns.traced_vectors --json benchmarks/results/traced-vectors.json

Compared are gas, output, logs and the state root of each case. EIP-3155's lines and the memory of struct logs are left
to the suite's sample, which takes all at once. A trace that exceeds its bound ends its transaction by design: such a
file is run again without Parity's ``vmTrace``, then without inner calls (50,000 of them with 50,000 bytes each), and
counted. So is a file whose transactions burn more than FEW_OPCODES_GAS together, in loops of millions of opcodes: it is
run with the tracers that watch few opcodes. The exit code is 1 if any case differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.report import circumstances, write_result
from tests.support.fixture_archives import unpack_fixtures
from tests.support.traced_runs import TOO_LARGE, AllTracers, CaseOutcome, outcomes

FIXTURES = Path(__file__).parents[1] / "fixtures" / "unpacked" / "eest"


FEW_OPCODES_GAS: Final = 20_000_000


def run(files: list[Path]) -> dict[str, Any]:
    cases, transactions, lines, differing = 0, 0, 0, []
    without_vm_trace, without_inner_calls, few_opcodes = [], [], []
    for position, path in enumerate(files):
        fixture = json.loads(path.read_bytes())
        name = path.relative_to(FIXTURES).as_posix()
        untraced = outcomes(fixture, None)
        gas = sum(outcome.receipts[-1].cumulative_gas_used for outcome in untraced if outcome.receipts)
        opcodes = gas <= FEW_OPCODES_GAS
        if not opcodes:
            few_opcodes.append(name)
        tracer = AllTracers(texts=False, opcodes=opcodes)
        traced = outcomes(fixture, tracer)
        if _is_too_large(traced) and opcodes:
            without_vm_trace.append(name)
            tracer = AllTracers(texts=False, vm_trace=False)
            traced = outcomes(fixture, tracer)
        if _is_too_large(traced):
            without_inner_calls.append(name)
            tracer = AllTracers(texts=False, vm_trace=False, opcodes=opcodes, inner_calls=False)
            traced = outcomes(fixture, tracer)
        cases += len(untraced)
        transactions += sum(len(outcome.receipts) for outcome in untraced)
        lines += tracer.lines
        for plain, watched in zip(untraced, traced, strict=True):
            if plain != watched:
                differing.append(f"{name}: {plain.result.name}")
                print(f"DIFFERS {differing[-1]}\n  {plain.result}\n  {watched.result}", flush=True)
        if position % 50 == 0:
            print(f"{position} of {len(files)} files, {cases} cases, {len(differing)} differ", flush=True)
    return {
        "files": len(files),
        "cases": cases,
        "transactions": transactions,
        "lines": lines,
        "without_vm_trace": without_vm_trace,
        "without_inner_calls": without_inner_calls,
        "with_tracers_of_few_opcodes_only": few_opcodes,
        "differing": differing,
    }


def _is_too_large(traced: list[CaseOutcome]) -> bool:
    return any(outcome.result.error.startswith(TOO_LARGE) for outcome in traced)


def main() -> int:
    parser = argparse.ArgumentParser(description="Execution-spec-tests without and with all tracers.")
    parser.add_argument("--json", type=Path, default=None, help="where the figures go")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file only")
    arguments = parser.parse_args()
    unpack_fixtures()
    started = time.monotonic()
    found = run(sorted(FIXTURES.rglob("*.json"))[:: arguments.every])
    found["seconds"] = round(time.monotonic() - started)
    print(json.dumps(found, indent=1))
    if arguments.json is not None:
        command = {"command": "python -m tests.campaigns.traced_vectors --json benchmarks/results/traced-vectors.json"}
        write_result(arguments.json, {**circumstances(0), **command, "every": arguments.every, **found})
    return 1 if found["differing"] else 0


if __name__ == "__main__":
    sys.exit(main())
