"""Processes with threads take short turns: one that computes must not hold up those that wait for sockets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from astralink_node.chain import process
from astralink_node.gateway import server
from astralink_node.interpreter import SWITCH_INTERVAL_S


@pytest.fixture
def pythons_own() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("pythons_own")
@pytest.mark.parametrize(
    "start",
    [
        lambda: process.main([], lambda line: None),
        lambda: server.main(["--config", "{}"]),
    ],
    ids=["execution", "gateway"],
)
def test_processes_with_threads_take_short_turns(start: Callable[[], object]) -> None:
    start()
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
