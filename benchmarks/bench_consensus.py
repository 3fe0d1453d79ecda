"""What consensus costs, each figure beside its limit: `python -m benchmarks.bench_consensus` (`make bench-consensus`).

Exits 1 if a figure is above its limit, and 2 if one cannot be measured. Steps of the machine are timed here; signatures
in `consensus_crypto`, the simulation in `consensus_simulation`, whole validators in `consensus_latency`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.report import RESULTS, circumstances, write_result
from consensus.height_machine import (
    Input,
    ProposalReceived,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
    begin_height,
    step,
)
from consensus.messages import NIL
from consensus.round_machine import TimeoutKind
from tests.support.height_machines import TIME_MS, V, context_of, good, precommit, prevote, proposal

STEP_HEIGHTS = {4: 200, 100: 20}
"""Validators -> how many heights of them are stepped through."""


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    unit: str
    limit: float
    measure: Callable[[], float]
    at_least: bool = False
    """The limit is a floor."""


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    value: float
    unit: str
    limit: float
    at_least: bool
    holds: bool


class NotMeasured(Exception):
    """A measurement that is not there or did not work."""


def figures() -> tuple[Figure, ...]:
    return (
        Figure("one step, 4 validators (median)", "us", 50, lambda: step_us(4)),
        Figure("one step, 100 validators (median)", "us", 50, lambda: step_us(100)),
        Figure(
            "votes of a height verified, 100 validators (CPU)",
            "ms",
            250,
            lambda: _measured("consensus_crypto", "bench_vote_admission"),
        ),
        Figure(
            "certificate verified, 100 validators (CPU)",
            "ms",
            4,
            lambda: _measured("consensus_crypto", "bench_certificate"),
        ),
        Figure(
            "simulated heights, 4 validators",
            "1/s",
            300,
            lambda: _measured("consensus_simulation", "measure_heights_per_second"),
            at_least=True,
        ),
        Figure(
            "proposal to commit, 4 validators (median)",
            "ms",
            60,
            lambda: _measured("consensus_latency", "measure_latency_ms"),
        ),
    )


def step_us(validators: int) -> float:
    """Microseconds of one step: the median over every step of many heights, all votes of which arrive."""
    times = []
    for height in range(STEP_HEIGHTS[validators]):
        state = begin_height(context_of((10,) * validators, own_index=validators - 1))
        for event in _height(validators, late=height % 2 == 1):
            started = time.perf_counter_ns()
            state, _ = step(state, event)
            times.append(time.perf_counter_ns() - started)
        if state.decision is None:
            raise NotMeasured(f"a height of {validators} validators was not decided")
    return median(times) / 1000


def _height(validators: int, *, late: bool) -> Iterator[Input]:
    """One round; where the proposal is late, a round of nil comes first."""
    yield StartHeight()
    round_ = 0
    if late:
        yield TimeoutElapsed(TimeoutKind.PROPOSE, 0)
        yield from (VoteReceived(prevote(index, 0, NIL)) for index in range(validators))
        yield from (VoteReceived(precommit(index, 0, NIL)) for index in range(validators))
        yield TimeoutElapsed(TimeoutKind.PRECOMMIT, 0)
        round_ = 1
    yield ProposalReceived(proposal(round_, V), TIME_MS)
    yield good(V, round_)
    yield from (VoteReceived(prevote(index, round_, V)) for index in range(validators))
    yield from (VoteReceived(precommit(index, round_, V)) for index in range(validators))


def _measured(module: str, function: str) -> float:
    """What a function of another benchmark gives; the median of a list."""
    try:
        found = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    except (ImportError, AttributeError) as error:
        raise NotMeasured(f"benchmarks/{module}.py: {function}() cannot be loaded: {error}") from error
    value: float | list[float] = found()
    return median(value) if isinstance(value, list) else value


def main() -> int:
    arguments = _arguments()
    chosen = [figure for figure in figures() if arguments.only in figure.name]
    if not chosen:
        print(f"no figure is called {arguments.only!r}", file=sys.stderr)
        return 2
    results = []
    for figure in chosen:
        try:
            result = _judged(figure)
        except NotMeasured as error:
            print(f"error: {figure.name}: {error}", file=sys.stderr)
            return 2
        results.append(result)
        sign = ">=" if result.at_least else "<"
        verdict = "" if result.holds else "  ABOVE ITS LIMIT" if not result.at_least else "  BELOW ITS LIMIT"
        limit = f"(limit {sign} {result.limit:g} {result.unit})"
        print(f"{result.name:52} {result.value:10.2f} {result.unit:4} {limit}{verdict}", flush=True)
    if not arguments.only:
        write_result(arguments.output, {**circumstances(0), "figures": [asdict(result) for result in results]})
    return 0 if all(result.holds for result in results) else 1


def _judged(figure: Figure) -> Result:
    value = figure.measure()
    holds = value >= figure.limit if figure.at_least else value < figure.limit
    return Result(figure.name, round(value, 3), figure.unit, figure.limit, figure.at_least, holds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="consensus: speed beside the limits")
    parser.add_argument("--only", default="", help="only the figures whose name contains this text; writes no file")
    parser.add_argument("--output", type=Path, default=RESULTS / "consensus.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
