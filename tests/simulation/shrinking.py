"""Makes a scenario that fails as small as it gets while it still fails in the same way.

Greedy: of all single simplifications the first that keeps the failure is taken, again and again until none does. Since
every change gives chance another course, each is tried under several seeds. A run costs milliseconds, so nothing
cleverer is needed; the number of runs is bounded all the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.simulation.checks import Violation
from tests.simulation.scenario import DEFAULT, RESTART, Scenario
from tests.simulation.simulation import Simulation

MAX_RUNS = 1_000

SEEDS_TRIED = 8
"""For each simplification; the scenario's own comes first."""

FailureOf = Callable[[Scenario], str | None]
"""How a scenario fails, in a word that stays the same when it is shrunk; None if it does not."""


def failure_of(scenario: Scenario) -> str | None:
    try:
        Simulation(scenario).run()
    except Violation as violation:
        return violation.name
    except Exception as error:  # noqa: BLE001  a crash of the machine is a finding as well
        return type(error).__name__
    return None


def shrink(scenario: Scenario, failure_of: FailureOf = failure_of) -> Scenario:
    """A smaller scenario with the same failure; the same one if it does not fail."""
    failure = failure_of(scenario)
    if failure is None:
        return scenario
    runs = 0
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for simpler in _under_other_seeds(_simplifications(scenario)):
            runs += 1
            if runs > MAX_RUNS:
                return scenario
            if failure_of(simpler) == failure:
                scenario, is_smaller = simpler, True
                break
    return scenario


def _under_other_seeds(scenarios: Iterator[Scenario]) -> Iterator[Scenario]:
    for scenario in scenarios:
        for more in range(SEEDS_TRIED):
            yield replace(scenario, seed=scenario.seed + more)


def _simplifications(scenario: Scenario) -> Iterator[Scenario]:
    """The greatest steps first."""
    if scenario.heights > 1:
        yield replace(scenario, heights=1)
        yield replace(scenario, heights=scenario.heights // 2)
        yield replace(scenario, heights=scenario.heights - 1)
    if scenario.crashes:
        yield replace(scenario, crashes=())
    for number, crash in enumerate(scenario.crashes):
        others = scenario.crashes[:number], scenario.crashes[number + 1 :]
        yield replace(scenario, crashes=(*others[0], *others[1]))
        if crash.kind != RESTART:
            yield replace(scenario, crashes=(*others[0], replace(crash, kind=RESTART, points=0), *others[1]))
    for index in scenario.byzantine:
        yield replace(scenario, byzantine={other: name for other, name in scenario.byzantine.items() if other != index})
    for index, name in scenario.byzantine.items():
        if name not in ("silent", "face"):
            yield replace(scenario, byzantine={**scenario.byzantine, index: "silent"})
    yield from _calmer(scenario)
    if scenario.late:
        yield replace(scenario, late={})
    if any(scenario.skews_ms):
        yield replace(scenario, skews_ms=())
    if len(set(scenario.powers)) > 1:
        yield replace(scenario, powers=(1,) * len(scenario.powers))
    plain = (
        replace(scenario, build_ms=0),
        replace(scenario, check_ms=0),
        replace(scenario, relays=False),
        replace(scenario, pace=DEFAULT),
    )
    yield from (simpler for simpler in plain if simpler != scenario)


def _calmer(scenario: Scenario) -> Iterator[Scenario]:
    links = scenario.links
    if links.stable_from_ms:
        yield replace(scenario, links=replace(links, stable_from_ms=links.stable_from_ms // 2))
    if links.partitions:
        yield replace(scenario, links=replace(links, partitions=()))
    for number in range(len(links.partitions)):
        partitions = (*links.partitions[:number], *links.partitions[number + 1 :])
        yield replace(scenario, links=replace(links, partitions=partitions))
    calmer = (
        replace(links, loss=0.0),
        replace(links, deafness=0.0),
        replace(links, duplication=0.0),
        replace(links, unstable_delay_ms=min(links.unstable_delay_ms, links.stable_delay_ms)),
    )
    yield from (replace(scenario, links=simpler) for simpler in calmer if simpler != links)
