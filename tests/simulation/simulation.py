"""Runs a scenario: builds the network that it describes, lets it live, and checks what came of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from tests.simulation import byzantine as actors
from tests.simulation.adversaries import Face, LockHider, Splitter
from tests.simulation.bounds import commit_bound_ms
from tests.simulation.checks import Records, Violation
from tests.simulation.network import Network
from tests.simulation.node import Habits, Validator
from tests.simulation.scenario import NEVER_MS, TEAR, WIPE, Crash, Scenario
from tests.simulation.setting import Setting
from tests.simulation.world import World

PATIENCE_MS = 120_000
"""How long a scenario without a promise of liveness may go on."""

_ALONE: dict[str, Callable[[int, Setting, World, Network, Habits], Validator]] = {
    "silent": actors.Silent,
    "absentee": actors.Absentee,
    "equivocator": actors.Equivocator,
    "amnesiac": actors.Amnesiac,
    "outdated": actors.Outdated,
    "conflicting proposer": actors.ConflictingProposer,
    "forger": actors.Forger,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run that broke no promise was like."""

    digest: str
    heights: int
    """Decided by at least one honest validator."""
    common_height: int
    """Decided by all of them."""
    elapsed_ms: int
    messages: int
    highest_round: int
    reports: int
    """Different pieces of evidence that machines reported."""
    refusals: int
    re_proposals: int
    """Of honest proposers, which rest on a polka."""
    worst_commit_ms: int
    """The longest that all took for a height after everything was calm."""
    worst_share_of_bound: float
    """Of the liveness bound that the slowest such height used."""


class Simulation:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.setting = Setting(scenario.powers, scenario.params)
        self.world = World(scenario.seed)
        self.network = Network(self.world, scenario.links)
        self.records = Records(self.setting, scenario.correct)
        self.correct: dict[int, Validator] = {}
        self.byzantine: list[Validator] = []
        self._gang: list[Splitter] = []
        for index in range(len(scenario.powers)):
            if index not in scenario.byzantine:
                validator = Validator(index, self.setting, self.world, self.network, self.records, self._habits(index))
                self.correct[index] = validator
            else:
                self.byzantine += self._make_actors(index, scenario.byzantine[index])
        for validator in (*self.correct.values(), *self.byzantine):
            self.network.join(validator.address, validator.receive)
        self._worst_commit_ms = 0
        self._worst_share = 0.0

    def run(self) -> Outcome:
        """Until all correct validators have decided the scenario's heights. Raises `Violation`."""
        scenario = self.scenario
        self.start()
        if scenario.is_live:
            self.world.run(partial(self.records.all_have, scenario.heights), scenario.calm_from_ms)
            self.run_within_bounds(scenario.heights)
        else:
            self.world.run(self._is_done_without_promise, scenario.calm_from_ms % NEVER_MS + PATIENCE_MS)
        if scenario.is_tolerable:
            self.records.check_safety()
        return self.outcome()

    def outcome(self) -> Outcome:
        return Outcome(
            digest=self.world.digest(),
            heights=max(self.records.decisions, default=0),
            common_height=self.records.lowest,
            elapsed_ms=self.world.elapsed_ms,
            messages=self.network.delivered,
            highest_round=self.records.highest_round,
            reports=len(self.records.reports),
            refusals=self.records.refusals,
            re_proposals=self.records.re_proposals,
            worst_commit_ms=self._worst_commit_ms,
            worst_share_of_bound=round(self._worst_share, 4),
        )

    # --- Time ------------------------------------------------------------------------------------------------

    def run_within_bounds(self, height: int) -> None:
        """From a calm moment on, up to that height: each height, once it is the one to wait for, within its bound."""
        while self.records.lowest < height:
            positions = [(v.height, v.state.rounds.round_) for v in self.correct.values()]
            goal, reached_round = max(positions)
            bound_ms = commit_bound_ms(
                self.setting.params,
                self.setting.rotation(goal),
                self.scenario.byzantine,
                reached_round,
                goal - min(positions)[0],
                self.scenario.links.stable_delay_ms,
                Habits(0, self.scenario.build_ms, self.scenario.check_ms),
            )
            began_ms = self.world.elapsed_ms
            if not self.world.run(partial(self.records.all_have, goal), began_ms + bound_ms):
                where = {
                    i: (v.height, v.state.rounds.round_, v.state.rounds.step.name) for i, v in self.correct.items()
                }
                raise Violation("liveness", f"height {goal} not decided by all in {bound_ms} ms: {where}")
            took_ms = self.world.elapsed_ms - began_ms
            self._worst_commit_ms = max(self._worst_commit_ms, took_ms)
            self._worst_share = max(self._worst_share, took_ms / bound_ms)

    def _is_done_without_promise(self) -> bool:
        return self.records.lowest >= self.scenario.heights or self.records.has_fork

    # --- Building --------------------------------------------------------------------------------------------

    def _habits(self, index: int) -> Habits:
        scenario = self.scenario
        skew_ms = scenario.skews_ms[index] if scenario.skews_ms else 0
        return Habits(skew_ms, scenario.build_ms, scenario.check_ms, scenario.relays)

    def _make_actors(self, index: int, name: str) -> list[Validator]:
        shared = (index, self.setting, self.world, self.network, self._habits(index))
        scenario = self.scenario
        match name:
            case "twins":
                halves = self._sides() if any(scenario.sides) else self._random_halves(index)
                return [
                    actors.Twin(*shared, address, [peer for peer in half if peer != address])
                    for address, half in zip((index, self._second_address(index)), halves, strict=True)
                ]
            case "face":
                addresses = (index, self._second_address(index))
                return [Face(*shared, addresses, self._sides(), side) for side in (0, 1)]
            case "lock hider":
                accomplices = [other for other, actor in scenario.byzantine.items() if actor == name]
                return [LockHider(*shared, accomplices, scenario.links.stable_delay_ms)]
            case "splitter":
                return [Splitter(*shared, self._gang)]
            case _:
                return [_ALONE[name](*shared)]

    def _second_address(self, index: int) -> int:
        return len(self.scenario.powers) + index

    def _sides(self) -> tuple[Sequence[int], Sequence[int]]:
        """Addresses: the honest of either side with one machine of each byzantine validator."""
        first, second = self.scenario.sides
        liars = sorted(self.scenario.byzantine)
        return (*first, *liars), (*second, *map(self._second_address, liars))

    def _random_halves(self, index: int) -> tuple[Sequence[int], Sequence[int]]:
        others = [other for other in range(len(self.scenario.powers)) if other != index]
        chance = Random(f"halves {self.scenario.seed} {index}")
        chance.shuffle(others)
        cut = chance.randrange(1, len(others))
        return others[:cut], others[cut:]

    def start(self) -> None:
        """Make everything happen that the scenario names; nothing does before `world.run`."""
        for index, validator in self.correct.items():
            self.world.after(self.scenario.late.get(index, 0), self._first_start, validator)
        for actor in self.byzantine:
            self.world.after(0, actor.start)
        for crash in self.scenario.crashes:
            validator = self.correct[crash.validator]
            self.world.after(crash.at_ms, self._strike, validator, crash)
            self.world.after(crash.at_ms + crash.down_ms, self._end_of, validator)

    def _first_start(self, validator: Validator) -> None:
        if not validator.is_running:
            validator.start()

    def _strike(self, validator: Validator, crash: Crash) -> None:
        if crash.kind == TEAR:
            validator.points_left = crash.points
            return
        if validator.is_running:
            validator.stop()
        if crash.kind == WIPE:
            validator.disk.wipe()
            self.records.wiped(validator.index)

    def _end_of(self, validator: Validator) -> None:
        validator.points_left = None
        if not validator.is_running:
            validator.start()
