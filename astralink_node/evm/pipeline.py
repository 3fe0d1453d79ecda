"""A block's execution over a state overlay: system calls, transactions, withdrawals, requests, roots.

:class:`BlockExecution` is the one path for building, validating, state tests and ``t8n``. It changes nothing but
the overlay and decides by the block and the parent state alone. The state root is not computed here: the caller
commits the overlay's changes (``state.commitment``) and compares. Receipts, blooms and roots are made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm import system_calls
from astralink_node.evm.address_collector import AddressCollector, Appearances
from astralink_node.evm.block_errors import BlockRule, InvalidBlock
from astralink_node.evm.blocks import (
    EMPTY_BLOOM,
    Block,
    Header,
    Log,
    Receipt,
    Withdrawal,
    encode_receipt,
    encode_withdrawal,
    ethereum_block_rlp,
)
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.delegation import is_delegation
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.tracing.hooks import Tracer
from astralink_node.evm.transaction_execution import Outcome, RawLog, execute_transaction, log_of
from astralink_node.evm.transactions import (
    InvalidTransaction,
    Transaction,
    TransactionRule,
    decode_transaction,
    recover_sender,
    validate_stateless,
)
from astralink_node.evm.vm import ExecutionState, Precompiles
from astralink_node.state.accounts import EMPTY_ACCOUNT
from astralink_node.state.overlay import Overlay
from astralink_node.state.trie import ordered_root
from astralink_node.types import EMPTY_CODE_HASH, ZERO_HASH, Address, Hash32

GWEI: Final = 10**9

AncestorHash = Callable[[int], bytes]
"""Hash of the block at a height among the last 256, empty if unknown."""


def no_ancestors(_number: int) -> bytes:
    return b""


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What execution reads of the block itself."""

    number: int
    timestamp: int
    coinbase: Address
    gas_limit: int
    base_fee_per_gas: int
    prev_randao: Hash32
    parent_hash: Hash32 = ZERO_HASH
    parent_beacon_block_root: Hash32 = ZERO_HASH
    excess_blob_gas: int = 0
    ancestor_hash: AncestorHash = no_ancestors
    blob_base_fee: int | None = None
    """What BLOBBASEFEE gives in a simulation that says so; None: what follows from ``excess_blob_gas``."""

    @classmethod
    def of_header(cls, header: Header, ancestor_hash: AncestorHash) -> BlockContext:
        return cls(
            number=header.number,
            timestamp=header.timestamp,
            coinbase=header.coinbase,
            gas_limit=header.gas_limit,
            base_fee_per_gas=header.base_fee_per_gas,
            prev_randao=header.prev_randao,
            parent_hash=header.parent_hash,
            parent_beacon_block_root=header.parent_beacon_block_root,
            excess_blob_gas=header.excess_blob_gas,
            ancestor_hash=ancestor_hash,
        )


@dataclass(frozen=True, slots=True)
class ExecutedBlock:
    """What executing a block gives its header, apart from the state root."""

    receipts: tuple[Receipt, ...]
    raw_receipts: tuple[bytes, ...]
    gas_used: int
    logs_bloom: bytes
    transactions_root: Hash32
    receipts_root: Hash32
    withdrawals_root: Hash32
    requests: tuple[bytes, ...]
    """EIP-7685, each with its type byte; without the types that have no data."""
    requests_hash: Hash32


class BlockExecution:
    """Executes one block on an overlay: start, transactions in order, finish."""

    def __init__(
        self, rules: ChainRules, context: BlockContext, overlay: Overlay, *, precompiles: Precompiles | None = None
    ) -> None:
        """`precompiles` replaces the fork's own; only a simulation may, with its overrides."""
        self.rules = rules
        self.context = context
        self.overlay = overlay
        self.fork = rules.fork_at(context.number)
        self.gas_used = 0
        self.receipts: list[Receipt] = []
        self.last_outcome: Outcome | None = None
        """Of the last transaction applied: its output and error, which receipts do not hold."""
        self.appearances: list[Appearances] = []
        """Of each transaction applied since :meth:`collect_addresses`."""
        self._collector: AddressCollector | None = None
        self._raw_transactions: list[bytes] = []
        self._bloom = 0
        self._state = ExecutionState(
            overlay,
            context,
            rules.chain_id,
            self.fork,
            native_precompiles=not rules.plain_ethereum,
            precompiles=precompiles,
        )

    def set_interrupt(self, interrupt: Callable[[], None] | None) -> None:
        """Have ``interrupt`` called now and then while code runs; what it raises ends the transaction."""
        self._state.interrupt = interrupt

    def collect_addresses(self) -> None:
        """From now on keep which addresses take part in each transaction."""
        self._collector = AddressCollector()
        self._state.frame_watcher = self._collector.on_frame

    def set_tracer(self, tracer: Tracer | None) -> None:
        self._state.tracer = tracer

    def apply_system_start(self) -> None:
        """EIP-4788 and EIP-2935."""
        system_calls.apply_block_start(
            self._state,
            parent_hash=self.context.parent_hash,
            parent_beacon_block_root=self.context.parent_beacon_block_root,
        )

    def apply_transaction(self, transaction: Transaction, sender: Address) -> Receipt:
        """Execute a transaction whose sender was recovered.

        Raises :class:`InvalidTransaction`, and whatever the interrupt raises; the overlay is then as it was.
        """
        intrinsic, floor = validate_stateless(transaction, self.rules, self.fork)
        self._check_block_room(transaction)
        self._check_sender(transaction, sender)
        collector = self._collector
        if collector is not None:
            collector.begin()
        receipt = self.include(transaction, self.execute(transaction, sender, intrinsic_gas=intrinsic, floor_gas=floor))
        if collector is not None:
            target = Address(transaction.to) if transaction.to else contract_address(sender, transaction.nonce)
            self.appearances.append(collector.finish(sender, target, self.overlay))
        return receipt

    def execute(self, transaction: Transaction, sender: Address, *, intrinsic_gas: int, floor_gas: int) -> Outcome:
        """The transaction on the state, unchecked: the caller has judged it. To be included next, or not at all.

        Raises whatever the interrupt raises; the overlay is then as it was.
        """
        completed = False
        try:
            outcome = execute_transaction(
                self._state, transaction, sender, intrinsic_gas=intrinsic_gas, floor_gas=floor_gas
            )
            completed = True
        finally:
            if not completed:
                self.overlay.discard(0)
        return outcome

    def include(self, transaction: Transaction, outcome: Outcome) -> Receipt:
        """The receipt of what was executed last, counted into the block."""
        self.gas_used += outcome.gas_used
        bloom = 0
        logs: tuple[Log, ...] = ()
        if outcome.logs:
            logs = tuple(log_of(raw) for raw in outcome.logs)
            bloom = _bloom_of(outcome.logs)
            self._bloom |= bloom
        receipt = Receipt(
            tx_type=transaction.tx_type,
            succeeded=outcome.error is None,
            cumulative_gas_used=self.gas_used,
            logs_bloom=bloom.to_bytes(256, "big") if bloom else EMPTY_BLOOM,
            logs=logs,
        )
        self.receipts.append(receipt)
        self._raw_transactions.append(transaction.raw)
        self.last_outcome = outcome
        return receipt

    def system_call(self, address: Address, data: bytes) -> system_calls.SystemCallResult:
        """A call by the protocol itself, before, between or after transactions; the block does not count its gas."""
        return system_calls.call_system_contract(self._state, address, data)

    def finish(self, withdrawals: Sequence[Withdrawal] = (), requests: tuple[bytes, ...] = ()) -> ExecutedBlock:
        """Withdrawals and requests, as the configuration has them, then receipts and roots.

        `requests` are the chain's own (EIP-7685, type byte first); a plain Ethereum block collects its own instead.
        """
        self._apply_withdrawals(withdrawals)
        if self.rules.plain_ethereum:
            requests = system_calls.collect_requests(
                self._state, (log for receipt in self.receipts for log in receipt.logs)
            )
        self.overlay.begin_transaction()
        raw_receipts = tuple(encode_receipt(receipt) for receipt in self.receipts)
        return ExecutedBlock(
            receipts=tuple(self.receipts),
            raw_receipts=raw_receipts,
            gas_used=self.gas_used,
            logs_bloom=self._bloom.to_bytes(256, "big"),
            transactions_root=ordered_root(self._raw_transactions),
            receipts_root=ordered_root(raw_receipts),
            withdrawals_root=ordered_root([encode_withdrawal(withdrawal) for withdrawal in withdrawals]),
            requests=requests,
            requests_hash=system_calls.requests_hash(requests),
        )

    def _apply_withdrawals(self, withdrawals: Sequence[Withdrawal]) -> None:
        """EIP-4895: credits without a transaction; an untouched empty account stays absent."""
        if withdrawals and not self.rules.plain_ethereum:
            raise InvalidBlock(BlockRule.WITHDRAWALS, "none", str(len(withdrawals)))
        overlay = self.overlay
        overlay.begin_transaction()
        for withdrawal in withdrawals:
            amount = withdrawal.amount_gwei * GWEI
            overlay.set_balance(withdrawal.address, overlay.get_balance(withdrawal.address) + amount)
        overlay.clear_empty_accounts()

    def _check_block_room(self, transaction: Transaction) -> None:
        room = self.context.gas_limit - self.gas_used
        if transaction.gas_limit > room:
            raise InvalidTransaction(TransactionRule.BLOCK_GAS, f"at most {room}", str(transaction.gas_limit))

    def _check_sender(self, transaction: Transaction, sender: Address) -> None:
        base_fee = self.context.base_fee_per_gas
        if transaction.max_fee_per_gas < base_fee:
            raise InvalidTransaction(
                TransactionRule.FEE_BELOW_BASE_FEE, f"at least {base_fee}", str(transaction.max_fee_per_gas)
            )
        account = self.overlay.account(sender) or EMPTY_ACCOUNT
        if transaction.nonce != account.nonce:
            rule = (
                TransactionRule.NONCE_TOO_LOW if transaction.nonce < account.nonce else TransactionRule.NONCE_TOO_HIGH
            )
            raise InvalidTransaction(rule, str(account.nonce), str(transaction.nonce))
        cost = transaction.gas_limit * transaction.max_fee_per_gas + transaction.value
        if account.balance < cost:
            raise InvalidTransaction(TransactionRule.FUNDS, f"at least {cost}", str(account.balance))
        if account.code_hash != EMPTY_CODE_HASH and not is_delegation(self.overlay.get_code(sender)):
            raise InvalidTransaction(
                TransactionRule.SENDER_HAS_CODE, "no code, or a delegation (EIP-7702)", f"code at 0x{sender.hex()}"
            )


def execute_block(
    rules: ChainRules,
    block: Block,
    overlay: Overlay,
    *,
    ancestor_hash: AncestorHash,
    senders: Sequence[Address] = (),
    transactions: Sequence[Transaction] = (),
    prepare: Callable[[BlockExecution], None] | None = None,
) -> ExecutedBlock:
    """Execute a whole block and hold the result against its header, all but the state root.

    The header itself is judged by ``header_rules.validate_header``. Senders and decoded transactions that the
    caller has already are not computed again. ``prepare`` is given the execution before it starts, to set what
    watches it. Raises :class:`InvalidBlock` and :class:`InvalidTransaction`.
    """
    check_block_size(rules, block)
    if not transactions:
        transactions = [decode_transaction(raw) for raw in block.raw_transactions]
    if not senders:
        senders = [recover_sender(transaction) for transaction in transactions]
    execution = BlockExecution(rules, BlockContext.of_header(block.header, ancestor_hash), overlay)
    if prepare is not None:
        prepare(execution)
    execution.apply_system_start()
    for transaction, sender in zip(transactions, senders, strict=True):
        execution.apply_transaction(transaction, sender)
    executed = execution.finish(block.withdrawals)
    check_executed(block.header, executed)
    return executed


def check_block_size(rules: ChainRules, block: Block) -> None:
    """EIP-7934."""
    limit = rules.fork_at(block.header.number).block_rlp_limit
    if limit is not None:
        size = len(ethereum_block_rlp(block))
        if size > limit:
            raise InvalidBlock(BlockRule.SIZE, f"at most {limit} bytes", f"{size} bytes")


def check_executed(header: Header, executed: ExecutedBlock) -> None:
    """The header says what execution found."""
    for rule, said, found in (
        (BlockRule.TRANSACTIONS_ROOT, header.transactions_root, executed.transactions_root),
        (BlockRule.WITHDRAWALS_ROOT, header.withdrawals_root, executed.withdrawals_root),
        (BlockRule.REQUESTS, header.requests_hash, executed.requests_hash),
        (BlockRule.RECEIPTS_ROOT, header.receipts_root, executed.receipts_root),
        (BlockRule.LOGS_BLOOM, header.logs_bloom, executed.logs_bloom),
    ):
        if said != found:
            raise InvalidBlock(rule, f"0x{found.hex()}", f"0x{said.hex()}")
    if header.gas_used != executed.gas_used:
        raise InvalidBlock(BlockRule.GAS_USED, str(executed.gas_used), str(header.gas_used))


def _bloom_of(logs: Sequence[RawLog]) -> int:
    bloom = 0
    for address, topics, _ in logs:
        bloom |= _bloom_bits(address)
        for topic in topics:
            bloom |= _bloom_bits(topic.to_bytes(32, "big"))
    return bloom


@lru_cache(maxsize=65_536)
def _bloom_bits(value: bytes) -> int:
    """Yellow Paper, section 4.3.1: three bits of 2048, by the first six bytes of the hash."""
    digest = keccak256(value)
    bits = 0
    for position in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[position : position + 2], "big") & 2047)
    return bits
