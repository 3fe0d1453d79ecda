"""Four validators, each in a network namespace of its own: what happens while one or two are cut off, and afterwards.

The run itself is a program that lives in a namespace, where it may make others: tests.campaigns.partitions. It fails
where the chain does not continue with three of four, or does not stand still, unforked, with two.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns import partitions
from tests.support import islands

RUN_TIMEOUT_S = 400


@pytest.fixture(scope="module")
def healings(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of the one that was cut off, and of the two."""
    islands.own_namespace()  # says what is missing
    result = tmp_path_factory.mktemp("partitions") / "result.json"
    command = [sys.executable, "-m", "tests.campaigns.partitions", "--json", str(result)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    assert result.exists(), ran.stderr
    found: list[dict[str, Any]] = json.loads(result.read_text())["healings"]
    return found


def test_network_goes_on_without_one_and_halts_without_two(healings: list[dict[str, Any]]) -> None:
    assert [healing["cut_off"] for healing in healings] == [1, 2]


def test_lost_validators_are_dialled_within_three_seconds_of_healing(healings: list[dict[str, Any]]) -> None:
    for healing in healings:
        assert healing["redial_s"] <= partitions.REDIAL_S + partitions.CONNECT_S, healing


def test_commit_follows_within_six_seconds_of_healing_and_two_rounds(healings: list[dict[str, Any]]) -> None:
    for healing in healings:
        assert healing["commit_s"] <= healing["commit_bound_s"], healing


def test_missing_program_is_named_with_its_debian_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(islands, "_PATH", str(tmp_path))
    with pytest.raises(islands.NoIslands, match="the Debian packages iproute2, util-linux"):
        islands.own_namespace()
