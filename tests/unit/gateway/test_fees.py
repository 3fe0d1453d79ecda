"""Fee suggestions and rewards: integers, weighted by gas."""

from hypothesis import given
from hypothesis import strategies as st

from astralink_node.gateway.reading.fees import MAX_SUGGESTION_WEI, rewards, suggest_priority_fee


class View:
    """The two attributes of a block view that the suggestion reads."""

    def __init__(self, *tips: int) -> None:
        self.receipts = ()
        self.tips = tuple(sorted((tip, 21_000) for tip in tips))


def suggest(*views: View) -> int:
    return suggest_priority_fee(views, default_wei=1000)  # type: ignore[arg-type]


def test_empty_blocks_suggest_the_default() -> None:
    assert suggest() == 1000
    assert suggest(View(), View()) == 1000


def test_negligible_tips_are_ignored() -> None:
    assert suggest(View(0, 1)) == 1000


def test_the_suggestion_is_the_60th_percentile_of_the_cheapest_three() -> None:
    assert suggest(View(10, 20, 30, 999, 999)) == 20
    assert suggest(View(10), View(20), View(30), View(40), View(50), View(60)) == 40


def test_the_suggestion_has_a_ceiling() -> None:
    assert suggest(View(10**30)) == MAX_SUGGESTION_WEI


def test_only_the_newest_blocks_count() -> None:
    assert suggest(*[View(5)] * 20, *[View(10**9)] * 50) == 5


def test_rewards_are_weighted_by_gas() -> None:
    tips = ((1, 90_000), (5, 10_000))
    assert rewards(tips, 100_000, (0, 5000, 9000, 9001, 10_000)) == (1, 1, 1, 5, 5)


def test_an_empty_block_rewards_nothing() -> None:
    assert rewards((), 0, (1000, 5000)) == (0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 10**12), st.integers(21_000, 10**7)), min_size=1, max_size=30),
    st.lists(st.integers(0, 10_000), max_size=10),
)
def test_rewards_ascend_and_are_tips_that_were_paid(tips: list[tuple[int, int]], percentiles: list[int]) -> None:
    tips.sort()
    percentiles.sort()
    chosen = rewards(tips, sum(gas for _, gas in tips), percentiles)
    assert list(chosen) == sorted(chosen)
    assert set(chosen) <= {tip for tip, _ in tips}
