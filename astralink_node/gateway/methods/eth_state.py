"""eth_*: balances, nonces, code, storage and proofs at any block whose state is kept."""

from __future__ import annotations

from typing import Final

from astralink_node.chain.messages import AccountRecord, AtHash, AtPending, BlockSelector
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import data, proof_fields, quantity
from astralink_node.gateway.filling import next_nonce
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import ADDRESS, BLOCK
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import storage_key, storage_keys, storage_request
from astralink_node.gateway.rpc_errors import invalid_params
from astralink_node.types import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT


async def get_balance(context: RpcContext, account: bytes, at: BlockSelector) -> Json:
    return quantity((await context.read.state.account(account, at)).balance_wei)


async def get_transaction_count(context: RpcContext, account: bytes, at: BlockSelector) -> Json:
    """The nonce in state; at "pending" the first one that neither state nor the mempool has used."""
    if not isinstance(at, AtPending):
        return quantity((await context.read.state.account(account, at)).nonce)
    return quantity(await next_nonce(context.read, account))


async def get_account(context: RpcContext, account: bytes, at: BlockSelector) -> Json:
    found = await context.read.state.account(account, at)
    if found == NOBODY:
        return None
    return {
        "balance": quantity(found.balance_wei),
        "nonce": quantity(found.nonce),
        "storageRoot": data(found.storage_root),
        "codeHash": data(found.code_hash),
    }


async def get_account_info(context: RpcContext, account: bytes, at: BlockSelector) -> Json:
    """What forge and anvil ask of an account that they fork, all of it of one state."""
    view = await context.read.blocks.existing_block(at)
    one = AtHash(view.block_hash)
    found = await context.read.state.account(account, one)
    code = b"" if found.code_hash == EMPTY_CODE_HASH else await context.read.state.code(account, one)
    return {"balance": quantity(found.balance_wei), "nonce": quantity(found.nonce), "code": data(code)}


async def get_code(context: RpcContext, account: bytes, at: BlockSelector) -> Json:
    return data(await context.read.state.code(account, at))


async def get_storage_at(context: RpcContext, account: bytes, key: tuple[int, bool], at: BlockSelector) -> Json:
    return data(await context.read.state.storage(account, key[0], at))


async def get_storage_values(
    context: RpcContext, requests: tuple[tuple[bytes, tuple[int, ...]], ...], at: BlockSelector
) -> Json:
    asked = sum(len(slots) for _, slots in requests)
    if asked > context.limits.storage_slots:
        raise invalid_params(f"too many slots (max {context.limits.storage_slots})")
    return {
        data(account): [data(await context.read.state.storage(account, slot, at)) for slot in slots]
        for account, slots in requests
    }


async def get_proof(context: RpcContext, account: bytes, keys: tuple[tuple[int, bool], ...], at: BlockSelector) -> Json:
    if len(keys) > context.limits.proof_slots:
        raise invalid_params(f"too many keys (max {context.limits.proof_slots})")
    slots = tuple(slot for slot, _ in keys)
    proof = await context.read.state.proof(account, slots, at)
    return proof_fields(account, proof, dict(keys))


NOBODY: Final = AccountRecord(0, 0, EMPTY_CODE_HASH, EMPTY_TRIE_ROOT)

METHODS = (
    Method("eth_getBalance", get_balance, (ADDRESS, BLOCK)),
    Method(
        "eth_getTransactionCount",
        get_transaction_count,
        (ADDRESS, BLOCK),
        note="With `pending`, what the mempool holds of the sender counts; other readings of `pending` are the head's.",
    ),
    Method(
        "eth_getAccount",
        get_account,
        (ADDRESS, BLOCK),
        source=Specification.RETH,
        note="`null` for an account that does not exist.",
    ),
    Method("eth_getAccountInfo", get_account_info, (ADDRESS, BLOCK), source=Specification.RETH),
    Method("eth_getCode", get_code, (ADDRESS, BLOCK)),
    Method("eth_getStorageAt", get_storage_at, (ADDRESS, Parameter("key", storage_key), BLOCK)),
    Method("eth_getStorageValues", get_storage_values, (Parameter("requests", storage_request), BLOCK)),
    Method("eth_getProof", get_proof, (ADDRESS, Parameter("storageKeys", storage_keys), BLOCK)),
)
