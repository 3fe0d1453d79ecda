"""The account, and its encoding as a leaf of the account trie (Ethereum yellow paper, section 4.1).

The encoding is written by hand: it runs for every account that a block touches, and its shape never varies.
"""

from typing import Final, NamedTuple

from astralink_node.state.errors import StateDamaged
from astralink_node.types import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, Hash32


class Account(NamedTuple):
    """A tuple, since execution makes several for every transaction."""

    nonce: int
    balance: int
    """In wei."""
    storage_root: Hash32
    code_hash: Hash32


EMPTY_ACCOUNT: Final = Account(0, 0, EMPTY_TRIE_ROOT, EMPTY_CODE_HASH)

_LIST_HEAD: Final = 0xF8
_HASH_HEAD: Final = b"\xa0"


def encode_integer(value: int) -> bytes:
    """RLP of a non-negative integer below 2**440."""
    if value < 0x80:
        return bytes((value,)) if value else b"\x80"
    length = (value.bit_length() + 7) >> 3
    return bytes((0x80 + length,)) + value.to_bytes(length, "big")


def encode_account(account: Account) -> bytes:
    """RLP of [nonce, balance, storage_root, code_hash]; 70 to 110 bytes."""
    nonce, balance, storage_root, code_hash = account
    payload = b"".join(
        (encode_integer(nonce), encode_integer(balance), _HASH_HEAD, storage_root, _HASH_HEAD, code_hash)
    )
    return bytes((_LIST_HEAD, len(payload))) + payload


def decode_account(raw_account: bytes) -> Account:
    """The account that :func:`encode_account` wrote. Raises StateDamaged for anything else."""
    if len(raw_account) < 70 or raw_account[0] != _LIST_HEAD or raw_account[1] != len(raw_account) - 2:
        raise StateDamaged("an account", "RLP of an account", raw_account.hex())
    nonce, position = _decode_integer(raw_account, 2)
    balance, position = _decode_integer(raw_account, position)
    if position != len(raw_account) - 66:
        raise StateDamaged("an account", "RLP of an account", raw_account.hex())
    return Account(nonce, balance, Hash32(raw_account[-65:-33]), Hash32(raw_account[-32:]))


def _decode_integer(raw: bytes, position: int) -> tuple[int, int]:
    """The integer at ``position`` and where it ends."""
    first = raw[position]
    if first < 0x80:
        return first, position + 1
    end = position + 1 + first - 0x80
    return int.from_bytes(raw[position + 1 : end], "big"), end
