"""docs/rpc.md lists every method as it is declared."""

from __future__ import annotations

import pytest

from astralink_node.gateway.methods.namespaces import NAMESPACES
from astralink_node.gateway.methods.reference import BEGIN, END, PAGE, NoPlace, table, with_table
from astralink_node.gateway.methods.table import Method, Specification

METHODS = [(api, method) for api, methods in NAMESPACES.items() for method in methods]


def test_the_page_lists_the_methods_as_they_are() -> None:
    page = PAGE.read_text()
    assert page == with_table(page), "run `make rpc-reference`"


def test_every_method_is_in_the_table_once_with_its_source() -> None:
    rows = [line for line in table().splitlines() if line.startswith("| `")]
    assert len(rows) == len(METHODS)
    for _, method in METHODS:
        (row,) = [row for row in rows if row.startswith(f"| `{method.name}` |")]
        assert f"| {method.source.value} |" in row


def test_every_namespace_says_when_it_is_served() -> None:
    for api in NAMESPACES:
        assert f"### `{api}`: served " in table()


@pytest.mark.parametrize("method", [method for _, method in METHODS], ids=lambda method: method.name)
def test_a_method_has_a_source_and_a_note_is_one_line(method: Method) -> None:
    assert method.source in Specification
    assert "\n" not in method.note
    assert not method.note or method.note.endswith("."), "a sentence"


def test_our_own_methods_are_said_to_be_our_own_and_others_are_not() -> None:
    for api, method in METHODS:
        assert (method.source is Specification.ASTRALINK) == (api == "astralink"), method.name


def test_only_what_stands_between_the_marks_is_written() -> None:
    page = with_table(f"before\n{BEGIN}\n1234567\n{END}\nafter\n")
    assert page.startswith(f"before\n{BEGIN}\n### `eth`")
    assert page.endswith(f"{END}\nafter\n")
    assert "1234567" not in page


@pytest.mark.parametrize("page", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_one_place_for_the_table_is_refused(page: str) -> None:
    with pytest.raises(NoPlace):
        with_table(page)
