"""A full disk, for real: a small tmpfs in a mount namespace of the test's own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from astralink_node.chain.process_config import EXIT_STORAGE
from astralink_node.cli.main import run
from tests.support.node_process import NodeProcess

ROOT = Path(__file__).parents[2]


def namespace() -> list[str]:
    """The command that gives a process mounts of its own; a missing tool or right fails the test by name."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        pytest.fail("unshare or mount is missing: apt-get install util-linux mount")
    for command in (["unshare", "-m"], ["unshare", "-Urm"]):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    pytest.fail("this machine allows no mount namespace: run as root, or enable unprivileged user namespaces")


def test_a_full_disk_stops_the_node_and_loses_nothing(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        [*namespace(), sys.executable, "-m", "tests.support.full_disk_scenario", str(place)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["exit_code"] == EXIT_STORAGE
    assert "full" in found["last_line"]
    assert found["problems"] == []
    assert found["head_found"] >= found["seen_before"]
    assert found["came_back_at"] >= found["head_found"]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A devnet's folder `net` with some blocks in it, and their export `blocks`; tests work on copies."""
    base = tmp_path_factory.mktemp("grown")
    arguments = ("devnet", "--dir", str(base / "net"), "--rpc-port", "0", "--json", "--block-interval-ms", "50")
    with NodeProcess(base / "log", *arguments) as node:
        node.await_ready()
        node.await_height(12)
        node.stop()
    assert run(["export", str(base / "blocks"), "--data-dir", str(base / "net")]) == 0
    return base


@pytest.mark.parametrize("scenario", ["commands", "consensus log", "signing history"])
def test_what_does_not_fit_on_the_disk_is_told_and_nothing_is_half_done(
    scenario: str, grown: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(grown, tmp_path / "base")
    done = subprocess.run(
        [*namespace(), sys.executable, "-m", "tests.support.small_disk_scenarios", scenario, str(base)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
