"""Opcodes that touch nothing but the stack: arithmetic, comparison, bits, POP, DUP and SWAP on a list of words.

Words are unsigned integers below 2**256, the top of the stack is the list's end. An operation on too few words
raises IndexError, which the loop that runs it turns into a stack underflow; the stack is then of no use. Semantics:
Yellow Paper, appendix H; shifts EIP-145; CLZ EIP-7939.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from eth.exceptions import FullStack

from astralink_node.evm.machine import STACK_LIMIT

StackOperation = Callable[[list[int]], None]

_BITS: Final = 256
_MASK: Final = 2**256 - 1
_CEILING: Final = 2**256
_SIGN: Final = 2**255
"""The sign bit: x ^ _SIGN orders words as signed numbers."""


def add(values: list[int]) -> None:
    left = values.pop()
    values[-1] = (left + values[-1]) & _MASK


def mul(values: list[int]) -> None:
    left = values.pop()
    values[-1] = (left * values[-1]) & _MASK


def sub(values: list[int]) -> None:
    left = values.pop()
    values[-1] = (left - values[-1]) & _MASK


def div(values: list[int]) -> None:
    numerator = values.pop()
    denominator = values[-1]
    values[-1] = numerator // denominator if denominator else 0


def sdiv(values: list[int]) -> None:
    """Toward zero, where Python's // rounds down."""
    numerator = _signed(values.pop())
    denominator = _signed(values[-1])
    if not denominator:
        return
    quotient = abs(numerator) // abs(denominator)
    values[-1] = (quotient if (numerator < 0) == (denominator < 0) else -quotient) & _MASK


def mod(values: list[int]) -> None:
    value = values.pop()
    modulus = values[-1]
    values[-1] = value % modulus if modulus else 0


def smod(values: list[int]) -> None:
    """The sign is the dividend's."""
    value = _signed(values.pop())
    modulus = _signed(values[-1])
    if not modulus:
        return
    remainder = abs(value) % abs(modulus)
    values[-1] = (-remainder if value < 0 else remainder) & _MASK


def addmod(values: list[int]) -> None:
    left, right = values.pop(), values.pop()
    modulus = values[-1]
    values[-1] = (left + right) % modulus if modulus else 0


def mulmod(values: list[int]) -> None:
    left, right = values.pop(), values.pop()
    modulus = values[-1]
    values[-1] = left * right % modulus if modulus else 0


def signextend(values: list[int]) -> None:
    size = values.pop()
    value = values[-1]
    if size < 31:
        sign = 1 << (8 * size + 7)
        values[-1] = value | (_CEILING - sign) if value & sign else value & (sign - 1)


def less_than(values: list[int]) -> None:
    left = values.pop()
    values[-1] = 1 if left < values[-1] else 0


def greater_than(values: list[int]) -> None:
    left = values.pop()
    values[-1] = 1 if left > values[-1] else 0


def signed_less_than(values: list[int]) -> None:
    left = values.pop()
    values[-1] = 1 if left ^ _SIGN < values[-1] ^ _SIGN else 0


def signed_greater_than(values: list[int]) -> None:
    left = values.pop()
    values[-1] = 1 if left ^ _SIGN > values[-1] ^ _SIGN else 0


def equal(values: list[int]) -> None:
    left = values.pop()
    values[-1] = 1 if left == values[-1] else 0


def is_zero(values: list[int]) -> None:
    values[-1] = 0 if values[-1] else 1


def bit_and(values: list[int]) -> None:
    left = values.pop()
    values[-1] &= left


def bit_or(values: list[int]) -> None:
    left = values.pop()
    values[-1] |= left


def bit_xor(values: list[int]) -> None:
    left = values.pop()
    values[-1] ^= left


def bit_not(values: list[int]) -> None:
    values[-1] ^= _MASK


def byte(values: list[int]) -> None:
    """The byte at a position counted from the most significant one."""
    position = values.pop()
    value = values[-1]
    values[-1] = (value >> (248 - 8 * position)) & 0xFF if position < 32 else 0


def shift_left(values: list[int]) -> None:
    bits = values.pop()
    value = values[-1]
    values[-1] = (value << bits) & _MASK if bits < _BITS else 0


def shift_right(values: list[int]) -> None:
    bits = values.pop()
    value = values[-1]
    values[-1] = value >> bits if bits < _BITS else 0


def shift_right_signed(values: list[int]) -> None:
    bits = values.pop()
    value = _signed(values[-1])
    values[-1] = (value >> min(bits, _BITS)) & _MASK


def count_leading_zeros(values: list[int]) -> None:
    """256 for zero."""
    values[-1] = _BITS - values[-1].bit_length()


def pop(values: list[int]) -> None:
    values.pop()


def jump_destination(_values: list[int]) -> None:
    """JUMPDEST does nothing."""


def push_zero(values: list[int]) -> None:
    if len(values) >= STACK_LIMIT:
        raise FullStack("stack limit reached")
    values.append(0)


def dup(position: int) -> StackOperation:
    def duplicate(values: list[int]) -> None:
        if len(values) >= STACK_LIMIT:
            raise FullStack("stack limit reached")
        values.append(values[-position])

    return duplicate


def swap(position: int) -> StackOperation:
    index = -position - 1

    def exchange(values: list[int]) -> None:
        values[-1], values[index] = values[index], values[-1]

    return exchange


def _signed(word: int) -> int:
    return word - _CEILING if word & _SIGN else word


PRAGUE: Final[dict[int, StackOperation]] = {
    0x01: add,
    0x02: mul,
    0x03: sub,
    0x04: div,
    0x05: sdiv,
    0x06: mod,
    0x07: smod,
    0x08: addmod,
    0x09: mulmod,
    0x0B: signextend,
    0x10: less_than,
    0x11: greater_than,
    0x12: signed_less_than,
    0x13: signed_greater_than,
    0x14: equal,
    0x15: is_zero,
    0x16: bit_and,
    0x17: bit_or,
    0x18: bit_xor,
    0x19: bit_not,
    0x1A: byte,
    0x1B: shift_left,
    0x1C: shift_right,
    0x1D: shift_right_signed,
    0x50: pop,
    0x5B: jump_destination,
    0x5F: push_zero,
    **{0x80 + offset: dup(offset + 1) for offset in range(16)},
    **{0x90 + offset: swap(offset + 1) for offset in range(16)},
}
"""By opcode. Gas and mnemonics are py-evm's."""

CLZ: Final = 0x1E
CLZ_GAS: Final = 5
