"""Which charts a simulation gives, each comparing its scenarios over the years."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from astralink_node.economics.line_chart import Series, line_chart
from astralink_node.economics.scenarios import DAYS_A_YEAR
from astralink_node.economics.simulation import Run, Sample


@dataclass(frozen=True, slots=True)
class _Chart:
    name: str
    title: str
    unit: str
    value: Callable[[Sample], float]
    text: Callable[[float], str]
    from_zero: bool = True
    stepped: bool = False
    skip_start: bool = False
    """The first sample has no month before it."""


def _percent(value: float) -> str:
    return f"{round(100 * value, 6):g} %"


def _plain(value: float) -> str:
    return f"{round(value, 6):,g}"


_CHARTS: Final = (
    _Chart("supply", "Supply", "million BWT", lambda each: each.supply_bwt / 1e6, _plain, from_zero=False),
    _Chart(
        "supply-growth",
        "Growth of the supply: minted less burned",
        "a year, of each month",
        lambda each: each.supply_growth,
        _percent,
        skip_start=True,
    ),
    _Chart("inflation", "Inflation rate", "minted a year, of the supply", lambda each: each.inflation, _percent),
    _Chart("bonded-ratio", "Bonded ratio", "bonded, of the supply", lambda each: each.bonded_ratio, _percent),
    _Chart(
        "delegator-yield",
        "What delegators earn on their stake",
        "a year, of each month, after commission and slashes",
        lambda each: each.delegator_yield,
        _percent,
        skip_start=True,
    ),
    _Chart(
        "validator-yield",
        "What operators earn on their own stake",
        "a year, of each month, with commission, after slashes",
        lambda each: each.validator_yield,
        _percent,
        skip_start=True,
    ),
    _Chart(
        "nakamoto-one-third",
        "Nakamoto coefficient at one third",
        "parties that together could stop the chain",
        lambda each: each.nakamoto_one_third,
        _plain,
        stepped=True,
    ),
    _Chart(
        "nakamoto-two-thirds",
        "Nakamoto coefficient at two thirds",
        "parties that together could finalise anything",
        lambda each: each.nakamoto_two_thirds,
        _plain,
        stepped=True,
    ),
    _Chart("gini", "Gini coefficient of voting power", "0: all equal, 1: one has all", lambda each: each.gini, _plain),
    _Chart("largest-share", "The largest party", "of the voting power", lambda each: each.largest_share, _percent),
    _Chart(
        "slashed", "Slashed since the start", "thousand BWT", lambda each: each.slashed_bwt / 1e3, _plain, stepped=True
    ),
)


def charts(runs: Sequence[Run]) -> dict[str, str]:
    """SVG by file name, a line for each run."""
    return {f"{chart.name}.svg": _draw(chart, runs) for chart in _CHARTS}


def _draw(chart: _Chart, runs: Sequence[Run]) -> str:
    series = [
        Series(
            run.scenario.name,
            [(sample.day / DAYS_A_YEAR, chart.value(sample)) for sample in run.samples[chart.skip_start :]],
        )
        for run in runs
    ]
    return line_chart(
        series,
        title=chart.title,
        x_label="years",
        y_label=chart.unit,
        y_text=chart.text,
        from_zero=chart.from_zero,
        stepped=chart.stepped,
    )
