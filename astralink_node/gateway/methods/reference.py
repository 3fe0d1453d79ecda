"""The table of all methods in docs/rpc.md, written from their declarations.

    python -m astralink_node.gateway.methods.reference            writes it (`make rpc-reference`)
    python -m astralink_node.gateway.methods.reference --check    exits 1 where the page differs

Only what stands between the two marks of the page is this module's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from astralink_node.gateway.config import DEFAULT_APIS
from astralink_node.gateway.methods.namespaces import ALWAYS_SERVED, NAMESPACES
from astralink_node.gateway.methods.table import Method, Parameter, Required

PAGE = Path(__file__).parents[3] / "docs" / "rpc.md"
BEGIN = "<!-- methods: written by `make rpc-reference` -->"
END = "<!-- methods: end -->"


class NoPlace(Exception):
    """The page has not exactly one place for the table."""


def table() -> str:
    return "\n".join(section for api, methods in NAMESPACES.items() for section in _section(api, methods))


def _section(api: str, methods: Sequence[Method]) -> list[str]:
    served = "always" if api in ALWAYS_SERVED else "by default" if api in DEFAULT_APIS else "when named"
    return [
        f"### `{api}`: served {served}",
        "",
        "| Method | Parameters | Follows | Deviations and notes |",
        "|---|---|---|---|",
        *(_row(method) for method in methods),
        "",
    ]


def _row(method: Method) -> str:
    parameters = ", ".join(_parameter(parameter) for parameter in method.parameters)
    cells = (f"`{method.name}`", parameters, method.source.value, method.note)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _parameter(parameter: Parameter) -> str:
    """With a question mark where it may be left out, or null."""
    return f"`{parameter.name}`" if isinstance(parameter.default, Required) else f"`{parameter.name}?`"


def with_table(page: str) -> str:
    """The page with the table as it is now. Raises NoPlace."""
    before, begin, rest = page.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after or END in before:
        raise NoPlace(f"expected {BEGIN} and {END} once each, in this order")
    del old
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_table(page)
    if page == wanted:
        return 0
    if "--check" in arguments:
        sys.stderr.write(f"{PAGE.name} does not list the methods as they are: run `make rpc-reference`\n")
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
