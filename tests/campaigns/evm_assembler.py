"""An assembler for random programs: code in the making, and values that lean towards the rules' edges."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final

WORD_MAX: Final = 2**256 - 1

STOP, SSTORE, SLOAD, TSTORE, TLOAD, JUMPDEST, JUMP, JUMPI = 0x00, 0x55, 0x54, 0x5D, 0x5C, 0x5B, 0x56, 0x57
POP, MLOAD, MSTORE, MSTORE8, MCOPY, GAS, ADDRESS, CALLVALUE = 0x50, 0x51, 0x52, 0x53, 0x5E, 0x5A, 0x30, 0x34
CREATE, CREATE2, CALL, CALLCODE, DELEGATECALL, STATICCALL = 0xF0, 0xF5, 0xF1, 0xF2, 0xF4, 0xFA
RETURN, REVERT, INVALID, SELFDESTRUCT, RETURNDATASIZE, RETURNDATACOPY = 0xF3, 0xFD, 0xFE, 0xFF, 0x3D, 0x3E
CODECOPY, CALLDATASIZE, SELFBALANCE, DUP1, LT, CODESIZE, KECCAK = 0x39, 0x36, 0x47, 0x80, 0x10, 0x38, 0x20


@dataclass
class Surroundings:
    """What programs know of the world that they run in."""

    addresses: list[bytes]
    """Worth calling, reading or paying."""
    extra_accounts: dict[bytes, dict[str, object]] = field(default_factory=dict)
    """In the way of creations; added to the state."""


class Program:
    """Code in the making."""

    def __init__(self, random: Random, world: Surroundings, address: bytes, *, nesting: int = 0) -> None:
        self.random = random
        self.world = world
        self.address = address
        self.nesting = nesting
        self.code = bytearray()
        self._next_slot = random.randrange(8)

    def op(self, *opcodes: int) -> None:
        self.code += bytes(opcodes)

    def push(self, *values: int | bytes) -> None:
        for value in values:
            number = int.from_bytes(value, "big") if isinstance(value, bytes) else value
            size = (number.bit_length() + 7) // 8
            if self.random.random() < 0.02:
                size = self.random.randint(size, 32)
            self.code.append(0x5F + size)
            self.code += number.to_bytes(size, "big")

    def keep(self) -> None:
        """Store the topmost item."""
        self._next_slot = (self._next_slot + 1) % 48
        self.push(self._next_slot)
        self.op(SSTORE)

    def keep_or_drop(self) -> None:
        if self.random.random() < 0.6:
            self.keep()
        else:
            self.op(POP)

    def put_in_memory(self, data: bytes, offset: int = 0) -> None:
        for start in range(0, len(data), 32):
            self.push(data[start : start + 32].ljust(32, b"\0"), offset + start)
            self.op(MSTORE)


def word(random: Random) -> int:
    return random.choice(
        (
            0,
            1,
            2,
            random.randrange(256),
            random.randrange(2**16),
            31,
            32,
            33,
            255,
            256,
            257,
            2**31,
            2**32 - 1,
            2**63,
            2**64 - 1,
            2**64,
            2**128,
            2**255,
            2**255 - 1,
            WORD_MAX,
            WORD_MAX - 1,
            random.getrandbits(256),
            random.getrandbits(random.randint(1, 256)),
        )
    )


def memory_size(random: Random) -> int:
    return random.choice((0, 0, 1, 31, 32, 33, 64, 100, random.randrange(300)))


def memory_range(random: Random) -> tuple[int, int]:
    """A memory range: mostly sane, at times beyond all gas, at times empty and far away."""
    kind = random.random()
    if kind < 0.05:
        return word(random), 0
    if kind < 0.053:
        return word(random), word(random)
    return random.choice((0, 0, 1, 31, 32, 64, random.randrange(600))), memory_size(random)


def some_address(program: Program) -> bytes:
    return program.random.choice(program.world.addresses)


def push_address(program: Program) -> None:
    random = program.random
    kind = random.random()
    if kind < 0.05:
        program.op(ADDRESS)
    elif kind < 0.1:
        program.op(random.choice((0x32, 0x33, 0x41)))
    else:
        # The upper twelve bytes of an address on the stack do not count.
        dirt = random.getrandbits(96) << 160 if random.random() < 0.04 else 0
        program.push(dirt | int.from_bytes(some_address(program), "big"))
