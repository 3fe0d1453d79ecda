"""What every precompile shares: how it reads its input, and how it fails.

A precompile here is two pure functions: ``gas(data) -> int`` and ``run(data) -> bytes``. `run` may assume that
the gas was paid (the sizes that it allocates are bounded by gas alone) and nothing else: any bytes must lead to
an output or to `PrecompileFailure`, never to another exception.
"""

from typing import Final

from astralink_node.errors import AstraLinkError


class PrecompileFailure(AstraLinkError):
    """The input is invalid: the call fails and all of the gas given to it is burnt. Traces show the words: geth's."""


INPUT_LENGTH: Final = "invalid input length"


def padded(data: bytes, start: int, length: int) -> bytes:
    """`length` bytes of `data` from `start`, read as if zeros followed for ever (Yellow Paper, appendix E)."""
    return data[start : start + length].ljust(length, b"\0")


def words(data: bytes) -> int:
    """How many 32-byte words `data` fills, rounded up."""
    return (len(data) + 31) // 32
