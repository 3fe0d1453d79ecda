"""Records EIP-3155 traces of Ethereum's execution specifications (EELS) for 1,000 state-test cases.

    python -m tests.campaigns.eels_traces PYTHON

PYTHON is an interpreter with the package ``ethereum-execution``, in an environment of its own (``make eels-traces``
makes one). The cases are execution-spec-tests that the repository holds: the files in the order of their names'
hashes, of each the one case that comes first in the same order and has a trace. The result is
``tests/vectors/data/eels_traces.json.xz``: of each case's trace the first lines, how many there are, and a digest of
all. It is the same for the same version of the package; the head of the file names that and this command.

:func:`normalised` is the one place where lines are made comparable: what EELS's tracer writes otherwise than EIP-3155
and geth, each with its reason.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.fork_rules import OSAKA
from astralink_node.evm.opcodes import dispatch_table
from astralink_node.evm.scratch_state import parse_bytes, parse_integer
from astralink_node.evm.tracing.costs import LARGEST_COST
from astralink_node.evm.tracing.instructions import OPCODE_NAMES, STACK_TAKEN
from tests.support.fixture_archives import unpack_fixtures

CASES: Final = 1_000
BLOB_TRANSACTION: Final = "0x03"
"""How a transaction begins that this chain does not carry."""
CASES_TRIED: Final = 3
"""Of one file."""
SHOWN_LINES: Final = 1_000
"""Of one case, kept in full; all are in the digest. As many as ``eels_trace_side.MAX_LINES``: longer traces are left
out."""
FIXTURES: Final = Path(__file__).parents[1] / "fixtures" / "unpacked" / "eest"
OUTPUT: Final = Path(__file__).parents[1] / "vectors" / "data" / "eels_traces.json.xz"

Line = dict[str, Any]


# --- Cases ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StateCase:
    """One transaction of a state test."""

    file: str
    name: str
    fork: str
    position: int
    case: dict[str, Any]

    @property
    def key(self) -> list[object]:
        return [self.file, self.name, self.fork, self.position]

    @property
    def raw_transaction(self) -> str:
        return str(self.case["post"][self.fork][self.position]["txbytes"])


def candidates() -> Iterator[list[StateCase]]:
    """For each file its cases, in the order in which they are tried."""
    files = (path.relative_to(FIXTURES).as_posix() for path in FIXTURES.glob("state_tests/**/*.json"))
    for file in sorted(files, key=_order):
        cases = [
            StateCase(file, name, fork, position, case)
            for name, case in json.loads((FIXTURES / file).read_bytes()).items()
            for fork, posts in case["post"].items()
            for position, post in enumerate(posts)
            if "expectException" not in post and not post["txbytes"].startswith(BLOB_TRANSACTION)
        ]
        yield sorted(cases, key=lambda case: _order(f"{case.name} {case.fork} {case.position}"))


def _order(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def question(state_case: StateCase) -> dict[str, Any]:
    """The case as ``eels_side.py`` takes it."""
    case, environment = state_case.case, state_case.case["env"]
    number = parse_integer(environment["currentNumber"])
    zero_hash = bytes(32).hex()
    return {
        "fork": state_case.fork,
        "chain_id": parse_integer(case.get("config", {}).get("chainid", 1)),
        "alloc": {address[2:]: _account(fields) for address, fields in case["pre"].items()},
        "environment": {
            "number": number,
            "gas_limit": parse_integer(environment["currentGasLimit"]),
            "coinbase": environment["currentCoinbase"][2:],
            "base_fee": parse_integer(environment["currentBaseFee"]),
            "timestamp": parse_integer(environment["currentTimestamp"]),
            "prev_randao": parse_integer(environment["currentRandom"]).to_bytes(32, "big").hex(),
            "excess_blob_gas": parse_integer(environment.get("currentExcessBlobGas", 0)),
            "parent_beacon_block_root": zero_hash,
            # As in spec_tests.context_of_environment.
            "block_hashes": {
                str(height): keccak256(str(height).encode()).hex() for height in range(max(number - 256, 0), number)
            },
        },
        "transactions": [state_case.raw_transaction[2:]],
        "withdrawals": [],
    }


def _account(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "nonce": parse_integer(fields["nonce"]),
        "balance": parse_integer(fields["balance"]),
        "code": parse_bytes(fields["code"]).hex(),
        "storage": {str(parse_integer(slot)): parse_integer(value) for slot, value in fields["storage"].items()},
    }


# --- Lines ---------------------------------------------------------------------------------------------------------

_ERRORS: Final = {
    "OutOfGasError": "out of gas",
    "Revert": "execution reverted",
    "StackOverflowError": "stack limit reached 1024 (1023)",
    "InvalidJumpDestError": "invalid jump destination",
    "WriteInStaticContext": "write protection",
    "OutOfBoundsRead": "return data out of bounds",
    "InvalidContractPrefix": "invalid code: must not begin with 0xef",
}
_CONSTANT_GAS: Final = tuple(entry[0] for entry in dispatch_table(OSAKA))


def normalised(line: Line) -> Line:
    """A line of EELS's as ours is.

    - Names: EELS has its own for KECCAK256 and for every opcode that is not defined, where we print geth's.
    - Errors: EELS prints the names of its classes, we geth's words; EIP-3155 leaves the text open.
    - A stack that is too short: EELS takes the operands before it charges, and shows no cost but for DUP and SWAP;
      geth and we show the opcode's constant gas.
    - A cost above 64 bits: EELS leaves the field out, though EIP-3155 requires it; we print the largest such number.
    """
    opcode = int(line["op"])
    found = line | {"opName": OPCODE_NAMES[opcode]}
    error = line.get("error")
    if error == "StackUnderflowError":
        found["error"] = f"stack underflow ({len(line['stack'])} <=> {STACK_TAKEN[opcode]})"
        found["gasCost"] = hex(_CONSTANT_GAS[opcode])
    elif error == "InvalidOpcode":
        found["error"] = f"invalid opcode: {OPCODE_NAMES[opcode]}"
    elif error is not None:
        found["error"] = _ERRORS[error]
    found.setdefault("gasCost", hex(LARGEST_COST))
    return found


def normalised_summary(line: Line) -> Line:
    """EELS counts the gas of the transaction's own call, without the intrinsic gas, and leaves 0x off the output."""
    found: Line = {"output": "0x" + line["output"], "gasUsed": line["gasUsed"]}
    if "error" in line:
        found["error"] = _SUMMARY_ERRORS.get(line["error"]) or _ERRORS[line["error"]]
    return found


_SUMMARY_ERRORS: Final = {"StackUnderflowError": "stack underflow", "InvalidOpcode": "invalid opcode"}


def digest(lines: list[Line]) -> str:
    """Of all lines, as canonical JSON."""
    return hashlib.sha256("\n".join(json.dumps(line, sort_keys=True) for line in lines).encode()).hexdigest()


# --- Recording -----------------------------------------------------------------------------------------------------


class Specification:
    """The process that runs the specification."""

    def __init__(self, python: str) -> None:
        side = Path(__file__).with_name("eels_trace_side.py")
        self._process = subprocess.Popen([python, str(side)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self._read()["version"]

    def trace(self, state_case: StateCase) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question(state_case)) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the specification's process has ended; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def record(specification: Specification, count: int) -> list[dict[str, Any]]:
    """The first `count` cases that have a trace."""
    recorded: list[dict[str, Any]] = []
    for cases in candidates():
        for state_case in cases[:CASES_TRIED]:
            found = entry(state_case, specification.trace(state_case))
            if found is not None:
                recorded.append(found)
                break
        if len(recorded) % 50 == 0:
            print(f"{len(recorded)} of {count}", flush=True)
        if len(recorded) == count:
            break
    return recorded


def entry(state_case: StateCase, answer: dict[str, Any]) -> dict[str, Any] | None:
    """None if no code ran, or too much of it."""
    if "failed" in answer or len(answer["lines"]) < 2:
        return None
    lines = [normalised(line) for line in answer["lines"][:-1]]
    return {
        "case": state_case.key,
        "count": len(lines),
        "digest": digest(lines),
        "shown": lines[:SHOWN_LINES],
        "summary": normalised_summary(answer["lines"][-1]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Record EIP-3155 traces of the execution specifications.")
    parser.add_argument("python", help="an interpreter with the package ethereum-execution")
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    unpack_fixtures()
    specification = Specification(arguments.python)
    content = {
        "what": "EIP-3155 traces of Ethereum's execution specifications for cases of execution-spec-tests v5.4.0",
        "package": f"ethereum-execution {specification.version}",
        "command": "make eels-traces",
        "licence": "CC0-1.0 (ethereum/execution-specs), cases MIT (ethereum/execution-spec-tests)",
        "cases": record(specification, arguments.cases),
    }
    specification.close()
    arguments.output.write_bytes(lzma.compress(json.dumps(content, sort_keys=True).encode(), preset=9))
    print(f"{len(content['cases'])} cases written to {arguments.output}")
    return 0 if len(content["cases"]) == arguments.cases else 1


if __name__ == "__main__":
    sys.exit(main())
