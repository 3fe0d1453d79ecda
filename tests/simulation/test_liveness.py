"""After stabilisation everybody commits within the computed bound, by itself, whatever happened before.

Every run here checks the bound (`bounds.commit_bound_ms`) at each height; the tests say what led to it.
"""

from dataclasses import replace

import pytest

from consensus import height_machine, round_machine
from consensus.params import ConsensusParams
from tests.simulation.bounds import commit_bound_ms, first_long_round
from tests.simulation.checks import Violation
from tests.simulation.network import Links, Partition
from tests.simulation.node import Habits
from tests.simulation.scenario import HASTY, TEAR, WIPE, Crash, Scenario
from tests.simulation.setting import Setting
from tests.simulation.simulation import Outcome, Simulation
from tests.support.altered_source import altered

FOUR = (1, 1, 1, 1)
SMALL_LOCK = Scenario(
    seed=1,
    powers=(220, 220, 1, 220, 330),
    heights=3,
    byzantine={4: "lock hider"},
    links=Links(stable_delay_ms=50),
    build_ms=20,
    pace=HASTY,
)
"""Validator 2 proposes once in 991 rounds, and without it the others that are correct are no quorum."""


def run(scenario: Scenario) -> Outcome:
    assert scenario.is_live
    return Simulation(scenario).run()


@pytest.mark.parametrize("seed", range(8))
def test_four_of_four_restarted_at_once_go_on(seed: int) -> None:
    at_ms = 1_500 + 37 * seed
    crashes = tuple(Crash(index, at_ms, 400 + 100 * index) for index in range(4))
    outcome = run(Scenario(seed=seed, powers=FOUR, heights=12, crashes=crashes))
    assert outcome.common_height >= 12


@pytest.mark.parametrize("seed", range(8))
def test_four_of_four_with_torn_logs_go_on(seed: int) -> None:
    """Each loses power at one of its own writes, syncs and signatures, so that all tear at different places."""
    crashes = tuple(Crash(index, 1_000, 2_000, TEAR, 1 + (7 * seed + 5 * index) % 23) for index in range(4))
    assert run(Scenario(seed=seed, powers=FOUR, heights=12, crashes=crashes)).common_height >= 12


@pytest.mark.parametrize("points", range(1, 41))
def test_a_power_failure_at_any_write_sync_or_signature_is_survived(points: int) -> None:
    crashes = (Crash(0, 500, 700, TEAR, points), Crash(0, 1_500, 700, TEAR, points), Crash(1, 3_000, 500, TEAR, points))
    links = Links(stable_from_ms=4_000, unstable_delay_ms=300, loss=0.05)
    assert run(Scenario(seed=points, powers=FOUR, heights=12, links=links, crashes=crashes)).common_height >= 12


@pytest.mark.parametrize("seed", range(8))
def test_one_wiped_with_its_signing_history_kept_catches_up_and_votes_again(seed: int) -> None:
    scenario = Scenario(seed=seed, powers=FOUR, heights=20, crashes=(Crash(2, 1_800 + 50 * seed, 500, WIPE),))
    simulation = Simulation(scenario)
    simulation.run()
    signed_later = [vote.height for vote in simulation.records.signed_by(2)]
    assert max(signed_later) >= 20


def test_all_restarted_and_one_of_them_wiped_go_on() -> None:
    crashes = (Crash(0, 2_000, 600, WIPE), *(Crash(index, 2_000, 600) for index in (1, 2, 3)))
    assert run(Scenario(seed=3, powers=FOUR, heights=20, crashes=crashes)).common_height >= 20


def test_a_validator_that_joins_late_catches_up() -> None:
    simulation = Simulation(Scenario(seed=4, powers=FOUR, heights=40, late={3: 6_000}))
    outcome = simulation.run()
    assert outcome.common_height >= 40
    assert simulation.correct[3].height >= 40


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("groups", [((0, 1), (2, 3)), ((0,), (1, 2, 3)), ((0,), (1,), (2,), (3,))])
def test_a_partition_heals(seed: int, groups: tuple[tuple[int, ...], ...]) -> None:
    links = Links(stable_from_ms=40_000, partitions=(Partition(1_000, 40_000, groups),))
    outcome = run(Scenario(seed=seed, powers=FOUR, heights=12, links=links))
    assert outcome.common_height >= 12


def test_after_ten_minutes_without_a_quorum_a_height_takes_seconds() -> None:
    """Timeouts grow linearly: nobody waits longer for a round than the outage taught them to."""
    outage = Partition(1_000, 600_000, ((0, 1), (2, 3)))
    links = Links(stable_from_ms=600_000, loss=0.3, unstable_delay_ms=2_000, partitions=(outage,))
    simulation = Simulation(Scenario(seed=6, powers=FOUR, heights=3_000, links=links))
    simulation.start()
    simulation.world.run(lambda: False, 600_000)
    began_ms = simulation.world.elapsed_ms
    simulation.run_within_bounds(simulation.records.lowest + 1)
    assert simulation.world.elapsed_ms - began_ms < 20_000


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [4, 7, 10])
def test_timeouts_that_are_too_short_grow_until_a_round_succeeds(seed: int, count: int) -> None:
    links = Links(stable_delay_ms=300)
    liars = dict.fromkeys(range((count - 1) // 3), "absentee")
    scenario = Scenario(
        seed=seed, powers=(1,) * count, heights=4, byzantine=liars, links=links, check_ms=300, build_ms=300, pace=HASTY
    )
    assert run(scenario).common_height >= 4


# --- The adversary of the changed rule (docs/adr/0012) -----------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("actor", ["lock hider", "splitter"])
@pytest.mark.parametrize(
    ("powers", "liars"),
    [(FOUR, (0,)), ((1,) * 7, (0, 3)), ((1,) * 7, (0, 1)), ((1,) * 10, (1, 4, 7)), (SMALL_LOCK.powers, (4,))],
)
@pytest.mark.parametrize("pace", ["default", HASTY])
def test_locks_that_are_made_and_hidden_on_purpose_end_within_the_bound(
    seed: int, actor: str, powers: tuple[int, ...], liars: tuple[int, ...], pace: str
) -> None:
    scenario = Scenario(
        seed=seed,
        powers=powers,
        heights=5,
        byzantine=dict.fromkeys(liars, actor),
        links=Links(stable_delay_ms=50),
        build_ms=20,
        pace=pace,
    )
    outcome = run(scenario)
    assert outcome.common_height >= 5
    assert outcome.re_proposals > 0 or pace == "default"


def test_the_lock_of_a_small_validator_does_not_stall_everyone_until_its_turn() -> None:
    """Its polka, repeated, becomes everybody's validValue, so the next correct proposer proposes what it holds."""
    outcome = run(SMALL_LOCK)
    assert outcome.common_height >= 3
    assert outcome.re_proposals > 0
    assert outcome.highest_round < 20


def test_without_the_rule_for_missed_polkas_the_same_lock_does_stall() -> None:
    with altered(round_machine, ("if missed is not None:", "if False:")), pytest.raises(Violation, match="liveness"):
        run(replace(SMALL_LOCK, heights=1))


def test_a_polka_that_is_never_repeated_stalls_as_well() -> None:
    silence = ("tuple(votes), _valid_polka(state)", "tuple(votes), None")
    with altered(height_machine, silence), pytest.raises(Violation, match="liveness"):
        run(replace(SMALL_LOCK, heights=1))


# --- The bound ---------------------------------------------------------------------------------------------------


def test_the_bound_is_what_the_decision_record_says() -> None:
    """Four validators, default parameters, nobody byzantine, 50 ms of delay: r* = 11, decided by round 13."""
    setting = Setting(FOUR, ConsensusParams())
    bound_ms = commit_bound_ms(setting.params, setting.rotation(1), (), 0, 0, 50, Habits())
    assert first_long_round(setting.params, 50, Habits()) == 11
    rounds_ms = sum(5_000 + 1_500 * round_ + 4_050 + 100 for round_ in range(14))
    assert bound_ms == 2 * 4_050 + rounds_ms


def test_the_bound_grows_with_byzantine_proposers_and_with_missing_heights() -> None:
    setting = Setting(FOUR, ConsensusParams())
    plain = commit_bound_ms(setting.params, setting.rotation(1), (), 0, 0, 50, Habits())
    next_proposer = setting.rotation(1).at(13)
    assert commit_bound_ms(setting.params, setting.rotation(1), (next_proposer,), 0, 0, 50, Habits()) > plain
    assert commit_bound_ms(setting.params, setting.rotation(1), (), 0, 7, 50, Habits(check_ms=5)) == plain + 7 * 105
