"""Transactions: decoding, senders, and every rule that needs no state."""

from dataclasses import replace

import pytest
import rlp as reference_rlp
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.crypto.secp256k1 import ORDER, address_of
from astralink_node.evm import rlp
from astralink_node.evm.fork_rules import OSAKA, PRAGUE, TX_GAS_CAP, plain_ethereum
from astralink_node.evm.transaction_encoding import encoded, new_transaction, sign_authorization, sign_transaction
from astralink_node.evm.transactions import (
    MAX_INITCODE_BYTES,
    U64_MAX,
    Authorization,
    BlobTransactionUnsupported,
    InvalidTransaction,
    MalformedTransaction,
    Transaction,
    TransactionRule,
    decode_transaction,
    intrinsic_gas,
    recover_authority,
    recover_sender,
    signing_hash,
    validate_stateless,
)
from astralink_node.types import Address

KEY = b"\x11" * 32
SENDER = address_of(KEY)
TO = b"\x22" * 20
CHAIN = 1337
RULES = plain_ethereum(OSAKA, CHAIN)


def make(tx_type: int = 2, **fields: object) -> Transaction:
    values: dict[str, object] = {
        "chain_id": CHAIN,
        "nonce": 3,
        "max_fee_per_gas": 10**9,
        "gas_limit": 100_000,
        "to": TO,
    }
    return sign_transaction(new_transaction(tx_type, **(values | fields)), KEY)


def authorization(**fields: object) -> Authorization:
    values: dict[str, object] = {"chain_id": CHAIN, "address": Address(TO), "nonce": 0, "private_key": b"\x33" * 32}
    return sign_authorization(**(values | fields))


def rule_broken(transaction: Transaction, fork: object = OSAKA) -> TransactionRule:
    with pytest.raises(InvalidTransaction) as caught:
        validate_stateless(transaction, plain_ethereum(fork, CHAIN), fork)
    return caught.value.rule


@pytest.mark.parametrize(
    "fields",
    [
        {"gasPrice": 5, "chainId": CHAIN},
        {"type": 1, "gasPrice": 5, "chainId": CHAIN, "accessList": [{"address": "0x" + "44" * 20, "storageKeys": []}]},
        {"type": 2, "maxFeePerGas": 9, "maxPriorityFeePerGas": 4, "chainId": CHAIN},
    ],
)
def test_transactions_signed_by_eth_account_decode_with_their_sender(fields: dict[str, object]) -> None:
    common = {"nonce": 7, "gas": 50_000, "to": "0x" + TO.hex(), "value": 12, "data": "0xabcd"}
    signed = Account.sign_transaction(common | fields, KEY)
    transaction = decode_transaction(bytes(signed.raw_transaction))
    assert recover_sender(transaction) == SENDER
    assert transaction.hash == bytes(signed.hash)
    assert (transaction.nonce, transaction.gas_limit, transaction.value) == (7, 50_000, 12)
    assert (transaction.to, transaction.data, transaction.chain_id) == (TO, b"\xab\xcd", CHAIN)


def test_a_legacy_transaction_from_before_eip_155_has_no_chain_id_and_is_valid() -> None:
    transaction = make(0, chain_id=None)
    assert transaction.chain_id is None
    assert recover_sender(transaction) == SENDER
    assert validate_stateless(transaction, RULES, OSAKA) == (21_000, 21_000)


@given(
    tx_type=st.sampled_from([0, 1, 2, 4]),
    nonce=st.integers(0, U64_MAX),
    fee=st.integers(0, 2**256 - 1),
    value=st.integers(0, 2**256 - 1),
    data=st.binary(max_size=200),
    create=st.booleans(),
    slots=st.lists(st.integers(0, 2**256 - 1), max_size=3),
)
def test_a_signed_transaction_survives_its_encoding(
    tx_type: int, nonce: int, fee: int, value: int, data: bytes, create: bool, slots: list[int]
) -> None:
    transaction = make(
        tx_type,
        nonce=nonce,
        max_fee_per_gas=fee,
        value=value,
        data=data,
        to=b"" if create else TO,
        access_list=((Address(TO), tuple(slots)),) if tx_type else (),
        authorizations=(authorization(),) if tx_type == 4 else (),
    )
    assert decode_transaction(transaction.raw) == transaction
    assert recover_sender(transaction) == SENDER


@given(st.binary(max_size=120))
def test_arbitrary_bytes_are_a_transaction_or_a_typed_error(raw: bytes) -> None:
    try:
        decoded = decode_transaction(raw)
    except InvalidTransaction:
        return
    assert decoded.raw == raw


@given(st.data())
def test_a_damaged_transaction_decodes_to_another_one_or_not_at_all(data: st.DataObject) -> None:
    raw = bytearray(make(4, authorizations=(authorization(),), access_list=((Address(TO), (1,)),)).raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_transaction(bytes(raw))
    except InvalidTransaction:
        return
    assert decoded.raw == bytes(raw)


def test_blob_transactions_are_refused_by_name() -> None:
    with pytest.raises(BlobTransactionUnsupported, match="blob transactions are not carried by this chain"):
        decode_transaction(b"\x03\xc0")


@pytest.mark.parametrize("raw", [b"", b"\x05\xc0", b"\x7f", b"\x00\xc0", b"\x02\x80", b"\x02\xc0", b"\xc0", b"\x80"])
def test_what_is_no_transaction_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedTransaction):
        decode_transaction(raw)


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (1, b"\x00\x01"),
        (1, b"\x01" * 9),
        (5, b"\x01" * 19),
        (6, b"\x01" * 33),
        (7, []),
        (8, b"\x01"),
        (8, b""),
        (8, [[TO]]),
    ],
    ids=[
        "leading zero",
        "nonce over 64 bits",
        "short recipient",
        "value over 256 bits",
        "data a list",
        "list",
        "empty string as the list",
        "entry",
    ],
)
def test_fields_of_the_wrong_shape_are_malformed(position: int, value: object) -> None:
    fields = reference_rlp.decode(make().raw[1:])
    fields[position] = value
    with pytest.raises(MalformedTransaction):
        decode_transaction(b"\x02" + reference_rlp.encode(fields))


def test_bytes_after_a_transaction_are_refused() -> None:
    with pytest.raises(MalformedTransaction):
        decode_transaction(make().raw + b"\x00")


@pytest.mark.parametrize("v", [0, 1, 26, 29, 34])
def test_a_legacy_v_that_nothing_defines_is_refused(v: int) -> None:
    fields = reference_rlp.decode(make(0).raw)
    fields[6] = rlp.big_endian(v)
    with pytest.raises(InvalidTransaction) as caught:
        decode_transaction(reference_rlp.encode(fields))
    assert caught.value.rule is TransactionRule.SIGNATURE


@pytest.mark.parametrize(
    "change",
    [{"s": ORDER // 2 + 1}, {"s": 0}, {"r": 0}, {"r": ORDER}, {"y_parity": 2}],
    ids=["high s (EIP-2)", "zero s", "zero r", "r out of range", "parity"],
)
def test_signatures_out_of_range_have_no_sender(change: dict[str, int]) -> None:
    broken = encoded(replace(make(), **change))
    with pytest.raises(InvalidTransaction) as caught:
        recover_sender(broken)
    assert caught.value.rule is TransactionRule.SIGNATURE


def test_the_mirrored_high_s_signature_of_a_valid_one_is_refused() -> None:
    transaction = make()
    mirrored = encoded(replace(transaction, s=ORDER - transaction.s, y_parity=1 - transaction.y_parity))
    assert signing_hash(mirrored) == signing_hash(transaction)
    with pytest.raises(InvalidTransaction):
        recover_sender(mirrored)


@pytest.mark.parametrize("tx_type", [0, 1, 2, 4])
def test_another_chains_transaction_is_refused_whatever_its_type(tx_type: int) -> None:
    authorizations = (authorization(),) if tx_type == 4 else ()
    assert rule_broken(make(tx_type, chain_id=CHAIN + 1, authorizations=authorizations)) is TransactionRule.CHAIN_ID


def test_the_highest_nonce_is_refused_and_the_one_below_is_not() -> None:
    assert rule_broken(make(nonce=U64_MAX)) is TransactionRule.NONCE_MAX
    validate_stateless(make(nonce=U64_MAX - 1), RULES, OSAKA)


@pytest.mark.parametrize("tx_type", [2, 4])
def test_a_priority_fee_above_the_maximum_fee_is_refused(tx_type: int) -> None:
    authorizations = (authorization(),) if tx_type == 4 else ()
    transaction = make(tx_type, max_fee_per_gas=5, max_priority_fee_per_gas=6, authorizations=authorizations)
    assert rule_broken(transaction) is TransactionRule.PRIORITY_ABOVE_MAX_FEE


def test_osaka_caps_a_transactions_gas_and_prague_does_not() -> None:
    over = make(gas_limit=TX_GAS_CAP + 1)
    assert rule_broken(over) is TransactionRule.GAS_CAP
    validate_stateless(make(gas_limit=TX_GAS_CAP), RULES, OSAKA)
    validate_stateless(over, plain_ethereum(PRAGUE, CHAIN), PRAGUE)


def test_initcode_is_bounded_and_other_data_is_not() -> None:
    data = bytes(MAX_INITCODE_BYTES + 1)
    assert rule_broken(make(to=b"", data=data, gas_limit=5_000_000)) is TransactionRule.INITCODE_SIZE
    validate_stateless(make(to=b"", data=data[1:], gas_limit=5_000_000), RULES, OSAKA)
    validate_stateless(make(data=data, gas_limit=5_000_000), RULES, OSAKA)


def test_a_set_code_transaction_needs_authorizations_and_a_recipient() -> None:
    assert rule_broken(make(4)) is TransactionRule.SET_CODE_EMPTY
    assert rule_broken(make(4, to=b"", authorizations=(authorization(),))) is TransactionRule.SET_CODE_CREATE


@pytest.mark.parametrize(
    ("fields", "intrinsic", "floor"),
    [
        ({}, 21_000, 21_000),
        ({"data": b"\x00" * 10 + b"\x01" * 10}, 21_000 + 40 + 160, 21_000 + 500),
        ({"to": b"", "data": b"\x01" * 33}, 53_000 + 33 * 16 + 4, 21_000 + 33 * 40),
        ({"access_list": ((Address(TO), (1, 2)),)}, 21_000 + 2_400 + 3_800, 21_000),
        ({"tx_type": 4, "authorizations": (authorization(), authorization())}, 71_000, 21_000),
    ],
)
def test_intrinsic_and_floor_gas_follow_the_eips(fields: dict[str, object], intrinsic: int, floor: int) -> None:
    transaction = make(**fields)
    assert intrinsic_gas(transaction, OSAKA) == (intrinsic, floor)
    needed = max(intrinsic, floor)
    validate_stateless(replace(transaction, gas_limit=needed), RULES, OSAKA)
    expected = TransactionRule.FLOOR_GAS if floor > intrinsic else TransactionRule.INTRINSIC_GAS
    assert rule_broken(replace(transaction, gas_limit=needed - 1)) is expected


def test_the_floor_binds_creations_too() -> None:
    data = b"\x01" * 3_000
    transaction = make(to=b"", data=data)
    intrinsic, floor = intrinsic_gas(transaction, OSAKA)
    assert floor > intrinsic
    assert rule_broken(replace(transaction, gas_limit=floor - 1)) is TransactionRule.FLOOR_GAS


def test_an_authorizations_signer_is_recovered() -> None:
    assert recover_authority(authorization()) == address_of(b"\x33" * 32)


@pytest.mark.parametrize("change", [{"s": ORDER // 2 + 1}, {"s": 0}, {"r": ORDER}, {"r": 0}, {"y_parity": 2}])
def test_an_authorization_with_a_void_signature_has_no_signer(change: dict[str, int]) -> None:
    assert recover_authority(replace(authorization(), **change)) is None


@pytest.mark.parametrize(
    ("position", "value"),
    [(0, b"\x01" * 33), (1, b"\x01" * 19), (2, b"\x01" * 9), (3, b"\x01\x00"), (4, b"\x01" * 33), (5, b"\x00")],
)
def test_an_authorization_with_a_field_out_of_range_makes_the_transaction_malformed(
    position: int, value: bytes
) -> None:
    fields = reference_rlp.decode(make(4, authorizations=(authorization(),)).raw[1:])
    fields[9][0][position] = value
    with pytest.raises(MalformedTransaction) as caught:
        decode_transaction(b"\x04" + reference_rlp.encode(fields))
    assert caught.value.rule is TransactionRule.AUTHORIZATION_ENCODING


def test_gateways_decode_transactions_without_loading_py_evm() -> None:
    import subprocess
    import sys

    program = (
        "import sys, astralink_node.evm.transactions, astralink_node.evm.blocks, astralink_node.evm.header_rules;"
        "raise SystemExit('eth' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
