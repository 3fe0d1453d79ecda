"""The JSON shapes of JSON-RPC answers: headers, blocks, transactions, receipts, logs, proofs.

Pure. Field names, null against absent, and number forms are geth's; the OpenRPC specification of the execution
APIs is checked in the tests. Quantities are hex without leading zeros, byte strings hex of full length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from astralink_node.chain.call_messages import AccessListEntry
from astralink_node.chain.messages import LogRecord, ProofAnswer, ReceiptRecord
from astralink_node.evm.blocks import Header, Receipt
from astralink_node.evm.transactions import ACCESS_LIST_TYPE, LEGACY_TYPE, SET_CODE_TYPE, Transaction
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.link_messages import SyncProgress
from astralink_node.gateway.reading.block_view import Place, logs_of_receipt

JsonObject = dict[str, Json]

quantity = hex
"""QUANTITY: ``0x0`` for zero, no leading zeros."""


def data(value: bytes) -> str:
    """DATA: two digits a byte, ``0x`` for none."""
    return "0x" + value.hex()


def word(value: int) -> str:
    """A 32-byte word in full."""
    return f"0x{value:064x}"


def header_fields(header: Header, block_hash: bytes) -> JsonObject:
    """A header as newHeads announces it; eth_getBlock adds size, transactions, uncles and withdrawals."""
    return {
        "number": quantity(header.number),
        "hash": data(block_hash),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce),
        "mixHash": data(header.prev_randao),
        "sha3Uncles": data(header.ommers_hash),
        "logsBloom": data(header.logs_bloom),
        "stateRoot": data(header.state_root),
        "miner": data(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "extraData": data(header.extra_data),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "transactionsRoot": data(header.transactions_root),
        "receiptsRoot": data(header.receipts_root),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "withdrawalsRoot": data(header.withdrawals_root),
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": data(header.parent_beacon_block_root),
        "requestsHash": data(header.requests_hash),
    }


def block_fields(header: Header, block_hash: bytes, size: int, transactions: Sequence[Json]) -> JsonObject:
    fields = header_fields(header, block_hash)
    fields["size"] = quantity(size)
    fields["transactions"] = transactions
    fields["uncles"] = []
    fields["withdrawals"] = []
    return fields


def transaction_fields(transaction: Transaction, sender: bytes, place: Place | None) -> JsonObject:
    """A transaction in a block, or in the mempool (``place`` None), where its place is null."""
    fields: JsonObject = {
        "blockHash": None if place is None else data(place.block_hash),
        "blockNumber": None if place is None else quantity(place.height),
        "blockTimestamp": None if place is None else quantity(place.timestamp),
        "from": data(sender),
        "gas": quantity(transaction.gas_limit),
        "gasPrice": quantity(
            transaction.gas_price if place is None else transaction.effective_gas_price(place.base_fee_wei)
        ),
        "hash": data(transaction.hash),
        "input": data(transaction.data),
        "nonce": quantity(transaction.nonce),
        "to": data(transaction.to) if transaction.to else None,
        "transactionIndex": None if place is None else quantity(place.index),
        "value": quantity(transaction.value),
        "type": quantity(transaction.tx_type),
        "v": quantity(_signature_v(transaction)),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
    }
    if transaction.chain_id is not None:
        fields["chainId"] = quantity(transaction.chain_id)
    if transaction.tx_type != LEGACY_TYPE:
        fields["accessList"] = [
            {"address": data(account), "storageKeys": [word(slot) for slot in slots]}
            for account, slots in transaction.access_list
        ]
        fields["yParity"] = quantity(transaction.y_parity)
    if transaction.tx_type not in (LEGACY_TYPE, ACCESS_LIST_TYPE):
        fields["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        fields["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    if transaction.tx_type == SET_CODE_TYPE:
        fields["authorizationList"] = [
            {
                "chainId": quantity(authorization.chain_id),
                "address": data(authorization.address),
                "nonce": quantity(authorization.nonce),
                "yParity": quantity(authorization.y_parity),
                "r": quantity(authorization.r),
                "s": quantity(authorization.s),
            }
            for authorization in transaction.authorizations
        ]
    return fields


def _signature_v(transaction: Transaction) -> int:
    """EIP-155 folds the chain id into a legacy signature; typed transactions show their parity."""
    if transaction.tx_type != LEGACY_TYPE:
        return transaction.y_parity
    if transaction.chain_id is None:
        return 27 + transaction.y_parity
    return 35 + 2 * transaction.chain_id + transaction.y_parity


def receipt_fields(
    receipt: Receipt, record: ReceiptRecord, transaction: Transaction, sender: bytes, place: Place
) -> JsonObject:
    logs = logs_of_receipt(receipt, record, transaction.hash, place)
    return {
        "blockHash": data(place.block_hash),
        "blockNumber": quantity(place.height),
        "transactionHash": data(transaction.hash),
        "transactionIndex": quantity(place.index),
        "from": data(sender),
        "to": data(transaction.to) if transaction.to else None,
        "gasUsed": quantity(record.gas_used),
        "cumulativeGasUsed": quantity(receipt.cumulative_gas_used),
        "contractAddress": data(record.contract_address) if record.contract_address else None,
        "logs": [log_fields(log) for log in logs],
        "logsBloom": data(receipt.logs_bloom),
        "type": quantity(receipt.tx_type),
        "effectiveGasPrice": quantity(transaction.effective_gas_price(place.base_fee_wei)),
        "status": "0x1" if receipt.succeeded else "0x0",
    }


def log_fields(log: LogRecord) -> JsonObject:
    """``removed`` is for chains that reorganise; here it is always false."""
    return {
        "address": data(log.address),
        "topics": [data(topic) for topic in log.topics],
        "data": data(log.data),
        "blockNumber": quantity(log.height),
        "transactionHash": data(log.transaction_hash),
        "transactionIndex": quantity(log.transaction_index),
        "blockHash": data(log.block_hash),
        "blockTimestamp": quantity(log.block_timestamp),
        "logIndex": quantity(log.log_index),
        "removed": False,
    }


def sync_fields(progress: SyncProgress) -> JsonObject:
    """How far a node that catches up has come."""
    return {
        "startingBlock": quantity(progress.started_height),
        "currentBlock": quantity(progress.current_height),
        "highestBlock": quantity(progress.highest_height),
    }


def access_list_fields(entries: Sequence[AccessListEntry]) -> list[JsonObject]:
    return [{"address": data(entry.address), "storageKeys": [word(slot) for slot in entry.slots]} for entry in entries]


def proof_fields(address: bytes, proof: ProofAnswer, full_keys: Mapping[int, bool]) -> JsonObject:
    """EIP-1186. As in geth a storage key comes back as 32 bytes if it was asked so, else as a quantity."""
    return {
        "address": data(address),
        "accountProof": [data(node) for node in proof.account_nodes],
        "balance": quantity(proof.account.balance_wei),
        "codeHash": data(proof.account.code_hash),
        "nonce": quantity(proof.account.nonce),
        "storageHash": data(proof.account.storage_root),
        "storageProof": [
            {
                "key": word(entry.slot) if full_keys[entry.slot] else quantity(entry.slot),
                "value": quantity(entry.value),
                "proof": [data(node) for node in entry.nodes],
            }
            for entry in proof.storage
        ],
    }
