"""The account's encoding: equal to generic RLP, and read back strictly."""

import pytest
import rlp

from astralink_node.state.accounts import EMPTY_ACCOUNT, Account, decode_account, encode_account, encode_integer
from astralink_node.state.errors import StateDamaged
from astralink_node.types import Hash32

EDGES = [0, 1, 0x7F, 0x80, 0xFF, 0x100, 2**64 - 1, 2**64, 2**255, 2**256 - 1]


@pytest.mark.parametrize("value", EDGES)
def test_integer_is_encoded_as_rlp_does(value: int) -> None:
    assert encode_integer(value) == rlp.encode(value)


@pytest.mark.parametrize("nonce", [edge for edge in EDGES if edge < 2**64])
@pytest.mark.parametrize("balance", EDGES)
def test_account_is_encoded_as_rlp_does_and_read_back(nonce: int, balance: int) -> None:
    account = Account(nonce, balance, Hash32(b"\x01" * 32), Hash32(b"\x02" * 32))
    raw_account = encode_account(account)
    assert raw_account == rlp.encode([nonce, balance, b"\x01" * 32, b"\x02" * 32])
    assert decode_account(raw_account) == account


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw + b"\x00",
        lambda raw: b"\xf7" + raw[1:],
        lambda raw: raw[:2] + b"\x82" + raw[3:],
        lambda raw: raw[:2] + b"\xbf" + raw[3:],
    ],
)
def test_damaged_account_is_convicted(damage: object) -> None:
    assert callable(damage)
    with pytest.raises(StateDamaged):
        decode_account(damage(encode_account(EMPTY_ACCOUNT)))
