"""What a reverting contract says: Solidity's ``Error(string)`` and ``Panic(uint256)``, in geth's words."""

from __future__ import annotations

from typing import Final

ERROR_SELECTOR: Final = bytes.fromhex("08c379a0")
"""Error(string)."""
PANIC_SELECTOR: Final = bytes.fromhex("4e487b71")
"""Panic(uint256)."""

_PANIC_REASONS: Final = {
    0x00: "generic panic",
    0x01: "assert(false)",
    0x11: "arithmetic underflow or overflow",
    0x12: "division or modulo by zero",
    0x21: "enum overflow",
    0x22: "invalid encoded storage byte array accessed",
    0x31: "out-of-bounds array access; popping on an empty array",
    0x32: "out-of-bounds access of an array or bytesN",
    0x41: "out of memory",
    0x51: "uninitialized function",
}
"""The Solidity documentation's panic codes, in geth's words."""


def revert_reason(output: bytes) -> str | None:
    """The text of an ABI-encoded ``Error(string)`` or ``Panic(uint256)``; None for custom errors and rubbish."""
    selector, arguments = output[:4], output[4:]
    if selector == PANIC_SELECTOR and len(arguments) >= 32:
        code = int.from_bytes(arguments[:32], "big")
        return _PANIC_REASONS.get(code, f"unknown panic code: {code:#x}")
    if selector != ERROR_SELECTOR or len(arguments) < 64:
        return None
    offset = int.from_bytes(arguments[:32], "big")
    if offset + 32 > len(arguments):
        return None
    length = int.from_bytes(arguments[offset : offset + 32], "big")
    text = arguments[offset + 32 : offset + 32 + length]
    if len(text) != length:
        return None
    return text.decode("utf-8", errors="replace")
