"""Addresses as people write them: 0x and 40 hexadecimal digits, whose case is EIP-55's checksum."""

from astralink_node.crypto.keccak import keccak256
from astralink_node.errors import UserError
from astralink_node.types import Address


class InvalidAddress(UserError):
    """Not an address, or one whose checksum is wrong."""


def checksum_address(address: bytes) -> str:
    """EIP-55."""
    digits = address.hex()
    digest = keccak256(digits.encode()).hex()
    cased = (
        digit.upper() if nibble >= "8" else digit for digit, nibble in zip(digits, digest[: len(digits)], strict=True)
    )
    return "0x" + "".join(cased)


def parse_address(text: str) -> Address:
    """Reads all-lower and all-upper digits as they are, and mixed case only with the right checksum."""
    digits = text.removeprefix("0x")
    try:
        value = bytes.fromhex(digits)
    except ValueError as error:
        raise InvalidAddress(f"address: expected 0x and 40 hexadecimal digits, found {text!r}") from error
    if len(digits) != 40 or len(value) != 20:
        raise InvalidAddress(f"address: expected 0x and 40 hexadecimal digits, found {text!r}")
    is_mixed = digits not in (digits.lower(), digits.upper())
    if is_mixed and checksum_address(value) != "0x" + digits:
        raise InvalidAddress(f"address: {text} has a wrong checksum (EIP-55); is a digit mistyped?")
    return Address(value)
