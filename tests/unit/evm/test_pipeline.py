"""Transactions in a block: what they change, what they pay, and which may not be in it."""

from dataclasses import replace

import pytest

from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.secp256k1 import address_of
from astralink_node.evm.block_errors import BlockRule, InvalidBlock
from astralink_node.evm.blocks import EMPTY_BLOOM, Block, Withdrawal, empty_header, ethereum_block_rlp
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.fee_rules import MIN_GAS_TARGET, FeeBounds
from astralink_node.evm.fork_rules import MAX_BLOCK_RLP_BYTES, OSAKA, PRAGUE, astralink, plain_ethereum
from astralink_node.evm.pipeline import check_block_size, check_executed
from astralink_node.evm.transaction_encoding import sign_authorization
from astralink_node.evm.transactions import InvalidTransaction, TransactionRule
from astralink_node.types import EMPTY_TRIE_ROOT, Address, Hash32
from tests.support.evm_worlds import BALANCE, BASE_FEE, COINBASE, CONTEXT, KEY, SENDER, World, address

FRIEND = address(1)
CONTRACT = address(2)
ASTRALINK = astralink(1, FeeBounds(MIN_GAS_TARGET, MIN_GAS_TARGET, 0, 0, 0, 0))
TIP = 1
STORE_ONE = "6001600055"
SELF_DESTRUCT_TO_COINBASE = "41ff"


def refused(world: World, to: bytes = FRIEND, **fields: object) -> TransactionRule:
    before = dict(world.overlay.accounts)
    with pytest.raises(InvalidTransaction) as caught:
        world.send(to, **fields)
    changed = {key: value for key, value in world.overlay.accounts.items() if before.get(key, value) != value}
    assert not changed
    assert world.execution.receipts == []
    return caught.value.rule


# --- Plain transfers ---------------------------------------------------------------------------------------------


def test_a_transfer_moves_value_pays_the_tip_and_burns_the_base_fee() -> None:
    world = World()
    assert world.send(FRIEND, value=1_000, gas_limit=21_000)
    assert world.overlay.get_balance(FRIEND) == 1_000
    assert world.overlay.get_balance(COINBASE) == 21_000 * TIP
    assert world.overlay.get_balance(SENDER) == BALANCE - 1_000 - 21_000 * (BASE_FEE + TIP)
    assert world.overlay.get_nonce(SENDER) == 1


def test_a_transfer_to_oneself_costs_only_the_fee() -> None:
    world = World()
    assert world.send(SENDER, value=BALANCE // 2)
    assert world.overlay.get_balance(SENDER) == BALANCE - 21_000 * (BASE_FEE + TIP)


def test_a_transfer_of_nothing_to_nobody_creates_no_account() -> None:
    world = World()
    assert world.send(FRIEND, max_priority_fee_per_gas=0)
    assert world.overlay.account(FRIEND) is None
    assert world.overlay.account(COINBASE) is None


def test_a_transfer_to_the_coinbase_adds_value_and_tip() -> None:
    world = World()
    assert world.send(COINBASE, value=5)
    assert world.overlay.get_balance(COINBASE) == 5 + 21_000 * TIP


def test_a_transfer_with_data_pays_the_calldata_floor() -> None:
    world = World()
    assert world.send(FRIEND, data=b"\x01" * 100)
    assert world.gas_used == 21_000 + 10 * 4 * 100


# --- Refused transactions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"nonce": 1}, TransactionRule.NONCE_TOO_HIGH),
        ({"max_fee_per_gas": BASE_FEE - 1}, TransactionRule.FEE_BELOW_BASE_FEE),
        ({"max_fee_per_gas": 1, "max_priority_fee_per_gas": 2}, TransactionRule.PRIORITY_ABOVE_MAX_FEE),
        ({"value": BALANCE}, TransactionRule.FUNDS),
        ({"gas_limit": 20_999}, TransactionRule.INTRINSIC_GAS),
        ({"chain_id": 2}, TransactionRule.CHAIN_ID),
        ({"gas_limit": 2**24 + 1}, TransactionRule.GAS_CAP),
    ],
)
def test_a_transaction_that_breaks_a_rule_leaves_the_state_alone(
    fields: dict[str, object], rule: TransactionRule
) -> None:
    assert refused(World(), **fields) is rule


def test_a_used_nonce_is_refused() -> None:
    world = World()
    world.send(FRIEND)
    with pytest.raises(InvalidTransaction) as caught:
        world.send(FRIEND, nonce=0)
    assert caught.value.rule is TransactionRule.NONCE_TOO_LOW


def test_funds_must_cover_the_maximum_fee_although_less_is_charged() -> None:
    most = 21_000 * 10 * BASE_FEE
    assert refused(World(sender_balance=most - 1), gas_limit=21_000) is TransactionRule.FUNDS
    assert World(sender_balance=most).send(FRIEND, gas_limit=21_000)


def test_a_block_has_room_for_its_gas_limit_and_no_more() -> None:
    world = World(gas_limit=42_000)
    assert world.send(FRIEND, gas_limit=21_000)
    with pytest.raises(InvalidTransaction) as caught:
        world.send(FRIEND, gas_limit=21_001)
    assert caught.value.rule is TransactionRule.BLOCK_GAS
    assert world.send(FRIEND, gas_limit=21_000)


@pytest.mark.parametrize(("code", "accepted"), [("00", False), ("ef0100" + "11" * 20, True)])
def test_a_sender_with_code_is_refused_unless_the_code_is_a_delegation(code: str, accepted: bool) -> None:
    world = World(alloc={"0x" + SENDER.hex(): {"balance": BALANCE, "code": "0x" + code}})
    if accepted:
        assert world.send(FRIEND)
    else:
        assert refused(world) is TransactionRule.SENDER_HAS_CODE


# --- Contracts -----------------------------------------------------------------------------------------------------


def test_a_creation_deploys_at_the_senders_nonce() -> None:
    world = World()
    assert world.send(data=bytes.fromhex("6001600c60003960016000f300"))
    created = contract_address(SENDER, 0)
    assert len(world.overlay.get_code(created)) == 1
    assert world.overlay.get_nonce(created) == 1


@pytest.mark.parametrize("account", [{"nonce": 1}, {"code": "0x00"}, {"storage": {"0x1": "0x2"}, "balance": 1}])
def test_a_creation_onto_an_account_in_use_burns_all_its_gas(account: dict[str, object]) -> None:
    target = contract_address(SENDER, 0)
    world = World(alloc={"0x" + target.hex(): account})
    assert not world.send(data=b"\x00", gas_limit=100_000)
    assert world.gas_used == 100_000
    assert world.overlay.get_nonce(SENDER) == 1


def test_a_creation_onto_a_mere_balance_succeeds_and_keeps_it() -> None:
    target = contract_address(SENDER, 0)
    world = World(alloc={"0x" + target.hex(): {"balance": 9}})
    assert world.send(value=1)
    assert world.overlay.get_balance(target) == 10


def test_a_failed_call_changes_nothing_but_pays() -> None:
    world = World({CONTRACT: STORE_ONE + "5f5ffd"})
    assert not world.send(CONTRACT, value=3)
    assert world.overlay.get_storage(CONTRACT, 0) == 0
    assert world.overlay.get_balance(CONTRACT) == 0
    assert 21_000 < world.gas_used < 1_000_000


def test_clearing_storage_is_refunded_up_to_a_fifth() -> None:
    alloc = {"0x" + CONTRACT.hex(): {"code": "0x5f5f555f600155", "nonce": 1, "storage": {"0x0": "0x1", "0x1": "0x1"}}}
    world = World(alloc=alloc)
    assert world.send(CONTRACT)
    spent = 21_000 + 2 * (2_100 + 2_900) + 2 + 2 + 3 + 2
    assert world.gas_used == spent - min(2 * 4_800, spent // 5)


def test_a_contract_created_and_destroyed_in_one_transaction_is_gone_even_as_the_coinbase() -> None:
    world = World()
    assert world.send(data=bytes.fromhex(SELF_DESTRUCT_TO_COINBASE), value=4)
    assert world.overlay.account(contract_address(SENDER, 0)) is None
    assert world.overlay.get_balance(COINBASE) == 4 + world.gas_used * TIP


def test_an_older_contract_that_destroys_itself_only_sends_its_balance() -> None:
    alloc = {"0x" + CONTRACT.hex(): {"code": "0x" + SELF_DESTRUCT_TO_COINBASE, "nonce": 1, "balance": 6}}
    world = World(alloc=alloc)
    assert world.send(CONTRACT)
    assert world.overlay.get_balance(COINBASE) == 6 + world.gas_used * TIP
    assert world.overlay.get_code(CONTRACT) == bytes.fromhex(SELF_DESTRUCT_TO_COINBASE)


def test_logs_of_reverted_calls_are_not_in_the_receipt() -> None:
    logging_then_failing = "5f5fa05f5ffd"
    inner = address(3)
    call_inner = "5f5f5f5f5f73" + inner.hex() + "5af150"
    world = World({CONTRACT: "600760205fa1" + call_inner, inner: logging_then_failing})
    assert world.send(CONTRACT)
    (log,) = world.execution.receipts[0].logs
    assert (log.address, log.topics, log.data) == (CONTRACT, ((7).to_bytes(32, "big"),), bytes(32))
    bloom = int.from_bytes(world.execution.receipts[0].logs_bloom, "big")
    assert 0 < bloom.bit_count() <= 6


def test_an_invalid_opcode_burns_all_gas() -> None:
    world = World({CONTRACT: "fe"})
    assert not world.send(CONTRACT, gas_limit=50_000)
    assert world.gas_used == 50_000


@pytest.mark.parametrize(("fork", "expected"), [(OSAKA, 256 - 9), (PRAGUE, None)])
def test_clz_counts_in_osaka_and_is_invalid_in_prague(fork: object, expected: int | None) -> None:
    world = World({CONTRACT: "6101001e5f5260205ff3"}, fork=fork)
    succeeded = world.send(CONTRACT)
    assert (int.from_bytes(world.output, "big") if succeeded else None) == expected


def test_an_access_list_makes_slots_warm_and_costs_what_it_says() -> None:
    world = World({CONTRACT: "5f5450"})
    world.send(CONTRACT)
    cold = world.gas_used
    world.send(CONTRACT, access_list=((CONTRACT, (0,)),))
    assert world.gas_used == cold + 2_400 + 1_900 - 2_000


# --- Delegation (EIP-7702) -----------------------------------------------------------------------------------------

AUTHORITY_KEY = b"\x09" * 32
AUTHORITY = address_of(AUTHORITY_KEY)


def delegation(**fields: object) -> dict[str, object]:
    values: dict[str, object] = {"chain_id": 1, "address": CONTRACT, "nonce": 0, "private_key": AUTHORITY_KEY}
    return {"tx_type": 4, "authorizations": (sign_authorization(**(values | fields)),)}


def test_a_delegated_account_runs_its_delegates_code_on_its_own_storage() -> None:
    world = World({CONTRACT: STORE_ONE})
    assert world.send(AUTHORITY, **delegation())
    assert world.overlay.get_code(AUTHORITY) == b"\xef\x01\x00" + CONTRACT
    assert world.overlay.get_nonce(AUTHORITY) == 1
    assert world.overlay.get_storage(AUTHORITY, 0) == 1
    assert world.overlay.get_storage(CONTRACT, 0) == 0


@pytest.mark.parametrize("fields", [{"chain_id": 2}, {"nonce": 1}, {"nonce": 2**64 - 1}])
def test_an_invalid_authorization_is_skipped_and_the_transaction_still_runs(fields: dict[str, object]) -> None:
    world = World({CONTRACT: STORE_ONE})
    assert world.send(CONTRACT, **delegation(**fields))
    assert world.overlay.get_code(AUTHORITY) == b""
    assert world.overlay.get_storage(CONTRACT, 0) == 1


def test_an_authorization_outlives_the_failure_of_its_transaction() -> None:
    world = World({CONTRACT: "fe"})
    assert not world.send(CONTRACT, **delegation(chain_id=0))
    assert world.overlay.get_code(AUTHORITY) == b"\xef\x01\x00" + CONTRACT


def test_delegating_to_the_zero_address_takes_the_delegation_away() -> None:
    world = World({CONTRACT: STORE_ONE})
    world.send(FRIEND, **delegation())
    world.send(FRIEND, **delegation(address=Address(bytes(20)), nonce=1))
    assert world.overlay.get_code(AUTHORITY) == b""
    assert world.overlay.get_nonce(AUTHORITY) == 2


def test_a_contract_does_not_become_delegated() -> None:
    world = World(alloc={"0x" + AUTHORITY.hex(): {"code": "0x00", "balance": 1}})
    assert world.send(FRIEND, **delegation())
    assert world.overlay.get_code(AUTHORITY) == b"\x00"


def test_an_existing_authority_is_refunded() -> None:
    world = World(alloc={"0x" + AUTHORITY.hex(): {"balance": 1}})
    world.send(FRIEND, **delegation())
    assert world.gas_used == 46_000 - 46_000 // 5


def test_a_delegated_sender_that_creates_pays_for_initcode_once() -> None:
    # py-evm takes any call whose sender is the origin for the root call and charges and forgets twice.
    creates = "5f5f5ff0" + "5f5f5ff0"
    world = World({CONTRACT: creates})
    own = {
        "tx_type": 4,
        "authorizations": (sign_authorization(chain_id=1, address=CONTRACT, nonce=1, private_key=KEY),),
    }
    assert world.send(SENDER, **own)
    assert world.overlay.get_nonce(SENDER) == 4
    created = [contract_address(SENDER, nonce) for nonce in (2, 3)]
    assert [world.overlay.get_nonce(target) for target in created] == [1, 1]


# --- Blocks --------------------------------------------------------------------------------------------------------


def test_an_empty_astralink_block_has_the_roots_of_nothing() -> None:
    executed = World(rules=ASTRALINK).execution.finish()
    assert executed.receipts_root == executed.transactions_root == executed.withdrawals_root == EMPTY_TRIE_ROOT
    assert executed.logs_bloom == EMPTY_BLOOM
    assert executed.requests == ()
    check_executed(empty_header(), executed)


def test_withdrawals_are_credited_under_plain_ethereum_and_refused_by_astralink() -> None:
    withdrawal = Withdrawal(index=0, validator_index=0, address=FRIEND, amount_gwei=3)
    nothing = Withdrawal(index=1, validator_index=0, address=address(9), amount_gwei=0)
    world = World(alloc=REQUEST_CONTRACTS)
    world.execution.finish((withdrawal, nothing))
    assert world.overlay.get_balance(FRIEND) == 3 * 10**9
    assert world.overlay.account(address(9)) is None
    with pytest.raises(InvalidBlock) as caught:
        World(rules=ASTRALINK).execution.finish((withdrawal,))
    assert caught.value.rule is BlockRule.WITHDRAWALS


REQUEST_CONTRACTS = {
    "0x00000961ef480eb55e80d19ad83579a64c007002": {"code": "0x60aa5f5360015ff3", "nonce": 1},
    "0x0000bbddc7ce488642fb579f8b00f3a590007251": {"code": "0x00", "nonce": 1},
}


@pytest.mark.parametrize(
    ("field", "rule"),
    [
        ("transactions_root", BlockRule.TRANSACTIONS_ROOT),
        ("receipts_root", BlockRule.RECEIPTS_ROOT),
        ("withdrawals_root", BlockRule.WITHDRAWALS_ROOT),
        ("requests_hash", BlockRule.REQUESTS),
    ],
)
def test_a_header_that_says_otherwise_is_refused(field: str, rule: BlockRule) -> None:
    executed = World(rules=ASTRALINK).execution.finish()
    with pytest.raises(InvalidBlock) as caught:
        check_executed(replace(empty_header(), **{field: Hash32(b"\x01" * 32)}), executed)
    assert caught.value.rule is rule


@pytest.mark.parametrize(
    ("changes", "rule"), [({"gas_used": 1}, BlockRule.GAS_USED), ({"logs_bloom": b"\x01" * 256}, BlockRule.LOGS_BLOOM)]
)
def test_a_header_with_other_gas_or_bloom_is_refused(changes: dict[str, object], rule: BlockRule) -> None:
    executed = World(rules=ASTRALINK).execution.finish()
    with pytest.raises(InvalidBlock) as caught:
        check_executed(replace(empty_header(), **changes), executed)
    assert caught.value.rule is rule


def test_osaka_bounds_the_blocks_rlp_and_prague_does_not() -> None:
    block = Block(empty_header(), (b"\x02" + bytes(MAX_BLOCK_RLP_BYTES),))
    with pytest.raises(InvalidBlock) as caught:
        check_block_size(plain_ethereum(OSAKA), block)
    assert caught.value.rule is BlockRule.SIZE
    check_block_size(plain_ethereum(PRAGUE), block)
    excess = len(ethereum_block_rlp(block)) - MAX_BLOCK_RLP_BYTES
    check_block_size(plain_ethereum(OSAKA), Block(empty_header(), (b"\x02" + bytes(MAX_BLOCK_RLP_BYTES - excess),)))


def test_the_blocks_bloom_is_the_union_of_its_receipts() -> None:
    world = World({CONTRACT: "5f5fa0", address(3): "60075f5fa1"}, rules=ASTRALINK)
    world.send(CONTRACT)
    world.send(address(3))
    executed = world.execution.finish()
    blooms = [int.from_bytes(receipt.logs_bloom, "big") for receipt in executed.receipts]
    assert int.from_bytes(executed.logs_bloom, "big") == blooms[0] | blooms[1]
    assert executed.receipts[1].cumulative_gas_used == executed.gas_used == world.execution.gas_used


def test_blockhash_serves_the_last_256_ancestors() -> None:
    hashes = {number: keccak256(b"%d" % number) for number in range(5)}
    context = replace(CONTEXT, ancestor_hash=lambda number: hashes[number])
    world = World({CONTRACT: "5f35405f5260205ff3"}, context=context)
    for number, expected in ((4, hashes[4]), (0, hashes[0]), (5, bytes(32)), (2**255, bytes(32))):
        world.send(CONTRACT, data=number.to_bytes(32, "big"))
        assert world.output == expected
