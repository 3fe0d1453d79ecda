"""Random networks, thousands of heights, every promise checked; the first failure is printed, shrunk and ends the run.

    python -m tests.simulation.campaign --heights 20000 [--seed S] [--nodes 4,7,10] [--json FILE]
    python -m tests.simulation.campaign --scenario FILE

Each scenario has less than a third of the power byzantine and faults until its network stabilises; every tenth has a
third or more, forks, and must name the guilty. A run is a matter of its seed alone. A shrunk scenario is printed as
JSON, which `--scenario` runs again.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import circumstances
from tests.simulation.checks import Violation
from tests.simulation.scenario import Scenario, decode_scenario, encode_scenario, fork_scenario, random_scenario
from tests.simulation.shrinking import failure_of, shrink
from tests.simulation.simulation import Outcome, Simulation

HEIGHTS_EACH = 10
FORK_EVERY = 10
FORKERS = ("twins", "face")
MAX_COUNTED = 2 * HEIGHTS_EACH
"""Of one scenario: while one validator is down the others may decide hundreds, all alike."""
TELL_EVERY = 1_000


class Failed(Exception):
    """A scenario broke a promise."""

    def __init__(self, scenario: Scenario, what: str) -> None:
        super().__init__(what)
        self.scenario = scenario


@dataclass(slots=True)
class Figures:
    heights: int = 0
    scenarios: int = 0
    by_nodes: Counter[int] = field(default_factory=Counter)
    actors: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    virtual_s: int = 0
    re_proposals: int = 0
    reports: int = 0
    refusals: int = 0
    highest_round: int = 0
    worst_commit_ms: int = 0
    worst_share_of_bound: float = 0.0
    without_liveness: int = 0
    """Scenarios that promise safety only: with those wiped, a third or more is out."""
    fork_attempts: int = 0
    forks: int = 0
    guilty: int = 0
    """Validators convicted after forks; all of them were byzantine."""

    def add(self, scenario: Scenario, outcome: Outcome) -> None:
        counted = min(outcome.heights, MAX_COUNTED)
        self.heights += counted
        self.scenarios += 1
        self.by_nodes[len(scenario.powers)] += counted
        self.actors.update(scenario.byzantine.values())
        self.crashes.update(crash.kind for crash in scenario.crashes)
        self.messages += outcome.messages
        self.virtual_s += outcome.elapsed_ms // 1000
        self.re_proposals += outcome.re_proposals
        self.reports += outcome.reports
        self.refusals += outcome.refusals
        self.highest_round = max(self.highest_round, outcome.highest_round)
        self.worst_commit_ms = max(self.worst_commit_ms, outcome.worst_commit_ms)
        self.worst_share_of_bound = max(self.worst_share_of_bound, outcome.worst_share_of_bound)
        self.without_liveness += not scenario.is_live


def run_campaign(heights: int, seed: int, node_counts: Sequence[int], tell: Callable[[str], None] = print) -> Figures:
    """Scenarios until that many heights are decided. Raises `Failed`."""
    figures = Figures()
    number = 0
    while figures.heights < heights:
        count = node_counts[number % len(node_counts)]
        scenario = random_scenario(seed + number, count, HEIGHTS_EACH)
        told = figures.heights // TELL_EVERY
        figures.add(scenario, _run(scenario))
        if number % FORK_EVERY == 0:
            provoke_fork(fork_scenario(seed + number, count, FORKERS[number // FORK_EVERY % 2]), figures)
        number += 1
        if figures.heights // TELL_EVERY > told:
            tell(f"{figures.heights} of {heights} heights in {number} scenarios, {figures.forks} forks accounted for")
    return figures


def _run(scenario: Scenario) -> Outcome:
    try:
        return Simulation(scenario).run()
    except Exception as error:  # whatever stops a run is a finding
        raise Failed(scenario, f"{type(error).__name__}: {error}") from error


def provoke_fork(scenario: Scenario, figures: Figures) -> None:
    """Not every attempt succeeds; where one does, the guilty must be named."""
    figures.fork_attempts += 1
    simulation = Simulation(scenario)
    try:
        simulation.run()
        if simulation.records.has_fork:
            figures.guilty += len(simulation.records.check_fork_is_accounted_for())
            figures.forks += 1
    except Violation as violation:
        raise Failed(scenario, str(violation)) from violation


def report_failure(failed: Failed) -> None:
    scenario = failed.scenario
    print(f"FAILED: seed {scenario.seed}, {len(scenario.powers)} nodes: {failed}")
    print(f"scenario: {encode_scenario(scenario)}")
    print(f"shrunk:   {encode_scenario(shrink(scenario))}")


def run_file(path: Path) -> int:
    scenario = decode_scenario(path.read_text())
    failure = failure_of(scenario)
    if failure is not None:
        print(f"fails: {failure}")
        return 1
    print(Simulation(scenario).run())
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heights", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", default="4,7,10", help="numbers of validators, taken in turn")
    parser.add_argument("--json", type=Path, default=None, help="write the figures here")
    parser.add_argument("--scenario", type=Path, default=None, help="run this one only")
    options = parser.parse_args()
    if options.scenario is not None:
        if not options.scenario.is_file():
            parser.error(f"--scenario: {options.scenario} is no file")
        return run_file(options.scenario)
    began_s = time.process_time()
    try:
        figures = run_campaign(options.heights, options.seed, [int(count) for count in options.nodes.split(",")])
    except Failed as failed:
        report_failure(failed)
        return 1
    text = json.dumps(_as_json(figures, options, time.process_time() - began_s), indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")
    return 0


def _as_json(figures: Figures, options: argparse.Namespace, cpu_s: float) -> dict[str, Any]:
    return {
        "campaign": "simulation",
        "heights": figures.heights,
        "heights_by_nodes": {str(count): heights for count, heights in sorted(figures.by_nodes.items())},
        "scenarios": figures.scenarios,
        "failures": 0,
        "byzantine": dict(sorted(figures.actors.items())),
        "crashes": dict(sorted(figures.crashes.items())),
        "safety_only": figures.without_liveness,
        "messages": figures.messages,
        "virtual_hours": round(figures.virtual_s / 3600, 1),
        "highest_round": figures.highest_round,
        "honest_re_proposals": figures.re_proposals,
        "evidence_reported": figures.reports,
        "refused": figures.refusals,
        "worst_commit_after_stabilisation_ms": figures.worst_commit_ms,
        "worst_share_of_liveness_bound": figures.worst_share_of_bound,
        "fork_attempts": figures.fork_attempts,
        "forks": figures.forks,
        "convicted_after_forks": figures.guilty,
        "cpu_seconds": round(cpu_s),
        **circumstances(options.seed),
        "command": f"python -m tests.simulation.campaign --heights {options.heights} --seed {options.seed} "
        f"--nodes {options.nodes}",
    }


if __name__ == "__main__":
    sys.exit(main())
