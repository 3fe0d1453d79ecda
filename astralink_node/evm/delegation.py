"""EIP-7702's delegation designator: code that says whose code an account runs."""

from __future__ import annotations

from typing import Final

from astralink_node.types import Address

DELEGATION_PREFIX: Final = b"\xef\x01\x00"
"""An account whose code is this and an address runs that address's code."""
DELEGATION_BYTES: Final = 23


def is_delegation(code: bytes) -> bool:
    return len(code) == DELEGATION_BYTES and code[:3] == DELEGATION_PREFIX


def delegate_of(code: bytes) -> Address | None:
    """Whose code is run instead; None if this is no delegation."""
    return Address(code[len(DELEGATION_PREFIX) :]) if is_delegation(code) else None
