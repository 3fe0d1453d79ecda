"""The wall clock as a value that can be passed in: nothing below the services reads the time by itself."""

import time
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clock. It may jump; whoever needs order takes it from the chain."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
