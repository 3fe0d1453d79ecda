"""Validation: each rule has a block that breaks it and nothing else, and no bytes raise anything."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.chain.messages import Built, Invalid, Valid, Validate
from astralink_node.crypto.secp256k1 import ORDER
from astralink_node.evm.blocks import Block, SealedBlock, Withdrawal, decode_block, encode_block
from astralink_node.evm.fee_rules import decode_fee_parameters, encode_fee_parameters
from astralink_node.evm.transaction_encoding import encoded
from astralink_node.evm.transactions import TransactionRule, decode_transaction
from astralink_node.state.trie import ordered_root
from consensus.certificate import Certificate, bitmap_of, decode_certificate
from consensus.messages import VoteType
from consensus.payload import ConsensusPayload, decode_payload, encode_payload, payload_root
from tests.support.chains import COUNTER, LOGGER, LocalChain, candidate, commit_certificate, reveal

# Hypothesis lowers Python's recursion limit around a test, execution raises it: that it stays raised is right.
pytestmark = pytest.mark.filterwarnings("ignore:The recursion limit will not be reset")

CANDIDATES = [
    candidate(0, 0),
    candidate(1, 0, to=COUNTER, gas=60_000),
    candidate(2, 0, to=LOGGER, gas=60_000, data=bytes(32)),
]


def chain_of_height(height: int, validators: int = 4) -> LocalChain:
    chain = LocalChain(validators=validators)
    for _ in range(height):
        chain.produce()
    return chain


def altered(
    built: Built,
    header: dict[str, Any] | None = None,
    payload: dict[str, Any] | None = None,
    transactions: tuple[bytes, ...] | None = None,
) -> bytes:
    """The block with some fields changed; what commits to the payload and the transactions follows."""
    sealed = decode_block(built.raw_block)
    new_payload = replace(decode_payload(sealed.raw_payload), **(payload or {}))
    raw_transactions = sealed.block.raw_transactions if transactions is None else transactions
    changes = {
        "parent_beacon_block_root": payload_root(new_payload),
        "transactions_root": ordered_root(raw_transactions),
        **(header or {}),
    }
    block = Block(replace(sealed.block.header, **changes), raw_transactions)
    return encode_block(SealedBlock(block, encode_payload(new_payload)))


def judged(chain: LocalChain, raw_block: bytes) -> str:
    """The broken rule; empty if the block is valid."""
    answer = chain.execution.validate(Validate(raw_block))
    assert isinstance(answer, Valid | Invalid)
    return answer.rule if isinstance(answer, Invalid) else ""


@pytest.fixture(scope="module")
def chain() -> LocalChain:
    return chain_of_height(2)


@pytest.fixture(scope="module")
def built(chain: LocalChain) -> Built:
    return chain.build(CANDIDATES)


def test_an_unchanged_block_is_valid(built: Built) -> None:
    other = chain_of_height(2)
    assert judged(other, altered(built)) == ""


def fees(**changes: int) -> Callable[[Any], bytes]:
    return lambda header: encode_fee_parameters(replace(decode_fee_parameters(header.extra_data), **changes))


HEADER_RULES: list[tuple[str, Any, str]] = [
    ("parent_hash", b"\x01" * 32, "parent hash"),
    ("number", 4, "number"),
    ("number", 2, "number"),
    ("ommers_hash", b"\x01" * 32, "no ommers"),
    ("coinbase", b"\x01" * 20, "state root"),
    ("state_root", b"\x01" * 32, "state root"),
    ("transactions_root", b"\x01" * 32, "transactions root"),
    ("receipts_root", b"\x01" * 32, "receipts root"),
    ("logs_bloom", bytes(256), "logs bloom"),
    ("difficulty", 1, "difficulty and nonce zero (EIP-3675)"),
    ("nonce", b"\x01" * 8, "difficulty and nonce zero (EIP-3675)"),
    ("gas_limit", 29_999_999, "gas limit"),
    ("gas_used", 20_999, "gas used"),
    ("gas_used", 30_000_001, "gas used above the gas limit"),
    ("timestamp", lambda header: header.timestamp + 1, "timestamp"),
    ("extra_data", b"", "fee parameters"),
    ("extra_data", bytes(33), "extra data"),
    ("extra_data", fees(gas_target=15_000_001), "fee parameters"),
    ("extra_data", fees(gas_target=14_000_000), "fee parameters"),
    ("extra_data", fees(base_fee_step_index=2), "fee parameters"),
    ("extra_data", fees(min_base_fee_wei=0), "fee parameters"),
    ("prev_randao", b"\x01" * 32, "prev_randao"),
    ("base_fee_per_gas", lambda header: header.base_fee_per_gas - 1, "base fee per gas (EIP-1559)"),
    ("withdrawals_root", b"\x01" * 32, "no withdrawals"),
    ("blob_gas_used", 1, "blob gas used"),
    ("excess_blob_gas", 1, "excess blob gas (EIP-4844, 7918)"),
    ("parent_beacon_block_root", b"\x01" * 32, "parent_beacon_block_root"),
    ("requests_hash", b"\x01" * 32, "requests hash (EIP-7685)"),
]


@pytest.mark.parametrize(("name", "value", "rule"), HEADER_RULES, ids=lambda value: str(value)[:24])
def test_a_header_field_that_is_wrong_breaks_its_rule(
    chain: LocalChain, built: Built, name: str, value: Any, rule: str
) -> None:
    header = decode_block(built.raw_block).block.header
    broken = altered(built, header={name: value(header) if callable(value) else value})
    assert judged(chain, broken) == rule


PAYLOAD_RULES: list[tuple[str, Any, str]] = [
    ("version", bytes(32), "payload version"),
    ("genesis_hash", bytes(32), "payload genesis hash"),
    ("height", 4, "payload height"),
    ("time_ms", lambda payload: payload.time_ms - 1, "time"),
    ("time_ms", lambda payload: payload.time_ms + 1_000, "timestamp"),
    ("build_round", 1, "proposer index"),
    ("build_round", 65_535, "build round"),
    ("proposer_index", lambda payload: (payload.proposer_index + 1) % 4, "proposer index"),
    ("proposer_index", 500, "proposer index"),
    ("priorities_hash", bytes(32), "priorities hash"),
    ("reveal", bytes(96), "reveal"),
    ("parent_certificate", None, "parent certificate"),
    ("voting_set_hash", bytes(32), "voting set hash"),
    ("next_set_hash", bytes(32), "next set hash"),
    ("evidence", (b"evidence",), "evidence"),
    ("epoch", 1, "epoch"),
    ("checkpoint_hash", b"\x01" * 32, "checkpoint hash"),
    ("outbox_root", b"\x01" * 32, "outbox root"),
]


@pytest.mark.parametrize(("name", "value", "rule"), PAYLOAD_RULES, ids=lambda value: str(value)[:24])
def test_a_payload_field_that_is_wrong_breaks_its_rule(
    chain: LocalChain, built: Built, name: str, value: Any, rule: str
) -> None:
    payload = decode_payload(decode_block(built.raw_block).raw_payload)
    broken = altered(built, payload={name: value(payload) if callable(value) else value})
    assert judged(chain, broken) == rule


def test_a_reveal_by_another_validator_is_refused(chain: LocalChain, built: Built) -> None:
    payload = decode_payload(decode_block(built.raw_block).raw_payload)
    other = chain.secrets[(payload.proposer_index + 1) % 4]
    broken = altered(built, payload={"reveal": reveal(other, payload.genesis_hash, 3)})
    assert judged(chain, broken) == "reveal"


def parent_certificate(chain: LocalChain, **options: Any) -> Certificate:
    context = chain.execution.context
    encoded = commit_certificate(
        chain.secrets, options.pop("genesis_hash", context.genesis_hash), 2, context.parent.hash, **options
    )
    return decode_certificate(encoded)


def test_the_parents_certificate_may_differ_between_blocks_as_long_as_it_holds(built: Built) -> None:
    chain = chain_of_height(2)
    certificate = parent_certificate(chain, signers=[0, 1, 2])
    assert judged(chain, altered(built, payload={"parent_certificate": certificate})) != "parent certificate quorum"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"signers": bitmap_of([0, 1], 4)}, "parent certificate quorum"),
        ({"signers": bitmap_of([0, 1, 2], 4)}, "parent certificate signature"),
        ({"signers": b"\x0f\x00"}, "parent certificate bitmap_length"),
        ({"signers": b"\xff"}, "parent certificate signers"),
        ({"height": 1}, "parent certificate height"),
        ({"block_hash": b"\x01" * 32}, "parent certificate block_hash"),
        ({"round_": 1}, "parent certificate signature"),
        ({"vote_type": VoteType.PREVOTE}, "parent certificate vote_type"),
        ({"signature": bytes(96)}, "parent certificate signature"),
    ],
    ids=str,
)
def test_a_parent_certificate_that_does_not_hold_is_refused(
    chain: LocalChain, built: Built, change: dict[str, Any], rule: str
) -> None:
    certificate = replace(parent_certificate(chain), **change)
    assert judged(chain, altered(built, payload={"parent_certificate": certificate})) == rule


def test_a_certificate_at_height_one_is_refused() -> None:
    chain = LocalChain()
    certificate = decode_certificate(
        commit_certificate(chain.secrets, chain.execution.context.genesis_hash, 1, b"1" * 32)
    )
    assert judged(chain, altered(chain.build(), payload={"parent_certificate": certificate})) == "parent certificate"


def credit(chain: LocalChain, height: int, **changes: Any) -> Certificate:
    context = chain.execution.context
    encoded = commit_certificate(
        chain.secrets, context.genesis_hash, height, context.block_hash_at(height), signers=[3]
    )
    return replace(decode_certificate(encoded), **changes)


def test_late_credits_for_the_last_heights_are_valid() -> None:
    chain = chain_of_height(5)
    credits_ = tuple(credit(chain, height) for height in (1, 3, 4))
    assert judged(chain, altered_state_root(chain, payload={"late_credits": credits_})) == ""


def altered_state_root(chain: LocalChain, **changes: Any) -> bytes:
    """As `altered` for an empty block, with the state root that the changed payload leads to (EIP-4788 stores it)."""
    broken = altered(chain.build(), **changes)
    answer = chain.execution.validate(Validate(broken))
    if isinstance(answer, Invalid) and answer.rule == "state root":
        header = {**changes.get("header", {}), "state_root": bytes.fromhex(answer.expected[2:])}
        return altered(chain.build(), **{**changes, "header": header})
    return broken


@pytest.mark.parametrize(
    ("height", "change", "rule"),
    [
        (5, {}, "late credit height"),
        (1, {}, "late credit height"),
        (4, {"block_hash": b"\x01" * 32}, "late credit block"),
        (4, {"vote_type": VoteType.PREVOTE}, "late credit votes"),
        (4, {"signature": bytes(96)}, "late credit signature"),
        (4, {"signers": b"\x00"}, "late credit signers"),
        (4, {"signers": b"\x04"}, "late credit signature"),
    ],
    ids=str,
)
def test_a_late_credit_that_does_not_hold_is_refused(height: int, change: dict[str, Any], rule: str) -> None:
    chain = chain_of_height(5 if height == 5 else 10)
    broken = altered(chain.build(), payload={"late_credits": (credit(chain, height, **change),)})
    assert judged(chain, broken) == rule


def swapped(transactions: tuple[bytes, ...], index: int, raw: bytes) -> tuple[bytes, ...]:
    return (*transactions[:index], raw, *transactions[index + 1 :])


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (candidate(0, 1).raw_transaction, TransactionRule.NONCE_TOO_HIGH),
        (candidate(0, 0, chain_id=1).raw_transaction, TransactionRule.CHAIN_ID),
        (candidate(0, 0, gas=20_999).raw_transaction, TransactionRule.INTRINSIC_GAS),
        (candidate(0, 0, value=10**30).raw_transaction, TransactionRule.FUNDS),
        (candidate(0, 0, max_fee=1, tip=1).raw_transaction, TransactionRule.FEE_BELOW_BASE_FEE),
        (
            candidate(0, 0, gas=2**24 + 1).raw_transaction,
            TransactionRule.GAS_CAP,
        ),
        (candidate(0, 0, value=2).raw_transaction, None),
        (b"\x02\xc0", TransactionRule.ENCODING),
        (b"\x03\xc0", TransactionRule.BLOB_UNSUPPORTED),
        (b"\x05\xc0", TransactionRule.TYPE),
        (b"\xc0", TransactionRule.ENCODING),
    ],
    ids=lambda value: value.hex()[:8] if isinstance(value, bytes) else value,
)
def test_a_transaction_that_may_not_be_in_a_block_is_named(
    chain: LocalChain, built: Built, raw: bytes, rule: TransactionRule | None
) -> None:
    transactions = swapped(decode_block(built.raw_block).block.raw_transactions, 0, raw)
    expected = "state root" if rule is None else f"transaction: {rule.value}"
    assert judged(chain, altered(built, transactions=transactions)) == expected


def test_the_same_transaction_twice_is_refused(chain: LocalChain, built: Built) -> None:
    transactions = decode_block(built.raw_block).block.raw_transactions
    assert judged(chain, altered(built, transactions=(*transactions, transactions[0]))) == "transaction: nonce too low"


def test_a_signature_with_high_s_is_refused(chain: LocalChain, built: Built) -> None:
    transactions = decode_block(built.raw_block).block.raw_transactions
    original = decode_transaction(transactions[0])
    flipped = encoded(replace(original, s=ORDER - original.s, y_parity=1 - original.y_parity))
    broken = altered(built, transactions=swapped(transactions, 0, flipped.raw))
    assert judged(chain, broken) == f"transaction: {TransactionRule.SIGNATURE.value}"


def test_withdrawals_are_refused(chain: LocalChain, built: Built) -> None:
    sealed = decode_block(built.raw_block)
    block = replace(sealed.block, withdrawals=(Withdrawal(0, 0, b"\x01" * 20, 1),))
    assert judged(chain, encode_block(replace(sealed, block=block))) == "no withdrawals"


def test_known_senders_are_used_instead_of_recovering_them(built: Built) -> None:
    other = chain_of_height(2)
    senders = tuple(entry.sender for entry in CANDIDATES)
    assert other.execution.validate(Validate(built.raw_block, senders)) == Valid(built.block_hash)


def test_a_wrong_number_of_known_senders_is_not_relied_on(built: Built) -> None:
    other = chain_of_height(2)
    assert other.execution.validate(Validate(built.raw_block, (bytes(20),))) == Valid(built.block_hash)


def test_a_block_on_an_older_block_is_refused(chain: LocalChain) -> None:
    ahead = chain_of_height(3)
    stale = chain.build([candidate(5, 0)])
    assert judged(ahead, stale.raw_block) == "payload height"


@settings(max_examples=200)
@given(raw=st.binary(max_size=300))
def test_arbitrary_bytes_are_invalid(raw: bytes) -> None:
    assert judged(CHAIN, raw) != ""


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_block_is_invalid_and_never_an_error(data: st.DataObject) -> None:
    raw = bytearray(BUILT.raw_block)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "copy"])):
            case "flip":
                raw[position] ^= data.draw(st.integers(1, 255))
            case "cut":
                del raw[position : position + data.draw(st.integers(1, 40))]
            case "insert":
                raw[position:position] = data.draw(st.binary(min_size=1, max_size=40))
            case _:
                raw[position:position] = raw[position : position + 64]
        if not raw:
            raw = bytearray(b"\x00")
    damaged = bytes(raw)
    if damaged != BUILT.raw_block and judged(CHAIN, damaged) == "":
        # Only a step of the fee parameters, which is the proposer's to choose, makes another valid block.
        header = decode_block(damaged).block.header
        unmoved = decode_block(BUILT.raw_block).block.header
        assert replace(header, extra_data=unmoved.extra_data) == unmoved


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_payload_is_invalid_and_never_an_error(data: st.DataObject) -> None:
    sealed = decode_block(BUILT.raw_block)
    raw = bytearray(sealed.raw_payload)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    assert judged(CHAIN, encode_block(SealedBlock(sealed.block, bytes(raw)))) != ""


CHAIN = chain_of_height(2)
BUILT = chain_of_height(2).build(CANDIDATES)


def test_the_payload_of_a_built_block_says_what_the_context_says(chain: LocalChain, built: Built) -> None:
    payload: ConsensusPayload = decode_payload(decode_block(built.raw_block).raw_payload)
    context = chain.execution.context
    assert payload.height == 3
    assert payload.genesis_hash == context.genesis_hash
    assert payload.voting_set_hash == payload.next_set_hash == context.voting_set.hash
    assert payload.parent_certificate == parent_certificate(chain)
