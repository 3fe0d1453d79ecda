"""What a transaction must satisfy to enter the mempool: pure checks, in geth's order and with geth's words.

Wallets match the messages ("nonce too low", "insufficient funds", "already known"), so they are those of geth's
``core/txpool/validation.go`` and ``core/error.go``. A transaction's sender was recovered by the gateway; whether
the account's code allows it to send (EIP-3607) is judged by the block pipeline alone.
"""

from dataclasses import dataclass, field

from astralink_node.errors import AstraLinkError
from astralink_node.evm.fork_rules import ForkRules
from astralink_node.evm.transactions import (
    BLOB_TYPE,
    MAX_INITCODE_BYTES,
    SET_CODE_TYPE,
    U64_MAX,
    Transaction,
    intrinsic_gas,
)
from astralink_node.types import Address

MAX_TRANSACTION_BYTES = 128 * 1024
"""geth's txMaxSize: a larger one would crowd out gossip for everybody."""


class PoolRejection(AstraLinkError):
    """The mempool does not take a transaction; the message is what the client reads."""


@dataclass(frozen=True, slots=True)
class ChainView:
    """The head as admission sees it."""

    chain_id: int
    fork: ForkRules
    gas_limit: int
    """Of the next block."""
    base_fee_wei: int
    """Of the next block; a transaction that offers less may wait for the fee to fall."""
    min_base_fee_wei: int
    """The base fee never falls below it, so less can never be included."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """A sender's account after the head block."""

    nonce: int
    balance_wei: int
    has_code: bool
    """True for an account delegated by EIP-7702: no other account with code has a key."""


@dataclass(frozen=True, slots=True)
class PoolTransaction:
    """A transaction in the mempool with what is derived from it once."""

    transaction: Transaction
    sender: Address
    arrival: int
    """Increases with every admission: the tie-breaker of equal prices."""
    authorities: frozenset[Address] = frozenset()
    """Accounts whose EIP-7702 authorizations it carries."""
    cost: int = field(init=False)
    """The most that it can take from its sender, in wei."""

    def __post_init__(self) -> None:
        sent = self.transaction
        object.__setattr__(self, "cost", sent.gas_limit * sent.max_fee_per_gas + sent.value)

    @property
    def hash(self) -> bytes:
        return self.transaction.hash

    @property
    def nonce(self) -> int:
        return self.transaction.nonce

    @property
    def size(self) -> int:
        return len(self.transaction.raw)

    def tip(self, base_fee: int) -> int:
        """What a unit of gas pays the proposer; negative when the transaction cannot pay the base fee."""
        return min(self.transaction.max_priority_fee_per_gas, self.transaction.max_fee_per_gas - base_fee)


def check_transaction(transaction: Transaction, chain: ChainView, *, min_tip_wei: int, allow_unprotected: bool) -> None:
    """Every check that needs no account, in the order of geth's ValidateTransaction. Raises PoolRejection."""
    if transaction.tx_type == BLOB_TYPE:
        raise PoolRejection("transaction type not supported: tx type 3 not supported by this pool")
    if len(transaction.raw) > MAX_TRANSACTION_BYTES:
        raise PoolRejection(f"oversized data: transaction size {len(transaction.raw)}, limit {MAX_TRANSACTION_BYTES}")
    if not transaction.to and len(transaction.data) > MAX_INITCODE_BYTES:  # EIP-3860
        raise PoolRejection(
            f"max initcode size exceeded: code size {len(transaction.data)}, limit {MAX_INITCODE_BYTES}"
        )
    gas = transaction.gas_limit
    if chain.fork.tx_gas_cap is not None and gas > chain.fork.tx_gas_cap:  # EIP-7825
        raise PoolRejection(f"transaction gas limit too high (cap: {chain.fork.tx_gas_cap}, tx: {gas})")
    if gas > chain.gas_limit:
        raise PoolRejection("exceeds block gas limit")
    if transaction.max_fee_per_gas < transaction.max_priority_fee_per_gas:
        raise PoolRejection(
            "max priority fee per gas higher than max fee per gas: "
            f"maxPriorityFeePerGas: {transaction.max_priority_fee_per_gas}, maxFeePerGas: {transaction.max_fee_per_gas}"
        )
    _check_replay_protection(transaction, chain.chain_id, allow_unprotected=allow_unprotected)
    if transaction.nonce >= U64_MAX:  # EIP-2681
        raise PoolRejection("nonce has max value")
    _check_gas_covers_data(transaction, chain.fork)
    _check_price(transaction, chain, min_tip_wei)
    if transaction.tx_type == SET_CODE_TYPE:  # EIP-7702
        if not transaction.to:
            raise PoolRejection("EIP-7702 transaction cannot be used to create contract")
        if not transaction.authorizations:
            raise PoolRejection("set code tx must have at least one authorization tuple")


def check_nonce_and_balance(transaction: PoolTransaction, account: AccountView, spent: int, replaced_cost: int) -> None:
    """geth's ValidateTransactionWithState: ``spent`` is the cost of all that the sender has in the pool.

    ``replaced_cost`` is the cost, within ``spent``, of the transaction with the same nonce, or zero.
    """
    if transaction.nonce < account.nonce:
        raise PoolRejection(f"nonce too low: next nonce {account.nonce}, tx nonce {transaction.nonce}")
    balance, cost = account.balance_wei, transaction.cost
    if cost > balance:
        raise PoolRejection(
            f"insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {cost - balance}"
        )
    need = spent - replaced_cost + cost
    if need > balance:
        change = f"tx bumped {cost - replaced_cost}" if replaced_cost else f"tx cost {cost}"
        raise PoolRejection(
            "insufficient funds for gas * price + value: "
            f"balance {balance}, queued cost {spent}, {change}, overshot {need - balance}"
        )


def check_replacement(old: PoolTransaction, new: PoolTransaction, bump_percent: int) -> None:
    """Both fee fields must rise, by at least the bump, as geth has it: rounded down, but at least by one wei."""
    before, after = old.transaction, new.transaction
    least_fee = _bumped(before.max_fee_per_gas, bump_percent)
    least_tip = _bumped(before.max_priority_fee_per_gas, bump_percent)
    if after.max_fee_per_gas < least_fee or after.max_priority_fee_per_gas < least_tip:
        raise PoolRejection("replacement transaction underpriced")


def _bumped(price: int, percent: int) -> int:
    """At a low price a percentage, rounded down, asks for nothing."""
    return max(price + 1, price * (100 + percent) // 100)


def _check_replay_protection(transaction: Transaction, chain_id: int, *, allow_unprotected: bool) -> None:
    if transaction.chain_id is None:
        if not allow_unprotected:
            raise PoolRejection("only replay-protected (EIP-155) transactions allowed over RPC")
    elif transaction.chain_id != chain_id:
        raise PoolRejection(f"invalid sender: invalid chain id for signer: have {transaction.chain_id} want {chain_id}")


def _check_gas_covers_data(transaction: Transaction, fork: ForkRules) -> None:
    intrinsic, floor = intrinsic_gas(transaction, fork)
    if transaction.gas_limit < intrinsic:
        raise PoolRejection(f"intrinsic gas too low: gas {transaction.gas_limit}, minimum needed {intrinsic}")
    if transaction.gas_limit < floor:  # EIP-7623
        raise PoolRejection(
            f"insufficient gas for floor data gas cost: gas {transaction.gas_limit}, minimum needed {floor}"
        )


def _check_price(transaction: Transaction, chain: ChainView, min_tip_wei: int) -> None:
    if transaction.max_priority_fee_per_gas < min_tip_wei:
        raise PoolRejection(
            "transaction gas price below minimum: "
            f"gas tip cap {transaction.max_priority_fee_per_gas}, minimum needed {min_tip_wei}"
        )
    if transaction.max_fee_per_gas < chain.min_base_fee_wei:
        raise PoolRejection(
            "transaction gas price below minimum: "
            f"gas fee cap {transaction.max_fee_per_gas}, minimum needed {chain.min_base_fee_wei}"
        )
