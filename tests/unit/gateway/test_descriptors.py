"""The limit on open files is raised as far as connections need, and where it cannot be, fewer are taken."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import logging, resource, sys
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.descriptors import make_room
soft, hard, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
logging.basicConfig(stream=sys.stderr)
limits = make_room(GatewayLimits(connections=wanted))
print(limits.connections, *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "connections", "allowed", "warns"),
    [
        (256, 1000, 100, 100, 256, False),
        (256, 1000, 500, 500, 564, False),
        (256, 1000, 936, 936, 1000, False),
        (256, 1000, 937, 936, 1000, True),
        (256, 256, 4096, 192, 256, True),
    ],
)
def test_as_many_connections_are_taken_as_there_is_room_for(
    soft: int, hard: int, wanted: int, connections: int, allowed: int, warns: bool
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(wanted)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.split() == [str(connections), str(allowed), str(hard)]
    assert (f"only {allowed} files may be open" in ran.stderr) is warns
