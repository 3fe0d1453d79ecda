"""Whole nodes under random faults, run after run, for as long as one likes.

    python -m tests.simulation.whole_nodes_campaign --runs 100 --seed 1

Until a moment of stabilisation, nodes are killed at any step of writing, signing and committing, logs lose what they
had not synced, links lose, delay, double and part, clocks are apart within the precision, and one node at most loses
its chain data or gets an old copy back. Afterwards everything is good, and everybody must commit within the bound
that `WholeNetwork.recovery_s` computes, a little later whoever has blocks to catch up with. A run follows from its
seed; the seeds that failed are printed, and `--seed N --runs 1` runs one again. The exit code is 1 if any failed.
"""

import argparse
import logging
import os
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio

from consensus.messages import VoteType
from tests.simulation.whole_nodes import PARAMS, WholeNetwork, run_network
from tests.support.kill_points import KillPoint
from tests.support.memory_nodes import Backup, MemoryNode, after, virtual_now_ms

LAST_FAULT_S = (5.0, 30.0)
"""Between these, faults end."""
CATCH_UP_S = 1.0
"""For each block that somebody lacks then: asked for one by one, executed as slowly as in some of the runs."""
HEIGHTS_AFTER = 3
"""Committed by everybody after stabilisation, each within the bound."""
MORE_HEIGHTS = 20
"""Within these, everybody votes again. The slowest of four may find a height decided before it precommits."""


@dataclass(frozen=True, slots=True)
class Outcome:
    height: int
    """When faults ended."""
    bound_s: float
    first_s: float
    """What everybody's first commit took after that."""


def run_once(seed: int, folder: Path) -> Outcome:
    """One run; raises AssertionError for a fork, a contradiction or a stall."""
    chance = Random(seed)
    outcomes: list[Outcome] = []

    async def scenario(network: WholeNetwork) -> None:
        _set_clocks(network, chance)
        stable_s = chance.uniform(*LAST_FAULT_S)
        network.links.delay_s = chance.choice((0.0, 0.01, 0.1, 0.3))
        network.start()
        fragile = chance.choice(network.nodes[:3])
        rate = chance.choice((0.03, 0.1, 0.2))  # of each kind of fault, a second
        async with trio.open_nursery() as nursery:
            for node in network.nodes:
                nursery.start_soon(_torment, network, node, Random(chance.random()), stable_s, rate, node is fragile)
            nursery.start_soon(_torment_links, network, chance, stable_s, rate)
        outcomes.append(await _recover(network))

    # The first three hold less than a third each: whoever loses its data counts as faulty at that height.
    stakes = chance.choice(((32, 32, 32, 32), (32, 32, 32, 32), (40, 60, 80, 100), (10, 20, 30, 30, 30)))
    run_network(folder, scenario, stakes_bwt=stakes, seed=seed)
    (outcome,) = outcomes
    return outcome


def _set_clocks(network: WholeNetwork, chance: Random) -> None:
    """Any two are apart by the precision at most. In half of the runs workers and execution take time as well."""
    is_slow = chance.random() < 0.5
    half_ms = PARAMS.precision_ms // 2
    for node in network.nodes:
        skew_ms = chance.randint(-half_ms, half_ms)
        node.now_ms = lambda skew_ms=skew_ms: virtual_now_ms() + skew_ms
        if is_slow:
            pace = Random(chance.random())
            node.offload = after(lambda pace=pace: pace.random() ** 4 * 0.02)
            node.execution_latency_s = lambda pace=pace: pace.random() ** 4 * 0.2


async def _torment(
    network: WholeNetwork, node: MemoryNode, chance: Random, stable_s: float, rate: float, is_fragile: bool
) -> None:
    """Kill and restart it until it is time to stop; then it lives."""
    copy: Backup | None = None
    while True:
        with trio.move_on_at(stable_s):
            if node.kill_point.at is None:
                await trio.sleep(chance.expovariate(rate))
                await network.kill(node)
            else:  # it has met its kill point, or does not live that long
                await node.ended.wait()
        if trio.current_time() >= stable_s:
            node.kill_point.at = None
            if node.ended.is_set():
                network.start(node)
            return
        assert node.halted is None, node.halted
        if chance.random() < 0.5:
            node.tear_log(chance)
        if is_fragile:
            fate = chance.random()
            if fate < 0.2:
                node.wipe()
            elif fate < 0.4 and copy is not None:
                node.put_back(copy, with_log=chance.random() < 0.5)
            elif fate < 0.7:
                copy = node.back_up()
        with trio.move_on_at(stable_s):
            await trio.sleep(chance.expovariate(0.5))
        if chance.random() < 0.5:
            node.kill_point = KillPoint(chance.randint(1, round(30 / rate)))
        network.start(node)


async def _torment_links(network: WholeNetwork, chance: Random, stable_s: float, rate: float) -> None:
    links = network.links
    with trio.move_on_at(stable_s):
        while True:
            match chance.randrange(3):
                case 0:
                    links.chance = Random(chance.random())
                    links.lost, links.doubled = chance.random() * 0.6, chance.random() * 0.5
                    links.longest_s = chance.choice((0.1, 0.5, 2.0, 5.0))
                case 1:
                    members = chance.sample(network.nodes, len(network.nodes))
                    cut = chance.randrange(1, len(members))
                    links.split(members[:cut], members[cut:])
                case _:
                    links.groups, links.chance = (), None
            await trio.sleep(chance.expovariate(rate))
    links.groups, links.chance = (), None


async def _recover(network: WholeNetwork) -> Outcome:
    links = network.links
    await trio.sleep(links.longest_s)  # what is on its way arrives; some nodes are just starting
    height = network.height
    missing = height - min(node.height for node in network.nodes)
    bound_s = network.recovery_s + missing * CATCH_UP_S
    first_s = await network.reach(height + 1, within_s=bound_s)
    for more in range(2, HEIGHTS_AFTER + 1):
        await network.reach(height + more, within_s=network.recovery_s)
    for _ in range(MORE_HEIGHTS):
        silent = [node.name for node in network.nodes if _last_precommit(network, node) <= height]
        if not silent:
            break
        await network.reach(network.height + 1, within_s=network.recovery_s)
    assert not silent, f"{silent} follow but do not vote: {network.standing()}"
    return Outcome(height, bound_s, first_s)


def _last_precommit(network: WholeNetwork, node: MemoryNode) -> int:
    return max((vote.height for vote in network.votes_of(node) if vote.vote_type is VoteType.PRECOMMIT), default=0)


def main() -> int:
    parser = argparse.ArgumentParser(description="Whole nodes under random faults.")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first run; the next ones follow")
    arguments = parser.parse_args()
    logging.disable()
    os.fsync = lambda descriptor: None  # power failures are acted
    failed = []
    slowest = 0.0
    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = run_once(seed, Path(folder))
            except Exception:  # noqa: BLE001  # whatever it is, the seed is what is wanted, and the next run goes on
                failed.append(seed)
                print(f"seed {seed} FAILED", flush=True)
                traceback.print_exc()
                continue
        slowest = max(slowest, outcome.first_s / outcome.bound_s)
        print(
            f"seed {seed}: height {outcome.height}, then {outcome.first_s:.1f} s of {outcome.bound_s:.1f} s", flush=True
        )
    print(f"{arguments.runs} runs, {len(failed)} failed {failed}, slowest recovery {slowest:.0%} of its bound")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
