"""The reading layer holds (ADR 18): the gateway asks through its readers, and nothing else of it sends anything."""

from __future__ import annotations

import ast
import typing
from pathlib import Path

import pytest

from astralink_node.chain import messages
from astralink_node.gateway import link_messages

ROOT = Path(__file__).parents[2]
GATEWAY = ROOT / "astralink_node/gateway"
BELOW = {
    "backend.py",
    "gateway.py",
    "link_messages.py",
    "links.py",
    "pool_messages.py",
    "server.py",
    "submission.py",
}
"""What is sent, who sends it beside the reading layer, and the two modules that put a gateway together."""
ABOVE = sorted(path for path in GATEWAY.rglob("*.py") if path.relative_to(GATEWAY).parts[0] not in {"reading", *BELOW})

SENDING = {
    "astralink_node.gateway.backend",
    "astralink_node.gateway.links",
    "astralink_node.gateway.reading.source",
}
"""Modules that reach another process."""
UNIONS = (messages.Question, link_messages.Request)
REQUESTS = {"Query", "Question", "Request"} | {kind.__name__ for union in UNIONS for kind in typing.get_args(union)}
"""What is sent to one, wherever it is imported from."""


def offences(source: str) -> list[str]:
    """Imports with which a method could reach round the reading layer, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"{node.lineno}: {alias.name}" for alias in node.names if alias.name in SENDING]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = {alias.name for alias in node.names}
            modules = {node.module, *(f"{node.module}.{name}" for name in names)}
            found += [f"{node.lineno}: {name}" for name in sorted((modules & SENDING) | (names & REQUESTS))]
    return found


@pytest.mark.parametrize("path", ABOVE, ids=lambda path: str(path.relative_to(GATEWAY)))
def test_all_that_is_above_the_reading_layer_asks_through_it(path: Path) -> None:
    assert offences(path.read_text()) == []


def test_there_are_methods_and_requests_to_check() -> None:
    assert sum(path.parent.name == "methods" for path in ABOVE) > 10
    assert GATEWAY / "dispatch.py" in ABOVE
    assert all((GATEWAY / name).exists() for name in BELOW)
    assert {"BlockQuestion", "CallQuestion", "GetNetworkView", "SubmitTransactions"} <= REQUESTS


@pytest.mark.parametrize(
    "source",
    [
        "import astralink_node.gateway.links",
        "from astralink_node.gateway import backend",
        "from astralink_node.gateway.backend import Backend",
        "from astralink_node.gateway.reading.source import Source",
        "from astralink_node.chain.messages import AtLatest, BlockQuestion",
        "def late():\n    from astralink_node.gateway.link_messages import GetNetworkView",
    ],
)
def test_the_check_sees_an_offence(source: str) -> None:
    assert len(offences(source)) == 1


def test_the_check_lets_values_pass() -> None:
    values = (
        "from astralink_node.chain.messages import AtLatest\nfrom astralink_node.gateway.link_messages import PeerView"
    )
    assert offences(values) == []
