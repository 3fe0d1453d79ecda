"""Names for the quantities and identifiers that cross package borders.

They are ``NewType``: free at run time, told apart by mypy. Bytes are parsed and length-checked once, at the
edge that receives them; inside, a value of these types is already valid.
"""

from typing import Final, NewType

ADDRESS_BYTES: Final = 20

Address = NewType("Address", bytes)
"""20 bytes: an account."""

Hash32 = NewType("Hash32", bytes)
"""32 bytes: a keccak-256 digest."""

Height = NewType("Height", int)
"""Position of a block in the chain; genesis is 0."""

Gas = NewType("Gas", int)

Wei = NewType("Wei", int)
"""Smallest unit of BWT, the native coin: 10**-18 BWT."""

ZERO_ADDRESS = Address(bytes(ADDRESS_BYTES))
ZERO_HASH = Hash32(bytes(32))
EMPTY_CODE_HASH = Hash32(bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"))
"""keccak256(b"")."""
EMPTY_TRIE_ROOT = Hash32(bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"))
"""keccak256(rlp(b""))."""
