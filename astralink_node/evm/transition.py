"""geth's ``t8n``: one state transition from JSON to JSON, on our pipeline.

Inputs are an allocation, an environment and transactions (as objects, signed or with a ``secretKey``, or as RLP
in hexadecimal); outputs are geth's result object, the allocation afterwards and the body's RLP. Transactions that
are invalid are listed under ``rejected`` and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.errors import AstraLinkError
from astralink_node.evm import rlp
from astralink_node.evm.block_errors import InvalidBlock
from astralink_node.evm.blocks import Header, Log, Receipt, Withdrawal, empty_header, encode_logs
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.fee_rules import ETHEREUM_BASE_FEE_DENOMINATOR, next_base_fee
from astralink_node.evm.fork_rules import ChainRules, fork_named, plain_ethereum
from astralink_node.evm.header_rules import child_excess_blob_gas
from astralink_node.evm.pipeline import BlockContext, BlockExecution, ExecutedBlock
from astralink_node.evm.scratch_state import MalformedAlloc, ScratchState, parse_bytes, parse_integer
from astralink_node.evm.tracing.hooks import Tracer
from astralink_node.evm.transaction_encoding import encoded, new_transaction, sign_transaction
from astralink_node.evm.transactions import (
    ACCESS_LIST_TYPE,
    BLOB_TYPE,
    DYNAMIC_FEE_TYPE,
    LEGACY_TYPE,
    AccessList,
    Authorization,
    BlobTransactionUnsupported,
    InvalidTransaction,
    Transaction,
    decode_transaction,
    recover_sender,
)
from astralink_node.state.overlay import Overlay
from astralink_node.types import Address, Hash32

ALLOCATION_WORD: Final = 32

TracerFor = Callable[[int, Transaction], "Tracer | None"]


class MalformedInput(AstraLinkError):
    """An environment or a transaction list that does not say what it must."""


@dataclass(frozen=True, slots=True)
class Transition:
    """geth's three outputs."""

    result: dict[str, Any]
    alloc: dict[str, Any]
    body: str


@dataclass(slots=True)
class _Included:
    transaction: Transaction
    sender: Address
    receipt: Receipt
    gas_used: int


def run_transition(
    *,
    alloc: Mapping[str, Any],
    environment: Mapping[str, Any],
    transactions: Sequence[Mapping[str, Any]] | str,
    fork: str,
    chain_id: int,
    tracer_for: TracerFor | None = None,
) -> Transition:
    """Apply the transactions to the allocation under the environment."""
    rules = plain_ethereum(fork_named(fork), chain_id)
    state = ScratchState(alloc)
    overlay = state.overlay()
    context = environment_context(rules, environment)
    execution = BlockExecution(rules, context, overlay)
    execution.apply_system_start()
    included, rejected = _apply_all(execution, _decode_all(transactions, chain_id), tracer_for)
    result: dict[str, Any] = {"rejected": rejected}
    try:
        executed = execution.finish(_withdrawals(environment))
    except InvalidBlock as error:
        result["blockException"] = str(error)
        executed = None
    result |= _describe_state(state, overlay, context)
    if executed is not None:
        result |= _describe_block(executed, included, context)
    body = rlp.encode_list_of_encoded(
        raw if raw[0] >= 0xC0 else rlp.encode_string(raw) for raw in (entry.transaction.raw for entry in included)
    )
    return Transition(result=result, alloc=_dump(alloc, overlay), body="0x" + body.hex())


def environment_context(rules: ChainRules, environment: Mapping[str, Any]) -> BlockContext:
    """The block context of geth's ``env``; fees that it lacks follow from the parent's."""
    number = _integer(environment, "currentNumber")
    hashes = {
        parse_integer(height): parse_bytes(block_hash)
        for height, block_hash in environment.get("blockHashes", {}).items()
    }
    parent = _parent(environment)
    base_fee = environment.get("currentBaseFee")
    excess = environment.get("currentExcessBlobGas")
    return BlockContext(
        number=number,
        timestamp=_integer(environment, "currentTimestamp"),
        coinbase=Address(parse_bytes(environment.get("currentCoinbase"), length=20)),
        gas_limit=_integer(environment, "currentGasLimit"),
        base_fee_per_gas=_parent_base_fee(parent) if base_fee is None else parse_integer(base_fee),
        prev_randao=Hash32(parse_integer(environment.get("currentRandom", 0)).to_bytes(32, "big")),
        parent_hash=Hash32(hashes.get(number - 1, bytes(32))),
        parent_beacon_block_root=Hash32(
            parse_bytes(environment.get("parentBeaconBlockRoot") or "0x" + "00" * 32, length=32)
        ),
        excess_blob_gas=(
            child_excess_blob_gas(rules.fork_at(number), parent) if excess is None else parse_integer(excess)
        ),
        ancestor_hash=lambda height: hashes.get(height, b""),
    )


# --- Input ---------------------------------------------------------------------------------------------------------


def _parent(environment: Mapping[str, Any]) -> Header:
    """As much of the parent's header as the environment tells."""
    return replace(
        empty_header(),
        base_fee_per_gas=parse_integer(environment.get("parentBaseFee") or 0),
        gas_used=parse_integer(environment.get("parentGasUsed") or 0),
        gas_limit=parse_integer(environment.get("parentGasLimit") or 0),
        excess_blob_gas=parse_integer(environment.get("parentExcessBlobGas") or 0),
        blob_gas_used=parse_integer(environment.get("parentBlobGasUsed") or 0),
    )


def _parent_base_fee(parent: Header) -> int:
    if not parent.gas_limit:
        raise MalformedInput("env: expected currentBaseFee, or parentBaseFee, parentGasUsed and parentGasLimit")
    return next_base_fee(
        parent_base_fee=parent.base_fee_per_gas,
        parent_gas_used=parent.gas_used,
        parent_gas_limit=parent.gas_limit,
        denominator=ETHEREUM_BASE_FEE_DENOMINATOR,
        min_base_fee=0,
    )


def _withdrawals(environment: Mapping[str, Any]) -> tuple[Withdrawal, ...]:
    return tuple(
        Withdrawal(
            index=_integer(entry, "index"),
            validator_index=_integer(entry, "validatorIndex"),
            address=Address(parse_bytes(entry["address"], length=20)),
            amount_gwei=_integer(entry, "amount"),
        )
        for entry in environment.get("withdrawals") or ()
    )


def _decode_all(
    transactions: Sequence[Mapping[str, Any]] | str, chain_id: int
) -> list[Transaction | InvalidTransaction]:
    if isinstance(transactions, str):
        raw_list = parse_bytes(transactions)
        items = rlp.split_list(raw_list) if raw_list else []
        return [_decoded(item if item[0] >= 0xC0 else rlp.string_of(item)) for item in items]
    return [_from_fields(fields, chain_id) for fields in transactions]


def _decoded(raw: bytes) -> Transaction | InvalidTransaction:
    try:
        return decode_transaction(raw)
    except InvalidTransaction as error:
        return error


def _from_fields(fields: Mapping[str, Any], default_chain_id: int) -> Transaction | InvalidTransaction:
    """A transaction object; signed here if it has a ``secretKey`` and no signature."""
    tx_type = parse_integer(fields.get("type", 0))
    if tx_type == BLOB_TYPE:
        return BlobTransactionUnsupported()
    legacy_price = tx_type in (LEGACY_TYPE, ACCESS_LIST_TYPE)
    v, r, s = (parse_integer(fields.get(name) or 0) for name in ("v", "r", "s"))
    transaction = new_transaction(
        tx_type,
        chain_id=_chain_id(fields, tx_type, v, default_chain_id),
        nonce=_integer(fields, "nonce"),
        max_fee_per_gas=_integer(fields, "gasPrice" if legacy_price else "maxFeePerGas"),
        max_priority_fee_per_gas=None if legacy_price else _integer(fields, "maxPriorityFeePerGas"),
        gas_limit=parse_integer(fields.get("gas", fields.get("gasLimit"))),
        to=parse_bytes(fields.get("to") or "0x"),
        value=parse_integer(fields.get("value") or 0),
        data=parse_bytes(fields.get("input", fields.get("data", "0x"))),
        access_list=_access_list(fields.get("accessList") or ()) if tx_type >= ACCESS_LIST_TYPE else (),
        authorizations=_authorizations(fields.get("authorizationList") or ()) if tx_type > DYNAMIC_FEE_TYPE else (),
    )
    try:
        if not r and not s and fields.get("secretKey"):
            return sign_transaction(transaction, parse_bytes(fields["secretKey"], length=32))
        return encoded(_signed(transaction, v, r, s))
    except InvalidTransaction as error:
        return error


def _chain_id(fields: Mapping[str, Any], tx_type: int, v: int, default: int) -> int | None:
    if tx_type == LEGACY_TYPE:
        if v:
            return None if v in (27, 28) else (v - 35) // 2
        if fields.get("protected") is False:
            return None
    return parse_integer(fields.get("chainId", default))


def _signed(transaction: Transaction, v: int, r: int, s: int) -> Transaction:
    if transaction.tx_type == LEGACY_TYPE:
        v = v - 27 if v in (27, 28) else (v - 35) % 2
    return replace(transaction, y_parity=v, r=r, s=s)


def _access_list(entries: Sequence[Mapping[str, Any]]) -> AccessList:
    return tuple(
        (
            Address(parse_bytes(entry["address"], length=20)),
            tuple(parse_integer(slot) for slot in entry.get("storageKeys") or ()),
        )
        for entry in entries
    )


def _authorizations(entries: Sequence[Mapping[str, Any]]) -> tuple[Authorization, ...]:
    return tuple(
        Authorization(
            chain_id=_integer(entry, "chainId"),
            address=Address(parse_bytes(entry["address"], length=20)),
            nonce=_integer(entry, "nonce"),
            y_parity=parse_integer(entry.get("yParity", entry.get("v"))),
            r=_integer(entry, "r"),
            s=_integer(entry, "s"),
        )
        for entry in entries
    )


def _integer(fields: Mapping[str, Any], name: str) -> int:
    try:
        return parse_integer(fields[name])
    except KeyError:
        raise MalformedInput(f"{name}: missing") from None
    except MalformedAlloc as error:
        raise MalformedInput(f"{name}: {error}") from None


# --- Execution -----------------------------------------------------------------------------------------------------


def _apply_all(
    execution: BlockExecution,
    transactions: Sequence[Transaction | InvalidTransaction],
    tracer_for: TracerFor | None,
) -> tuple[list[_Included], list[dict[str, Any]]]:
    included: list[_Included] = []
    rejected: list[dict[str, Any]] = []
    for index, transaction in enumerate(transactions):
        try:
            if isinstance(transaction, InvalidTransaction):
                raise transaction
            sender = recover_sender(transaction)
            execution.set_tracer(None if tracer_for is None else tracer_for(len(included), transaction))
            gas_before = execution.gas_used
            receipt = execution.apply_transaction(transaction, sender)
        except InvalidTransaction as error:
            rejected.append({"index": index, "error": str(error)})
            continue
        included.append(_Included(transaction, sender, receipt, execution.gas_used - gas_before))
    execution.set_tracer(None)
    return included, rejected


# --- Output --------------------------------------------------------------------------------------------------------


def _describe_state(state: ScratchState, overlay: Overlay, context: BlockContext) -> dict[str, Any]:
    return {
        "stateRoot": _hex(state.root_after(overlay)),
        "currentDifficulty": None,
        "currentBaseFee": hex(context.base_fee_per_gas),
        "currentExcessBlobGas": hex(context.excess_blob_gas),
        "blobGasUsed": "0x0",
    }


def _describe_block(executed: ExecutedBlock, included: Sequence[_Included], context: BlockContext) -> dict[str, Any]:
    logs = [log for receipt in executed.receipts for log in receipt.logs]
    return {
        "txRoot": _hex(executed.transactions_root),
        "receiptsRoot": _hex(executed.receipts_root),
        "logsHash": _hex(keccak256(encode_logs(logs))),
        "logsBloom": _hex(executed.logs_bloom),
        "receipts": _describe_receipts(included, context),
        "gasUsed": hex(executed.gas_used),
        "withdrawalsRoot": _hex(executed.withdrawals_root),
        "requestsHash": _hex(executed.requests_hash),
        "requests": [_hex(request) for request in executed.requests],
    }


def _describe_receipts(included: Sequence[_Included], context: BlockContext) -> list[dict[str, Any]]:
    receipts = []
    log_index = 0
    for index, entry in enumerate(included):
        transaction, receipt = entry.transaction, entry.receipt
        created = contract_address(entry.sender, transaction.nonce) if transaction.is_create else bytes(20)
        receipts.append(
            {
                "type": hex(receipt.tx_type),
                "root": "0x",
                "status": hex(int(receipt.succeeded)),
                "cumulativeGasUsed": hex(receipt.cumulative_gas_used),
                "logsBloom": _hex(receipt.logs_bloom),
                "logs": [
                    _describe_log(log, log_index + offset, index, transaction, context)
                    for offset, log in enumerate(receipt.logs)
                ],
                "transactionHash": _hex(transaction.hash),
                "contractAddress": _hex(created),
                "gasUsed": hex(entry.gas_used),
                "effectiveGasPrice": hex(transaction.effective_gas_price(context.base_fee_per_gas)),
                "blockHash": _hex(bytes(32)),
                "blockNumber": hex(context.number),
                "transactionIndex": hex(index),
            }
        )
        log_index += len(receipt.logs)
    return receipts


def _describe_log(
    log: Log, log_index: int, index: int, transaction: Transaction, context: BlockContext
) -> dict[str, Any]:
    return {
        "address": _hex(log.address),
        "topics": [_hex(topic) for topic in log.topics],
        "data": _hex(log.data),
        "blockNumber": hex(context.number),
        "transactionHash": _hex(transaction.hash),
        "transactionIndex": hex(index),
        "blockHash": _hex(bytes(32)),
        "blockTimestamp": hex(context.timestamp),
        "logIndex": hex(log_index),
        "removed": False,
    }


def _dump(alloc: Mapping[str, Any], overlay: Overlay) -> dict[str, Any]:
    """The allocation with what the transition changed; fields that are zero or empty are left out."""
    changes = overlay.changes()
    before = {Address(parse_bytes(address, length=20)): fields for address, fields in alloc.items()}
    dumped: dict[str, Any] = {}
    for address in dict.fromkeys((*before, *changes.accounts)):
        account = overlay.account(address)
        if account is None:
            continue
        slots: dict[int, int] = {}
        if address not in changes.wiped:
            stored = before.get(address, {}).get("storage") or {}
            slots = {parse_integer(slot): parse_integer(value) for slot, value in stored.items()}
        slots |= changes.storage.get(address, {})
        entry: dict[str, Any] = {"balance": hex(account.balance)}
        code = overlay.get_code(address)
        if code:
            entry["code"] = _hex(code)
        if account.nonce:
            entry["nonce"] = hex(account.nonce)
        kept = {_word(slot): _word(value) for slot, value in sorted(slots.items()) if value}
        if kept:
            entry["storage"] = kept
        dumped[_hex(address)] = entry
    return dumped


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _word(value: int) -> str:
    return _hex(value.to_bytes(ALLOCATION_WORD, "big"))
