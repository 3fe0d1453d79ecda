"""What two genesis files say differently, field by field, whatever their order and spelling."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from genesis.rendering import render_genesis
from genesis.schema import GenesisFile

MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Difference:
    path: str
    first: str | None
    """None: absent there."""
    second: str | None


def differences(first: GenesisFile, second: GenesisFile) -> list[Difference]:
    """Sorted by path; a validator is found by its voting key, not by its place."""
    left, right = (dict(_flatten("", _document(genesis))) for genesis in (first, second))
    return [
        Difference(path, left.get(path), right.get(path))
        for path in sorted(left.keys() | right.keys())
        if left.get(path) != right.get(path)
    ]


def _document(genesis: GenesisFile) -> dict[str, object]:
    document: dict[str, object] = json.loads(render_genesis(genesis))
    section = document["astralink"]
    if isinstance(section, dict):
        section["validators"] = {entry["votingKey"][:18] + "...": entry for entry in section["validators"]}
    return document


def _flatten(path: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(f"{path}.{key}" if path else str(key), inner)
        return
    shown = json.dumps(value)
    yield path, shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}... ({len(shown)} characters)"
