"""How the threads of a process share Python's interpreter: each of our processes has some that others wait for."""

import sys
from typing import Final

SWITCH_INTERVAL_S: Final = 0.0005
"""What a thread may keep the interpreter for while others want it. With Python's 5 ms, whoever waits for a socket or
the database every few microseconds, as block work, short questions and event loops do, waits as long each time."""


def take_short_turns() -> None:
    """For the whole process, once, at its start."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
