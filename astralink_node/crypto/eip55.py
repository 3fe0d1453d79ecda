"""EIP-55: an address in hex whose mixed case is its checksum, as people and geth's error messages write it."""

from astralink_node.crypto.keccak import keccak256


def checksum_address(address: bytes) -> str:
    digits = address.hex()
    digest = keccak256(digits.encode("ascii")).hex()
    return "0x" + "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit for digit, nibble in zip(digits, digest, strict=False)
    )
