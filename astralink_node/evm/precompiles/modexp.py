"""MODEXP (0x05), base ** exponent % modulus (EIP-198), on GMP.

Two price lists: EIP-2565 up to Prague; EIP-7883 from Osaka on, where EIP-7823 also bounds each operand to 1024
bytes. Divisions round as the EIPs say: word counts up, the EIP-2565 price down.
"""

import gmpy2

from astralink_node.evm.precompiles.call_data import PrecompileFailure, padded

MAX_OPERAND_BYTES = 1024
"""EIP-7823."""

_HEADER_BYTES = 96


def prague_gas(data: bytes) -> int:
    """EIP-2565."""
    base_length, exponent_length, modulus_length = _lengths(data)
    complexity = _words8(base_length, modulus_length) ** 2
    return max(200, complexity * _iterations(data, base_length, exponent_length, per_byte=8) // 3)


def osaka_gas(data: bytes) -> int:
    """EIP-7883. Operands over the bound of EIP-7823 fail here already: they have no price."""
    base_length, exponent_length, modulus_length = _lengths(data)
    if max(base_length, exponent_length, modulus_length) > MAX_OPERAND_BYTES:
        raise PrecompileFailure(f"one or more of base/exponent/modulus length exceeded {MAX_OPERAND_BYTES} bytes")
    complexity = 2 * _words8(base_length, modulus_length) ** 2 if max(base_length, modulus_length) > 32 else 16
    return max(500, complexity * _iterations(data, base_length, exponent_length, per_byte=16))


def modexp(data: bytes) -> bytes:
    """The result in as many bytes as the modulus has; zero for a modulus of zero."""
    base_length, exponent_length, modulus_length = _lengths(data)
    if modulus_length == 0:
        # Without a modulus and a base any exponent length costs the minimum: do not read that exponent.
        return b""
    exponent_start = _HEADER_BYTES + base_length
    modulus = int.from_bytes(padded(data, exponent_start + exponent_length, modulus_length), "big")
    if modulus == 0:
        return bytes(modulus_length)
    base = int.from_bytes(padded(data, _HEADER_BYTES, base_length), "big")
    exponent = int.from_bytes(padded(data, exponent_start, exponent_length), "big")
    return int(gmpy2.powmod(base, exponent, modulus)).to_bytes(modulus_length, "big")


def _lengths(data: bytes) -> tuple[int, int, int]:
    base, exponent, modulus = (int.from_bytes(padded(data, start, 32), "big") for start in (0, 32, 64))
    return base, exponent, modulus


def _words8(base_length: int, modulus_length: int) -> int:
    return (max(base_length, modulus_length) + 7) // 8


def _iterations(data: bytes, base_length: int, exponent_length: int, *, per_byte: int) -> int:
    """The squarings that the exponent stands for; only its first 32 bytes are looked at."""
    head = int.from_bytes(padded(data, _HEADER_BYTES + base_length, min(exponent_length, 32)), "big")
    tail = per_byte * max(exponent_length - 32, 0)
    return max(tail + max(head.bit_length() - 1, 0), 1)
