"""The mempool's service: feeds the pool with submissions and commits, and feeds proposers and listeners from it.

The pool itself (txpool.pool) never waits. What waits is here: the one query for accounts that the pool does not
know yet. A commit that happens meanwhile makes that answer stale, so it is asked again.
"""

from collections.abc import Callable, Iterable, Sequence

import trio

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.messages import AccountsAnswer, AccountsQuestion, AtLatest, Candidate, Committed, Dropped
from astralink_node.chain.messages import Query as ChainQuery
from astralink_node.clock import NowMs
from astralink_node.crypto.keccak import keccak256
from astralink_node.errors import AstraLinkError
from astralink_node.evm.transactions import (
    InvalidTransaction,
    Transaction,
    decode_transaction,
    recover_authority,
)
from astralink_node.gateway.link_messages import PoolContent, SubmittedTransaction, Verdict
from astralink_node.txpool.admission import AccountView, ChainView, PoolRejection, PoolTransaction
from astralink_node.txpool.pool import AccountUpdate, Pool
from astralink_node.types import EMPTY_CODE_HASH, Address

REJECTED = -32000
"""The JSON-RPC code that geth gives for every reason of the mempool."""
BLOCK_CANDIDATES = 20_000
"""More than fit a block of any gas limit that genesis may allow."""
BLOCK_CANDIDATE_BYTES = 8 * 1024 * 1024
"""Below the block size limit of EIP-7934, which building enforces exactly."""
EXPIRY_INTERVAL_S = 60.0

NewPending = Callable[[tuple[SubmittedTransaction, ...]], None]
ChainViewOf = Callable[[Committed], ChainView]


class AccountsUnavailable(AstraLinkError):
    """Execution did not answer the question for accounts with accounts."""


class TransactionPool:
    """The pool with its surroundings. Methods are called from tasks of one trio run only."""

    def __init__(
        self,
        pool: Pool,
        execution: ExecutionLink,
        now_ms: NowMs,
        chain_view_of: ChainViewOf,
        on_new_pending: NewPending,
    ) -> None:
        self._pool = pool
        self._execution = execution
        self._now_ms = now_ms
        self._chain_view_of = chain_view_of
        self._on_new_pending = on_new_pending
        self._commits = 0
        self._new_executable = trio.Event()

    async def run(self) -> None:
        """Drop what waited too long, for ever."""
        while True:
            await trio.sleep(EXPIRY_INTERVAL_S)
            self._pool.expire_queued(self._now_ms())

    # --- From gateways ---------------------------------------------------------------------------------------------

    async def submit(self, submitted: Sequence[SubmittedTransaction]) -> tuple[Verdict, ...]:
        """Admit a batch; one verdict each, in order."""
        decoded = [_decode(entry) for entry in submitted]
        valid = [entry for entry in decoded if isinstance(entry, _Decoded)]
        accounts = await self._accounts_of(valid)
        promoted: list[PoolTransaction] = []
        verdicts: list[Verdict] = []
        for entry in decoded:
            if isinstance(entry, Verdict):
                verdicts.append(entry)
                continue
            try:
                promoted += self._pool.add(
                    entry.transaction,
                    entry.sender,
                    accounts.get(entry.sender),
                    now_ms=self._now_ms(),
                    authorities=entry.authorities,
                )
            except PoolRejection as rejection:
                verdicts.append(Verdict(entry.transaction.hash, str(rejection), REJECTED))
            else:
                verdicts.append(Verdict(entry.transaction.hash, "", 0))
        self._announce(promoted)
        return tuple(verdicts)

    def pending_nonce(self, address: bytes) -> int | None:
        return self._pool.pending_nonce(Address(address))

    def get(self, transaction_hash: bytes) -> SubmittedTransaction | None:
        entry = self._pool.get(transaction_hash)
        return None if entry is None else _submitted(entry)

    def content(self) -> PoolContent:
        return PoolContent(
            pending=tuple(map(_submitted, self._pool.pending())), queued=tuple(map(_submitted, self._pool.queued()))
        )

    def counts(self) -> tuple[int, int]:
        """(pending, queued)"""
        return self._pool.pending_count, self._pool.queued_count

    # --- For the proposer ------------------------------------------------------------------------------------------

    def candidates(self) -> tuple[Candidate, ...]:
        best = self._pool.best(max_count=BLOCK_CANDIDATES, max_bytes=BLOCK_CANDIDATE_BYTES)
        return tuple(Candidate(entry.transaction.raw, entry.sender) for entry in best)

    def drop(self, dropped: tuple[Dropped, ...]) -> None:
        for entry in dropped:
            self._pool.drop(entry.transaction_hash, entry.reason)

    async def wait_for_candidates(self) -> None:
        while not self._pool.best(max_count=1, max_bytes=BLOCK_CANDIDATE_BYTES):
            await self._new_executable.wait()

    # --- From consensus --------------------------------------------------------------------------------------------

    async def on_commit(self, committed: Committed) -> None:
        """Follow the new head; must run for every commit, in order."""
        self._commits += 1
        raw_transactions = committed.block.raw_transactions
        promoted = self._pool.on_commit(
            [AccountUpdate(Address(a.address), a.nonce, a.balance_wei) for a in committed.touched_accounts],
            {keccak256(raw) for raw in raw_transactions},
            self._chain_view_of(committed),
        )
        self._announce(promoted)
        await self._follow_delegations(raw_transactions)

    async def _follow_delegations(self, raw_transactions: Iterable[bytes]) -> None:
        """EIP-7702 transactions may have given accounts code, or taken it."""
        authorities: set[Address] = set()
        for raw in raw_transactions:
            if raw[:1] == b"\x04":
                authorities |= _authorities(decode_transaction(raw))
        known = [address for address in sorted(authorities) if self._pool.knows_sender(address)]
        for address, account in (await self._query(known)).items():
            self._pool.set_has_code(address, has_code=account.has_code)

    # --- Within ----------------------------------------------------------------------------------------------------

    async def _accounts_of(self, entries: Sequence["_Decoded"]) -> dict[Address, AccountView]:
        """The accounts of senders that the pool does not know, as of a head that is still the head."""
        while True:
            senders = {entry.sender for entry in entries}
            commits = self._commits
            accounts = await self._query(sorted(sender for sender in senders if not self._pool.knows_sender(sender)))
            # While this batch waited, a commit may have changed an account, or the pool forgotten a sender.
            if commits == self._commits and all(
                sender in accounts or self._pool.knows_sender(sender) for sender in senders
            ):
                return accounts

    async def _query(self, addresses: Sequence[Address]) -> dict[Address, AccountView]:
        if not addresses:
            return {}
        answer = await self._execution.query(ChainQuery(AtLatest(), AccountsQuestion(tuple(addresses))))
        if not isinstance(answer, AccountsAnswer):
            raise AccountsUnavailable(f"asked for {len(addresses)} accounts, found {answer}")
        return {
            address: AccountView(record.nonce, record.balance_wei, record.code_hash != EMPTY_CODE_HASH)
            for address, record in zip(addresses, answer.accounts, strict=True)
        }

    def _announce(self, promoted: Iterable[PoolTransaction]) -> None:
        transactions = tuple(map(_submitted, promoted))
        # A commit may also have lowered the base fee to what waits already, so proposers look in any case.
        self._new_executable.set()
        self._new_executable = trio.Event()
        if transactions:
            self._on_new_pending(transactions)


class _Decoded:
    """A submission that decodes."""

    __slots__ = ("authorities", "sender", "transaction")

    def __init__(self, transaction: Transaction, sender: Address) -> None:
        self.transaction = transaction
        self.sender = sender
        self.authorities = _authorities(transaction)


def _decode(submitted: SubmittedTransaction) -> _Decoded | Verdict:
    try:
        return _Decoded(decode_transaction(submitted.raw_transaction), Address(submitted.sender))
    except InvalidTransaction as error:
        return Verdict(keccak256(submitted.raw_transaction), str(error), REJECTED)


def _authorities(transaction: Transaction) -> frozenset[Address]:
    recovered = (recover_authority(authorization) for authorization in transaction.authorizations)
    return frozenset(address for address in recovered if address is not None)


def _submitted(entry: PoolTransaction) -> SubmittedTransaction:
    return SubmittedTransaction(entry.transaction.raw, entry.sender)
