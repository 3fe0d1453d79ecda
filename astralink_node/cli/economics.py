"""`economics scenarios|simulate`: what supply, yields and decentralisation do over years."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from operator import attrgetter
from pathlib import Path

import click

from astralink_node.cli.options import json_option
from astralink_node.cli.output_files import removed_unless_whole
from astralink_node.cli.progress import Progress
from astralink_node.economics.genesis_terms import StakingTerms, read_terms
from astralink_node.economics.plots import charts
from astralink_node.economics.scenarios import DAYS_A_YEAR, SCENARIOS
from astralink_node.economics.simulation import Run, Sample, simulate
from astralink_node.errors import UserError

MAX_YEARS = 30
_COLUMNS = (
    ("Year", 5),
    ("Supply BWT", 13),
    ("Growth", 8),
    ("Inflation", 10),
    ("Bonded", 8),
    ("Delegators", 11),
    ("Operators", 10),
    ("N 1/3", 6),
    ("N 2/3", 6),
    ("Gini", 6),
    ("Largest", 8),
    ("Slashed BWT", 12),
)


@click.group()
def economics() -> None:
    """Project the chain's economy."""


@economics.command("scenarios")
@json_option()
def scenarios(as_json: bool) -> None:
    """List the scenarios that can be simulated."""
    if as_json:
        click.echo(json.dumps([asdict(scenario) for scenario in SCENARIOS.values()], indent=2))
        return
    for scenario in SCENARIOS.values():
        click.echo(f"{scenario.name:<20} {scenario.description}")


@economics.command("simulate")
@click.option(
    "--scenario",
    "names",
    type=click.Choice(tuple(SCENARIOS)),
    multiple=True,
    help="Once for each.  [default: all]",
)
@click.option("--years", type=click.IntRange(1, MAX_YEARS), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed, the same people.")
@click.option(
    "--genesis",
    "genesis_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the staking parameters from this file.  [default: the devnet's]",
)
@json_option()
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Write every month to FILE.")
@click.option(
    "--plots", "plots_folder", type=click.Path(file_okay=False, path_type=Path), help="Write SVG charts into FOLDER."
)
def simulate_command(
    names: tuple[str, ...],
    years: int,
    seed: int,
    genesis_file: Path | None,
    as_json: bool,
    csv_file: Path | None,
    plots_folder: Path | None,
) -> None:
    """Simulate years of supply, inflation, yields, bonded ratio and decentralisation.

    The rules are the staking contract's own; people are simulated, by chance that follows from the seed. Each row is
    the end of a year, with its growth and yields as means of the months, at a year's rate.
    """
    terms = StakingTerms() if genesis_file is None else read_terms(genesis_file)
    _check_places(csv_file, plots_folder)
    runs = _run(names or tuple(SCENARIOS), terms, years, seed)
    if csv_file is not None:
        _write_csv(csv_file, runs)
    if plots_folder is not None:
        _write_plots(plots_folder, runs)
    if as_json:
        click.echo(json.dumps(_document(runs, terms, years, seed), indent=2))
    else:
        click.echo("\n\n".join(_table(run) for run in runs))


def _check_places(csv_file: Path | None, plots_folder: Path | None) -> None:
    """Before a minute of work: what is written afterwards has where to go."""
    if csv_file is not None and not csv_file.parent.is_dir():
        raise UserError(f"{csv_file.parent}: no such folder")
    if plots_folder is not None:
        try:
            plots_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{plots_folder}: {error.strerror}") from error


def _run(names: Sequence[str], terms: StakingTerms, years: int, seed: int) -> list[Run]:
    progress = Progress()
    days = years * DAYS_A_YEAR
    runs = []
    for number, name in enumerate(dict.fromkeys(names)):

        def on_day(day: int, done: int = number * days, name: str = name) -> None:
            progress.update(f"{name}: days", done + day, days * len(names))

        runs.append(
            simulate(
                SCENARIOS[name],
                terms.parameters,
                inflation_initial_bps=terms.inflation_initial_bps,
                years=years,
                seed=seed,
                on_day=on_day,
            )
        )
    progress.finish(f"Simulated {days * len(runs):,} days in {progress.elapsed_s:.0f} s.")
    return runs


def _table(run: Run) -> str:
    """A row a year: how things stand at its end, with growth and yields of the whole year."""
    lines = [
        f"{run.scenario.name}: {run.scenario.description}",
        "".join(f"{name:>{width}}" for name, width in _COLUMNS),
    ]
    for year in range(run.samples[-1].day // DAYS_A_YEAR + 1):
        months = [each for each in run.samples if (year - 1) * DAYS_A_YEAR < each.day <= year * DAYS_A_YEAR]
        cells = zip(_cells(year, months), _COLUMNS, strict=True)
        lines.append("".join(f"{cell:>{width}}" for cell, (_, width) in cells))
    return "\n".join(lines)


def _cells(year: int, months: Sequence[Sample]) -> list[str]:
    last = months[-1]
    means = [
        _percent(sum(value(month) for month in months) / len(months)) if year else "-"
        for value in (attrgetter("supply_growth"), attrgetter("delegator_yield"), attrgetter("validator_yield"))
    ]
    return [
        f"{year}",
        f"{last.supply_bwt:,}",
        means[0],
        _percent(last.inflation),
        _percent(last.bonded_ratio),
        means[1],
        means[2],
        f"{last.nakamoto_one_third}",
        f"{last.nakamoto_two_thirds}",
        f"{last.gini:.2f}",
        _percent(last.largest_share),
        f"{last.slashed_bwt:,}",
    ]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _document(runs: Sequence[Run], terms: StakingTerms, years: int, seed: int) -> dict[str, object]:
    return {
        "seed": seed,
        "years": years,
        "inflationInitialBps": terms.inflation_initial_bps,
        "scenarios": [
            {
                "name": run.scenario.name,
                "description": run.scenario.description,
                "parameters": {_camel(name): value for name, value in asdict(run.parameters).items()},
                "samples": [{_camel(name): value for name, value in asdict(each).items()} for each in run.samples],
            }
            for run in runs
        ],
    }


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def _write_csv(file: Path, runs: Sequence[Run]) -> None:
    names = [field.name for field in fields(Sample)]
    try:
        with file.open("w", newline="") as output, removed_unless_whole(file):
            writer = csv.writer(output, lineterminator="\n")
            writer.writerow(["scenario", *names])
            for run in runs:
                writer.writerows([run.scenario.name, *(getattr(each, name) for name in names)] for each in run.samples)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from error


def _write_plots(folder: Path, runs: Sequence[Run]) -> None:
    try:
        for name, svg in charts(runs).items():
            (folder / name).write_text(svg)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from error
