"""eth_simulateV1: blocks of calls that never happen, answered as whole blocks."""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.chain.call_messages import NO_BLOCK_OVERRIDE
from astralink_node.chain.messages import BlockSelector, LogRecord
from astralink_node.chain.simulate_messages import MAX_BLOCKS, BlockCalls, SimulatedBlockRecord
from astralink_node.evm.blocks import decode_header
from astralink_node.evm.transaction_encoding import decode_unsigned
from astralink_node.evm.transactions import LEGACY_TYPE, Transaction
from astralink_node.gateway.call_parameters import (
    CallArguments,
    call_arguments,
    simulated_block_overrides,
    state_overrides,
)
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, block_fields, data, log_fields, quantity, transaction_fields
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import BLOCK, request_of
from astralink_node.gateway.methods.table import Method, Parameter
from astralink_node.gateway.parameters import flag, json_object, optional_array
from astralink_node.gateway.reading.block_view import Place
from astralink_node.gateway.rpc_errors import CLIENT_LIMIT_EXCEEDED, RpcError, failed_call, invalid_params


@dataclass(frozen=True, slots=True)
class Payload:
    """geth's ``simOpts``; of a block its overrides, and its calls before their chain id is looked at."""

    blocks: tuple[tuple[BlockCalls, tuple[CallArguments, ...]], ...]
    trace_transfers: bool
    validation: bool
    full_transactions: bool


def payload(path: str, value: object) -> Payload:
    fields = json_object(path, value)
    blocks = optional_array(f"{path}.blockStateCalls", fields.get("blockStateCalls"))
    if not blocks:
        raise invalid_params("empty input")
    if len(blocks) > MAX_BLOCKS:
        raise RpcError(CLIENT_LIMIT_EXCEEDED, f"too many blocks: expected at most {MAX_BLOCKS}, found {len(blocks)}")
    return Payload(
        blocks=tuple(_block(f"{path}.blockStateCalls[{index}]", each) for index, each in enumerate(blocks)),
        trace_transfers=flag(path, fields, "traceTransfers"),
        validation=flag(path, fields, "validation"),
        full_transactions=flag(path, fields, "returnFullTransactions"),
    )


def _block(path: str, value: object) -> tuple[BlockCalls, tuple[CallArguments, ...]]:
    fields = json_object(path, value)
    overrides, accounts = fields.get("blockOverrides"), fields.get("stateOverrides")
    calls = optional_array(f"{path}.calls", fields.get("calls"))
    block_calls = BlockCalls(
        block=NO_BLOCK_OVERRIDE
        if overrides is None
        else simulated_block_overrides(f"{path}.blockOverrides", overrides),
        overrides=() if accounts is None else state_overrides(f"{path}.stateOverrides", accounts),
    )
    return block_calls, tuple(call_arguments(f"{path}.calls[{index}]", call) for index, call in enumerate(calls))


async def simulate(context: RpcContext, wanted: Payload, at: BlockSelector) -> Json:
    blocks = tuple(
        BlockCalls(each.block, each.overrides, tuple(request_of(context, call) for call in calls))
        for each, calls in wanted.blocks
    )
    simulated = await context.read.calls.simulate(
        blocks, at, trace_transfers=wanted.trace_transfers, validation=wanted.validation
    )
    return [_block_fields(each, full=wanted.full_transactions) for each in simulated]


def _block_fields(record: SimulatedBlockRecord, *, full: bool) -> JsonObject:
    header = decode_header(record.raw_header)
    transactions = [decode_unsigned(raw) for raw in record.raw_transactions]
    places = [
        Place(record.block_hash, header.number, header.timestamp, header.base_fee_per_gas, index)
        for index in range(len(transactions))
    ]
    shown: list[Json] = [
        _unsigned_fields(transaction, sender, place) if full else data(transaction.hash)
        for transaction, sender, place in zip(transactions, record.senders, places, strict=True)
    ]
    fields = block_fields(header, record.block_hash, record.size_bytes, shown)
    fields["calls"] = _calls(record, transactions, places)
    return fields


def _calls(record: SimulatedBlockRecord, transactions: list[Transaction], places: list[Place]) -> list[Json]:
    """Logs are numbered through the block, as in receipts; traced transfers count too."""
    calls: list[Json] = []
    log_index = 0
    for call, transaction, place in zip(record.calls, transactions, places, strict=True):
        logs = [
            LogRecord(
                address=log.address,
                topics=log.topics,
                data=log.data,
                height=place.height,
                block_hash=place.block_hash,
                block_timestamp=place.timestamp,
                transaction_hash=transaction.hash,
                transaction_index=place.index,
                log_index=log_index + offset,
            )
            for offset, log in enumerate(call.logs)
        ]
        log_index += len(logs)
        failure = failed_call(call.status, call.output, call.halt_reason)
        fields: JsonObject = {
            "returnData": data(b"" if failure is not None else call.output),
            "logs": [log_fields(log) for log in logs],
            "gasUsed": quantity(call.gas_used),
            "maxUsedGas": quantity(call.max_gas_used),
            "status": "0x1" if failure is None else "0x0",
        }
        if failure is not None:
            fields["error"] = failure.to_json()
        calls.append(fields)
    return calls


def _unsigned_fields(transaction: Transaction, sender: bytes, place: Place) -> JsonObject:
    """With zeros for a signature; a legacy one's v would otherwise say that there is one."""
    fields = transaction_fields(transaction, sender, place)
    if transaction.tx_type == LEGACY_TYPE:
        fields["v"] = "0x0"
    return fields


METHODS = (
    Method(
        "eth_simulateV1",
        simulate,
        (Parameter("payload", payload), BLOCK),
        note="Withdrawals and blob transactions are refused; `pending` stands for `latest`; "
        "`extraData` holds the parent's fee parameters; what the protocol itself does in a block is left out.",
    ),
)
