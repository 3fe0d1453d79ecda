"""The same blocks on a devnet of this node and on Foundry's anvil, and the same questions to both.

    python -m tests.campaigns.rpc_differential [--blocks 150] [--seed N] [--json ...]        (`make rpc-differential`)

anvil begins with the devnet's genesis; each of its blocks gets the time, base fee and fee recipient of ours. Random
blocks of calls, creations and failures (rpc_scenarios) are mined on both, and everything that both serve is compared
field by field: transactions, receipts, logs, state, calls, estimates, access lists, simulations, traces. A difference
counts as known with its reason, by rpc_differences. What anvil does not serve is held against our other answers
(rpc_consistency). The exit code is 1 if anything is unexplained. A test runs a few blocks.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from astralink_node.evm.transactions import Transaction
from benchmarks.report import circumstances, write_result
from tests.campaigns.rpc_consistency import contradictions, estimate_suffices, proves
from tests.campaigns.rpc_differences import Difference, differences, explanation, with_names
from tests.campaigns.rpc_questions import (
    TRACERS,
    Question,
    call_of,
    of_account,
    of_block,
    of_call,
    of_transaction,
)
from tests.campaigns.rpc_scenarios import AUTHORITIES, SENDERS, World, blocks, deployments
from tests.support.anvil import anvil_at, installed_anvil
from tests.support.node_process import NodeProcess, await_that

TIMEOUT_S: Final = 60
GAS_LIMIT: Final = 30_000_000
"""Of a block on a devnet, and of calls on both sides here."""
SLOTS: Final = tuple(f"0x{slot:064x}" for slot in range(2))
_COMMAND: Final = "python -m tests.campaigns.rpc_differential"


class Node:
    """One that answers JSON-RPC, over a connection that stays open."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._http = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        self.names: dict[str, str] = {}
        """Of block hashes."""

    def close(self) -> None:
        self._http.close()

    def ask(self, method: str, *params: object) -> dict[str, Any]:
        """The answer without its envelope: a `result` or an `error`."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self._http.request("POST", "/", body, {"content-type": "application/json"})
        answer = json.loads(self._http.getresponse().read())
        return {name: answer[name] for name in ("result", "error") if name in answer}

    def call(self, method: str, *params: object) -> Any:
        answer = self.ask(method, *params)
        if "error" in answer:
            raise AssertionError(f"{method} {params}: {answer['error']}")
        return answer["result"]

    def head(self) -> dict[str, Any]:
        head: dict[str, Any] = self.call("eth_getBlockByNumber", "latest", False)
        self.names[head["hash"]] = f"block {head['number']}"
        return head


@dataclass(slots=True)
class Findings:
    blocks: int = 0
    transactions: int = 0
    questions: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    """Differences by their reason."""
    unexplained: dict[str, Difference] = field(default_factory=dict)
    """The first of each kind."""
    contradictions: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.unexplained and not self.contradictions


class Campaign:
    """One pair of nodes with the same blocks."""

    def __init__(self, ours: Node, theirs: Node, seed: int) -> None:
        self.ours, self.theirs, self.findings = ours, theirs, Findings()
        self._chain_id = int(ours.call("eth_chainId"), 16)
        self._random = Random(seed)
        self._world = World()

    def run(self, count: int) -> Findings:
        for transactions in deployments(self._chain_id, self._world):
            self._mine(transactions)
        for transactions in blocks(self._random, self._chain_id, self._world, count):
            number, state_root = self._mine(transactions)
            self._compare_block(number, state_root, transactions)
            for account in (*(sender.address for sender in SENDERS), *AUTHORITIES):
                nonce = self.ours.call("eth_getTransactionCount", f"0x{account.hex()}", "latest")
                self._world.nonces[account] = int(nonce, 16)
        return self.findings

    def _mine(self, transactions: Sequence[Transaction]) -> tuple[str, str]:
        """One block with these on both nodes: its number, and our state root.

        The last comes first, so that all of them are there when the first can be included.
        """
        raws = [f"0x{transaction.raw.hex()}" for transaction in reversed(transactions)]
        last = f"0x{transactions[-1].hash.hex()}"
        for raw in raws:
            self.ours.call("eth_sendRawTransaction", raw)
        await_that(
            lambda: self.ours.call("eth_getTransactionReceipt", last) is not None, lambda: f"{last} is in no block"
        )
        head = self.ours.head()
        self.theirs.call("evm_setAutomine", False)
        self.theirs.call("evm_setNextBlockTimestamp", int(head["timestamp"], 16))
        self.theirs.call("anvil_setNextBlockBaseFeePerGas", head["baseFeePerGas"])
        self.theirs.call("anvil_setCoinbase", head["miner"])
        for raw in raws:
            self.theirs.call("eth_sendRawTransaction", raw)
        self.theirs.call("evm_mine")
        other = self.theirs.head()
        hashes = [f"0x{transaction.hash.hex()}" for transaction in transactions]
        if not hashes == head["transactions"] == other["transactions"] or head["number"] != other["number"]:
            raise AssertionError(f"not one block with {hashes}: {head}, {other}")
        self.findings.blocks += 1
        self.findings.transactions += len(hashes)
        return str(head["number"]), str(head["stateRoot"])

    def _compare_block(self, number: str, state_root: str, transactions: Sequence[Transaction]) -> None:
        hashes = [f"0x{transaction.hash.hex()}" for transaction in transactions]
        for transaction_hash in hashes:
            self._compare(of_transaction(transaction_hash))
        self._compare(of_block(number))
        touched = {
            address
            for transaction_hash in hashes
            for address in self.ours.call("debug_traceTransaction", transaction_hash, TRACERS["prestateTracer"])
        }
        for address in sorted(touched):
            self._compare(of_account(address, SLOTS, number))
            if not proves(self.ours.call("eth_getProof", address, SLOTS, number), state_root):
                self.findings.contradictions.append(f"block {number}: the proof of {address} does not hold")
        sender = self._random.choice(SENDERS).address
        call = call_of(self._random.choice(list(transactions)), sender, self._random)
        self._compare(of_call(call, number))
        if not estimate_suffices(self.ours, call, number):
            self.findings.contradictions.append(f"block {number}: the estimate of {call} is too low")
        self.findings.contradictions += contradictions(self.ours, number, hashes)

    def _compare(self, questions: Iterator[Question]) -> None:
        for question in questions:
            self.findings.questions[question.method] += 1
            ours, theirs = (
                with_names(node.ask(question.method, *question.params), node.names) for node in (self.ours, self.theirs)
            )
            for difference in differences(question.name, ours, theirs):
                reason = explanation(difference)
                if reason:
                    self.findings.known[reason] += 1
                elif difference.place not in self.findings.unexplained:
                    self.findings.unexplained[difference.place] = difference
                    print(_told(question, difference), flush=True)


def _told(question: Question, difference: Difference) -> str:
    asked = json.dumps(question.params)
    return f"DIFFERS {difference.place}\n  asked  {asked}\n  ours   {difference.ours}\n  theirs {difference.theirs}"


@contextmanager
def pair(folder: Path, anvil: Path) -> Iterator[tuple[Node, Node]]:
    """A devnet, and an anvil with its genesis."""
    chain = folder / "chain"
    arguments = ("devnet", "--dir", str(chain), "--rpc-port", "0", "--instant", "--json")
    with NodeProcess(folder / "log", *arguments, "--rpc-gas-cap", str(GAS_LIMIT)) as devnet:
        ready = devnet.await_ready().ready
        options = (
            *("--chain-id", str(ready["chainId"]), "--init", str(chain / "genesis.json")),
            *("--hardfork", "osaka", "--enable-tx-gas-limit", "--gas-limit", str(GAS_LIMIT)),
            *("--steps-tracing", "--order", "fifo", "--disable-default-create2-deployer"),
        )
        with anvil_at(anvil, *options) as url, closing(Node(ready["rpcUrl"])) as ours, closing(Node(url)) as theirs:
            yield ours, theirs


def campaign(folder: Path, anvil: Path, seed: int, count: int) -> Findings:
    with pair(folder, anvil) as (ours, theirs):
        return Campaign(ours, theirs, seed).run(count)


def main() -> int:
    parser = argparse.ArgumentParser(description="the same blocks and questions for a devnet and for anvil")
    parser.add_argument("--anvil", type=Path, default=None, help="the program; else the one of tests/toolchains")
    parser.add_argument("--blocks", type=int, default=150)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--json", type=Path, default=None, help="where the figures go")
    arguments = parser.parse_args()
    print("seed", arguments.seed, flush=True)
    given = circumstances(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        anvil = arguments.anvil or installed_anvil()
        findings = campaign(Path(folder), anvil, arguments.seed, arguments.blocks)
    for contradiction in findings.contradictions:
        print("CONTRADICTION", contradiction)
    result = {
        "blocks": findings.blocks,
        "transactions": findings.transactions,
        "questions": dict(sorted(findings.questions.items())),
        "known_differences": dict(findings.known.most_common()),
        "unexplained": sorted(findings.unexplained),
        "contradictions": findings.contradictions,
    }
    print(json.dumps(result, indent=1))
    if arguments.json is not None:
        write_result(arguments.json, {**given, "command": _COMMAND, **result})
    return 0 if findings.holds else 1


if __name__ == "__main__":
    sys.exit(main())
