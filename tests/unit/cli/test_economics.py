"""`economics scenarios|simulate`: tables, JSON, CSV, charts, and parameters from a genesis file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from astralink_node.cli.economics import _percent
from astralink_node.cli.main import run
from astralink_node.economics.parameters import PARAMETER_NAMES, StakingParameters
from astralink_node.economics.scenarios import SCENARIOS
from tests.support.chains import genesis_text


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def simulate(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    return command(capsys, "economics", "simulate", "--scenario", "baseline", "--years", 1, *arguments)


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def genesis_file(tmp_path: Path, **changed: object) -> Path:
    document = json.loads(genesis_text(1))
    staking: dict[str, object] = {
        camel(name): str(value) for name, value in zip(PARAMETER_NAMES, StakingParameters().values(), strict=True)
    }
    document["astralink"]["staking"] = {**staking, "inflationInitialBps": 1_500, **changed}
    path = tmp_path / "genesis.json"
    path.write_text(json.dumps(document))
    return path


def test_scenarios_are_listed_with_what_they_assume(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "economics", "scenarios")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(SCENARIOS)
    code, out, _ = command(capsys, "economics", "scenarios", "--json")
    assert [entry["name"] for entry in json.loads(out)] == list(SCENARIOS)


def test_simulation_prints_a_row_a_year_and_writes_months_and_charts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table, folder = tmp_path / "months.csv", tmp_path / "plots" / "here"
    code, out, err = simulate(capsys, "--csv", table, "--plots", folder)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("baseline: ")
    assert [line.split()[:2] for line in lines[2:3]] == [["0", "100,000,000"]]
    assert len(lines) == 4
    assert "Simulated 365 days" in err
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 14
    assert rows[-1]["day"] == "365"
    assert f"{int(rows[-1]['supply_bwt']):,}" == lines[3].split()[1]
    assert _percent(float(rows[-1]["inflation"])) in lines[3]
    assert (folder / "supply.svg").read_text().startswith("<svg")


def test_json_has_parameters_and_every_month(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = simulate(capsys, "--json", "--seed", 9)
    document = json.loads(out)
    assert (code, document["seed"], document["years"]) == (0, 9, 1)
    (scenario,) = document["scenarios"]
    assert scenario["parameters"]["bondedGoalBps"] == 6_700
    assert [sample["day"] for sample in scenario["samples"]][-2:] == [360, 365]


def test_parameters_come_from_the_genesis_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = simulate(capsys, "--json", "--genesis", genesis_file(tmp_path, bondedGoalBps=5_000))
    assert code == 0
    document = json.loads(out)
    assert document["inflationInitialBps"] == 1_500
    assert document["scenarios"][0]["parameters"]["bondedGoalBps"] == 5_000
    assert document["scenarios"][0]["samples"][0]["inflation"] == 0.15


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bondedGoalBps": 99}, "bonded_goal_bps: expected 100 to 10000, found 99"),
        ({"inflationInitialBps": 2_001}, "inflationInitialBps: expected 700 to 2000, found 2001"),
        ({"maxValidators": "many"}, "astralink.staking.maxValidators"),
    ],
)
def test_genesis_file_with_bad_parameters_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    code, out, err = simulate(capsys, "--genesis", genesis_file(tmp_path, **changed))
    assert (code, out) == (2, "")
    assert message in err


def test_genesis_file_without_staking_or_with_a_parameter_missing_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = genesis_file(tmp_path)
    document = json.loads(path.read_text())
    del document["astralink"]["staking"]["unbondingMs"]
    path.write_text(json.dumps(document))
    assert simulate(capsys, "--genesis", path)[0] == 0  # consensus says it
    del document["astralink"]["staking"]["maxValidators"]
    path.write_text(json.dumps(document))
    code, _, err = simulate(capsys, "--genesis", path)
    assert (code, "astralink.staking.maxValidators: expected a value, found nothing" in err) == (2, True)
    del document["astralink"]["staking"]
    path.write_text(json.dumps(document))
    code, _, err = simulate(capsys, "--genesis", path)
    assert (code, "no astralink.staking" in err) == (2, True)


def test_file_that_cannot_be_written_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = simulate(capsys, "--csv", tmp_path / "nowhere" / "months.csv")
    assert (code, "nowhere" in err) == (2, True)
    code, _, err = simulate(capsys, "--plots", tmp_path / "file" / "plots")
    assert (code, "plots" in err) == (2, True)


def test_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = command(capsys, "economics", "simulate", "--scenario", "utopia")
    assert code == 2
    assert "utopia" in err
