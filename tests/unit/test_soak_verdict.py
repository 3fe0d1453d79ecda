"""The soak's verdict: what counts as growth, by samples whose course is known."""

from __future__ import annotations

from tests.campaigns.soak import GROWTH, Sample, leaks, trends

LENGTH_S = 400.0
PROCESSES = ("0 node", "0 execution", "0 gateway")


def samples(end: dict[str, int]) -> list[Sample]:
    """Every figure rises evenly from 1000 by what is given."""
    return [
        Sample(at_s, process, {figure: 1000 + int(end.get(figure, 0) * at_s / LENGTH_S) for figure in GROWTH})
        for process in PROCESSES
        for at_s in range(0, int(LENGTH_S), 5)
    ]


def test_a_network_that_stands_still_has_no_leak() -> None:
    assert leaks(trends(samples({}), LENGTH_S)) == []


def test_each_figure_that_grows_is_named_with_its_process() -> None:
    for figure, allowed in GROWTH.items():
        found = leaks(trends(samples({figure: 3 * allowed}), LENGTH_S))
        assert [problem.partition(" grew")[0] for problem in found] == [
            f"validator {process}: {figure}" for process in sorted(PROCESSES)
        ]


def test_a_process_that_was_not_watched_to_the_end_is_named() -> None:
    cut = [sample for sample in samples({}) if sample.process != "0 gateway" or sample.at_s < LENGTH_S / 2]
    assert leaks(trends(cut, LENGTH_S)) == [
        f"validator 0 gateway: its {figure} were not watched long enough" for figure in GROWTH if figure != "tasks"
    ]
