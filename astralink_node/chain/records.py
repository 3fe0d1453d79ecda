"""The stored form of what the chain keeps beside the state: bodies, receipts, positions, priorities, the head.

Values are RLP or fixed-width, so that a newer version of the program reads what an older one wrote; keys are
storage.keys'. A value that does not decode was damaged: the reader raises DatabaseDamaged and says where.
"""

from collections.abc import Sequence

from astralink_node.chain.messages import ReceiptRecord, TouchedAccount
from astralink_node.chain.protocol_messages import ProtocolCall, ProtocolEvent
from astralink_node.evm import rlp
from astralink_node.storage.store import DatabaseDamaged
from astralink_node.types import ADDRESS_BYTES
from consensus.proposer_selection import Priorities


def damaged(what: str, problem: str) -> DatabaseDamaged:
    return DatabaseDamaged(
        f"the database is damaged: {what}: {problem}; run `astralink-node db check`, and `db rollback` if it says so"
    )


def encode_body(raw_transactions: Sequence[bytes], senders: Sequence[bytes]) -> bytes:
    """rlp([[raw transaction, ...], all senders joined])."""
    return rlp.encode([list(raw_transactions), b"".join(senders)])


def decode_body(raw: bytes, height: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """(raw transactions, senders)."""
    transactions, joined = _fields(raw, 2, f"body of block {height}")
    if not isinstance(transactions, list) or not isinstance(joined, bytes):
        raise damaged(f"body of block {height}", "of another shape")
    raw_transactions = tuple(item for item in transactions if isinstance(item, bytes))
    if len(raw_transactions) != len(transactions) or len(joined) != ADDRESS_BYTES * len(transactions):
        raise damaged(f"body of block {height}", "transactions and senders do not match")
    senders = tuple(joined[start : start + ADDRESS_BYTES] for start in range(0, len(joined), ADDRESS_BYTES))
    return raw_transactions, senders


def encode_receipts(receipts: Sequence[ReceiptRecord]) -> bytes:
    """rlp of [raw receipt, gas used, contract address, index of the first log] for each."""
    return rlp.encode(
        [
            [
                receipt.raw_receipt,
                rlp.big_endian(receipt.gas_used),
                receipt.contract_address,
                rlp.big_endian(receipt.first_log_index),
            ]
            for receipt in receipts
        ]
    )


def decode_receipts(raw: bytes, height: int) -> tuple[ReceiptRecord, ...]:
    what = f"receipts of block {height}"
    records = []
    for item in _list(raw, what):
        match item:
            case [bytes() as raw_receipt, bytes() as gas_used, bytes() as contract, bytes() as first_log]:
                first_log_index = int.from_bytes(first_log, "big")
                records.append(ReceiptRecord(raw_receipt, int.from_bytes(gas_used, "big"), contract, first_log_index))
            case _:
                raise damaged(what, "of another shape")
    return tuple(records)


def encode_protocol_log(calls: Sequence[ProtocolCall]) -> bytes:
    """rlp of [name, failure, [[address, [topic, ...], data], ...]] for each call."""
    return rlp.encode(
        [
            [
                call.name.encode(),
                call.failure.encode(),
                [[event.address, list(event.topics), event.data] for event in call.events],
            ]
            for call in calls
        ]
    )


def decode_protocol_log(raw: bytes, height: int) -> tuple[ProtocolCall, ...]:
    what = f"protocol log of block {height}"
    calls = []
    for item in _list(raw, what):
        match item:
            case [bytes() as name, bytes() as failure, list() as events]:
                found = tuple(_protocol_event(event, what) for event in events)
                calls.append(ProtocolCall(name.decode(errors="replace"), failure.decode(errors="replace"), found))
            case _:
                raise damaged(what, "of another shape")
    return tuple(calls)


def _protocol_event(item: rlp.Item, what: str) -> ProtocolEvent:
    match item:
        case [bytes() as address, list() as topics, bytes() as data]:
            words = tuple(topic for topic in topics if isinstance(topic, bytes))
            if len(words) == len(topics):
                return ProtocolEvent(address, words, data)
        case _:
            pass
    raise damaged(what, "of another shape")


def encode_position(height: int, index: int) -> bytes:
    """Where a transaction stands: height 8, index 4."""
    return height.to_bytes(8, "big") + index.to_bytes(4, "big")


def decode_position(raw: bytes, what: str = "an entry of the transaction index") -> tuple[int, int]:
    if len(raw) != 12:
        raise damaged(what, f"a position of {len(raw)} bytes")
    return int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")


def encode_head(height: int, block_hash: bytes) -> bytes:
    return height.to_bytes(8, "big") + block_hash


def decode_head(raw: bytes) -> tuple[int, bytes]:
    if len(raw) != 40:
        raise damaged("the head pointer", f"{len(raw)} bytes long")
    return int.from_bytes(raw[:8], "big"), raw[8:]


def decode_priorities(raw: bytes, height: int) -> Priorities:
    """The inverse of consensus' encoding: count 4, then each priority as 8 signed bytes."""
    if len(raw) < 4 or len(raw) != 4 + 8 * int.from_bytes(raw[:4], "big"):
        raise damaged(f"proposer priorities before height {height}", f"{len(raw)} bytes long")
    return tuple(int.from_bytes(raw[start : start + 8], "big", signed=True) for start in range(4, len(raw), 8))


def encode_touched(height: int, touched: Sequence[TouchedAccount]) -> bytes:
    """rlp([height, [[address, nonce, balance], ...]])."""
    accounts = [
        [account.address, rlp.big_endian(account.nonce), rlp.big_endian(account.balance_wei)] for account in touched
    ]
    return rlp.encode([rlp.big_endian(height), accounts])


def decode_touched(raw: bytes) -> tuple[int, tuple[TouchedAccount, ...]]:
    what = "the touched accounts of the head"
    height, accounts = _fields(raw, 2, what)
    if not isinstance(height, bytes) or not isinstance(accounts, list):
        raise damaged(what, "of another shape")
    found = []
    for item in accounts:
        match item:
            case [bytes() as address, bytes() as nonce, bytes() as balance]:
                found.append(TouchedAccount(address, int.from_bytes(nonce, "big"), int.from_bytes(balance, "big")))
            case _:
                raise damaged(what, "of another shape")
    return int.from_bytes(height, "big"), tuple(found)


def _fields(raw: bytes, count: int, what: str) -> list[rlp.Item]:
    fields = _list(raw, what)
    if len(fields) != count:
        raise damaged(what, f"{len(fields)} fields instead of {count}")
    return fields


def _list(raw: bytes, what: str) -> list[rlp.Item]:
    try:
        return rlp.decode_list(raw)
    except rlp.MalformedRlp as error:
        raise damaged(what, str(error)) from error
