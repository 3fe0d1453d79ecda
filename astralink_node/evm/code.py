"""A contract's code while it runs: the program counter, and which JUMPDESTs are real.

It has the methods that py-evm's opcodes call on their code stream. Deployed code is analysed once and kept; the
analysis is one regular expression, since py-evm's own recurses and asks again for every jump.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

MAX_CACHED_CODE_BYTES: Final = 24_576
"""EIP-170: deployed code is no longer; longer initcode is run once as a rule."""
MAX_CACHED_CODES: Final = 1_024
"""Some tens of megabytes at worst; the least recently run are dropped."""
LONGEST_PUSH: Final = 32

_STOP: Final = 0

# Everything up to the next JUMPDEST: single-byte instructions, and each PUSH with its data (which the end of the
# code may cut short). Possessive, since giving back part of a PUSH's data would be wrong.
_TO_NEXT_DESTINATION: Final = re.compile(
    b"(?:[^\\x5b\\x60-\\x7f]|"
    + b"|".join(b"\\x%02x.{0,%d}+" % (0x5F + size, size) for size in range(1, LONGEST_PUSH + 1))
    + b")*+\\x5b",
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
        self._destinations: frozenset[int] | None = None

    def __len__(self) -> int:
        return len(self.raw)

    def read(self, size: int) -> bytes:
        """The next bytes, fewer at the end; the program counter passes them all the same."""
        start = self.program_counter
        self.program_counter = start + size
        return self.raw[start : start + size]

    def peek(self) -> int:
        position = self.program_counter
        return self.raw[position] if position < len(self.raw) else _STOP

    @contextmanager
    def seek(self, position: int) -> Iterator[Code]:
        before = self.program_counter
        self.program_counter = position
        try:
            yield self
        finally:
            self.program_counter = before

    def is_valid_opcode(self, position: int) -> bool:
        """Whether the JUMPDEST at this position is an instruction; py-evm asks for no other opcode."""
        if self._destinations is None:
            self._destinations = jump_destinations(self.raw)
        return position in self._destinations


def jump_destinations(code: bytes) -> frozenset[int]:
    """Positions of the JUMPDESTs that are not data of a PUSH."""
    return _kept_destinations(code) if len(code) <= MAX_CACHED_CODE_BYTES else _find_destinations(code)


def _find_destinations(code: bytes) -> frozenset[int]:
    positions = []
    match = _TO_NEXT_DESTINATION.match(code)
    while match is not None:
        end = match.end()
        positions.append(end - 1)
        match = _TO_NEXT_DESTINATION.match(code, end)
    return frozenset(positions)


def _pad(code: bytes) -> bytes:
    return code + bytes(LONGEST_PUSH + 1)


_kept_destinations = lru_cache(maxsize=MAX_CACHED_CODES)(_find_destinations)
_kept_padded = lru_cache(maxsize=MAX_CACHED_CODES)(_pad)
