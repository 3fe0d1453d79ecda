"""Making transactions: encode and sign. A node decodes; tools, tests and a devnet's gateway come here."""

from __future__ import annotations

from dataclasses import replace

from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.secp256k1 import sign
from astralink_node.evm import rlp
from astralink_node.evm.transactions import (
    ACCESS_LIST_TYPE,
    LEGACY_TYPE,
    SET_CODE_MAGIC,
    SET_CODE_TYPE,
    Authorization,
    MalformedTransaction,
    Transaction,
    TransactionRule,
    decode_transaction,
)
from astralink_node.types import ZERO_HASH, Address, Hash32

LEGACY_LIST = 0xC0
"""A legacy transaction begins as an RLP list does, from this byte on."""


def new_transaction(
    tx_type: int,
    *,
    chain_id: int | None,
    nonce: int,
    max_fee_per_gas: int,
    gas_limit: int,
    to: bytes,
    max_priority_fee_per_gas: int | None = None,
    value: int = 0,
    data: bytes = b"",
    access_list: tuple[tuple[Address, tuple[int, ...]], ...] = (),
    authorizations: tuple[Authorization, ...] = (),
) -> Transaction:
    """An unsigned transaction; for types 0 and 1 ``max_fee_per_gas`` is the gas price."""
    return Transaction(
        tx_type=tx_type,
        chain_id=chain_id,
        nonce=nonce,
        max_priority_fee_per_gas=max_fee_per_gas if max_priority_fee_per_gas is None else max_priority_fee_per_gas,
        max_fee_per_gas=max_fee_per_gas,
        gas_limit=gas_limit,
        to=to,
        value=value,
        data=data,
        access_list=access_list,
        authorizations=authorizations,
        y_parity=0,
        r=0,
        s=0,
        raw=b"",
        hash=ZERO_HASH,
    )


def sign_transaction(transaction: Transaction, private_key: bytes) -> Transaction:
    """The transaction with this key's signature, as decoding its bytes gives it."""
    r, s, y_parity = sign(private_key, keccak256(_envelope(transaction, _unsigned_suffix(transaction))))
    return encoded(replace(transaction, r=r, s=s, y_parity=y_parity))


def encoded(transaction: Transaction) -> Transaction:
    """The transaction with ``raw`` and ``hash`` made from its other fields, checked by decoding them."""
    v = transaction.y_parity
    if transaction.tx_type == LEGACY_TYPE:
        v += 27 if transaction.chain_id is None else 35 + 2 * transaction.chain_id
    signature = [rlp.big_endian(value) for value in (v, transaction.r, transaction.s)]
    return decode_transaction(_envelope(transaction, signature))


def unsigned_bytes(transaction: Transaction) -> bytes:
    """The EIP-2718 encoding with zeros in the signature's place, as geth gives a transaction that is yet to be
    signed."""
    return _envelope(transaction, [b"", b"", b""])


def sign_authorization(*, chain_id: int, address: Address, nonce: int, private_key: bytes) -> Authorization:
    """EIP-7702."""
    message = SET_CODE_MAGIC + rlp.encode([rlp.big_endian(chain_id), address, rlp.big_endian(nonce)])
    r, s, y_parity = sign(private_key, keccak256(message))
    return Authorization(chain_id=chain_id, address=address, nonce=nonce, y_parity=y_parity, r=r, s=s)


def _unsigned_suffix(transaction: Transaction) -> list[bytes]:
    """EIP-155 signs the chain id in the place of the signature; typed transactions sign nothing there."""
    if transaction.tx_type == LEGACY_TYPE and transaction.chain_id is not None:
        return [rlp.big_endian(transaction.chain_id), b"", b""]
    return []


def _envelope(transaction: Transaction, suffix: list[bytes]) -> bytes:
    tx_type = transaction.tx_type
    fields: list[rlp.Encodable] = []
    if tx_type != LEGACY_TYPE:
        fields.append(rlp.big_endian(transaction.chain_id or 0))
    fields.append(rlp.big_endian(transaction.nonce))
    if tx_type not in (LEGACY_TYPE, ACCESS_LIST_TYPE):
        fields.append(rlp.big_endian(transaction.max_priority_fee_per_gas))
    fields += [
        rlp.big_endian(transaction.max_fee_per_gas),
        rlp.big_endian(transaction.gas_limit),
        transaction.to,
        rlp.big_endian(transaction.value),
        transaction.data,
    ]
    if tx_type != LEGACY_TYPE:
        fields.append(
            [[address, [slot.to_bytes(32, "big") for slot in slots]] for address, slots in transaction.access_list]
        )
    if tx_type == SET_CODE_TYPE:
        fields.append([_authorization_fields(authorization) for authorization in transaction.authorizations])
    body = rlp.encode([*fields, *suffix])
    return body if tx_type == LEGACY_TYPE else bytes((tx_type,)) + body


def _authorization_fields(authorization: Authorization) -> list[bytes]:
    return [
        rlp.big_endian(authorization.chain_id),
        authorization.address,
        rlp.big_endian(authorization.nonce),
        rlp.big_endian(authorization.y_parity),
        rlp.big_endian(authorization.r),
        rlp.big_endian(authorization.s),
    ]


def unsigned(transaction: Transaction) -> Transaction:
    """The transaction with ``raw`` and ``hash`` as geth has them where nobody signed: v, r and s are zero."""
    raw = unsigned_bytes(transaction)
    return replace(transaction, raw=raw, hash=Hash32(keccak256(raw)))


def decode_unsigned(raw: bytes) -> Transaction:
    """The inverse of :func:`unsigned`: a legacy transaction's zero v is no signature's."""
    if raw[0] < LEGACY_LIST:
        return decode_transaction(raw)
    nonce, gas_price, gas_limit, to, value, data, *_ = rlp.decode_list(raw)
    legacy = new_transaction(
        LEGACY_TYPE,
        chain_id=None,
        nonce=_integer(nonce),
        max_fee_per_gas=_integer(gas_price),
        gas_limit=_integer(gas_limit),
        to=_bytes(to),
        value=_integer(value),
        data=_bytes(data),
    )
    return replace(legacy, raw=raw, hash=Hash32(keccak256(raw)))


def _bytes(item: rlp.Item) -> bytes:
    if not isinstance(item, bytes):
        raise MalformedTransaction(TransactionRule.ENCODING, "a byte string", "a list")
    return item


def _integer(item: rlp.Item) -> int:
    return int.from_bytes(_bytes(item), "big")
