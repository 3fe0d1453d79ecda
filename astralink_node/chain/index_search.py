"""Answering from the explorer index: pages of an address, a contract's creator, a sender's nonce (ADR 20).

Everything here looks at the coverage before it says that something does not exist. A page is made of whole blocks, as
Erigon's are, so the height of its last transaction is where the next page begins. A nonce needs no index where the
state is kept.
"""

from collections.abc import Callable, Iterator

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.explorer_coverage import Coverage, gaps, load_coverage, missing, without_calls
from astralink_node.chain.explorer_index import load_creation
from astralink_node.chain.index_messages import (
    MAX_SEARCH_PAGE,
    AddressPage,
    AddressSearch,
    CreationAnswer,
    CreationQuestion,
    FoundTransaction,
    HeightRange,
    IndexIncomplete,
    IndexQuestion,
    IndexStatus,
    IndexStatusQuestion,
    NonceAnswer,
    NonceQuestion,
)
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import LimitExceeded, NotFound
from astralink_node.chain.records import decode_position
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import encode_header
from astralink_node.evm.delegation import is_delegation
from astralink_node.evm.transactions import U64_MAX, decode_transaction
from astralink_node.state.accounts import EMPTY_ACCOUNT
from astralink_node.state.flat_state import HeadState
from astralink_node.state.reverse_diffs import HistoricalState
from astralink_node.storage import keys
from astralink_node.storage.store import Reader
from astralink_node.types import ADDRESS_BYTES, Address

CheckTime = Callable[[], None]


def answer_index(
    reader: Reader, question: IndexQuestion, check_time: CheckTime
) -> AddressPage | CreationAnswer | NonceAnswer | IndexStatus | IndexIncomplete | NotFound | CallFailed | LimitExceeded:
    match question:
        case AddressSearch():
            return _search(reader, question, check_time)
        case CreationQuestion(contract):
            return _creation(reader, contract)
        case NonceQuestion(sender, nonce):
            return _nonce(reader, sender, nonce)
        case IndexStatusQuestion():
            return index_status(reader)


def index_status(reader: Reader) -> IndexStatus:
    ledger, coverage = Ledger(reader), load_coverage(reader)
    head, oldest = ledger.head().height, max(1, ledger.oldest_block_height())
    return IndexStatus(
        head_height=head,
        oldest_block_height=oldest,
        complete=tuple(HeightRange(stretch.first, stretch.last) for stretch in coverage if stretch.with_calls),
        without_calls=tuple(HeightRange(stretch.first, stretch.last) for stretch in coverage if not stretch.with_calls),
        missing=_ranges(missing(reader)),
    )


# --- Pages -----------------------------------------------------------------------------------------------------


def _search(
    reader: Reader, question: AddressSearch, check_time: CheckTime
) -> AddressPage | IndexIncomplete | CallFailed | LimitExceeded:
    if len(question.address) != ADDRESS_BYTES:
        return CallFailed("invalid", f"expected an address of {ADDRESS_BYTES} bytes")
    if not 1 <= question.page_size <= MAX_SEARCH_PAGE:
        return LimitExceeded(f"max allowed page size: {MAX_SEARCH_PAGE}, found {question.page_size}")
    ledger, coverage = Ledger(reader), load_coverage(reader)
    head, oldest = ledger.head().height, max(1, ledger.oldest_block_height())
    first, last = (question.height + 1, head) if question.forward else (1, head)
    if not question.forward and question.height:
        last = min(question.height - 1, head)
    collected = _collect(reader, question, max(first, oldest), last, coverage, check_time)
    if isinstance(collected, IndexIncomplete):
        return collected
    found, has_more = collected
    low, high = max(first, oldest), last
    if has_more:  # what lies beyond the page's last block was not looked at
        low, high = (low, found[-1][0]) if question.forward else (found[-1][0], high)
    beyond_blocks = first < oldest and (question.forward or not has_more)
    newest_first = found[::-1] if question.forward else found
    return AddressPage(
        transactions=tuple(each for height, indices in newest_first for each in _load(ledger, height, indices)),
        has_more=has_more,
        without_calls=_ranges(without_calls(coverage, low, high)),
        without_blocks=(HeightRange(first, min(oldest - 1, last)),) if beyond_blocks and last >= first else (),
    )


Found = list[tuple[int, list[int]]]
"""(height, indices of transactions, rising) of each block, in the search's order; never empty if there are more."""


def _collect(
    reader: Reader, question: AddressSearch, first: int, last: int, coverage: Coverage, check_time: CheckTime
) -> tuple[Found, bool] | IndexIncomplete:
    """The blocks of a page, and whether there are more. A gap on the way to them is refused; one beyond a full page
    is not looked into, and counts as more."""
    in_the_way = list(gaps(coverage, first, last))
    gap = None
    if in_the_way:
        gap = in_the_way[0] if question.forward else in_the_way[-1]
        first, last = (first, gap[0] - 1) if question.forward else (gap[1] + 1, last)
    found: Found = []
    count = 0
    if first <= last:
        start, stop = keys.appearance_key(question.address, first), keys.appearance_key(question.address, last + 1)
        for key, raw in reader.iterate(start, stop, reverse=not question.forward):
            check_time()
            if count >= question.page_size:
                return found, True
            indices = keys.decode_positions(raw)
            found.append((keys.appearance_height(key), indices))
            count += len(indices)
    if gap is None:
        return found, False
    return (found, True) if count >= question.page_size else IndexIncomplete(HeightRange(*gap), "unindexed")


def _load(ledger: Ledger, height: int, indices: list[int]) -> Iterator[FoundTransaction]:
    """Newest first."""
    header = ledger.header(height)
    raw_header = encode_header(header)
    raw_transactions, senders = ledger.body(height)
    receipts = ledger.receipts(height)
    for index in reversed(indices):
        receipt = receipts[index]
        yield FoundTransaction(
            raw_header=raw_header,
            block_hash=header.hash,
            index=index,
            raw_transaction=raw_transactions[index],
            sender=senders[index],
            raw_receipt=receipt.raw_receipt,
            gas_used=receipt.gas_used,
            contract_address=receipt.contract_address,
            first_log_index=receipt.first_log_index,
        )


# --- Single entries ----------------------------------------------------------------------------------------------


def _creation(reader: Reader, contract: bytes) -> CreationAnswer | IndexIncomplete | NotFound | CallFailed:
    if len(contract) != ADDRESS_BYTES:
        return CallFailed("invalid", f"expected an address of {ADDRESS_BYTES} bytes")
    found = load_creation(reader, contract)
    if found is not None:
        return CreationAnswer(_transaction_hash(reader, found.height, found.index), found.creator)
    state = HeadState(reader)
    code = state.code((state.account(Address(contract)) or EMPTY_ACCOUNT).code_hash)
    absent = NotFound(f"a contract at 0x{contract.hex()} that a transaction created")
    if not code or is_delegation(code):
        return absent
    # It may stand in genesis: then no block created it, if all of them are known.
    return _unknown(reader, needs_calls=True) or absent


def _nonce(reader: Reader, sender: bytes, nonce: int) -> NonceAnswer | IndexIncomplete | NotFound | CallFailed:
    if len(sender) != ADDRESS_BYTES or not 0 <= nonce <= U64_MAX:
        return CallFailed("invalid", f"expected an address of {ADDRESS_BYTES} bytes and a 64-bit nonce")
    raw = reader.get(keys.sender_nonce_key(sender, nonce))
    if raw is not None:
        return NonceAnswer(_transaction_hash(reader, *decode_position(raw)))
    absent = NotFound(f"a transaction of 0x{sender.hex()} with nonce {nonce}")
    account = HeadState(reader).account(Address(sender)) or EMPTY_ACCOUNT
    if nonce >= account.nonce:
        return absent
    height = _height_that_used(reader, Address(sender), nonce)
    if height is None:
        return _unknown(reader, needs_calls=False) or absent
    raw_transactions, senders = Ledger(reader).body(height)
    for raw, each in zip(raw_transactions, senders, strict=True):
        if each == sender and decode_transaction(raw).nonce == nonce:
            return NonceAnswer(keccak256(raw))
    return absent  # an authorization used it (EIP-7702)


def _height_that_used(reader: Reader, sender: Address, nonce: int) -> int | None:
    """The block that took an account's nonce beyond this one, as the states that are kept tell: each answers whether it
    was before. 0: genesis did. None: it was a block before the oldest of them."""
    ledger = Ledger(reader)
    before, used = ledger.oldest_state_height(), ledger.head().height
    if _nonce_at(reader, sender, before) > nonce:
        return 0 if before == 0 else None
    while used - before > 1:
        middle = (before + used) // 2
        if _nonce_at(reader, sender, middle) > nonce:
            used = middle
        else:
            before = middle
    return used


def _nonce_at(reader: Reader, sender: Address, height: int) -> int:
    return (HistoricalState(reader, height).account(sender) or EMPTY_ACCOUNT).nonce


def _unknown(reader: Reader, *, needs_calls: bool) -> IndexIncomplete | None:
    """The newest heights that may hold what was not found; None if there are none."""
    status = index_status(reader)
    if status.missing:
        return IndexIncomplete(status.missing[-1], "unindexed")
    if needs_calls and status.without_calls:
        return IndexIncomplete(status.without_calls[-1], "without_calls")
    if status.oldest_block_height > 1:
        return IndexIncomplete(HeightRange(1, status.oldest_block_height - 1), "without_blocks")
    return None


def _transaction_hash(reader: Reader, height: int, index: int) -> bytes:
    raw_transactions, _ = Ledger(reader).body(height)
    return keccak256(raw_transactions[index])


def _ranges(pairs: Iterator[tuple[int, int]]) -> tuple[HeightRange, ...]:
    return tuple(HeightRange(first, last) for first, last in pairs)
