"""The sixteen segments of the key space in which a snapshot arrives: by the first hex digit of the hashed address."""

from typing import Final

from astralink_node.state.range_proofs import FIRST_KEY, KEY_BYTES

SEGMENTS: Final = 16
"""As many chunks can be on their way at once."""


def first_account(segment: int) -> bytes:
    return bytes((segment << 4,)) + FIRST_KEY[1:]


def last_account(segment: int) -> bytes:
    return bytes((segment << 4 | 0x0F,)) + b"\xff" * (KEY_BYTES - 1)
