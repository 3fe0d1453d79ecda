"""Amounts: exact to the wei both ways, and nothing that could be read in two ways is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.cli.amounts import MAX_WEI, InvalidAmount, bwt, parse_amount, parse_percent, percent


@pytest.mark.parametrize(
    ("text", "wei"),
    [
        ("12.5", 12_500_000_000_000_000_000),
        ("12.5 BWT", 12_500_000_000_000_000_000),
        ("32bwt", 32 * 10**18),
        ("0.000000000000000001", 1),
        ("1wei", 1),
        ("12500 wei", 12_500),
        ("0", 0),
        ("007", 7 * 10**18),
        (f"{MAX_WEI}wei", MAX_WEI),
    ],
)
def test_amounts_are_read_exactly(text: str, wei: int) -> None:
    assert parse_amount(text) == wei


@pytest.mark.parametrize(
    "text",
    [
        *["", "wei", "BWT", ".5", "5.", "1e18", "-1", "+1", "1_000", "1,000", "0x10", "1.5wei", "1.2.3", "٣", "1 2"],
        *["NaN", "0.0000000000000000001", f"{MAX_WEI + 1}wei", "9" * 5_000],
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidAmount, match="amount"):
        parse_amount(text)


@given(st.integers(0, MAX_WEI))
def test_what_is_shown_reads_back(wei: int) -> None:
    shown = bwt(wei)
    assert parse_amount(shown.replace(",", "")) == wei
    assert parse_amount(f"{wei}wei") == wei


def test_amounts_are_shown_without_trailing_zeros() -> None:
    assert [bwt(wei) for wei in (0, 1, 10**18, 1_234_500 * 10**15, -(10**18))] == [
        "0 BWT",
        "0.000000000000000001 BWT",
        "1 BWT",
        "1,234.5 BWT",
        "-1 BWT",
    ]


@given(st.integers(0, 10_000))
def test_percentages_read_back(bps: int) -> None:
    assert parse_percent(percent(bps)) == bps


@pytest.mark.parametrize("text", ["", "%", "100.01", "101", "-1", "1.234", "5 percent", ".5", "5."])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(InvalidAmount, match="percentage"):
        parse_percent(text)
