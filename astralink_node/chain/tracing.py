"""Transactions, blocks and calls run under a tracer, on the state and under the block that they belong to.

A committed transaction is traced by executing its block again up to it (chain.replay); a call, on the state that
the question names. Each question has its own time, which includes waiting for whoever reads the answer. How large
an answer may become is bounded by the message for typed ones, and by that time for streams.
"""

from collections.abc import Callable
from typing import assert_never

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.contexts import ChainRecords
from astralink_node.chain.json_stream import Emit, JsonStream
from astralink_node.chain.messages import HistoryUnavailable, NotFound
from astralink_node.chain.query_limits import DeadlinePassed
from astralink_node.chain.replay import BlockReplay
from astralink_node.chain.trace_messages import StreamEnd, TraceBlock, TraceTransaction
from astralink_node.evm.tracer import Eip3155Tracer
from astralink_node.storage.store import Reader

Failure = NotFound | HistoryUnavailable | CallFailed


def answer_trace(
    reader: Reader,
    records: ChainRecords,
    question: TraceTransaction | TraceBlock,
    height: int,
    check_time: Callable[[], None],
    emit: Emit,
) -> StreamEnd | Failure:
    """`height` is the selected block's, of a question about a block."""
    index: int | None = None
    match question:
        case TraceTransaction(transaction_hash):
            position = records.ledger.transaction_position(transaction_hash)
            if position is None:
                return NotFound(f"transaction 0x{transaction_hash.hex()}")
            height, index = position
        case TraceBlock():
            if height == 0:
                return CallFailed("invalid", "genesis is not traceable")
        case _:
            assert_never(question)
    oldest = records.ledger.oldest_state_height()
    if height - 1 < oldest:
        return HistoryUnavailable(height - 1, oldest)
    stream = JsonStream(emit)
    try:
        replay = BlockReplay(reader, records, height, check_time)
        replay.start()
        if index is not None:
            replay.skip_to(index)
            _stream_next(replay, stream, "")
        else:
            stream.open(b"[", b"]")
            for transaction in replay.transactions:
                stream.open(b'{"txHash":"0x%b","result":' % transaction.hash.hex().encode(), b"}")
                _stream_next(replay, stream, "")
                stream.close()
            stream.close()
    except DeadlinePassed:
        return CallFailed("timeout", "execution timeout")
    stream.flush()
    return StreamEnd()


def _stream_next(replay: BlockReplay, stream: JsonStream, _options: str) -> None:
    stream.open(b'{"structLogs":[', b"]}")
    replay.apply_next(Eip3155Tracer(lambda line: stream.item(line.encode())))
    outcome = replay.execution.last_outcome
    assert outcome is not None
    stream.close(b'],"gas":%d}' % outcome.gas_used)
