"""Counts the connections of others that came to nothing, so that a flood leaves a trace.

Pure: no clock. Whoever reports them asks now and then what came since it asked last, and from where.
"""

from dataclasses import dataclass, field
from typing import Final

MAX_GROUPS: Final = 256
"""IP addresses (of IPv6: networks) counted apart between two reports; further ones count in the total."""


@dataclass(frozen=True, slots=True)
class Lately:
    count: int
    most_from: str
    """The IP address or network of most of them; empty where there were none."""
    most: int


@dataclass(slots=True)
class TurnedAway:
    refused: int = 0
    """A ban, or no room; since the start, as below."""
    failed: int = 0
    """No handshake: something else was said, or nothing in time, or too many others were waiting."""
    _reported: int = 0
    _groups: dict[str, int] = field(default_factory=dict)
    """Since the last report."""

    def note_refused(self, group: str) -> None:
        self.refused += 1
        self._note(group)

    def note_failed(self, group: str) -> None:
        self.failed += 1
        self._note(group)

    def lately(self) -> Lately:
        """Since this was asked last."""
        total, groups = self.refused + self.failed, self._groups
        count, self._reported, self._groups = total - self._reported, total, {}
        most_from = max(groups, key=lambda group: groups[group], default="")
        return Lately(count, most_from, groups.get(most_from, 0))

    def _note(self, group: str) -> None:
        if group in self._groups or len(self._groups) < MAX_GROUPS:
            self._groups[group] = self._groups.get(group, 0) + 1
