"""A machine that is broken on purpose is found by random scenarios, and its failure shrunk to what matters."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from astralink_node.validator import signing_rules
from consensus import replay, round_machine
from tests.simulation.campaign import Failed, main, run_campaign
from tests.simulation.scenario import Scenario, decode_scenario, encode_scenario, random_scenario
from tests.simulation.shrinking import failure_of, shrink
from tests.support.altered_source import altered

NO_SIGNER_RULE = (signing_rules, "message.valid_round < history.locked_round:", "message.valid_round < NO_ROUND:")
"""Otherwise the signer refuses what a machine without locks asks for: the second net under the first."""
NO_LOCK = (
    round_machine,
    "locked = replace(valid, locked_round=state.round_, locked_hash=block_hash)",
    "locked = valid",
)
LOG_FORGOTTEN = (
    replay,
    "    for event in events:\n        state, outputs",
    "    for event in ():\n        state, outputs",
)


@contextmanager
def broken(*changes: tuple[ModuleType, str, str]) -> Iterator[None]:
    with ExitStack() as stack:
        for module, old, new in changes:
            stack.enter_context(altered(module, (old, new)))
        yield


def first_failure(seeds: range) -> tuple[Scenario, str]:
    for seed in seeds:
        scenario = random_scenario(seed, 4, 10)
        failure = failure_of(scenario)
        if failure is not None:
            return scenario, failure
    raise AssertionError(f"none of {seeds} fails")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((NO_LOCK,), {"signer refused"}),
        ((NO_LOCK, NO_SIGNER_RULE), {"amnesia", "honest accused", "agreement"}),
        ((LOG_FORGOTTEN,), {"signer refused"}),
    ],
    ids=["locks are not kept", "neither by the signer", "logs are not replayed"],
)
def test_a_broken_rule_is_found_and_its_failure_shrunk(
    changes: tuple[tuple[ModuleType, str, str], ...], expected: set[str]
) -> None:
    with broken(*changes):
        scenario, failure = first_failure(range(39, 60))
        assert failure in expected
        small = shrink(scenario)
        assert failure_of(small) == failure
        assert failure_of(decode_scenario(encode_scenario(small))) == failure
    assert failure_of(small) is None
    assert small.heights <= scenario.heights
    assert len(small.crashes) <= len(scenario.crashes)
    assert len(small.byzantine) <= len(scenario.byzantine)
    assert size(small) < size(scenario)


def test_a_campaign_prints_the_seed_and_the_shrunk_scenario_and_replays_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["campaign", "--heights", "2000", "--nodes", "4"])
    with broken(LOG_FORGOTTEN):
        assert main() == 1
        told = capsys.readouterr().out
        assert "FAILED: seed " in told
        file = tmp_path / "scenario.json"
        file.write_text(told.split("shrunk:   ")[1])
        monkeypatch.setattr("sys.argv", ["campaign", "--scenario", str(file)])
        assert main() == 1
        assert "fails: signer refused" in capsys.readouterr().out
    assert main() == 0


def test_a_scenario_that_does_not_fail_is_left_alone() -> None:
    scenario = random_scenario(1, 4, 3)
    assert shrink(scenario) is scenario


def test_a_campaign_stops_at_the_first_failure() -> None:
    with broken(LOG_FORGOTTEN), pytest.raises(Failed, match="signer refused"):
        run_campaign(2_000, 0, [4], tell=lambda _: None)


def test_shrinking_keeps_only_what_the_failure_needs() -> None:
    scenario = random_scenario(2, 10, 10)
    assert size(shrink(scenario, lambda it: "crashed" if it.crashes or it.byzantine else None)) == 1


def size(scenario: Scenario) -> int:
    """How much there is to look at."""
    links = scenario.links
    return (
        (scenario.heights > 1)
        + len(scenario.byzantine)
        + len(scenario.crashes)
        + len(links.partitions)
        + sum(map(bool, (links.loss, links.deafness, links.duplication, links.stable_from_ms, scenario.late)))
    )
