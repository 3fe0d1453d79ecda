"""Four validators on islands: one is cut off, then two, and each time the network heals. Measures how fast.

    python -m tests.campaigns.partitions [--json benchmarks/results/network.json]

One of four cut off: the chain continues without it, and it catches up. Two of four: the chain stands, nobody forks, and
after the healing a commit follows within COMMIT_S and two rounds. Lost connections are dialled within REDIAL_S.
Exits 1 where that does not hold. Runs itself again in a network namespace of its own, where it may make islands.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.report import circumstances, write_result
from consensus.params import ConsensusParams
from tests.support.islands import Islands, make_islands, own_namespace
from tests.support.network_processes import ChainChoice, NetworkProcesses
from tests.support.node_process import NodeFailed, await_that

VALIDATORS = 4
REDIAL_S = 3.0
CONNECT_S = 1.0
"""A dial that succeeds, with both handshakes, may take so long on a busy machine."""
COMMIT_S = 6.0
GROWTH = 2
"""So many blocks show that the chain goes on."""
HALT_S = 5.0
"""So long nobody may commit anything while there is no quorum."""
IN_FLIGHT_S = 1.0
"""After a cut a quorum's votes that had arrived before may still become a block."""
PATIENCE_S = 90.0
COMMAND = "python -m tests.campaigns.partitions"


class Broken(AssertionError):
    """The network did not do what it promises."""


@dataclass(frozen=True, slots=True)
class Healing:
    """Seconds after the links were whole again."""

    cut_off: int
    """How many of the four had been."""
    round_: int
    """The highest that a validator stood in."""
    redial_s: float
    """Until the last of the lost connections was there again, greeted."""
    commit_s: float
    """Until all four had committed a block above the highest that anybody had."""
    commit_bound_s: float


class Watched:
    """A condition, and when it was first seen to hold."""

    def __init__(self, condition: Callable[[], bool], began: float) -> None:
        self._condition = condition
        self._began = began
        self.after_s = -1.0

    def __call__(self) -> bool:
        if self.after_s < 0 and self._condition():
            self.after_s = round(time.monotonic() - self._began, 3)
        return self.after_s >= 0


def rounds_s(params: ConsensusParams, round_: int, count: int) -> float:
    """What so many rounds take at most, from `round_` on, if each runs into all of its timeouts."""
    return (
        sum(
            params.propose_timeout_at(at) + params.prevote_timeout_at(at) + params.precommit_timeout_at(at)
            for at in range(round_, round_ + count)
        )
        / 1000
    )


def run(folder: Path) -> list[Healing]:
    """Both cuts. Raises Broken, or NodeFailed."""
    with make_islands(VALIDATORS) as islands:
        places = [islands.place(number) for number in range(VALIDATORS)]
        with NetworkProcesses(folder, ChainChoice(validators=VALIDATORS), places) as network:
            network.start()
            network.await_height(2, PATIENCE_S)
            one = cut_off_one(network, islands)
            two = cut_off_two(network, islands)
            network.check_agreement()
            return [one, two]


def cut_off_one(network: NetworkProcesses, islands: Islands) -> Healing:
    lost = VALIDATORS - 1
    islands.cut(lost)
    left = [network.nodes[number] for number in range(lost)]
    target = max(node.height() for node in left) + GROWTH
    await_that(
        lambda: min(node.height() for node in left) >= target,
        lambda: f"three of four did not come to height {target}\n{network.said()}",
        PATIENCE_S,
    )
    if network.nodes[lost].height() >= target:
        raise Broken(f"the validator that was cut off came to height {target} with the others: it was not cut off")
    return heal(network, islands, [lost])


def cut_off_two(network: NetworkProcesses, islands: Islands) -> Healing:
    lost = [VALIDATORS - 2, VALIDATORS - 1]
    islands.cut(*lost)
    time.sleep(IN_FLIGHT_S)  # nothing tells that it is over: whatever comes later is the failure
    stood = network.heights()
    if max(stood) - min(stood) > 1:
        raise Broken(f"without a quorum the validators stand further apart than one height: {stood}")
    deadline = time.monotonic() + HALT_S
    await_lost(network, lost)
    while time.monotonic() < deadline and network.heights() == stood:
        pass
    if network.heights() != stood:
        raise Broken(f"two of four committed: the heights were {stood} and are {network.heights()}")
    network.check_agreement()
    return heal(network, islands, lost)


def heal(network: NetworkProcesses, islands: Islands, lost: Sequence[int]) -> Healing:
    """Whoever was cut off is known to be lost when the links come back, so that all connections are made anew."""
    await_lost(network, lost)
    offsets = {number: len(node.said()) for number, node in network.nodes.items()}
    round_ = max(round_of(network, number) for number in network.nodes)
    bound = COMMIT_S + rounds_s(network.consensus, round_, 2)
    highest = max(network.heights())
    islands.heal(*lost)
    began = time.monotonic()
    redialled = Watched(lambda: all_connected(network, lost, offsets), began)
    committed = Watched(lambda: min(network.heights()) > highest, began)
    await_that(lambda: redialled() and committed(), lambda: f"the network did not heal\n{network.said()}", PATIENCE_S)
    return Healing(len(lost), round_, redialled.after_s, committed.after_s, round(bound, 3))


def await_lost(network: NetworkProcesses, lost: Sequence[int]) -> None:
    """Every connection to and between those that are cut off is known to be gone, on both of its sides."""

    def is_over() -> bool:
        return all(not still_connected(network, at) & others for at, others in severed(network, lost).items())

    await_that(is_over, lambda: f"connections that were cut still stand\n{network.said()}", PATIENCE_S)


def all_connected(network: NetworkProcesses, lost: Sequence[int], offsets: dict[int, int]) -> bool:
    """Each was greeted again on both sides."""
    return all(
        others <= set(re.findall(r"a peer is connected peer=(\w+)", network.nodes[at].said()[offsets[at] :]))
        for at, others in severed(network, lost).items()
    )


def severed(network: NetworkProcesses, lost: Sequence[int]) -> dict[int, set[str]]:
    """Member -> peer ids of those from whom it is cut off."""
    return {
        number: {
            network.peer_id(other)
            for other in range(VALIDATORS)
            if other != number and (number in lost or other in lost)
        }
        for number in range(VALIDATORS)
    }


def still_connected(network: NetworkProcesses, number: int) -> set[str]:
    """By what the node's log said last of each peer."""
    found: dict[str, str] = {}
    for what, peer in re.findall(r"a peer is (connected|gone) peer=(\w+)", network.nodes[number].said()):
        found[peer] = what
    return {peer for peer, what in found.items() if what == "connected"}


def round_of(network: NetworkProcesses, number: int) -> int:
    state = network.nodes[number].call("astralink_consensusState")
    return int(state["round"], 16)


def problems(healings: Sequence[Healing]) -> list[str]:
    found = []
    for healing in healings:
        if healing.redial_s > REDIAL_S + CONNECT_S:
            found.append(
                f"{healing.cut_off} cut off: connected again after {healing.redial_s} s, limit {REDIAL_S} s "
                f"and {CONNECT_S} s for the dial itself"
            )
        if healing.commit_s > healing.commit_bound_s:
            found.append(
                f"{healing.cut_off} cut off: a commit after {healing.commit_s} s, limit {healing.commit_bound_s} s"
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="four validators, one and two of them cut off")
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        return subprocess.run(
            [*own_namespace(), sys.executable, "-m", "tests.campaigns.partitions", "--inside", *sys.argv[1:]],
            check=False,
        ).returncode
    with tempfile.TemporaryDirectory(prefix="astralink-partitions-") as folder:
        # The usual folder for sockets may be another user's: this one may be root here, and nobody elsewhere.
        os.environ["XDG_RUNTIME_DIR"] = folder
        try:
            healings = run(Path(folder) / "net")
        except (Broken, NodeFailed) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    found = problems(healings)
    result = {
        **circumstances(0),
        "command": f"{COMMAND} {' '.join(sys.argv[2:])}".strip(),
        "healings": [asdict(healing) for healing in healings],
        "problems": found,
    }
    if arguments.json is not None:
        write_result(arguments.json, result)
    print(json.dumps(result["healings"]))
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
