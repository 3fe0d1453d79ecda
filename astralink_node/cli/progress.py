"""Progress of long work on stderr: a line that rewrites itself on a terminal, a line now and then elsewhere."""

import sys
import time

import click

TERMINAL_INTERVAL_S = 0.2
LOG_INTERVAL_S = 10.0


class Progress:
    """Call :meth:`update` as often as you like; it prints only now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._interval = TERMINAL_INTERVAL_S if self._terminal else LOG_INTERVAL_S
        self._started = self._last = time.monotonic()
        self._open_line = False

    def update(self, what: str, done: int, total: int = 0) -> None:
        """`total` of 0: not known."""
        now = time.monotonic()
        if now - self._last < self._interval:
            return
        self._last = now
        rate = done / max(now - self._started, 0.001)
        share = f" of {total:,} ({100 * done // total} %)" if total else ""
        line = f"{what}: {done:,}{share}, {rate:,.0f} a second"
        if self._terminal:
            click.echo(f"\r\033[K{line}", err=True, nl=False)
            self._open_line = True
        else:
            click.echo(line, err=True)

    def finish(self, line: str) -> None:
        """The last word."""
        if self._open_line:
            click.echo("\r\033[K", err=True, nl=False)
        click.echo(line, err=True)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started
