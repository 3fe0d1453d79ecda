"""What the two measured processes share: the clock, cold caches, and a line of JSON for each command and answer.

Imports nothing of AstraLink: the stock side must run as if our code did not exist.
"""

from __future__ import annotations

import functools
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Stopwatch:
    """Adds up wall-clock and processor time over the parts of a block's work that count."""

    wall_ns: int = 0
    cpu_ns: int = 0
    _started: tuple[int, int] = field(default=(0, 0))

    def __enter__(self) -> Stopwatch:
        self._started = (time.perf_counter_ns(), time.process_time_ns())
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_ns += time.perf_counter_ns() - self._started[0]
        self.cpu_ns += time.process_time_ns() - self._started[1]

    def times(self) -> dict[str, float]:
        return {"wall_ms": self.wall_ns / 1e6, "cpu_ms": self.cpu_ns / 1e6}


def forget_caches() -> None:
    """Empty every functools cache in the process, ours and the libraries', and collect garbage.

    The callers reopen the database as well, so LevelDB's block cache is empty; the operating system's is not.
    """
    gc.collect()
    for thing in gc.get_objects():
        if isinstance(thing, functools._lru_cache_wrapper):
            thing.cache_clear()


def serve(commands: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """Answer commands from standard input until it closes: ``{"command": name, ...arguments}`` a line."""
    for line in sys.stdin:
        request = json.loads(line)
        answer = commands[request.pop("command")](**request)
        print(json.dumps(answer), flush=True)
