"""Holds our block execution against Ethereum's execution specifications (EELS) on random blocks.

    python -m tests.campaigns.eels_differential PYTHON --cases 1000 --seed 1

PYTHON is an interpreter with the package ``ethereum-execution``, in an environment of its own. A case is a state,
a block's environment and transactions, valid and invalid, made by ``evm_cases.py`` from the seed and its index
alone. Compared are the roots of state, transactions, receipts and withdrawals, logs, gas used, the requests, and
which transactions are refused. A difference is made smaller and written as JSON; ``--replay`` runs such a file.
The number of cases is the bound; the exit code is 1 if any differs.
"""

from __future__ import annotations

import argparse
import copy
import json
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from astralink_node.errors import AstraLinkError
from astralink_node.evm.block_errors import InvalidBlock
from astralink_node.evm.blocks import Withdrawal
from astralink_node.evm.fork_rules import fork_named, plain_ethereum
from astralink_node.evm.pipeline import BlockContext, BlockExecution
from astralink_node.evm.scratch_state import ScratchState
from astralink_node.evm.transactions import InvalidTransaction, TransactionRule, decode_transaction, recover_sender
from astralink_node.state.overlay import Overlay
from astralink_node.types import Address, Hash32
from tests.campaigns.evm_cases import make_case

Case = dict[str, Any]
Answer = dict[str, Any]

MAX_DIFFERENCES: Final = 20
MAX_SHRINKING_RUNS: Final = 400
COMPARED: Final = (
    "state_root",
    "transactions_root",
    "receipts_root",
    "withdrawals_root",
    "logs_bloom",
    "logs",
    "gas_used",
    "requests",
    "requests_hash",
)


# --- Our side ------------------------------------------------------------------------------------------------------


def our_answer(case: Case) -> Answer:
    state = ScratchState(
        {"0x" + address: fields | {"code": "0x" + fields["code"]} for address, fields in case["alloc"].items()}
    )
    overlay = state.overlay()
    rules = plain_ethereum(fork_named(case["fork"]), case["chain_id"])
    execution = BlockExecution(rules, _context(case["environment"]), overlay)
    execution.apply_system_start()
    rejected: dict[str, str] = {}
    for position, raw in enumerate(case["transactions"]):
        try:
            transaction = decode_transaction(bytes.fromhex(raw))
            execution.apply_transaction(transaction, recover_sender(transaction))
        except InvalidTransaction as error:
            rejected[str(position)] = str(error)
    try:
        executed = execution.finish([_withdrawal(fields) for fields in case["withdrawals"]])
    except InvalidBlock as error:
        return {"rejected": rejected, "block_error": str(error)}
    return {
        "rejected": rejected,
        "block_error": "",
        "state_root": state.root_after(overlay).hex(),
        "transactions_root": executed.transactions_root.hex(),
        "receipts_root": executed.receipts_root.hex(),
        "withdrawals_root": executed.withdrawals_root.hex(),
        "logs_bloom": executed.logs_bloom.hex(),
        "logs": [
            [log.address.hex(), [topic.hex() for topic in log.topics], log.data.hex()]
            for receipt in executed.receipts
            for log in receipt.logs
        ],
        "gas_used": executed.gas_used,
        "requests": [request.hex() for request in executed.requests],
        "requests_hash": executed.requests_hash.hex(),
        "accounts": _accounts(case, overlay),
    }


def _context(fields: dict[str, Any]) -> BlockContext:
    hashes = {int(height): bytes.fromhex(digest) for height, digest in fields["block_hashes"].items()}
    return BlockContext(
        number=fields["number"],
        timestamp=fields["timestamp"],
        coinbase=Address(bytes.fromhex(fields["coinbase"])),
        gas_limit=fields["gas_limit"],
        base_fee_per_gas=fields["base_fee"],
        prev_randao=Hash32(bytes.fromhex(fields["prev_randao"])),
        parent_hash=Hash32(hashes[fields["number"] - 1]),
        parent_beacon_block_root=Hash32(bytes.fromhex(fields["parent_beacon_block_root"])),
        excess_blob_gas=fields["excess_blob_gas"],
        ancestor_hash=lambda height: hashes.get(height, b""),
    )


def _withdrawal(fields: dict[str, Any]) -> Withdrawal:
    return Withdrawal(
        index=fields["index"],
        validator_index=fields["validator_index"],
        address=Address(bytes.fromhex(fields["address"])),
        amount_gwei=fields["amount"],
    )


def _accounts(case: Case, overlay: Overlay) -> dict[str, list[object]]:
    """For the report of a difference only."""
    accounts: dict[str, list[object]] = {}
    for address in {*(Address(bytes.fromhex(text)) for text in case["alloc"]), *overlay.changes().accounts}:
        account = overlay.account(address)
        if account is not None:
            accounts[address.hex()] = [account.nonce, account.balance, overlay.get_code(address).hex()]
    return accounts


# --- The other side ------------------------------------------------------------------------------------------------


class Specification:
    """The process that runs the specification."""

    def __init__(self, python: str) -> None:
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("eels_side.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, case: Case) -> Answer:
        questions, answers = self._pipes()
        questions.write(json.dumps(case) + "\n")
        questions.flush()
        line = answers.readline()
        if not line:
            raise SystemExit("the specification's process has ended; its error is above")
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        self._pipes()[0].close()
        self._process.wait()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


# --- Comparing -----------------------------------------------------------------------------------------------------


def difference(ours: Answer, theirs: Answer) -> list[str]:
    """What differs, in words; nothing if the specification could not answer.

    It does not look at the chain id of typed transactions (EIP-2930: must be the chain's), which we refuse.
    """
    if "failed" in theirs:
        return []
    if any(
        reason.startswith(TransactionRule.CHAIN_ID) and position not in theirs["rejected"]
        for position, reason in ours["rejected"].items()
    ):
        return []
    found = []
    if ours["rejected"].keys() != theirs["rejected"].keys():
        found.append(f"rejected: ours {ours['rejected']}, theirs {theirs['rejected']}")
    if bool(ours["block_error"]) != bool(theirs["block_error"]):
        found.append(f"block error: ours {ours['block_error']!r}, theirs {theirs['block_error']!r}")
    elif not ours["block_error"]:
        found += [
            f"{name}: ours {ours[name]}, theirs {theirs[name]}" for name in COMPARED if ours[name] != theirs[name]
        ]
        if found:
            found += _account_differences(ours["accounts"], theirs["accounts"])
    return found


def _account_differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    for address in sorted(ours.keys() | theirs.keys()):
        if ours.get(address) != theirs.get(address):
            yield f"account {address}: ours {ours.get(address)}, theirs {theirs.get(address)}"


def shrink(case: Case, still_differs: Callable[[Case], bool]) -> Case:
    """A smaller case that differs still: fewer transactions, withdrawals, accounts and slots."""
    runs = 0
    progress = True
    while progress and runs < MAX_SHRINKING_RUNS:
        progress = False
        for smaller in _smaller(case):
            runs += 1
            if runs >= MAX_SHRINKING_RUNS:
                break
            if still_differs(smaller):
                case, progress = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    for name in ("transactions", "withdrawals"):
        for position in range(len(case[name])):
            smaller = copy.deepcopy(case)
            del smaller[name][position]
            yield smaller
    for address, fields in case["alloc"].items():
        smaller = copy.deepcopy(case)
        del smaller["alloc"][address]
        yield smaller
        for slot in fields["storage"]:
            smaller = copy.deepcopy(case)
            del smaller["alloc"][address]["storage"][slot]
            yield smaller


# --- The campaign --------------------------------------------------------------------------------------------------


def run(python: str, cases: Iterator[Case], output: Path) -> int:
    """How many cases differ."""
    specification = Specification(python)
    counts: Counter[str] = Counter()
    gas: Counter[str] = Counter()

    def compare(case: Case) -> list[str]:
        theirs = specification.ask(case)
        try:
            ours = our_answer(case)
        except (AstraLinkError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
            return [] if "failed" in theirs else [f"we failed: {type(error).__name__}: {error}"]
        fork = case["fork"]
        counts[f"{fork} transactions"] += len(case["transactions"])
        counts[f"{fork} rejected transactions"] += len(ours["rejected"])
        counts[f"{fork} invalid blocks"] += bool(ours["block_error"])
        counts[f"{fork} not answered by the specification"] += "failed" in theirs
        gas[fork] += ours.get("gas_used", 0)
        return difference(ours, theirs)

    differing = 0
    for case in cases:
        found = compare(case)
        counts[f"{case['fork']} cases"] += 1
        if not found:
            continue
        differing += 1
        totals = counts.copy(), gas.copy()
        small = shrink(case, lambda candidate: bool(compare(candidate)))
        found = compare(small)
        (counts, gas) = totals
        path = output / f"difference-{case['name']}.json"
        path.write_text(json.dumps(small, indent=1))
        print(f"DIFFERENCE {case['name']} (written to {path})", *(f"  {line}" for line in found), sep="\n", flush=True)
        if differing == MAX_DIFFERENCES:
            break
    specification.close()
    print(*(f"{name}: {count}" for name, count in sorted(counts.items())), f"gas: {dict(gas)}", sep="\n")
    print(f"differing cases: {differing}")
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare block execution with the execution specifications.")
    parser.add_argument("python", help="an interpreter with the package ethereum-execution")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", type=int, default=None, help="the one case of the seed to run")
    parser.add_argument("--replay", type=Path, default=None, help="a case that was written before")
    parser.add_argument("--output", type=Path, default=Path(), help="folder for differing cases")
    arguments = parser.parse_args()
    if arguments.replay is not None:
        cases = iter([json.loads(arguments.replay.read_text())])
    else:
        seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
        print(f"seed {seed}, {arguments.cases} cases", flush=True)
        positions = range(arguments.cases) if arguments.only is None else [arguments.only]
        cases = (make_case(seed, position) for position in positions)
    return 1 if run(arguments.python, cases, arguments.output) else 0


if __name__ == "__main__":
    sys.exit(main())
