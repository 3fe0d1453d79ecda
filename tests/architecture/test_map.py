"""ARCHITECTURE.md's map is whole: every module is named in its room, and every room is a folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("astralink_node", "consensus", "contracts", "genesis", "p2p")
HEADING = re.compile(r"^( *)([a-z0-9_]+)/(?=\s|$)")
"""A line that opens a room: the folder's name, indented below that of its parent."""


def the_map() -> str:
    return (ROOT / "ARCHITECTURE.md").read_text().split("```")[1]


def rooms_of(text: str, root: Path = ROOT) -> dict[Path, set[str]]:
    """Folder -> the words that its part of the map consists of, without those of the rooms inside it."""
    found: dict[Path, set[str]] = {}
    above: list[tuple[int, Path]] = [(-1, root)]
    for line in text.splitlines():
        heading = HEADING.match(line)
        if heading is not None:
            indent = len(heading[1])
            inside = [each for each in above if each[0] < indent]
            if (inside[-1][1] / heading[2]).is_dir():
                above = [*inside, (indent, inside[-1][1] / heading[2])]
                found[above[-1][1]] = set()
        # What is indented as little as a room inside is the outer room's again.
        indent = len(line) - len(line.lstrip())
        while len(above) > 2 and heading is None and line.strip() and indent <= above[-1][0]:
            above.pop()
        if above[-1][1] in found:
            found[above[-1][1]].update(re.findall(r"\w+", line))
    return found


def unnamed(modules: list[Path], rooms: dict[Path, set[str]]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in modules if path.stem not in rooms.get(path.parent, set())]


def modules() -> list[Path]:
    found = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.stem != "__init__")
    assert len(found) > 300, "the packages were not found, so this test would check nothing"
    return found


def test_every_module_is_named_in_its_room() -> None:
    assert unnamed(modules(), rooms_of(the_map())) == []


def test_every_folder_with_modules_is_a_room() -> None:
    assert {path.parent for path in modules()} - rooms_of(the_map()).keys() == set()


@pytest.mark.parametrize("name", ["consensus/wire.py", "astralink_node/crypto/bls.py", "astralink_node/node.py"])
def test_a_module_that_only_another_room_names_is_found_missing(name: str) -> None:
    path = ROOT / name
    rooms = rooms_of(the_map())
    rooms[path.parent] = rooms[path.parent] - {path.stem}
    assert unnamed([path], rooms) == [name]
