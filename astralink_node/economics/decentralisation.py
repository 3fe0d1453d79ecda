"""How evenly voting power is spread among the parties that hold it, each party counted once however many validators."""

from collections.abc import Sequence
from fractions import Fraction


def nakamoto_coefficient(powers: Sequence[int], share: Fraction) -> int:
    """The fewest parties that together hold strictly more than `share` of the power; 0 if there is no power.

    More than a third can stop the chain; more than two thirds can finalise what they like.
    """
    total = sum(powers)
    held = 0
    for count, power in enumerate(sorted(powers, reverse=True), start=1):
        held += power
        if held > share * total:
            return count
    return 0


def gini_coefficient(powers: Sequence[int]) -> Fraction:
    """0 if all hold the same, towards 1 if one holds everything; 0 if there is no power."""
    total = sum(powers)
    if not total:
        return Fraction(0)
    count = len(powers)
    weighted = sum(rank * power for rank, power in enumerate(sorted(powers), start=1))
    return Fraction(2 * weighted - (count + 1) * total, count * total)


def largest_share(powers: Sequence[int]) -> Fraction:
    """Of the power, what the largest party holds; 0 if there is no power."""
    total = sum(powers)
    return Fraction(max(powers), total) if total else Fraction(0)
