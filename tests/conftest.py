"""What the whole suite shares: unpacked test data, hypothesis profiles, and the time that each suite took."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.fixture_archives import unpack_fixtures

# A shared two-core machine makes single examples slow at random, so wall-clock deadlines would only be noise.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile(
    "nightly", deadline=timedelta(seconds=30), max_examples=2_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dev")


def pytest_configure() -> None:
    """Before anything is collected: vector tests read the unpacked data to name their cases."""
    unpack_fixtures()


class SuiteScheduling(LoadScopeScheduling):
    """Which tests stay together on one worker: those that share something expensive to make."""

    # Thousands of cases in one file that share nothing: each may go anywhere.
    SCATTERED = ("tests/vectors/", "tests/properties/")
    # One devnet process serves all clients.
    TOGETHER = ("tests/clients/",)

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(self.SCATTERED):
            return nodeid
        return next((folder for folder in self.TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Replaces --dist for this suite. (loadgroup's marks have no effect under pytest 9.2 with xdist 3.8.)"""
    return SuiteScheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line a suite (tests/<suite>): how many tests, and their added time over all workers."""
    seconds: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                suite = Path(report.nodeid.partition("::")[0]).parent.as_posix()
                seconds[suite] += report.duration
                counts[suite] += report.when == "call"
    terminalreporter.section("time per suite (summed over workers)")
    for suite in sorted(seconds, key=lambda name: -seconds[name]):
        terminalreporter.write_line(f"{seconds[suite]:8.1f} s  {counts[suite]:6d} tests  {suite}")
