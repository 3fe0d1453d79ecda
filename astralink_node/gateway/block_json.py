"""A block's JSON for JSON-RPC: encoded at most once, and remembered with the block for every client that asks."""

from __future__ import annotations

import orjson

from astralink_node.gateway.encoding import (
    block_fields,
    data,
    header_fields,
    log_fields,
    receipt_fields,
    transaction_fields,
)
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.reading.block_view import BlockView


def header_json(view: BlockView) -> bytes:
    """What a newHeads subscription sends."""
    return view.remember(_header)


async def block_json(view: BlockView, *, full: bool) -> orjson.Fragment:
    """With whole transactions, or their hashes."""
    return await view.remember_beside(_with_transactions if full else _with_hashes)


def transaction_json(view: BlockView, index: int) -> orjson.Fragment:
    fields = transaction_fields(view.transaction(index), view.record.senders[index], view.place(index))
    return orjson.Fragment(orjson.dumps(fields))


async def receipts_json(view: BlockView) -> orjson.Fragment:
    """Of all its transactions; the view needs its receipts, as below."""
    return await view.remember_beside(_receipts)


def receipt_json(view: BlockView, index: int) -> orjson.Fragment:
    fields = receipt_fields(
        view.decoded_receipts[index],
        view.receipt_records[index],
        view.transaction(index),
        view.record.senders[index],
        view.place(index),
    )
    return orjson.Fragment(orjson.dumps(fields))


def each_receipt_json(view: BlockView) -> tuple[bytes, ...]:
    """Each of the view's receipts, for every subscription that wants it."""
    return view.remember(_each_receipt)


def logs_json(view: BlockView) -> tuple[bytes, ...]:
    """Each of the view's logs, for every subscription that wants it."""
    return view.remember(_logs)


def _header(view: BlockView) -> bytes:
    return orjson.dumps(header_fields(view.header, view.block_hash))


def _with_hashes(view: BlockView) -> orjson.Fragment:
    return _block(view, [data(transaction_hash) for transaction_hash in view.transaction_hashes])


def _with_transactions(view: BlockView) -> orjson.Fragment:
    return _block(view, [transaction_json(view, index) for index in range(len(view.record.raw_transactions))])


def _block(view: BlockView, transactions: list[Json]) -> orjson.Fragment:
    fields = block_fields(view.header, view.block_hash, view.record.size_bytes, transactions)
    return orjson.Fragment(orjson.dumps(fields))


def _receipts(view: BlockView) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps([receipt_json(view, index) for index in range(len(view.receipt_records))]))


def _each_receipt(view: BlockView) -> tuple[bytes, ...]:
    return tuple(orjson.dumps(receipt_json(view, index)) for index in range(len(view.receipt_records)))


def _logs(view: BlockView) -> tuple[bytes, ...]:
    return tuple(orjson.dumps(log_fields(log)) for log in view.logs)
