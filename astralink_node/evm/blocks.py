"""Headers, receipts and blocks: what they hold, and their canonical bytes.

An AstraLink header is an Ethereum header of Prague and Osaka (21 fields); what consensus adds travels beside
the block as an opaque payload. Specifications: EIP-1559, 4895, 4844, 4788, 7685, 2718 and docs/specification.md.
Encodings only: which blocks are valid is said in header_rules and pipeline. Nothing here imports py-evm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.errors import AstraLinkError
from astralink_node.evm import rlp
from astralink_node.types import EMPTY_TRIE_ROOT, ZERO_ADDRESS, ZERO_HASH, Address, Hash32
from consensus.payload import MAX_PAYLOAD_BYTES

EMPTY_OMMERS_HASH = Hash32(bytes.fromhex("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"))
"""keccak256(rlp([]))."""
EMPTY_REQUESTS_HASH = Hash32(bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"))
"""EIP-7685: sha256 of nothing."""
BLOOM_BYTES = 256
_TIMESTAMP: Final = 11
"""Place in a header."""
EMPTY_BLOOM = bytes(BLOOM_BYTES)
HEADER_FIELDS = 21
MAX_HEADER_BYTES = 2_048
"""No header with integers of sane size is longer; 32 bytes of extra_data included."""
MAX_SEALED_BLOCK_BYTES = 8_388_608 + MAX_PAYLOAD_BYTES + 64
"""EIP-7934's limit for the block itself, the payload, and the list headers around them."""

_U64_BYTES = 8
_U256_BYTES = 32


class MalformedBlock(AstraLinkError):
    """The bytes are no canonical header, receipt or block."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class Header:
    parent_hash: Hash32
    ommers_hash: Hash32
    """Always of the empty list."""
    coinbase: Address
    """The proposer's fee recipient."""
    state_root: Hash32
    """State after this block, system calls included."""
    transactions_root: Hash32
    receipts_root: Hash32
    logs_bloom: bytes
    """256 bytes."""
    difficulty: int
    """Zero."""
    number: int
    """The height."""
    gas_limit: int
    """AstraLink: twice the gas target in this header's ``extra_data``."""
    gas_used: int
    timestamp: int
    """Seconds: the payload's time_ms // 1000."""
    extra_data: bytes
    """AstraLink: the fee parameters (fee_rules)."""
    prev_randao: Hash32
    """The randomness beacon's value, one block behind its reveal (EIP-4399)."""
    nonce: bytes
    """Eight zero bytes."""
    base_fee_per_gas: int
    """EIP-1559, from the parent header alone."""
    withdrawals_root: Hash32
    """AstraLink: of the empty list."""
    blob_gas_used: int
    """Zero: no blob transactions."""
    excess_blob_gas: int
    """AstraLink: zero."""
    parent_beacon_block_root: Hash32
    """AstraLink: root of this block's consensus payload; contracts read it through EIP-4788."""
    requests_hash: Hash32
    """EIP-7685."""
    _hash: Hash32 | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def hash(self) -> Hash32:
        """keccak of the header's RLP: the block hash."""
        if self._hash is not None:
            return self._hash
        block_hash = Hash32(keccak256(encode_header(self)))
        object.__setattr__(self, "_hash", block_hash)
        return block_hash


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """EIP-4895; only under a plain Ethereum configuration."""

    index: int
    validator_index: int
    address: Address
    amount_gwei: int


@dataclass(frozen=True, slots=True)
class Log:
    address: Address
    topics: tuple[bytes, ...]
    """At most four words of 32 bytes."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    tx_type: int
    succeeded: bool
    cumulative_gas_used: int
    """Of the block, up to and including this transaction."""
    logs_bloom: bytes
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """An Ethereum block; ommers are always empty."""

    header: Header
    raw_transactions: tuple[bytes, ...]
    """EIP-2718 bytes, in order."""
    withdrawals: tuple[Withdrawal, ...] = ()


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """A block and its consensus payload: what travels in proposals, Build's answers and exports."""

    block: Block
    raw_payload: bytes
    """consensus.payload encoding; opaque here."""


# --- Headers -------------------------------------------------------------------------------------------------


def header_timestamp(raw: bytes) -> int:
    """The timestamp of an encoded header that is known to be one: nothing else is decoded."""
    _, start, end = rlp.item_places(raw, 0, len(raw), at_most=_TIMESTAMP + 1)[_TIMESTAMP]
    return int.from_bytes(raw[start:end], "big")


def encode_header(header: Header) -> bytes:
    return rlp.encode(
        [
            header.parent_hash,
            header.ommers_hash,
            header.coinbase,
            header.state_root,
            header.transactions_root,
            header.receipts_root,
            header.logs_bloom,
            rlp.big_endian(header.difficulty),
            rlp.big_endian(header.number),
            rlp.big_endian(header.gas_limit),
            rlp.big_endian(header.gas_used),
            rlp.big_endian(header.timestamp),
            header.extra_data,
            header.prev_randao,
            header.nonce,
            rlp.big_endian(header.base_fee_per_gas),
            header.withdrawals_root,
            rlp.big_endian(header.blob_gas_used),
            rlp.big_endian(header.excess_blob_gas),
            header.parent_beacon_block_root,
            header.requests_hash,
        ]
    )


def decode_header(raw: bytes) -> Header:
    """Strict: lengths, canonical integers, 21 fields. Raises :class:`MalformedBlock`."""
    if len(raw) > MAX_HEADER_BYTES:
        raise MalformedBlock(f"a header of at most {MAX_HEADER_BYTES} bytes", f"{len(raw)} bytes")
    fields = _decode_list(raw, "header")
    if len(fields) != HEADER_FIELDS:
        raise MalformedBlock(f"a header of {HEADER_FIELDS} fields", f"{len(fields)} fields")
    return Header(
        parent_hash=_hash(fields[0], "parent_hash"),
        ommers_hash=_hash(fields[1], "ommers_hash"),
        coinbase=Address(_fixed(fields[2], 20, "coinbase")),
        state_root=_hash(fields[3], "state_root"),
        transactions_root=_hash(fields[4], "transactions_root"),
        receipts_root=_hash(fields[5], "receipts_root"),
        logs_bloom=_fixed(fields[6], BLOOM_BYTES, "logs_bloom"),
        difficulty=_integer(fields[7], _U256_BYTES, "difficulty"),
        number=_integer(fields[8], _U64_BYTES, "number"),
        gas_limit=_integer(fields[9], _U64_BYTES, "gas_limit"),
        gas_used=_integer(fields[10], _U64_BYTES, "gas_used"),
        timestamp=_integer(fields[11], _U64_BYTES, "timestamp"),
        extra_data=_string(fields[12], "extra_data"),
        prev_randao=_hash(fields[13], "prev_randao"),
        nonce=_fixed(fields[14], 8, "nonce"),
        base_fee_per_gas=_integer(fields[15], _U256_BYTES, "base_fee_per_gas"),
        withdrawals_root=_hash(fields[16], "withdrawals_root"),
        blob_gas_used=_integer(fields[17], _U64_BYTES, "blob_gas_used"),
        excess_blob_gas=_integer(fields[18], _U64_BYTES, "excess_blob_gas"),
        parent_beacon_block_root=_hash(fields[19], "parent_beacon_block_root"),
        requests_hash=_hash(fields[20], "requests_hash"),
    )


def empty_header() -> Header:
    """A header of height 0 in which every field is zero or the root of nothing: a base for ``replace``."""
    return Header(
        parent_hash=ZERO_HASH,
        ommers_hash=EMPTY_OMMERS_HASH,
        coinbase=ZERO_ADDRESS,
        state_root=EMPTY_TRIE_ROOT,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=EMPTY_BLOOM,
        difficulty=0,
        number=0,
        gas_limit=0,
        gas_used=0,
        timestamp=0,
        extra_data=b"",
        prev_randao=ZERO_HASH,
        nonce=bytes(8),
        base_fee_per_gas=0,
        withdrawals_root=EMPTY_TRIE_ROOT,
        blob_gas_used=0,
        excess_blob_gas=0,
        parent_beacon_block_root=ZERO_HASH,
        requests_hash=EMPTY_REQUESTS_HASH,
    )


# --- Receipts ------------------------------------------------------------------------------------------------


def encode_receipt(receipt: Receipt) -> bytes:
    """EIP-2718 bytes: the type, then rlp([status, cumulative gas, bloom, logs])."""
    body = rlp.encode(
        [
            b"\x01" if receipt.succeeded else b"",
            rlp.big_endian(receipt.cumulative_gas_used),
            receipt.logs_bloom,
            [[log.address, list(log.topics), log.data] for log in receipt.logs],
        ]
    )
    return bytes((receipt.tx_type,)) + body if receipt.tx_type else body


def decode_receipt(raw: bytes) -> Receipt:
    if not raw:
        raise MalformedBlock("a receipt", "no bytes")
    tx_type = raw[0] if raw[0] < 0x80 else 0
    fields = _decode_list(raw[1:] if tx_type else raw, "receipt")
    if len(fields) != 4:
        raise MalformedBlock("a receipt of 4 fields", f"{len(fields)} fields")
    status = _integer(fields[0], 1, "status")
    if status > 1:
        raise MalformedBlock("status 0 or 1", str(status))
    return Receipt(
        tx_type=tx_type,
        succeeded=bool(status),
        cumulative_gas_used=_integer(fields[1], _U64_BYTES, "cumulative_gas_used"),
        logs_bloom=_fixed(fields[2], BLOOM_BYTES, "logs_bloom"),
        logs=tuple(_decode_log(item) for item in _list(fields[3], "logs")),
    )


def receipt_logs(raw: bytes, wanted: Sequence[int] | None) -> Iterator[tuple[int, Log]]:
    """Logs of a receipt with their positions in it, one by one: all, or those at rising positions alone.

    The others are passed over, not decoded. Raises MalformedBlock on the way.
    """
    start = 1 if raw and raw[0] < 0x80 else 0
    try:
        fields = rlp.item_places(raw, start, len(raw))
        if len(fields) != 4:
            raise MalformedBlock("a receipt of 4 fields", f"{len(fields)} fields")
        at_most = rlp.MAX_ITEMS if wanted is None else max(wanted, default=-1) + 1
        items = rlp.item_places(raw, fields[3][0], len(raw), at_most=at_most)
        if wanted and len(items) < at_most:
            raise MalformedBlock(f"a receipt of at least {at_most} logs", f"{len(items)} logs")
        for place in range(len(items)) if wanted is None else wanted:
            first, _, end = items[place]
            yield place, _decode_log(rlp.decode(raw[first:end]))
    except rlp.MalformedRlp as error:
        raise MalformedBlock("logs of a receipt", str(error)) from None


def encode_logs(logs: Sequence[Log]) -> bytes:
    """rlp of a list of logs: what state tests hash."""
    return rlp.encode([[log.address, list(log.topics), log.data] for log in logs])


def _decode_log(item: rlp.Item) -> Log:
    fields = _list(item, "log")
    if len(fields) != 3:
        raise MalformedBlock("a log of 3 fields", f"{len(fields)} fields")
    topics = _list(fields[1], "topics")
    if len(topics) > 4:
        raise MalformedBlock("at most 4 topics", str(len(topics)))
    return Log(
        address=Address(_fixed(fields[0], 20, "log address")),
        topics=tuple(_fixed(topic, 32, "topic") for topic in topics),
        data=_string(fields[2], "log data"),
    )


# --- Blocks --------------------------------------------------------------------------------------------------


def ethereum_block_rlp(block: Block) -> bytes:
    """rlp([header, transactions, ommers, withdrawals]): what EIP-7934 bounds and eth_getBlock calls the size."""
    return rlp.encode_list_of_encoded(_block_parts(block))


def encode_block(sealed: SealedBlock) -> bytes:
    """rlp([header, transactions, ommers, withdrawals, payload])."""
    return rlp.encode_list_of_encoded((*_block_parts(sealed.block), rlp.encode_string(sealed.raw_payload)))


def decode_block(raw: bytes) -> SealedBlock:
    """The inverse of :func:`encode_block`: strict and bounded; transactions are not looked into."""
    if len(raw) > MAX_SEALED_BLOCK_BYTES:
        raise MalformedBlock(f"a block of at most {MAX_SEALED_BLOCK_BYTES} bytes", f"{len(raw)} bytes")
    parts = _split(raw, "block")
    if len(parts) != 5:
        raise MalformedBlock("a block of 5 parts", f"{len(parts)} parts")
    try:
        raw_payload = rlp.string_of(parts[4])
    except rlp.MalformedRlp as error:
        raise MalformedBlock("a consensus payload", str(error)) from None
    if len(raw_payload) > MAX_PAYLOAD_BYTES:
        raise MalformedBlock(f"a payload of at most {MAX_PAYLOAD_BYTES} bytes", f"{len(raw_payload)} bytes")
    return SealedBlock(block=_block_of_parts(parts[:4]), raw_payload=raw_payload)


def decode_ethereum_block(raw: bytes) -> Block:
    """The inverse of :func:`ethereum_block_rlp`."""
    parts = _split(raw, "block")
    if len(parts) != 4:
        raise MalformedBlock("a block of 4 parts", f"{len(parts)} parts")
    return _block_of_parts(parts)


def encode_withdrawal(withdrawal: Withdrawal) -> bytes:
    return rlp.encode(
        [
            rlp.big_endian(withdrawal.index),
            rlp.big_endian(withdrawal.validator_index),
            withdrawal.address,
            rlp.big_endian(withdrawal.amount_gwei),
        ]
    )


def _block_parts(block: Block) -> tuple[bytes, bytes, bytes, bytes]:
    return (
        encode_header(block.header),
        rlp.encode_list_of_encoded(raw if raw[0] >= 0xC0 else rlp.encode_string(raw) for raw in block.raw_transactions),
        b"\xc0",
        rlp.encode_list_of_encoded(encode_withdrawal(withdrawal) for withdrawal in block.withdrawals),
    )


def _block_of_parts(parts: Sequence[bytes]) -> Block:
    if parts[2] != b"\xc0":
        raise MalformedBlock("no ommers", "ommers")
    return Block(
        header=decode_header(parts[0]),
        raw_transactions=tuple(_raw_transaction(item) for item in _split(parts[1], "transactions")),
        withdrawals=tuple(_decode_withdrawal(item) for item in _split(parts[3], "withdrawals")),
    )


def _raw_transaction(encoded: bytes) -> bytes:
    """A typed transaction travels inside a byte string, a legacy one as the list that it is."""
    if encoded[0] >= 0xC0:
        return encoded
    try:
        raw = rlp.string_of(encoded)
    except rlp.MalformedRlp as error:
        raise MalformedBlock("a transaction", str(error)) from None
    if not raw or raw[0] >= 0x80:
        raise MalformedBlock("a typed transaction inside a byte string", "something else")
    return raw


def _decode_withdrawal(encoded: bytes) -> Withdrawal:
    fields = _decode_list(encoded, "withdrawal")
    if len(fields) != 4:
        raise MalformedBlock("a withdrawal of 4 fields", f"{len(fields)} fields")
    return Withdrawal(
        index=_integer(fields[0], _U64_BYTES, "withdrawal index"),
        validator_index=_integer(fields[1], _U64_BYTES, "withdrawal validator index"),
        address=Address(_fixed(fields[2], 20, "withdrawal address")),
        amount_gwei=_integer(fields[3], _U64_BYTES, "withdrawal amount"),
    )


def _split(raw: bytes, name: str) -> list[bytes]:
    try:
        return rlp.split_list(raw)
    except rlp.MalformedRlp as error:
        raise MalformedBlock(f"{name}: a canonical RLP list", str(error)) from None


def _decode_list(raw: bytes, name: str) -> list[rlp.Item]:
    try:
        return rlp.decode_list(raw)
    except rlp.MalformedRlp as error:
        raise MalformedBlock(f"{name}: a canonical RLP list", str(error)) from None


def _list(item: rlp.Item, name: str) -> list[rlp.Item]:
    if not isinstance(item, list):
        raise MalformedBlock(f"{name}: a list", "a byte string")
    return item


def _string(item: rlp.Item, name: str) -> bytes:
    if not isinstance(item, bytes):
        raise MalformedBlock(f"{name}: a byte string", "a list")
    return item


def _fixed(item: rlp.Item, length: int, name: str) -> bytes:
    value = _string(item, name)
    if len(value) != length:
        raise MalformedBlock(f"{name}: {length} bytes", f"{len(value)} bytes")
    return value


def _hash(item: rlp.Item, name: str) -> Hash32:
    return Hash32(_fixed(item, 32, name))


def _integer(item: rlp.Item, max_bytes: int, name: str) -> int:
    value = _string(item, name)
    if len(value) > max_bytes:
        raise MalformedBlock(f"{name}: an integer of at most {max_bytes} bytes", f"{len(value)} bytes")
    if value and not value[0]:
        raise MalformedBlock(f"{name}: an integer without leading zeros", value.hex())
    return int.from_bytes(value, "big")
