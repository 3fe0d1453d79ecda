"""The mempool's service: batches from gateways in, candidates for the proposer out, kept in step with the head.

The pool itself is plain data (txpool.pool) and changes only between two awaits. A sender's account is asked for
once, at the head that the pool stands at; afterwards every commit brings the accounts that it touched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.messages import (
    AccountsAnswer,
    AccountsQuestion,
    AtHeight,
    Candidate,
    Committed,
    Query,
    Status,
)
from astralink_node.clock import NowMs
from astralink_node.config import TxpoolConfig
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import decode_header
from astralink_node.evm.fee_rules import decode_fee_parameters
from astralink_node.evm.fork_rules import TX_GAS_CAP, ChainRules
from astralink_node.evm.transactions import (
    AUTHORIZATION_GAS,
    SET_CODE_TYPE,
    TX_BASE_GAS,
    BlobTransactionUnsupported,
    InvalidTransaction,
    Transaction,
    decode_transaction,
    recover_authority,
)
from astralink_node.gateway.link_messages import SubmittedTransaction, Verdict
from astralink_node.log import Log
from astralink_node.txpool.admission import AccountView, ChainView, PoolRejection, PoolTransaction
from astralink_node.txpool.pool import AccountUpdate, Pool, PoolLimits
from astralink_node.types import EMPTY_CODE_HASH, Address

REJECTED_CODE = -32000
"""What geth answers for every transaction that its pool does not take."""

MAX_BATCH = 1024
"""Transactions in one submission; more are refused unread."""
DECODES_PER_TURN = 32
"""Decoding a transaction takes some 20 us: others get a turn every millisecond."""
BYTES_LIKE_A_DECODE = 512
"""Of a long transaction: so many more bytes (access lists, authorizations) may take as long as a short one."""
MAX_CANDIDATE_BYTES = 8 * 1024 * 1024
HEAD_CHASES = 8
"""How often a look-up is repeated because the head moved meanwhile, before the client is told to try again."""
EXPIRY_INTERVAL_S = 60

_log = Log("txpool")

OnPending = Callable[[Sequence[PoolTransaction]], None]


class TransactionPool:
    """See the module's description. :meth:`run` must be running in a nursery."""

    def __init__(
        self, execution: ExecutionLink, rules: ChainRules, limits: PoolLimits, head: Status, now_ms: NowMs
    ) -> None:
        self._execution = execution
        self._rules = rules
        self._now_ms = now_ms
        self._height = head.head_height
        view = self._view(head.head_height, head.head_raw_header, head.next_base_fee_wei, head.next_gas_limit)
        self.pool = Pool(limits, view)
        self.on_pending: OnPending = _nobody
        """Told of every transaction that became executable; must not wait."""
        self._changed = trio.Event()
        self._delegations: set[Address] = set()

    @property
    def height(self) -> int:
        """The head that the pool stands at."""
        return self._height

    # --- In ------------------------------------------------------------------------------------------------------

    async def submit(self, submitted: Sequence[SubmittedTransaction]) -> tuple[Verdict, ...]:
        """The pool's verdict on each transaction, in order."""
        if len(submitted) > MAX_BATCH:
            return tuple(
                Verdict(b"", f"too many transactions in one batch, limit {MAX_BATCH}", REJECTED_CODE) for _ in submitted
            )
        decoded = await _decode_all(submitted)
        senders = {
            Address(entry.sender)
            for entry, result in zip(submitted, decoded, strict=True)
            if isinstance(result, _Decoded)
        }
        accounts = await self._accounts_at_head(senders)
        verdicts: list[Verdict] = []
        pending: list[PoolTransaction] = []
        for entry, result in zip(submitted, decoded, strict=True):
            if isinstance(result, Verdict):
                verdicts.append(result)
                continue
            sender, transaction = Address(entry.sender), result.transaction
            account = accounts.get(sender)
            try:
                # Also a sender that the pool knew a moment ago: a full pool may just have evicted all it had.
                if account is None and not self.pool.knows_sender(sender):
                    raise PoolRejection("the node is busy: the head moves too fast; try again")
                pending += self.pool.add(
                    transaction, sender, account, now_ms=self._now_ms(), authorities=result.authorities
                )
                verdicts.append(Verdict(transaction.hash, "", 0))
            except PoolRejection as rejection:
                verdicts.append(Verdict(transaction.hash, str(rejection), REJECTED_CODE))
        self._announce(pending)
        return tuple(verdicts)

    def on_committed(self, committed: Committed) -> None:
        """Follow the chain to a new head."""
        block = committed.block
        header = decode_header(block.raw_header)
        self._height = header.number
        included = {keccak256(raw) for raw in block.raw_transactions}
        touched = [
            AccountUpdate(Address(account.address), account.nonce, account.balance_wei)
            for account in committed.touched_accounts
        ]
        view = self._view(header.number, block.raw_header, committed.next_base_fee_wei, committed.next_gas_limit)
        self.pool.tick(self._now_ms())
        promoted = self.pool.on_commit(touched, included, view)
        if any(raw[0] == SET_CODE_TYPE for raw in block.raw_transactions):
            self._delegations |= {update.address for update in touched if self.pool.knows_sender(update.address)}
        self._announce(promoted)
        self._wake()

    # --- Out -----------------------------------------------------------------------------------------------------

    def candidates(self, *, long_run: bool = True) -> tuple[Candidate, ...]:
        """The best executable transactions, at most as many as could fit into a block.

        `long_run`: the first one may use the longer time that a build gives it, if the pool finds it due.
        """
        offer = self.pool.offer(
            max_count=self.pool.chain.gas_limit // TX_BASE_GAS, max_bytes=MAX_CANDIDATE_BYTES, long_run=long_run
        )
        return tuple(
            Candidate(entry.transaction.raw, entry.sender, may_run_long=offer.first_may_run_long and not place)
            for place, entry in enumerate(offer.transactions)
        )

    def known_senders(self, raw_transactions: Sequence[bytes]) -> tuple[bytes, ...]:
        """Of transactions of a block, in its order; empty bytes for one that the pool does not hold."""
        entries = (self.pool.get(keccak256(raw)) for raw in raw_transactions)
        return tuple(b"" if entry is None else entry.sender for entry in entries)

    def put_off(self, transaction_hash: bytes) -> None:
        """The clock stopped a transaction in a build; a later block begins with it."""
        self.pool.tick(self._now_ms())
        _log.info("transaction put off: a later block begins with it", hash=transaction_hash)
        self.pool.put_off(transaction_hash)

    def drop(self, transaction_hash: bytes, reason: str) -> None:
        """Building found that a transaction can never be included."""
        self.pool.tick(self._now_ms())
        _log.info("transaction dropped", hash=transaction_hash, reason=reason)
        self.pool.drop(transaction_hash, reason)

    async def wait_for_payable(self) -> None:
        """Return when some transaction could go into the next block."""
        while not self.pool.can_pay():
            await self._changed.wait()
        await trio.lowlevel.checkpoint()

    async def run(self) -> None:
        """Housekeeping: expiry, and accounts whose delegation a block may have changed."""
        while True:
            with trio.move_on_after(EXPIRY_INTERVAL_S):
                while not self._delegations:
                    await self._changed.wait()
                await self._refresh_delegations()
            expired = self.pool.expire_queued(self._now_ms())
            if expired:
                _log.info("queued transactions expired", count=expired)

    # --- Inside --------------------------------------------------------------------------------------------------

    def _view(self, height: int, raw_header: bytes, next_base_fee_wei: int, next_gas_limit: int) -> ChainView:
        parameters = decode_fee_parameters(decode_header(raw_header).extra_data)
        return ChainView(
            chain_id=self._rules.chain_id,
            fork=self._rules.fork_at(height + 1),
            gas_limit=next_gas_limit,
            base_fee_wei=next_base_fee_wei,
            min_base_fee_wei=parameters.min_base_fee_wei,
        )

    async def _accounts_at_head(self, addresses: set[Address]) -> dict[Address, AccountView]:
        """Accounts of senders that the pool does not know, as of its own head; none if that keeps moving."""
        for _ in range(HEAD_CHASES):
            unknown = tuple(address for address in addresses if not self.pool.knows_sender(address))
            if not unknown:
                return {}
            height = self._height
            answer = await self._execution.query(Query(AtHeight(height), AccountsQuestion(unknown)))
            if height == self._height and isinstance(answer, AccountsAnswer):
                views = (
                    AccountView(account.nonce, account.balance_wei, account.code_hash != EMPTY_CODE_HASH)
                    for account in answer.accounts
                )
                # A known sender may have been forgotten meanwhile: then ask once more.
                if all(address in unknown or self.pool.knows_sender(address) for address in addresses):
                    return dict(zip(unknown, views, strict=True))
        return {}

    async def _refresh_delegations(self) -> None:
        addresses, self._delegations = tuple(self._delegations), set()
        height = self._height
        answer = await self._execution.query(Query(AtHeight(height), AccountsQuestion(addresses)))
        if isinstance(answer, AccountsAnswer):
            for address, account in zip(addresses, answer.accounts, strict=True):
                self.pool.set_has_code(address, has_code=account.code_hash != EMPTY_CODE_HASH)

    def _announce(self, pending: Sequence[PoolTransaction]) -> None:
        if pending:
            self.on_pending(pending)
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def pool_limits(config: TxpoolConfig) -> PoolLimits:
    return PoolLimits(
        max_transactions=config.max_transactions,
        max_bytes=config.max_bytes,
        max_per_sender=config.max_per_sender,
        max_queued_per_sender=config.max_queued_per_sender,
        max_queued=config.max_queued,
        price_bump_percent=config.price_bump_percent,
        min_tip_wei=config.min_tip_wei,
        queued_lifetime_ms=config.queued_lifetime_ms,
        allow_unprotected=config.allow_unprotected,
    )


def _nobody(_pending: Sequence[PoolTransaction]) -> None:
    """Until a gateway link asks to be told."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    transaction: Transaction
    authorities: frozenset[Address]


async def _decode_all(submitted: Sequence[SubmittedTransaction]) -> list[_Decoded | Verdict]:
    """Decode in short turns: votes and the head feed must not wait for a flood of large transactions."""
    decoded: list[_Decoded | Verdict] = []
    work = 0
    for entry in submitted:
        try:
            transaction = decode_transaction(entry.raw_transaction)
            decoded.append(_Decoded(transaction, await _authorities(transaction)))
        except BlobTransactionUnsupported:
            decoded.append(Verdict(b"", "transaction type not supported: tx type 3 not supported", REJECTED_CODE))
        except InvalidTransaction as error:
            decoded.append(Verdict(b"", str(error), REJECTED_CODE))
        work += 1 + len(entry.raw_transaction) // BYTES_LIKE_A_DECODE
        if work >= DECODES_PER_TURN:
            work = 0
            await trio.lowlevel.checkpoint()
    return decoded


async def _authorities(transaction: Transaction) -> frozenset[Address]:
    """The accounts that an EIP-7702 transaction may delegate: a recovery of some 40 us each, in another thread.

    Only as many as the transaction cap pays for; a transaction with more is refused for its gas anyway.
    """
    authorizations = transaction.authorizations[: TX_GAS_CAP // AUTHORIZATION_GAS]
    if not authorizations:
        return frozenset()
    recovered = await trio.to_thread.run_sync(lambda: [recover_authority(entry) for entry in authorizations])
    return frozenset(authority for authority in recovered if authority is not None)
