"""With all tracers on, a transaction uses the same gas and leaves the same output, logs and state.

A sample of the execution-spec-tests; ``make traced-vectors`` takes all of them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.support.traced_runs import TOO_LARGE, AllTracers, outcomes

FIXTURES = Path(__file__).parents[1] / "fixtures" / "unpacked" / "eest"
SAMPLE = 60
LARGEST_FILE = 60_000
"""Bytes. Larger ones have thousands of cases or minutes of work."""


def sample() -> list[Path]:
    files = [path for path in FIXTURES.rglob("*.json") if path.stat().st_size <= LARGEST_FILE]
    return sorted(files, key=lambda path: hashlib.sha256(path.relative_to(FIXTURES).as_posix().encode()).digest())


@pytest.mark.parametrize("path", sample()[:SAMPLE], ids=lambda path: path.stem)
def test_all_tracers_together_change_nothing(path: Path) -> None:
    fixture = json.loads(path.read_bytes())
    untraced = outcomes(fixture, None)
    traced = outcomes(fixture, AllTracers())
    if any(outcome.result.error.startswith(TOO_LARGE) for outcome in traced):
        traced = outcomes(fixture, AllTracers(vm_trace=False))
    assert untraced
    assert traced == untraced
