"""Kills a real devnet with SIGKILL at random moments, again and again, and checks after each that nothing was lost.

    python -m tests.crash.campaign --kills 200 [--seed N] [--json benchmarks/results/crash.json]

While blocks are made from a stream of transfers, one of these dies: every process of the node at once, the node
alone, or the execution process alone; sometimes while the node is still starting. After each restart, without any
help, the node must stand at or above the highest block that anybody was told of, with the same hash, and every
transaction with a receipt must still have it. Every tenth time, and at the end, the whole database is verified.
"""

import argparse
import http.client
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astralink_node.chain.check import check_database
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE
from astralink_node.services.data_folder import DataFolder
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.storage.store import DatabaseLocked
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_CHAIN_ID
from tests.support.node_process import children_of

BLOCK_INTERVAL_MS = 50
START_TIMEOUT_S = 60
GONE_TIMEOUT_S = 30
LONGEST_LIFE_S = 2.0
STARTING_SHARE = 0.15
"""Of the kills: how many fall while the node is starting."""
VICTIMS = ("all", "all", "node", "execution")
FULL_CHECK_EVERY = 10
DYING = ("temporarily unavailable", "the execution process closed the connection", "the node is stopping")
"""What the gateway, or the node through it, answers while the execution process is gone and they are not yet."""
GWEI = 10**9


class Refused(Exception):
    """The node answered with an error."""


class Lost(AssertionError):
    """Something that was final is gone, or the node does not come back."""


@dataclass
class Known:
    """What the outside world was told."""

    height: int = 0
    block_hash: str = ""
    receipts: dict[str, str] = field(default_factory=dict)
    """Transaction hash -> block hash."""


@dataclass
class Life:
    """One run of the node."""

    process: subprocess.Popen[bytes]
    url: str = ""

    def call(self, method: str, *params: object) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            reply = json.load(answer)
        if "error" in reply:
            raise Refused(f"{method}: {reply['error']}")
        return reply["result"]


def start(folder: Path, log: Path) -> Life:
    command = [sys.executable, "-m", "astralink_node.cli.main", "devnet", "--dir", str(folder), "--rpc-port", "0"]
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [*command, "--block-interval-ms", str(BLOCK_INTERVAL_MS), "--json"], stdout=subprocess.PIPE, stderr=errors
        )
    return Life(process)


def await_ready(life: Life, log: Path) -> dict[str, Any]:
    assert life.process.stdout is not None
    readable, _, _ = select.select([life.process.stdout], [], [], START_TIMEOUT_S)
    line = life.process.stdout.readline() if readable else b""
    if not line:
        raise Lost(f"the node did not come back:\n{log.read_text()[-3000:]}")
    ready: dict[str, Any] = json.loads(line)
    life.url = ready["rpcUrl"]
    return ready


def is_execution(pid: int) -> bool:
    try:
        return b"astralink_node.chain.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def kill(life: Life, victim: str) -> None:
    """SIGKILL by process id; returns when the node itself is gone."""
    pid = life.process.pid
    children = children_of(pid)
    targets = {"all": [pid, *children], "node": [pid], "execution": [c for c in children if is_execution(c)]}[victim]
    if not targets:
        targets = [pid]  # killed while starting, before there was an execution process
    for target in targets:
        try:
            os.kill(target, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended in this very moment
    life.process.wait(GONE_TIMEOUT_S)
    if life.process.stdout:
        life.process.stdout.close()


def transfers(stop: threading.Event, life: Life, known: Known) -> None:
    """Send transfers and note what the node says about them, until it dies."""
    sender = DEVNET_ACCOUNTS[0]
    unseen: list[str] = []
    try:
        while not stop.is_set():
            nonce = int(life.call("eth_getTransactionCount", "0x" + sender.address.hex(), "pending"), 16)
            raw = transfer(nonce)
            try:
                life.call("eth_sendRawTransaction", "0x" + raw.hex())
                unseen.append("0x" + keccak256(raw).hex())
            except Refused as refusal:
                if "nonce too low" not in str(refusal) and "already known" not in str(refusal):
                    raise
            head = life.call("eth_getBlockByNumber", "latest", False)
            if int(head["number"], 16) >= known.height:
                known.height, known.block_hash = int(head["number"], 16), head["hash"]
            for transaction_hash in list(unseen):
                receipt = life.call("eth_getTransactionReceipt", transaction_hash)
                if receipt is not None:
                    known.receipts[transaction_hash] = receipt["blockHash"]
                    unseen.remove(transaction_hash)
    except (OSError, ValueError, http.client.HTTPException):
        return  # the gateway died in the middle of an answer
    except Refused as refusal:
        if not any(words in str(refusal) for words in DYING):
            raise


def collect(failures: list[BaseException], work: Callable[..., None], *arguments: object) -> None:
    """Run `work` in this thread and keep what it raises for the thread that judges."""
    try:
        work(*arguments)
    except BaseException as error:  # noqa: BLE001 - handed over whole, never swallowed
        failures.append(error)


def transfer(nonce: int) -> bytes:
    unsigned = new_transaction(
        DYNAMIC_FEE_TYPE,
        chain_id=DEVNET_CHAIN_ID,
        nonce=nonce,
        max_fee_per_gas=100 * GWEI,
        max_priority_fee_per_gas=GWEI,
        gas_limit=21_000,
        to=bytes(19) + b"\x42",
        value=1,
        data=b"",
    )
    return sign_transaction(unsigned, DEVNET_ACCOUNTS[0].private_key).raw


def check_alive(life: Life, known: Known, ready: dict[str, Any]) -> None:
    height = int(life.call("eth_blockNumber"), 16)
    if height < known.height:
        raise Lost(f"the head was {known.height} before the kill and is {height} after it")
    if known.block_hash:
        block = life.call("eth_getBlockByNumber", hex(known.height), False)
        if block["hash"] != known.block_hash:
            raise Lost(f"block {known.height} was {known.block_hash} and is {block['hash']}")
    for transaction_hash, block_hash in list(known.receipts.items())[-20:]:
        receipt = life.call("eth_getTransactionReceipt", transaction_hash)
        if receipt is None or receipt["blockHash"] != block_hash:
            raise Lost(f"transaction {transaction_hash} was in block {block_hash}; now its receipt is {receipt}")
    if ready["chainId"] != DEVNET_CHAIN_ID:
        raise Lost(f"another chain: {ready}")


def check_whole_database(folder: Path) -> int:
    """Verify every block and the whole state as the next start would find them; returns the height."""
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while True:
        try:
            store = open_leveldb(DataFolder(folder).database, create=False)
            break
        except DatabaseLocked:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # an orphaned execution process: it has no parent left to wait for it
    try:
        report = check_database(store, lambda *_: None)
        if report.problems:
            raise Lost(f"the database has problems: {report.problems}")
        return report.head_height
    finally:
        store.close()


def run(kills: int, seed: int, folder: Path, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """The campaign; returns its figures. Raises Lost."""
    chance = random.Random(seed)
    known, victims, log = Known(), Counter[str](), folder / "log"
    chain = folder / "devnet"
    tell(f"seed {seed}: {kills} kills")
    restarts_s: list[float] = []
    failures: list[BaseException] = []
    for number in range(1, kills + 1):
        victim = chance.choice(VICTIMS)
        if number > 1 and chance.random() < STARTING_SHARE:
            life = start(chain, log)
            threading.Event().wait(chance.random() * 2)
            victims[f"{victim} while starting"] += 1
            kill(life, victim)
            continue
        began = time.monotonic()
        life = start(chain, log)
        ready = await_ready(life, log)
        restarts_s.append(time.monotonic() - began)
        check_alive(life, known, ready)
        stop = threading.Event()
        load = threading.Thread(target=collect, args=(failures, transfers, stop, life, known))
        load.start()
        stop.wait(chance.random() * LONGEST_LIFE_S)  # the moment of the kill is the experiment
        victims[victim] += 1
        kill(life, victim)
        stop.set()
        load.join()
        if failures:
            raise Lost(f"while the node was alive: {failures[0]}")
        if number % FULL_CHECK_EVERY == 0:
            height = check_whole_database(chain)
            tell(f"{number} of {kills} kills: head {height}, {len(known.receipts)} receipts seen, nothing lost")
    life = start(chain, log)
    check_alive(life, known, await_ready(life, log))
    life.process.terminate()
    code = life.process.wait(GONE_TIMEOUT_S)
    if life.process.stdout:
        life.process.stdout.close()
    if code != 0:
        raise Lost(f"the node ended with code {code} on SIGTERM:\n{log.read_text()[-3000:]}")
    restarts_s.sort()
    return {
        "campaign": "crash",
        "kills": kills,
        "seed": seed,
        "victims": dict(sorted(victims.items())),
        "final_height": check_whole_database(chain),
        "receipts_seen": len(known.receipts),
        "lost": 0,
        "median_restart_s": round(restarts_s[len(restarts_s) // 2], 2),
        "slowest_restart_s": round(restarts_s[-1], 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory(prefix="astralink-crash-") as folder:
        figures = run(options.kills, seed, Path(folder))
    figures["date"] = time.strftime("%Y-%m-%d")
    figures["command"] = f"python -m tests.crash.campaign --kills {options.kills} --seed {seed}"
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
