"""Runs the tests against each mutant of mutants.toml: `python -m tests.mutants.run [--only TEXT] [--json PATH]`.

The packages and tests are copied to a temporary folder, one mutant at a time is applied there, and pytest runs in
that folder, where a conftest of its own makes sure that the copy is what is tested. Prints which test caught each
mutant; exits 1 if one survives, does not apply, or breaks the import instead of a rule.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.report import circumstances, write_result

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).parent / "mutants.toml"
PACKAGES = ("consensus", "astralink_node", "contracts", "genesis", "p2p")
TIMEOUT_S = 120
"""A mutant that makes a step run for ever is caught by this."""

OWN_TESTS = {
    "consensus/round_machine.py": ["tests/unit/consensus/test_round_machine.py"],
    "consensus/height_machine.py": ["tests/unit/consensus/test_height_machine.py"],
    "consensus/vote_tally.py": ["tests/unit/consensus/test_vote_tally.py"],
    "consensus/replay.py": ["tests/unit/consensus/test_replay.py"],
    "consensus/proposer_selection.py": ["tests/properties/test_consensus_properties.py"],
    "consensus/evidence.py": ["tests/unit/consensus/test_evidence.py"],
    "consensus/forged_header.py": ["tests/unit/consensus/test_forged_header.py"],
    "consensus/validator_set.py": ["tests/properties/test_consensus_properties.py"],
    "consensus/certificate.py": ["tests/unit/consensus/test_certificate.py"],
    "consensus/admission.py": ["tests/unit/consensus/test_admission.py"],
    "consensus/params.py": ["tests/unit/consensus/test_params_and_epoch.py"],
    "astralink_node/validator/signing_rules.py": ["tests/unit/validator/test_signing_rules.py"],
}
"""The tests that are asked first, by mutated file."""

ALL = (
    "tests/unit/consensus",
    "tests/unit/validator/test_signing_rules.py",
    "tests/properties/test_consensus_properties.py",
    "tests/properties/test_consensus_machine.py",
)
"""Asked when the first see nothing."""

NOT_COPIED = ("test_mutants.py",)
"""It compares the list with the code, and so fails for every mutant."""

_CONFTEST = """
from pathlib import Path

import astralink_node
import consensus
from hypothesis import settings

for package in (astralink_node, consensus):
    assert Path(package.__file__).is_relative_to(Path(__file__).parent), f"{package.__file__} is no copy"
settings.register_profile("mutants", deadline=None, derandomize=True, database=None)
settings.load_profile("mutants")
"""
_FAILED = re.compile(r"^FAILED (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    path: str
    old: str
    new: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    path: str
    name: str
    caught_by: str | None
    """A test, or the time limit; None where nothing caught it."""
    seconds: float


class RunError(Exception):
    """A mutant that does not apply, or tests that do not pass without one."""


def load_mutants() -> tuple[Mutant, ...]:
    return tuple(Mutant(**entry) for entry in tomllib.loads(LIST.read_text())["mutant"])


def mutated(source: str, mutant: Mutant) -> str:
    """The source with the mutant in it; raises `RunError` unless its text stands there exactly once."""
    count = source.count(mutant.old)
    if count != 1:
        raise RunError(f"{mutant.path}: {mutant.name}: expected its text once, found it {count} times")
    return source.replace(mutant.old, mutant.new)


class Copy:
    """The packages and tests in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ignore = shutil.ignore_patterns("__pycache__", *NOT_COPIED)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=ignore)
        for name in ("unit/consensus", "unit/validator", "properties", "support"):
            shutil.copytree(ROOT / "tests" / name, folder / "tests" / name, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "conftest.py").write_text(_CONFTEST)

    def check_sound(self) -> None:
        """Raises `RunError` if a test fails without any mutant: then a failure would mean nothing."""
        failed = self._first_failure(ALL)
        if failed is not None:
            raise RunError(f"without any mutant: {failed}")

    def judge(self, mutant: Mutant) -> Verdict:
        started = time.monotonic()
        path = self._folder / mutant.path
        original = path.read_text()
        path.write_text(mutated(original, mutant))
        try:
            caught_by = self._first_failure(OWN_TESTS[mutant.path]) or self._first_failure(ALL)
        finally:
            path.write_text(original)
        return Verdict(mutant.path, mutant.name, caught_by, round(time.monotonic() - started, 1))

    def _first_failure(self, paths: Sequence[str]) -> str | None:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-rf", "--tb=no", "-p", "no:cacheprovider", *paths]
        # No bytecode: two mutants of one second and length would share a cached file.
        environment = os.environ | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(self._folder),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # the plugins of other packages take most of the time
        }
        try:
            ran = subprocess.run(
                command,
                cwd=self._folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{paths[0]}: not done after {TIMEOUT_S} s"
        if ran.returncode == 0:
            return None
        found = _FAILED.search(ran.stdout)
        if found is None:
            raise RunError(f"pytest failed without a failing test:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        return found[1]


def main() -> int:
    arguments = _arguments()
    chosen = [mutant for mutant in load_mutants() if arguments.only in f"{mutant.path}: {mutant.name}"]
    if not chosen:
        print(f"no mutant is called {arguments.only!r}", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Copy(Path(folder))
            copy.check_sound()
            verdicts = [_shown(copy.judge(mutant)) for mutant in chosen]
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    survivors = [verdict for verdict in verdicts if verdict.caught_by is None]
    seconds = sum(verdict.seconds for verdict in verdicts)
    print(f"\n{len(verdicts)} mutants, {len(survivors)} survive, {seconds:.0f} s")
    if arguments.json:
        command = " ".join(["python", "-m", "tests.mutants.run", *sys.argv[1:]])
        rows = [asdict(verdict) for verdict in verdicts]
        write_result(arguments.json, {**circumstances(seed=0), "command": command, "mutants": rows})
    return 1 if survivors else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="do the tests notice when a consensus rule is broken?")
    parser.add_argument("--only", default="", help="run only the mutants whose file or name contains this text")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    return parser.parse_args()


def _shown(verdict: Verdict) -> Verdict:
    what = f"{Path(verdict.path).stem}: {verdict.name}"
    print(f"{verdict.seconds:6.1f} s  {what:75} {verdict.caught_by or 'SURVIVES'}", flush=True)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
