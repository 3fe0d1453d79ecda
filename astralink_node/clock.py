"""The node's clock: wall time in whole milliseconds, as block times are counted.

Rules never read it; services take it as a parameter, so that tests and simulation bring their own.
"""

import time
from collections.abc import Callable

NowMs = Callable[[], int]
"""Unix time in milliseconds. It may jump in either direction."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000
