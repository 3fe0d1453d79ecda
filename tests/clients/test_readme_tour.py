"""The README's tour prints what the README says it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.clients.conftest import Devnet

ROOT = Path(__file__).parents[2]
TOUR_TIMEOUT_S = 60
TOUR_ACCOUNT = 6


def test_tour_prints_what_the_readme_shows(devnet: Devnet) -> None:
    ran = subprocess.run(
        [sys.executable, "docs/tour/tour.py", devnet.http_url, devnet.keys[TOUR_ACCOUNT]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TOUR_TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    readme = (ROOT / "README.md").read_text()
    shown = readme.split("$ .venv/bin/python docs/tour/tour.py\n")[1].split("\n\n")[0]
    assert without_addresses(ran.stdout) == without_addresses(shown)


def without_addresses(text: str) -> list[str]:
    """Lines without what depends on the account that runs the tour."""
    return [re.sub(r"0x[0-9a-fA-F]{40}", "ADDRESS", line.strip()) for line in text.strip().splitlines()]
