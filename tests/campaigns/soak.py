"""Half an hour of a network's life: load, one random fault after another, and nothing that grows without bound.

    python -m tests.campaigns.soak --minutes 30 [--seed N] [--json benchmarks/results/soak.json]      (`make soak`)

Four validators on islands. Faults are chosen by the seed: a validator is killed, paused, cut off or wiped, two are cut
off, all are killed. The chain must go on where a quorum is left, and come back where none was. Validator 0 is spared
what ends processes, all four killed alone excepted, which therefore comes first: its memory, descriptors and tasks are
compared between the second and the last quarter of the time. At the end all hold the same blocks and the same root.
Exits 1 where that does not hold.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.report import circumstances, write_result
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.islands import Islands, make_islands, own_namespace
from tests.support.network_processes import ChainChoice, NetworkProcesses
from tests.support.node_process import NodeFailed, NodeProcess
from tests.support.transfers import signed_transfer

VALIDATORS = 4
FAULTS = ("kill", "kill", "pause", "pause", "cut", "cut", "wipe", "cut two")
"""Chosen among, each as often as it stands here."""
FAULT_S = (2.0, 15.0)
"""How long one lasts."""
CALM_BLOCKS = 3
"""Committed by everybody between two faults."""
PATIENCE_S = 120.0
LOAD_PER_S = 10
SAMPLE_S = 5.0
GROWTH = {"resident_kb": 48 * 1024, "descriptors": 16, "threads": 8, "tasks": 32}
"""By how much the median of the last quarter of the time may be above that of the second."""
_TASKS = re.compile(rb"^astralink_tasks (\d+)$", re.MULTILINE)
_COMMAND = "python -m tests.campaigns.soak"


class Broken(AssertionError):
    """The network did not live through it."""


@dataclass(slots=True)
class Sample:
    at_s: float
    process: str
    """Validator, and which of its processes."""
    figures: dict[str, int]


@dataclass(slots=True)
class Story:
    """What happened so far."""

    began: float = field(default_factory=time.monotonic)
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    sent: int = 0
    longest_recovery_s: float = 0.0
    """From a fault's end to CALM_BLOCKS on all."""
    failure: str = ""
    """Of a thread."""

    def now_s(self) -> float:
        return round(time.monotonic() - self.began, 1)


# --- What goes on beside the faults ----------------------------------------------------------------------------------


def load(network: NetworkProcesses, stop: threading.Event, story: Story) -> None:
    """Transfers of the developers' accounts, to whichever node answers; one that is down or cut off loses a few."""
    chance = random.Random(0)
    number = 0
    while not stop.wait(1 / LOAD_PER_S):
        number += 1
        sender = number % len(DEVNET_ACCOUNTS)
        ready = [node for at, node in list(network.nodes.items()) if node.ready and at not in network.paused]
        if not ready:
            continue
        node = chance.choice(ready)
        try:
            account = f"0x{DEVNET_ACCOUNTS[sender].address.hex()}"
            nonce = int(node.call("eth_getTransactionCount", account, "pending"), 16)
            node.call("eth_sendRawTransaction", f"0x{signed_transfer(sender=sender, nonce=nonce).raw.hex()}")
            story.sent += 1
        except (NodeFailed, OSError, http.client.HTTPException, ValueError):
            continue  # known already from another node, or the node is under a fault


def watch(network: NetworkProcesses, stop: threading.Event, story: Story) -> None:
    while not stop.wait(SAMPLE_S):
        for number, node in list(network.nodes.items()):
            if number in network.paused or not node.ready:
                continue
            for name, figures in figures_of(node).items():
                story.samples.append(Sample(story.now_s(), f"{number} {name}", figures))


def figures_of(node: NodeProcess) -> dict[str, dict[str, int]]:
    """By process; of those that end meanwhile nothing."""
    found = {}
    for name, pid in {"node": node.process.pid, **_children(node)}.items():
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            found[name] = {
                "resident_kb": int(re.findall(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[0]),
                "threads": int(re.findall(r"^Threads:\s+(\d+)", status, re.MULTILINE)[0]),
                "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            }
        except (OSError, IndexError):
            continue
    try:
        with urllib.request.urlopen(f"{node.ready['rpcUrl']}/metrics", timeout=5) as answer:
            tasks = _TASKS.search(answer.read())
    except (OSError, http.client.HTTPException):
        tasks = None
    if tasks is not None and "node" in found:
        found["node"]["tasks"] = int(tasks[1])
    return found


def _children(node: NodeProcess) -> dict[str, int]:
    found = {}
    for name, module in (("execution", "astralink_node.chain.process"), ("gateway", "astralink_node.gateway.server")):
        try:
            found[name] = node.child(module)
        except NodeFailed:
            continue  # it is being started again
    return found


@contextmanager
def beside(network: NetworkProcesses, story: Story) -> Iterator[None]:
    """Load and samples, while the block runs."""
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=(network, stop, story)) for work in (load, watch)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


# --- Faults ----------------------------------------------------------------------------------------------------------


def run(folder: Path, minutes: float, seed: int, story: Story) -> str:
    """Returns the state root at which all stand at the end. Raises Broken, or NodeFailed."""
    chance = random.Random(seed)
    with make_islands(VALIDATORS) as islands:
        places = [islands.place(number) for number in range(VALIDATORS)]
        with NetworkProcesses(folder, ChainChoice(validators=VALIDATORS), places, flags=("--metrics",)) as network:
            network.start()
            network.await_height(2, PATIENCE_S)
            fault(network, islands, "kill all", chance, story)
            story.began = time.monotonic()
            with beside(network, story):
                while story.now_s() < minutes * 60:
                    fault(network, islands, chance.choice(FAULTS), chance, story)
            return same_root(network)


def fault(network: NetworkProcesses, islands: Islands, kind: str, chance: random.Random, story: Story) -> None:
    """One, its end, and the network's recovery."""
    victim = chance.randrange(1, VALIDATORS)
    lasts_s = chance.uniform(*FAULT_S)
    print(f"{story.now_s():7.1f} s  {kind}, validator {victim}, for {lasts_s:.0f} s", flush=True)
    match kind:
        case "kill":
            network.kill(victim)
            time.sleep(lasts_s)
            network.start(victim)
        case "kill all":
            network.kill(*range(VALIDATORS))
            network.start()
        case "wipe":
            network.kill(victim)
            network.wipe(victim)
            network.start(victim)
        case "pause":
            victim = chance.randrange(VALIDATORS)
            network.pause(victim)
            time.sleep(lasts_s)
            network.resume(victim)
        case "cut":
            victim = chance.randrange(VALIDATORS)
            islands.cut(victim)
            time.sleep(lasts_s)
            islands.heal(victim)
        case "cut two":
            pair = chance.sample(range(VALIDATORS), 2)
            islands.cut(*pair)
            time.sleep(lasts_s)
            islands.heal(*pair)
        case _:
            raise ValueError(f"no such fault: {kind}")
    ended = time.monotonic()
    network.await_growth(CALM_BLOCKS, PATIENCE_S)
    story.longest_recovery_s = max(story.longest_recovery_s, round(time.monotonic() - ended, 1))
    story.faults[kind] += 1


def same_root(network: NetworkProcesses) -> str:
    """Waits until all have what was the highest block; compares every hash, and the root of the last."""
    network.await_height(max(network.heights()), PATIENCE_S)
    height = network.check_agreement()
    roots = {node.call("eth_getBlockByNumber", hex(height), False)["stateRoot"] for node in network.running()}
    if len(roots) != 1:
        raise Broken(f"the state roots at height {height} differ: {sorted(roots)}")
    balances = {
        node.call("eth_getTransactionCount", f"0x{DEVNET_ACCOUNTS[0].address.hex()}", hex(height))
        for node in network.running()
    }
    if len(balances) != 1:
        raise Broken(f"the states at height {height} differ: account 0 has sent {sorted(balances)}")
    return str(roots.pop())


# --- The verdict -----------------------------------------------------------------------------------------------------


def trends(samples: Sequence[Sample], length_s: float) -> dict[str, dict[str, tuple[int, int, int]]]:
    """Process -> figure -> (median of the second quarter, of the last, highest), where both quarters have samples."""
    found: dict[str, dict[str, tuple[int, int, int]]] = {}
    for process in sorted({sample.process for sample in samples}):
        for figure in GROWTH:
            values = [
                (sample.at_s, sample.figures[figure])
                for sample in samples
                if sample.process == process and figure in sample.figures
            ]
            second = [value for at_s, value in values if length_s / 4 <= at_s < length_s / 2]
            last = [value for at_s, value in values if at_s >= length_s * 3 / 4]
            if second and last:
                highest = max(value for _, value in values)
                found.setdefault(process, {})[figure] = (int(median(second)), int(median(last)), highest)
    return found


def leaks(found: Mapping[str, Mapping[str, tuple[int, int, int]]]) -> list[str]:
    """Of validator 0, whose processes lived through all of it."""
    problems = []
    for process, figures in found.items():
        if not process.startswith("0 "):
            continue
        for figure, (before, after, _) in figures.items():
            if after > before + GROWTH[figure]:
                problems.append(
                    f"validator {process}: {figure} grew from {before} to {after}, by more than {GROWTH[figure]}"
                )
    for name in ("node", "execution", "gateway"):
        watched = found.get(f"0 {name}", {})
        problems += [
            f"validator 0 {name}: its {figure} were not watched long enough"
            for figure in GROWTH
            if figure not in watched and (figure != "tasks" or name == "node")
        ]
    return problems


def main() -> int:
    arguments = _arguments()
    if not arguments.inside:
        command = [sys.executable, "-m", "tests.campaigns.soak", "--inside", *sys.argv[1:]]
        return subprocess.run([*own_namespace(), *command], check=False).returncode
    story = Story()
    problems: list[str] = []
    root = ""
    with tempfile.TemporaryDirectory(prefix="astralink-soak-") as folder:
        # The usual folder for sockets may be another user's: this one may be root here, and nobody elsewhere.
        os.environ["XDG_RUNTIME_DIR"] = folder
        try:
            root = run(Path(folder) / "net", arguments.minutes, arguments.seed, story)
        except (Broken, NodeFailed) as error:
            problems.append(str(error))
    found = trends(story.samples, story.now_s())
    problems += leaks(found)
    result = {
        **circumstances(arguments.seed),
        "command": f"{_COMMAND} {' '.join(sys.argv[2:])}".strip(),
        "minutes": arguments.minutes,
        "faults": dict(story.faults),
        "transfers_sent": story.sent,
        "longest_recovery_s": story.longest_recovery_s,
        "state_root": root,
        "figures": "median of the second quarter, median of the last, highest",
        "processes": found,
        "problems": problems,
    }
    if arguments.json is not None:
        write_result(arguments.json, result)
    print(f"{sum(story.faults.values())} faults, {story.sent} transfers, longest recovery {story.longest_recovery_s} s")
    for process, figures in found.items():
        print(f"  {process:12} " + ", ".join(f"{name} {values}" for name, values in figures.items()))
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="a network under load and random faults")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
