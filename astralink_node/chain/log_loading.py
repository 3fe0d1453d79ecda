"""Logs of a stored block by their positions in it, decoding as little as that needs.

A block of hundreds of transactions whose receipts are decoded whole costs milliseconds; what one of its logs needs is
its receipt, its transaction's hash, and the header's hash and time. The stored lists are therefore walked item by item
and cut out, not decoded. chain.records and evm.blocks own the forms.
"""

from collections.abc import Callable, Iterator, Sequence

from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import LogRecord
from astralink_node.chain.records import damaged
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm import rlp
from astralink_node.evm.blocks import MalformedBlock, header_timestamp, receipt_logs

_RAW_RECEIPT, _FIRST_LOG = 0, 3
"""Places in a stored receipt."""


LOGS_PER_LOOK = 256


def load_logs(
    ledger: Ledger, height: int, positions: Sequence[int] | None, check_time: Callable[[], None]
) -> list[LogRecord]:
    """The logs at rising positions within the block; for None all of them. Raises what `check_time` does."""
    found: list[LogRecord] = []
    try:
        for log in _load(ledger, height, positions):
            found.append(log)
            if not len(found) % LOGS_PER_LOOK:
                check_time()
        return found
    except (rlp.MalformedRlp, MalformedBlock) as error:
        raise damaged(f"logs of block {height}", str(error)) from error
    except (IndexError, ValueError) as error:  # a list of fewer items than its form has
        raise damaged(f"logs of block {height}", "of another shape") from error


def _load(ledger: Ledger, height: int, positions: Sequence[int] | None) -> Iterator[LogRecord]:
    raw_header = ledger.raw_header(height)
    if raw_header is None:
        raise damaged(f"header of block {height}", "missing")
    block_hash, timestamp = keccak256(raw_header), header_timestamp(raw_header)
    hashes = _TransactionHashes(ledger.raw_body(height))
    for index, first, raw_receipt, wanted in _receipts(ledger.raw_receipts(height), positions):
        for place, log in receipt_logs(raw_receipt, wanted):
            yield LogRecord(
                address=log.address,
                topics=log.topics,
                data=log.data,
                height=height,
                block_hash=block_hash,
                block_timestamp=timestamp,
                transaction_hash=hashes.of(index),
                transaction_index=index,
                log_index=first + place,
            )


def _receipts(
    raw_receipts: bytes, positions: Sequence[int] | None
) -> Iterator[tuple[int, int, bytes, list[int] | None]]:
    """(index, index of its first log, the receipt, wanted positions within it) of receipts that hold wanted logs."""
    limit = len(raw_receipts)
    places: list[tuple[int, tuple[int, int]]] = []
    """(index of the first log, where the raw receipt is) of each."""
    for start, _, end in rlp.item_places(raw_receipts, 0, limit):
        fields = rlp.item_places(raw_receipts, start, end)
        _, payload, stop = fields[_FIRST_LOG]
        places.append((int.from_bytes(raw_receipts[payload:stop], "big"), fields[_RAW_RECEIPT][1:]))
    if positions is None:
        yield from ((index, first, raw_receipts[a:b], None) for index, (first, (a, b)) in enumerate(places))
        return
    index = 0
    wanted: list[int] = []
    for position in positions:
        while index + 1 < len(places) and places[index + 1][0] <= position:
            if wanted:
                first, (a, b) = places[index]
                yield index, first, raw_receipts[a:b], wanted
                wanted = []
            index += 1
        wanted.append(position - places[index][0])
    if wanted:
        first, (a, b) = places[index]
        yield index, first, raw_receipts[a:b], wanted


class _TransactionHashes:
    """Of a stored body, each computed when first asked for."""

    def __init__(self, raw_body: bytes) -> None:
        self._raw = raw_body
        (transactions, *_), _ = rlp.item_places(raw_body, 0, len(raw_body))
        self._places = [(payload, end) for _, payload, end in rlp.item_places(raw_body, transactions, len(raw_body))]
        self._index, self._hash = -1, b""

    def of(self, index: int) -> bytes:
        """Logs come in order, so the last one is all that needs to be remembered."""
        if index != self._index:
            start, end = self._places[index]
            self._index, self._hash = index, keccak256(self._raw[start:end])
        return self._hash
