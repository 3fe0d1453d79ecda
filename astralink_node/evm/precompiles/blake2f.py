"""BLAKE2F (0x09, EIP-152): the compression function of BLAKE2b with a chosen number of rounds, one gas each.

At one gas a round only native code will do: unrolled Python stays below 0.3 Mgas/s, so that one transaction could
stop a block for minutes. blake2b-py (Rust) is the library that py-evm itself prefers for this precompile.
"""

from blake2b import decode_and_compress

from astralink_node.evm.precompiles.call_data import INPUT_LENGTH, PrecompileFailure

_INPUT_BYTES = 213
"""rounds (4, big endian) | h (64) | m (128) | t (16) | final flag (1); h, m and t in little-endian words."""


def blake2f_gas(data: bytes) -> int:
    _check(data)
    return int.from_bytes(data[:4], "big")


def blake2f(data: bytes) -> bytes:
    """The new state h, 64 bytes."""
    _check(data)
    return bytes(decode_and_compress(data))


def _check(data: bytes) -> None:
    if len(data) != _INPUT_BYTES:
        raise PrecompileFailure(INPUT_LENGTH)
    if data[-1] > 1:
        raise PrecompileFailure("invalid final flag")
