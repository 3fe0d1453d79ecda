"""Byte code for tests, in hexadecimal: the few calls and endings that most of them need."""

from __future__ import annotations

STOP = "00"
ALL_GAS = "5a"


def push(value: int | bytes) -> str:
    """PUSH0 to PUSH32 of a number, or of bytes as they are."""
    data = value if isinstance(value, bytes) else value.to_bytes((value.bit_length() + 7) // 8, "big")
    return f"{0x5F + len(data):02x}" + data.hex()


def call(target: bytes, *, gas: str = ALL_GAS, value: int = 0, size: int = 0) -> str:
    """CALL with the first bytes of memory as input; leaves whether it succeeded."""
    return push(0) + push(0) + push(size) + push(0) + push(value) + push(target) + gas + "f1"


def callcode(target: bytes, *, value: int = 0) -> str:
    return push(0) * 4 + push(value) + push(target) + ALL_GAS + "f2"


def delegatecall(target: bytes) -> str:
    return push(0) * 4 + push(target) + ALL_GAS + "f4"


def staticcall(target: bytes, *, size: int = 0) -> str:
    return push(0) * 2 + push(size) + push(0) + push(target) + ALL_GAS + "fa"


def put(data: bytes) -> str:
    """Write up to 32 bytes to the start of memory."""
    return push(data.ljust(32, b"\0")) + push(0) + "52"


def create(initcode: str, *, value: int = 0) -> str:
    """CREATE; leaves the address, or 0."""
    raw = bytes.fromhex(initcode)
    return put(raw) + push(len(raw)) + push(0) + push(value) + "f0"


def create2(initcode: str, *, salt: int = 0, value: int = 0) -> str:
    raw = bytes.fromhex(initcode)
    return put(raw) + push(salt) + push(len(raw)) + push(0) + push(value) + "f5"


def returning(data: bytes) -> str:
    """Return up to 32 bytes."""
    return put(data) + push(len(data)) + push(0) + "f3"


def reverting(data: bytes) -> str:
    """Revert with up to 32 bytes at a time."""
    words = [data[start : start + 32] for start in range(0, len(data), 32)]
    stores = "".join(push(word.ljust(32, b"\0")) + push(32 * place) + "52" for place, word in enumerate(words))
    return stores + push(len(data)) + push(0) + "fd"


def deploying(code: str) -> str:
    """Initcode of at most 32 bytes that deploys the code."""
    raw = bytes.fromhex(code)
    return push(raw) + push(0) + "52" + push(len(raw)) + push(32 - len(raw)) + "f3"
