"""Headers, receipts and blocks: canonical bytes there and back, and nothing else accepted."""

from dataclasses import replace

import pytest
import rlp as reference_rlp
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import (
    EMPTY_OMMERS_HASH,
    EMPTY_REQUESTS_HASH,
    MAX_SEALED_BLOCK_BYTES,
    Block,
    Header,
    Log,
    MalformedBlock,
    Receipt,
    SealedBlock,
    Withdrawal,
    decode_block,
    decode_ethereum_block,
    decode_header,
    decode_receipt,
    empty_header,
    encode_block,
    encode_header,
    encode_receipt,
    ethereum_block_rlp,
    header_timestamp,
    receipt_logs,
)
from astralink_node.evm.system_calls import requests_hash
from astralink_node.types import Address, Hash32
from consensus.payload import MAX_PAYLOAD_BYTES

hashes = st.binary(min_size=32, max_size=32).map(Hash32)
addresses = st.binary(min_size=20, max_size=20).map(Address)
u64 = st.integers(0, 2**64 - 1)
headers = st.builds(
    lambda **fields: replace(empty_header(), **fields),
    parent_hash=hashes,
    coinbase=addresses,
    state_root=hashes,
    logs_bloom=st.binary(min_size=256, max_size=256),
    number=u64,
    gas_limit=u64,
    gas_used=u64,
    timestamp=u64,
    extra_data=st.binary(max_size=32),
    prev_randao=hashes,
    base_fee_per_gas=st.integers(0, 2**256 - 1),
    parent_beacon_block_root=hashes,
    requests_hash=hashes,
)
logs = st.builds(
    Log,
    address=addresses,
    topics=st.lists(st.binary(min_size=32, max_size=32), max_size=4).map(tuple),
    data=st.binary(max_size=100),
)
receipts = st.builds(
    Receipt,
    tx_type=st.sampled_from([0, 1, 2, 4]),
    succeeded=st.booleans(),
    cumulative_gas_used=u64,
    logs_bloom=st.binary(min_size=256, max_size=256),
    logs=st.lists(logs, max_size=3).map(tuple),
)
raw_transactions = st.one_of(
    st.builds(lambda kind, body: bytes((kind,)) + body, st.integers(1, 4), st.binary(max_size=80)),
    st.lists(st.binary(max_size=20), max_size=5).map(reference_rlp.encode),
)
withdrawals = st.builds(Withdrawal, index=u64, validator_index=u64, address=addresses, amount_gwei=u64)
blocks = st.builds(
    Block,
    header=headers,
    raw_transactions=st.lists(raw_transactions, max_size=5).map(tuple),
    withdrawals=st.lists(withdrawals, max_size=2).map(tuple),
)


@given(headers)
def test_a_header_survives_its_encoding_and_its_hash_is_of_that(header: object) -> None:
    raw = encode_header(header)
    assert decode_header(raw) == header
    assert header.hash == keccak256(raw) == header.hash


@given(receipts)
def test_a_receipt_survives_its_encoding(receipt: Receipt) -> None:
    assert decode_receipt(encode_receipt(receipt)) == receipt


@given(receipts, st.data())
def test_some_logs_of_a_receipt_are_those_at_their_positions(receipt: Receipt, data: st.DataObject) -> None:
    wanted = sorted(data.draw(st.sets(st.integers(0, max(0, len(receipt.logs) - 1)))) if receipt.logs else set())
    encoded = encode_receipt(receipt)
    assert list(receipt_logs(encoded, wanted)) == [(place, receipt.logs[place]) for place in wanted]
    assert list(receipt_logs(encoded, None)) == list(enumerate(receipt.logs))
    with pytest.raises(MalformedBlock, match="at least"):
        list(receipt_logs(encoded, [len(receipt.logs)]))


@given(headers)
def test_the_timestamp_is_read_without_the_rest_of_the_header(header: Header) -> None:
    assert header_timestamp(encode_header(header)) == header.timestamp


@given(blocks, st.binary(max_size=100))
def test_a_block_survives_both_of_its_encodings(block: Block, payload: bytes) -> None:
    assert decode_ethereum_block(ethereum_block_rlp(block)) == block
    sealed = SealedBlock(block, payload)
    assert decode_block(encode_block(sealed)) == sealed


@given(blocks, st.data())
def test_a_damaged_block_is_another_block_or_an_error(block: Block, data: st.DataObject) -> None:
    raw = bytearray(encode_block(SealedBlock(block, b"payload")))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_block(bytes(raw))
    except MalformedBlock:
        return
    assert encode_block(decoded) == bytes(raw)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_crash(raw: bytes) -> None:
    for decode in (decode_block, decode_ethereum_block, decode_header, decode_receipt):
        with pytest.raises(MalformedBlock):
            decode(raw)


def test_the_well_known_hashes_are_those_of_nothing() -> None:
    assert keccak256(b"\xc0") == EMPTY_OMMERS_HASH
    assert requests_hash(()) == EMPTY_REQUESTS_HASH


@pytest.mark.parametrize("count", [16, 20, 22])
def test_a_header_of_another_fork_is_malformed(count: int) -> None:
    fields = reference_rlp.decode(encode_header(empty_header()))
    fields = fields[:count] if count < len(fields) else [*fields, b"\x01"]
    with pytest.raises(MalformedBlock, match="21 fields"):
        decode_header(reference_rlp.encode(fields))


@pytest.mark.parametrize(
    ("position", "value"),
    [(0, b"\x01"), (2, b"\x01" * 21), (6, b""), (8, b"\x00"), (9, b"\x01" * 9), (12, []), (14, b"")],
)
def test_header_fields_of_the_wrong_shape_are_malformed(position: int, value: object) -> None:
    fields = reference_rlp.decode(encode_header(empty_header()))
    fields[position] = value
    with pytest.raises(MalformedBlock):
        decode_header(reference_rlp.encode(fields))


def test_ommers_are_refused() -> None:
    header = encode_header(empty_header())
    raw = reference_rlp.encode([reference_rlp.decode(header), [], [reference_rlp.decode(header)], []])
    with pytest.raises(MalformedBlock, match="ommers"):
        decode_ethereum_block(raw)


def test_a_legacy_transaction_inside_a_byte_string_is_refused() -> None:
    header = reference_rlp.decode(encode_header(empty_header()))
    with pytest.raises(MalformedBlock, match="typed transaction"):
        decode_ethereum_block(reference_rlp.encode([header, [reference_rlp.encode([b"a"])], [], []]))


def test_blocks_and_payloads_have_bounds() -> None:
    block = Block(empty_header(), ())
    decode_block(encode_block(SealedBlock(block, bytes(MAX_PAYLOAD_BYTES))))
    with pytest.raises(MalformedBlock, match="payload of at most"):
        decode_block(encode_block(SealedBlock(block, bytes(MAX_PAYLOAD_BYTES + 1))))
    with pytest.raises(MalformedBlock, match="block of at most"):
        decode_block(bytes(MAX_SEALED_BLOCK_BYTES + 1))
