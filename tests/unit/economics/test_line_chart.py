"""Charts as SVG: scales, geometry, and that everything drawn lies on the paper."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.economics.line_chart import HEIGHT, WIDTH, ChartError, Series, axis_for, line_chart

SVG = "{http://www.w3.org/2000/svg}"


def chart(*series: Series, from_zero: bool = True, stepped: bool = False) -> ElementTree.Element:
    text = line_chart(
        series,
        title="Stake & <power>",
        x_label="years",
        y_label="BWT",
        y_text=lambda value: f"{value:g}",
        from_zero=from_zero,
        stepped=stepped,
    )
    return ElementTree.fromstring(text)


def corners(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 5.0], [0, 1, 2, 3, 4, 5]),
        ([3.0, 97.0], [0, 20, 40, 60, 80, 100]),
        ([0.071, 0.199], [0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2]),
        ([-0.04, 0.09], [-0.05, -0.025, 0, 0.025, 0.05, 0.075, 0.1]),
        ([7.0, 7.0], [6, 6.5, 7, 7.5, 8]),
    ],
)
def test_ticks_are_round_and_hold_the_values(values: list[float], ticks: list[float]) -> None:
    assert axis_for(values).ticks() == pytest.approx(ticks)


def test_axis_begins_at_zero_where_asked() -> None:
    assert axis_for([61.0, 70.0], from_zero=True).first == 0
    assert axis_for([-70.0, -61.0], from_zero=True).last == pytest.approx(0)


@given(st.lists(st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-6), min_size=1, max_size=20))
def test_any_values_lie_between_first_and_last_tick(values: list[float]) -> None:
    axis = axis_for(values)
    span = axis.last - axis.first
    assert all(-1e-6 <= axis.part(value) <= 1 + 1e-6 for value in values)
    assert 2 <= len(axis.ticks()) <= 13
    assert span > 0


def test_line_goes_from_corner_to_corner_of_the_axes() -> None:
    root = chart(Series("stake", [(0, 0), (5, 100)]))
    (line,) = root.iter(f"{SVG}polyline")
    (left, bottom), (right, top) = corners(line)
    assert (left, bottom) == (78.0, HEIGHT - 58.0)
    assert (right, top) == (WIDTH - 200.0, 56.0)


def test_everything_drawn_lies_on_the_paper_and_the_legend_names_each_line() -> None:
    series = [Series(f"scenario {n}", [(0, n), (2.5, -n), (5, n * n)]) for n in range(8)]
    root = chart(*series)
    assert root.attrib["viewBox"] == f"0 0 {WIDTH} {HEIGHT}"
    points = [point for line in root.iter(f"{SVG}polyline") for point in corners(line)]
    points += [(float(text.attrib["x"]), float(text.attrib["y"])) for text in root.iter(f"{SVG}text")]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert [name for name in texts if name and name.startswith("scenario")] == [
        f"scenario {n}" for n in reversed(range(8))
    ]
    styles = [(line.attrib["stroke"], line.attrib.get("stroke-dasharray")) for line in root.iter(f"{SVG}polyline")]
    assert len(set(styles)) == 8


def test_title_units_and_escapes_are_there() -> None:
    root = chart(Series("stake", [(0, 1)]))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"Stake & <power>", "years", "BWT"} <= set(texts)
    assert root.findtext(f"{SVG}title") == "Stake & <power>"


def test_first_series_is_drawn_last_so_that_it_lies_on_top() -> None:
    root = chart(Series("baseline", [(0, 1), (1, 2)]), Series("other", [(0, 1), (1, 3)]))
    assert [line.attrib["stroke"] for line in root.iter(f"{SVG}polyline")][-1] == "#000000"


def test_stepped_line_holds_its_value_until_the_next() -> None:
    (line,) = chart(Series("n", [(0, 3), (5, 6)]), stepped=True).iter(f"{SVG}polyline")
    points = corners(line)
    assert len(points) == 3
    assert points[1] == (points[2][0], points[0][1])


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ChartError, match="a point"):
        chart()
    with pytest.raises(ChartError, match="a point"):
        chart(Series("empty", []))
    with pytest.raises(ChartError, match="at most"):
        chart(*[Series(str(n), [(0, 0)]) for n in range(11)])
