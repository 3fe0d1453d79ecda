"""Ethereum transactions of types 0, 1, 2 and 4: strict decoding, signing hashes, senders, intrinsic gas.

One class holds every type, with the legacy gas price mapped to both fee fields. Blob transactions (EIP-4844)
are recognised and refused. Specifications: EIP-155, 2718, 2930, 1559, 7702, 2028, 3860, 7623. Nothing here
looks at state, and nothing imports py-evm: gateways use this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.secp256k1 import HALF_ORDER, ORDER, InvalidSignature, recover_address
from astralink_node.errors import AstraLinkError
from astralink_node.evm import rlp
from astralink_node.evm.fork_rules import ChainRules, ForkRules
from astralink_node.types import Address, Hash32

LEGACY_TYPE = 0
ACCESS_LIST_TYPE = 1
DYNAMIC_FEE_TYPE = 2
BLOB_TYPE = 3
SET_CODE_TYPE = 4

U64_MAX = 2**64 - 1
U256_MAX = 2**256 - 1

TX_BASE_GAS = 21_000
TX_CREATE_GAS = 32_000
CALLDATA_TOKEN_GAS = 4
"""EIP-2028: 4 for a zero byte, 16 for another; in EIP-7623's terms 1 and 4 tokens."""
CALLDATA_FLOOR_TOKEN_GAS = 10
"""EIP-7623."""
TOKENS_PER_NONZERO_BYTE = 4
ACCESS_LIST_ADDRESS_GAS = 2_400
ACCESS_LIST_SLOT_GAS = 1_900
INITCODE_WORD_GAS = 2
"""EIP-3860."""
MAX_INITCODE_BYTES = 49_152
"""EIP-3860."""
AUTHORIZATION_GAS = 25_000
"""EIP-7702: PER_EMPTY_ACCOUNT_COST, charged for each authorization up front."""
SET_CODE_MAGIC = b"\x05"

_FIELD_COUNTS = {LEGACY_TYPE: 9, ACCESS_LIST_TYPE: 11, DYNAMIC_FEE_TYPE: 12, SET_CODE_TYPE: 13}


class TransactionRule(StrEnum):
    """The rule that a transaction breaks. The value is what operators and RPC clients read; where geth has a
    text for it, the value contains it, since wallets and test tools look for those."""

    ENCODING = "transaction encoding"
    TYPE = "transaction type not supported"
    BLOB_UNSUPPORTED = "blob transactions are not carried by this chain"
    CHAIN_ID = "invalid chain id"
    SIGNATURE = "invalid signature"
    NONCE_MAX = "nonce has max value"
    NONCE_TOO_LOW = "nonce too low"
    NONCE_TOO_HIGH = "nonce too high"
    SENDER_HAS_CODE = "sender not an eoa"
    PRIORITY_ABOVE_MAX_FEE = "max priority fee per gas higher than max fee per gas"
    FEE_BELOW_BASE_FEE = "max fee per gas less than block base fee"
    FUNDS = "insufficient funds for gas * price + value"
    INTRINSIC_GAS = "intrinsic gas too low"
    FLOOR_GAS = "insufficient gas for floor data gas cost"
    GAS_CAP = "transaction gas limit too high"
    BLOCK_GAS = "gas limit reached"
    INITCODE_SIZE = "max initcode size exceeded"
    SET_CODE_EMPTY = "EIP-7702 transaction with empty auth list"
    SET_CODE_CREATE = "EIP-7702 transaction cannot be used to create contract"
    AUTHORIZATION_ENCODING = "EIP-7702 authorization encoding"


class InvalidTransaction(AstraLinkError):
    """A transaction that may not be in a block, with the rule that it breaks and the facts."""

    def __init__(self, rule: TransactionRule, expected: str, found: str) -> None:
        super().__init__(f"{rule.value}: expected {expected}, found {found}")
        self.rule = rule
        self.expected = expected
        self.found = found


class MalformedTransaction(InvalidTransaction):
    """The bytes are no transaction."""


class BlobTransactionUnsupported(InvalidTransaction):
    """EIP-4844 transactions are valid on Ethereum, but this chain carries no blobs."""

    def __init__(self) -> None:
        super().__init__(TransactionRule.BLOB_UNSUPPORTED, "type 0, 1, 2 or 4", "type 3")


@dataclass(frozen=True, slots=True)
class Authorization:
    """EIP-7702: ``authority`` (the signer) delegates its code to ``address``. Not validated beyond its ranges."""

    chain_id: int
    address: Address
    nonce: int
    y_parity: int
    r: int
    s: int


AccessList = tuple[tuple[Address, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Transaction:
    """A signed transaction of any type that we carry."""

    tx_type: int
    chain_id: int | None
    """None only for legacy transactions from before EIP-155."""
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    """Equal to the priority fee, namely the gas price, for types 0 and 1."""
    gas_limit: int
    to: bytes
    """20 bytes, or empty for a contract creation."""
    value: int
    data: bytes
    access_list: AccessList
    authorizations: tuple[Authorization, ...]
    y_parity: int
    r: int
    s: int
    raw: bytes
    """The EIP-2718 encoding that was decoded."""
    hash: Hash32

    @property
    def gas_price(self) -> int:
        """The price field of types 0 and 1; for the others the most that they may pay."""
        return self.max_fee_per_gas

    @property
    def is_create(self) -> bool:
        return not self.to

    def effective_gas_price(self, base_fee: int) -> int:
        """EIP-1559: what a unit of gas costs the sender in a block with this base fee."""
        return min(self.max_fee_per_gas, base_fee + self.max_priority_fee_per_gas)


def decode_transaction(raw: bytes) -> Transaction:
    """Decode one canonical EIP-2718 transaction; signature ranges and everything else are checked elsewhere.

    Raises :class:`MalformedTransaction` or :class:`BlobTransactionUnsupported`.
    """
    if not raw:
        raise _malformed("a transaction", "no bytes")
    first = raw[0]
    if first >= 0xC0:
        return _decode_legacy(raw)
    if first == BLOB_TYPE:
        raise BlobTransactionUnsupported
    if first not in _FIELD_COUNTS or first == LEGACY_TYPE:
        raise MalformedTransaction(TransactionRule.TYPE, "type 0, 1, 2 or 4", f"type {first}")
    return _decode_typed(first, raw)


def signing_hash(transaction: Transaction) -> Hash32:
    """What the sender signed: taken from the raw bytes, without the signature fields."""
    raw = transaction.raw
    signature_length = _integer_length(transaction.r) + _integer_length(transaction.s)
    if transaction.tx_type == LEGACY_TYPE:
        _, start, end = rlp.item_bounds(raw, 0, len(raw))
        v = transaction.y_parity + (27 if transaction.chain_id is None else 35 + 2 * transaction.chain_id)
        unsigned = raw[start : end - signature_length - _integer_length(v)]
        if transaction.chain_id is not None:
            unsigned += rlp.encode_integer(transaction.chain_id) + b"\x80\x80"
        return Hash32(keccak256(rlp.encode_list_of_encoded((unsigned,))))
    _, start, end = rlp.item_bounds(raw, 1, len(raw))
    unsigned = raw[start : end - signature_length - _integer_length(transaction.y_parity)]
    return Hash32(keccak256(raw[:1] + rlp.encode_list_of_encoded((unsigned,))))


def recover_sender(transaction: Transaction) -> Address:
    """The account that signed, or :class:`InvalidTransaction` (ranges and low s as EIP-2 wants)."""
    if not 0 < transaction.r < ORDER:
        raise InvalidTransaction(TransactionRule.SIGNATURE, "0 < r < n", str(transaction.r))
    if not 0 < transaction.s <= HALF_ORDER:
        raise InvalidTransaction(TransactionRule.SIGNATURE, "0 < s <= n/2 (EIP-2)", str(transaction.s))
    if transaction.y_parity > 1:
        raise InvalidTransaction(TransactionRule.SIGNATURE, "y parity 0 or 1", str(transaction.y_parity))
    try:
        return recover_address(signing_hash(transaction), transaction.r, transaction.s, transaction.y_parity)
    except InvalidSignature as error:
        raise InvalidTransaction(TransactionRule.SIGNATURE, "a recoverable signature", str(error)) from None


def recover_authority(authorization: Authorization) -> Address | None:
    """The account that signed an EIP-7702 authorization; None when its signature is void (then it is skipped)."""
    if authorization.y_parity > 1 or not 0 < authorization.s <= HALF_ORDER:
        return None
    if not 0 < authorization.r < ORDER:
        return None
    message = SET_CODE_MAGIC + rlp.encode_list_of_encoded(
        (
            rlp.encode_integer(authorization.chain_id),
            rlp.encode_string(authorization.address),
            rlp.encode_integer(authorization.nonce),
        )
    )
    try:
        return recover_address(keccak256(message), authorization.r, authorization.s, authorization.y_parity)
    except InvalidSignature:
        return None


def intrinsic_gas(transaction: Transaction, rules: ForkRules) -> tuple[int, int]:  # noqa: ARG001 (forks may differ)
    """(gas charged before execution, EIP-7623 floor that the whole transaction pays at least)."""
    data = transaction.data
    zeros = data.count(0)
    tokens = zeros + TOKENS_PER_NONZERO_BYTE * (len(data) - zeros)
    intrinsic = TX_BASE_GAS + CALLDATA_TOKEN_GAS * tokens
    if not transaction.to:
        intrinsic += TX_CREATE_GAS + INITCODE_WORD_GAS * ((len(data) + 31) // 32)
    for _, slots in transaction.access_list:
        intrinsic += ACCESS_LIST_ADDRESS_GAS + ACCESS_LIST_SLOT_GAS * len(slots)
    intrinsic += AUTHORIZATION_GAS * len(transaction.authorizations)
    return intrinsic, TX_BASE_GAS + CALLDATA_FLOOR_TOKEN_GAS * tokens


def validate_stateless(transaction: Transaction, chain: ChainRules, fork: ForkRules) -> tuple[int, int]:
    """Every rule that needs neither state nor a block; returns what :func:`intrinsic_gas` does.

    The mempool runs it at admission and the pipeline again in the block. Signatures are not part of it:
    whoever recovers the sender has checked them. Of several rules broken, gas is named first, as by EELS.
    """
    if transaction.chain_id != chain.chain_id and (transaction.chain_id is not None or transaction.tx_type):
        raise InvalidTransaction(TransactionRule.CHAIN_ID, str(chain.chain_id), str(transaction.chain_id))
    intrinsic, floor = intrinsic_gas(transaction, fork)
    if transaction.gas_limit < intrinsic:
        raise InvalidTransaction(TransactionRule.INTRINSIC_GAS, f"at least {intrinsic}", str(transaction.gas_limit))
    if transaction.gas_limit < floor:
        raise InvalidTransaction(TransactionRule.FLOOR_GAS, f"at least {floor}", str(transaction.gas_limit))
    if transaction.nonce >= U64_MAX:
        raise InvalidTransaction(TransactionRule.NONCE_MAX, f"below {U64_MAX}", str(transaction.nonce))
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        raise InvalidTransaction(
            TransactionRule.PRIORITY_ABOVE_MAX_FEE,
            f"at most {transaction.max_fee_per_gas}",
            str(transaction.max_priority_fee_per_gas),
        )
    if fork.tx_gas_cap is not None and transaction.gas_limit > fork.tx_gas_cap:
        raise InvalidTransaction(TransactionRule.GAS_CAP, f"at most {fork.tx_gas_cap}", str(transaction.gas_limit))
    if not transaction.to and len(transaction.data) > MAX_INITCODE_BYTES:
        raise InvalidTransaction(
            TransactionRule.INITCODE_SIZE, f"at most {MAX_INITCODE_BYTES} bytes", str(len(transaction.data))
        )
    if transaction.tx_type == SET_CODE_TYPE:
        if not transaction.to:
            raise InvalidTransaction(TransactionRule.SET_CODE_CREATE, "a recipient", "none")
        if not transaction.authorizations:
            raise InvalidTransaction(TransactionRule.SET_CODE_EMPTY, "at least one", "none")
    return intrinsic, floor


def _decode_legacy(raw: bytes) -> Transaction:
    fields = _decode_fields(raw, LEGACY_TYPE)
    v = _integer(fields[6], "v", U256_MAX)
    if v in {27, 28}:
        chain_id, y_parity = None, v - 27
    elif v >= 35:
        chain_id, y_parity = (v - 35) // 2, (v - 35) % 2
    else:
        raise InvalidTransaction(TransactionRule.SIGNATURE, "v of 27, 28 or at least 35 (EIP-155)", str(v))
    gas_price = _integer(fields[1], "gas price", U256_MAX)
    return Transaction(
        tx_type=LEGACY_TYPE,
        chain_id=chain_id,
        nonce=_integer(fields[0], "nonce", U64_MAX),
        max_priority_fee_per_gas=gas_price,
        max_fee_per_gas=gas_price,
        gas_limit=_integer(fields[2], "gas limit", U64_MAX),
        to=_recipient(fields[3]),
        value=_integer(fields[4], "value", U256_MAX),
        data=_string(fields[5], "data"),
        access_list=(),
        authorizations=(),
        y_parity=y_parity,
        r=_integer(fields[7], "r", U256_MAX),
        s=_integer(fields[8], "s", U256_MAX),
        raw=raw,
        hash=Hash32(keccak256(raw)),
    )


def _decode_typed(tx_type: int, raw: bytes) -> Transaction:
    fields = _decode_fields(raw[1:], tx_type)
    chain_id = _integer(fields[0], "chain id", U256_MAX)
    nonce = _integer(fields[1], "nonce", U64_MAX)
    priority_fee = _integer(fields[2], "fee per gas", U256_MAX)
    if tx_type == ACCESS_LIST_TYPE:
        max_fee, body = priority_fee, fields[3:]
    else:
        max_fee, body = _integer(fields[3], "max fee per gas", U256_MAX), fields[4:]
    return Transaction(
        tx_type=tx_type,
        chain_id=chain_id,
        nonce=nonce,
        max_priority_fee_per_gas=priority_fee,
        max_fee_per_gas=max_fee,
        gas_limit=_integer(body[0], "gas limit", U64_MAX),
        to=_recipient(body[1]),
        value=_integer(body[2], "value", U256_MAX),
        data=_string(body[3], "data"),
        access_list=_access_list(body[4]) if body[4] != [] else (),
        authorizations=_authorizations(body[5]) if tx_type == SET_CODE_TYPE else (),
        y_parity=_integer(body[-3], "y parity", 255),
        r=_integer(body[-2], "r", U256_MAX),
        s=_integer(body[-1], "s", U256_MAX),
        raw=raw,
        hash=Hash32(keccak256(raw)),
    )


def _decode_fields(encoded: bytes, tx_type: int) -> list[rlp.Item]:
    try:
        fields = rlp.decode_list(encoded)
    except rlp.MalformedRlp as error:
        raise _malformed("a canonical RLP list", str(error)) from None
    if len(fields) != _FIELD_COUNTS[tx_type]:
        raise _malformed(f"{_FIELD_COUNTS[tx_type]} fields", f"{len(fields)} fields")
    return fields


def _integer(item: rlp.Item, name: str, maximum: int) -> int:
    if not isinstance(item, bytes):
        raise _malformed(f"{name}: an integer", "a list")
    if item and not item[0]:
        raise _malformed(f"{name}: an integer without leading zeros", item.hex())
    value = int.from_bytes(item, "big")
    if value > maximum:
        raise _malformed(f"{name}: at most {maximum}", str(value) if len(item) <= 64 else f"{len(item)} bytes")
    return value


def _string(item: rlp.Item, name: str) -> bytes:
    if not isinstance(item, bytes):
        raise _malformed(f"{name}: a byte string", "a list")
    return item


def _recipient(item: rlp.Item) -> bytes:
    recipient = _string(item, "to")
    if len(recipient) not in {0, 20}:
        raise _malformed("to: 20 bytes or none", f"{len(recipient)} bytes")
    return recipient


def _address(item: rlp.Item, name: str) -> Address:
    if not isinstance(item, bytes) or len(item) != 20:
        raise _malformed(f"{name}: 20 bytes", "something else")
    return Address(item)


def _access_list(item: rlp.Item) -> AccessList:
    if not isinstance(item, list):
        raise _malformed("access list: a list", "a byte string")
    entries = []
    for entry in item:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], list):
            raise _malformed("access list entry: [address, [slots]]", "something else")
        slots = []
        for slot in entry[1]:
            if not isinstance(slot, bytes) or len(slot) != 32:
                raise _malformed("access list slot: 32 bytes", "something else")
            slots.append(int.from_bytes(slot, "big"))
        entries.append((_address(entry[0], "access list address"), tuple(slots)))
    return tuple(entries)


def _authorizations(item: rlp.Item) -> tuple[Authorization, ...]:
    """EIP-7702: ranges of the tuple's fields are part of the transaction's validity, their truth is not."""
    if not isinstance(item, list):
        raise _malformed_authorization("a list of authorizations", "a byte string")
    authorizations = []
    for entry in item:
        if not isinstance(entry, list) or len(entry) != 6:
            raise _malformed_authorization("six fields", "something else")
        try:
            authorizations.append(
                Authorization(
                    chain_id=_integer(entry[0], "chain id", U256_MAX),
                    address=_address(entry[1], "address"),
                    nonce=_integer(entry[2], "nonce", U64_MAX),
                    y_parity=_integer(entry[3], "y parity", 255),
                    r=_integer(entry[4], "r", U256_MAX),
                    s=_integer(entry[5], "s", U256_MAX),
                )
            )
        except MalformedTransaction as error:
            raise _malformed_authorization(error.expected, error.found) from None
    return tuple(authorizations)


def _malformed(expected: str, found: str) -> MalformedTransaction:
    return MalformedTransaction(TransactionRule.ENCODING, expected, found)


def _malformed_authorization(expected: str, found: str) -> MalformedTransaction:
    return MalformedTransaction(TransactionRule.AUTHORIZATION_ENCODING, expected, found)


def _integer_length(value: int) -> int:
    """Length of an integer's RLP encoding."""
    return 1 if value < 0x80 else 1 + ((value.bit_length() + 7) >> 3)
