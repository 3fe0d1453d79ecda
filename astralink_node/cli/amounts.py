"""Amounts of BWT as people write and read them, exact to the wei. Pure."""

import re
from typing import Any, Final

import click

from astralink_node.errors import UserError

WEI_PER_BWT: Final = 10**18
DECIMALS: Final = 18
MAX_WEI: Final = 2**256 - 1
_DIGITS: Final = frozenset("0123456789")
_NEGATIVE: Final = re.compile(r"-\.?[0-9]")


class InvalidAmount(UserError):
    """Not an amount, or more precise or larger than one can be."""


def parse_amount(text: str) -> int:
    """Wei, from `12.5`, `12.5 BWT` or `12500000wei`. Raises `InvalidAmount`; nothing is rounded."""
    stripped = text.strip()
    lowered = stripped.lower()
    if lowered.endswith("wei"):
        digits = stripped[:-3].rstrip()
        if not digits or not _DIGITS.issuperset(digits):
            raise InvalidAmount(f"amount: expected a whole number of wei, found {text!r}")
        return _bounded(int(digits[:80]), text)
    number = stripped[:-3].rstrip() if lowered.endswith("bwt") else stripped
    whole, point, fraction = number.partition(".")
    if not whole or (point and not fraction) or not _DIGITS.issuperset(whole + fraction):
        raise InvalidAmount(f"amount: expected BWT as 12.5, or wei as 12500wei, found {text!r}")
    if len(fraction) > DECIMALS:
        raise InvalidAmount(f"amount: expected at most {DECIMALS} decimals, found {len(fraction)} in {text!r}")
    return _bounded(int(whole[:80]) * WEI_PER_BWT + int(fraction.ljust(DECIMALS, "0")), text)


def bwt(wei: int) -> str:
    """Exact, without trailing zeros: `12.5 BWT`."""
    whole, fraction = divmod(abs(wei), WEI_PER_BWT)
    decimals = f".{fraction:018}".rstrip("0") if fraction else ""
    return f"{'-' if wei < 0 else ''}{whole:,}{decimals} BWT"


def percent(bps: int) -> str:
    """Ten thousandths as `5 %`, `0.25 %`."""
    whole, fraction = divmod(bps, 100)
    return f"{whole}{f'.{fraction:02}'.rstrip('0') if fraction else ''} %"


def parse_percent(text: str) -> int:
    """Ten thousandths, from `5`, `5%` or `2.25 %`. Raises `InvalidAmount`."""
    number = text.strip().removesuffix("%").rstrip()
    whole, point, fraction = number.partition(".")
    if not whole or len(whole) > 3 or (point and not fraction) or not _DIGITS.issuperset(whole + fraction):
        raise InvalidAmount(f"percentage: expected a number as 5 or 2.25, found {text!r}")
    if len(fraction) > 2:
        raise InvalidAmount(f"percentage: expected at most two decimals, found {text!r}")
    bps = int(whole) * 100 + int(fraction.ljust(2, "0"))
    if bps > 10_000:
        raise InvalidAmount(f"percentage: expected at most 100, found {text!r}")
    return bps


def _bounded(wei: int, text: str) -> int:
    if wei > MAX_WEI:
        raise InvalidAmount(f"amount: larger than any account can hold: {text[:60]!r}")
    return wei


class Amount(click.ParamType[int]):
    """A command line argument in BWT or wei; arrives as wei, never zero."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            wei = parse_amount(value)
        except InvalidAmount as error:
            self.fail(str(error), param, ctx)
        if not wei:
            self.fail("amount: expected more than nothing", param, ctx)
        return wei


class AmountCommand(click.Command):
    """A verb with an AMOUNT: a negative one is a wrong amount to it, no unknown option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        for each in options:
            if _NEGATIVE.match(each):
                raise click.UsageError(f"amount: expected BWT as 12.5, or wei as 12500wei, found {each!r}", ctx)
        return super().parse_args(ctx, args)


class Percentage(click.ParamType[int]):
    """Arrives as ten thousandths."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_percent(value)
        except InvalidAmount as error:
            self.fail(str(error), param, ctx)
