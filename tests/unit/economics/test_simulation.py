"""The simulated economy: no wei appears or is lost, a seed repeats itself, and events do what their names say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from astralink_node.economics.parameters import BWT, StakingParameters
from astralink_node.economics.plots import charts
from astralink_node.economics.scenarios import (
    SCENARIOS,
    Exodus,
    FeeBoom,
    LargeOperator,
    Period,
    Scenario,
    SharedBug,
)
from astralink_node.economics.simulation import Economy, Run, simulate

SMALL = Scenario(
    "small",
    "For tests.",
    supply_bwt=1_000_000,
    validators=12,
    holders=30,
    base_fees_bwt=20,
    outages_a_year=0,
    double_signs_a_year=0,
)
PARAMETERS = StakingParameters(downtime_window=10)


def run(scenario: Scenario, *, years: int = 1, seed: int = 3) -> Run:
    return simulate(scenario, PARAMETERS, inflation_initial_bps=1_000, years=years, seed=seed)


def economy(scenario: Scenario, days: int) -> Economy:
    found = Economy(scenario, replace(PARAMETERS, **scenario.parameters), 1_000, 3)
    for day in range(1, days + 1):
        found.live(day)
    return found


@pytest.mark.parametrize("name", SCENARIOS)
def test_all_bwt_is_somebodys_in_every_scenario(name: str) -> None:
    """Holders' liquid wei and the contract's balance are the supply, to the wei, whatever happens."""
    hurried = replace(SCENARIOS[name], validators=20, holders=40, outages_a_year=20.0, double_signs_a_year=1.0)
    period = Period(10, 20)
    if hurried.fee_boom:
        hurried = replace(hurried, fee_boom=replace(hurried.fee_boom, period=period))
    if hurried.exodus:
        hurried = replace(hurried, exodus=replace(hurried.exodus, period=period))
    if hurried.large_operator:
        hurried = replace(hurried, large_operator=replace(hurried.large_operator, day=10))
    if hurried.shared_bug:
        hurried = replace(hurried, shared_bug=replace(hurried.shared_bug, period=period))
    found = economy(hurried, 0)
    for day in range(1, 61):
        found.live(day)
        totals = found.ledger.totals
        assert sum(holder.liquid for holder in found.holders.all) + totals.balance == totals.supply
        assert totals.balance == totals.bonded + totals.unbonding + totals.owed + totals.to_burn
        assert min(holder.liquid for holder in found.holders.all) >= 0
    assert found.sample(60).slashed_bwt > 0


def test_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    assert run(SMALL) == run(SMALL)
    assert run(SMALL).samples != run(SMALL, seed=4).samples


def test_start_is_as_the_scenario_says() -> None:
    start = run(SMALL).samples[0]
    assert start.supply_bwt == 1_000_000
    assert start.bonded_ratio == pytest.approx(0.7, abs=0.002)
    assert (start.inflation, start.supply_growth, start.delegator_yield) == (0.1, 0.0, 0.0)
    assert (start.members, start.jailed, start.slashed_bwt) == (12, 0, 0)


def test_quiet_year_grows_the_supply_by_inflation_less_fees() -> None:
    samples = run(SMALL).samples
    last = samples[-1]
    assert last.day == 365
    assert last.minted_bwt == pytest.approx(95_000, rel=0.1)
    assert 20 * 365 - 1 <= last.burned_bwt <= 20 * 365  # each holder pays whole wei
    assert last.supply_bwt == pytest.approx(1_000_000 + last.minted_bwt - last.burned_bwt, abs=1)
    assert [sample.slashed_bwt for sample in samples] == [0] * len(samples)


def test_delegators_earn_the_inflation_over_the_bonded_less_commission() -> None:
    for sample in run(replace(SMALL, base_fees_bwt=0)).samples[2:]:
        gross = sample.inflation / sample.bonded_ratio
        assert 0.88 * gross < sample.delegator_yield < 0.99 * gross
        assert sample.validator_yield > gross


def test_burned_fees_shrink_the_supply() -> None:
    boom = FeeBoom(Period(100, 200), base_fees_bwt=1_000)
    samples = run(replace(SMALL, fee_boom=boom)).samples
    growth = {sample.day: sample.supply_growth for sample in samples}
    assert growth[90] > 0 > growth[150]
    assert growth[360] > 0


def test_large_operator_is_one_party_however_many_validators() -> None:
    large = LargeOperator(10, validators=4, stake_bps=2_500, commission_bps=0)
    joined = replace(SMALL, bonded_bps=5_000, large_operator=large)
    assert economy(joined, 9).sample(9).members == 12
    found = economy(joined, 11)
    sample, powers = found.sample(11), found.ledger.voting_set()
    own = [powers[operator] for operator in found.ledger.operators()[-4:]]
    assert sample.members == 16
    assert sample.largest_share == pytest.approx(sum(own) / sum(powers.values()), rel=0.05)
    assert sample.largest_share > 1.5 * max(powers.values()) / sum(powers.values())


def test_exodus_unbonds_and_raises_inflation() -> None:
    exodus = Exodus(Period(60, 365), wanted_yield_bps=4_000, haste_bps=2_500)
    quiet, fled = run(SMALL).samples[-1], run(replace(SMALL, exodus=exodus)).samples[-1]
    assert fled.bonded_ratio < quiet.bonded_ratio - 0.2
    assert fled.inflation > quiet.inflation
    assert fled.delegator_yield > quiet.delegator_yield


def test_jailing_is_capped_while_a_shared_bug_lasts() -> None:
    bug = SharedBug(Period(10, 12), power_bps=3_300, double_signers=0)
    capped = economy(replace(SMALL, validators=40, shared_bug=bug), 10).sample(10)
    free = economy(replace(SMALL, validators=40, shared_bug=bug, parameters={"max_jailed_per_epoch": 128}), 10).sample(
        10
    )
    assert capped.jailed == 2 < free.jailed
    assert free.lowest_presence == capped.lowest_presence
    assert 0.67 <= capped.lowest_presence < 0.75
    assert capped.thin_days == 1


def test_double_signers_of_a_shared_bug_are_tombstoned_and_the_rest_comes_back() -> None:
    bug = SharedBug(Period(10, 12), power_bps=3_300, double_signers=2)
    later = economy(replace(SMALL, validators=40, shared_bug=bug, parameters={"max_jailed_per_epoch": 128}), 20)
    tombstoned = [operator for operator in later.ledger.operators() if later.ledger.validator(operator).tombstoned]
    assert len(tombstoned) == 2
    sample = later.sample(20)
    assert (sample.jailed, sample.members) == (2, 38)
    assert sample.delegator_yield < economy(replace(SMALL, validators=40), 20).sample(20).delegator_yield - 0.03


def test_holders_take_back_what_has_matured() -> None:
    exodus = Exodus(Period(1, 10), wanted_yield_bps=5_000, haste_bps=5_000)
    found = economy(replace(SMALL, exodus=exodus), 11)
    assert found.ledger.totals.unbonding > 100_000 * BWT
    for day in range(12, 45):
        found.live(day)
    assert found.ledger.totals.unbonding < 1_000 * BWT


def test_charts_compare_the_runs_and_are_the_same_every_time() -> None:
    runs = [run(SMALL), run(replace(SMALL, name="busy", base_fees_bwt=200))]
    drawn = charts(runs)
    assert drawn == charts(runs)
    assert {"supply.svg", "inflation.svg", "bonded-ratio.svg", "nakamoto-one-third.svg", "gini.svg"} <= set(drawn)
    assert all(">small<" in svg and ">busy<" in svg for svg in drawn.values())


def test_document_shows_every_committed_chart_and_names_every_scenario() -> None:
    root = Path(__file__).parents[3]
    text = (root / "docs/economics.md").read_text()
    committed = {path.name for path in (root / "docs/economics").iterdir()}
    assert committed == set(re.findall(r"\(economics/([a-z-]+\.svg)\)", text)) == set(charts([run(SMALL)]))
    assert all(f"`{name}`" in text for name in SCENARIOS)
