"""A contract's code while it runs: the program counter, and which JUMPDESTs are real.

It stands in for py-evm's code stream, whose analysis recurses and asks again for every jump: here it is a regular
expression, and what it found of deployed code is kept.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

MAX_CACHED_CODE_BYTES: Final = 24_576
"""EIP-170: deployed code is no longer; longer initcode is run once as a rule."""
MAX_CACHED_CODES: Final = 1_024
"""Some tens of megabytes at worst; the least recently run are dropped."""
LONGEST_PUSH: Final = 32

_JUMPDEST: Final = 0x5B
_STEP: Final = 64
"""Bytes between two kept instruction starts: 384 of them for the longest code; a jump reads no more than this."""
_MAX_FOUND: Final = 256
"""Destinations kept of one code; when there are as many, they are looked for anew."""

# Whole instructions: single bytes, and each PUSH with all of its data. Possessive, since giving back part of a
# PUSH's data would be wrong.
_INSTRUCTIONS: Final = re.compile(
    b"(?:[^\\x60-\\x7f]++|"
    + b"|".join(b"\\x%02x.{%d}" % (0x5F + size, size) for size in range(1, LONGEST_PUSH + 1))
    + b")*+",
    re.DOTALL,
)


class Code:
    """Code at a program counter."""

    __slots__ = ("_destinations", "padded", "program_counter", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.padded = _kept_padded(raw) if len(raw) <= MAX_CACHED_CODE_BYTES else _pad(raw)
        """The code and zeros after it: running off the end meets STOP, also behind a PUSH that is cut short."""
        self.program_counter = 0
        self._destinations: JumpDestinations | None = None

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def destinations(self) -> JumpDestinations:
        if self._destinations is None:
            raw = self.raw
            kept = len(raw) <= MAX_CACHED_CODE_BYTES
            self._destinations = _kept_destinations(raw) if kept else JumpDestinations(raw)
        return self._destinations


class JumpDestinations:
    """Positions of the JUMPDESTs that are instructions and not data of a PUSH.

    The code is read as far as the furthest jump, a step at a time, each step in one call of the regular expression.
    A contract may be 24 KiB of JUMPDESTs: finding each of them cost a call to it 3 ms for 2,600 gas, and keeping
    them all 2 MB.
    """

    __slots__ = ("_found", "_raw", "_starts")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._starts = [0]
        """At index i the instruction start up to which all instructions end at or before i * _STEP."""
        self._found: set[int] = set()

    def __contains__(self, position: int) -> bool:
        if position in self._found:
            return True
        if position >= len(self._raw) or self._raw[position] != _JUMPDEST:
            return False
        starts = self._starts
        for index in range(len(starts), position // _STEP + 1):
            starts.append(self._read(starts[-1], index * _STEP))
        if self._read(starts[position // _STEP], position) != position:
            return False
        if len(self._found) == _MAX_FOUND:
            self._found.clear()
        self._found.add(position)
        return True

    def _read(self, start: int, end: int) -> int:
        """Past the last instruction that ends at or before `end`."""
        match = _INSTRUCTIONS.match(self._raw, start, end)
        return start if match is None else match.end()


def _pad(code: bytes) -> bytes:
    return code + bytes(LONGEST_PUSH + 1)


_kept_destinations = lru_cache(maxsize=MAX_CACHED_CODES)(JumpDestinations)
_kept_padded = lru_cache(maxsize=MAX_CACHED_CODES)(_pad)
