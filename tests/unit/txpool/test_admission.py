"""The mempool's checks: each rule with its geth wording, and that geth's order holds where two rules break."""

import pytest

from astralink_node.evm.fork_rules import OSAKA
from astralink_node.evm.transactions import Authorization
from astralink_node.txpool.admission import (
    AccountView,
    ChainView,
    PoolRejection,
    PoolTransaction,
    check_nonce_and_balance,
    check_replacement,
    check_transaction,
)
from tests.support.transactions import CHAIN_ID, GWEI, address, transaction

CHAIN = ChainView(CHAIN_ID, OSAKA, gas_limit=30_000_000, base_fee_wei=GWEI, min_base_fee_wei=GWEI // 10)
AUTHORIZATION = Authorization(CHAIN_ID, address(7), 0, 0, 1, 1)


def check(tx, *, min_tip_wei=0, allow_unprotected=False):
    check_transaction(tx, CHAIN, min_tip_wei=min_tip_wei, allow_unprotected=allow_unprotected)


def entry(tx, arrival=0):
    return PoolTransaction(tx, address(1), arrival)


@pytest.mark.parametrize(
    "tx",
    [
        transaction(),
        transaction(tx_type=0, tip=5 * GWEI, fee=5 * GWEI),
        transaction(gas=2**24),
        transaction(gas=21_000 + 16 * 4 + 24 * 4, data=b"\xff" * 4),
        transaction(to=b"", gas=53_000),
        transaction(tx_type=4, gas=46_000, authorizations=(AUTHORIZATION,)),
        transaction(nonce=2**64 - 2),
        transaction(fee=GWEI // 10, tip=0),
    ],
)
def test_ordinary_transaction_passes(tx):
    check(tx)


@pytest.mark.parametrize(
    ("tx", "message"),
    [
        (transaction(tx_type=3), "transaction type not supported: tx type 3 not supported by this pool"),
        (transaction(size=131_073), "oversized data: transaction size 131073, limit 131072"),
        (
            transaction(to=b"", data=bytes(49_153), gas=10**7),
            "max initcode size exceeded: code size 49153, limit 49152",
        ),
        (transaction(gas=2**24 + 1), "transaction gas limit too high (cap: 16777216, tx: 16777217)"),
        (
            transaction(tip=2, fee=1),
            "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: 2, maxFeePerGas: 1",
        ),
        (transaction(chain_id=5), "invalid sender: invalid chain id for signer: have 5 want 1337"),
        (
            transaction(chain_id=None, tx_type=0),
            "only replay-protected (EIP-155) transactions allowed over RPC",
        ),
        (transaction(nonce=2**64 - 1), "nonce has max value"),
        (transaction(gas=20_999), "intrinsic gas too low: gas 20999, minimum needed 21000"),
        (
            transaction(gas=21_000 + 16, data=b"\xff"),
            "insufficient gas for floor data gas cost: gas 21016, minimum needed 21040",
        ),
        (
            transaction(fee=GWEI // 10 - 1, tip=0),
            "transaction gas price below minimum: gas fee cap 99999999, minimum needed 100000000",
        ),
        (
            transaction(tx_type=4, to=b"", gas=10**6, authorizations=(AUTHORIZATION,)),
            "EIP-7702 transaction cannot be used to create contract",
        ),
        (transaction(tx_type=4), "set code tx must have at least one authorization tuple"),
    ],
)
def test_broken_rule_is_named_as_geth_names_it(tx, message):
    with pytest.raises(PoolRejection) as rejection:
        check(tx)
    assert str(rejection.value) == message


def test_gas_above_the_block_limit_is_refused():
    chain = ChainView(CHAIN_ID, OSAKA, gas_limit=100_000, base_fee_wei=1, min_base_fee_wei=1)
    with pytest.raises(PoolRejection, match=r"^exceeds block gas limit$"):
        check_transaction(transaction(gas=100_001), chain, min_tip_wei=0, allow_unprotected=False)


def test_tip_below_the_minimum_is_refused():
    with pytest.raises(PoolRejection, match="gas tip cap 1, minimum needed 2"):
        check(transaction(tip=1), min_tip_wei=2)


def test_unprotected_transaction_passes_where_it_is_allowed():
    check(transaction(chain_id=None, tx_type=0), allow_unprotected=True)


def test_size_is_judged_before_the_chain_id():
    with pytest.raises(PoolRejection, match="oversized data"):
        check(transaction(size=200_000, chain_id=5))


def test_old_nonce_is_too_low():
    with pytest.raises(PoolRejection, match=r"^nonce too low: next nonce 5, tx nonce 4$"):
        check_nonce_and_balance(entry(transaction(4)), AccountView(5, 10**18, False), 0, 0)


def test_cost_above_the_balance_is_insufficient():
    tx = entry(transaction(value=100))
    with pytest.raises(PoolRejection, match=r"^insufficient funds for gas \* price \+ value: balance 99, "):
        check_nonce_and_balance(tx, AccountView(0, 99, False), 0, 0)


def test_balance_must_cover_everything_that_the_sender_has_in_the_pool():
    tx = entry(transaction(1))
    account = AccountView(0, 2 * tx.cost - 1, False)
    with pytest.raises(PoolRejection, match=f"queued cost {tx.cost}, tx cost {tx.cost}, overshot 1$"):
        check_nonce_and_balance(tx, account, tx.cost, 0)
    check_nonce_and_balance(tx, AccountView(0, 2 * tx.cost, False), tx.cost, 0)


def test_replacement_counts_only_its_surplus_cost():
    old, new = entry(transaction()), entry(transaction(fee=11 * GWEI))
    check_nonce_and_balance(new, AccountView(0, new.cost, False), old.cost, old.cost)
    with pytest.raises(PoolRejection, match="tx bumped"):
        check_nonce_and_balance(new, AccountView(0, new.cost, False), old.cost + 1, old.cost)


@pytest.mark.parametrize(
    ("fee", "tip", "accepted"),
    [(110, 11, True), (110, 10, False), (109, 11, False), (200, 20, True), (100, 10, False)],
)
def test_replacement_needs_a_tenth_more_on_both_fees(fee, tip, accepted):
    old, new = entry(transaction(fee=100, tip=10)), entry(transaction(fee=fee, tip=tip, salt=1))
    if accepted:
        check_replacement(old, new, 10)
    else:
        with pytest.raises(PoolRejection, match=r"^replacement transaction underpriced$"):
            check_replacement(old, new, 10)


def test_bump_is_rounded_down_and_never_zero():
    check_replacement(entry(transaction(fee=101, tip=0)), entry(transaction(fee=111, tip=1)), 10)
    with pytest.raises(PoolRejection):
        check_replacement(entry(transaction(fee=100, tip=0)), entry(transaction(fee=110, tip=0)), 10)
