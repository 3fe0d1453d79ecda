"""debug_*: the state as debuggers list it: storage within a block, accounts, roots between transactions, changes."""

# ruff: noqa: ARG001 - handlers take what the table declares, used or not

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Final

import orjson

from astralink_node.chain.messages import AtHash, AtHeight, BlockSelector
from astralink_node.chain.replay_messages import AccountRange, ListedAccount, StorageRange, StoredSlot
from astralink_node.crypto.addresses import checksum_address
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, data, word
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import ADDRESS, BLOCK_HASH, BLOCK_NUMBER, GIVEN_BLOCK
from astralink_node.gateway.methods.debug import block_in_geths_words
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import BadValue, anything, boolean, byte_string, hash32, picture, whole_number
from astralink_node.gateway.reading.block_view import BlockView
from astralink_node.gateway.rpc_errors import server_error
from astralink_node.gateway.traces.large_json import json_text

MAX_INT: Final = 2**63 - 1
PAGE_ACCOUNTS: Final = 256
"""geth's AccountRangeMaxResults."""

# --- Storage -----------------------------------------------------------------------------------------------------


async def storage_range_at(
    context: RpcContext, at: BlockSelector, index: int, contract: bytes, start: bytes, max_slots: int
) -> Json:
    view = await block_in_geths_words(context, at)
    found = await context.read.state_ranges.storage(view.block_hash, index, contract, start, max_slots)
    return await _large(context, lambda: _storage_range_fields(found))


def _storage_range_fields(found: StorageRange) -> JsonObject:
    storage: JsonObject = {
        data(slot.slot_hash): {"key": None if slot.slot is None else word(slot.slot), "value": word(slot.value)}
        for slot in found.slots
    }
    return {"storage": storage, "nextKey": data(found.next_hash) if found.next_hash else None}


# --- Accounts ----------------------------------------------------------------------------------------------------


async def account_range(
    context: RpcContext,
    at: BlockSelector,
    start: bytes,
    max_results: int,
    without_code: object,
    without_storage: object,
    incompletes: object,
) -> Json:
    view = await block_in_geths_words(context, at)
    found = await context.read.state_ranges.accounts(
        view.block_hash,
        start,
        max_results if 0 < max_results <= PAGE_ACCOUNTS else PAGE_ACCOUNTS,
        with_code=not without_code,
        with_storage=not without_storage,
        with_unknown=bool(incompletes),
    )
    return await _large(context, lambda: _dump(view, found))


async def dump_block(context: RpcContext, at: BlockSelector) -> Json:
    """The first page of those whose address is known, as geth's."""
    view = await block_in_geths_words(context, at)
    found = await context.read.state_ranges.accounts(
        view.block_hash, b"", PAGE_ACCOUNTS, with_code=True, with_storage=True, with_unknown=False
    )
    return await _large(context, lambda: _dump(view, found))


async def _large(context: RpcContext, fields: Callable[[], JsonObject]) -> Json:
    """Made beside the event loop."""
    return await json_text(lambda: (orjson.dumps(fields()),), context.limits.response_bytes)


def _dump(view: BlockView, found: AccountRange) -> JsonObject:
    accounts: JsonObject = {_name_of(account): _account_fields(account) for account in found.accounts}
    fields: JsonObject = {"root": view.header.state_root.hex(), "accounts": accounts}
    if found.next_hash:
        # A []byte of Go's, which its JSON writes so.
        fields["next"] = base64.b64encode(found.next_hash).decode()
    return fields


def _name_of(account: ListedAccount) -> str:
    return checksum_address(account.address) if account.address else f"pre({data(account.address_hash)})"


def _account_fields(account: ListedAccount) -> JsonObject:
    fields: JsonObject = {
        "balance": str(account.balance_wei),
        "nonce": account.nonce,
        "root": data(account.storage_root),
        "codeHash": data(account.code_hash),
    }
    if account.code:
        fields["code"] = data(account.code)
    if account.slots:
        fields["storage"] = {_slot_name(slot): _trimmed(slot.value) for slot in account.slots}
    if account.address:
        fields["address"] = data(account.address)
    fields["key"] = data(account.address_hash)
    return fields


def _slot_name(slot: StoredSlot) -> str:
    """geth files all slots that it does not know under zero, one over the other."""
    return f"pre({data(slot.slot_hash)})" if slot.slot is None else word(slot.slot)


def _trimmed(value: int) -> str:
    """Whole bytes without leading zeros, and without 0x."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big").hex()


# --- What changed ------------------------------------------------------------------------------------------------


async def intermediate_roots(context: RpcContext, block_hash: bytes, config: object) -> Json:
    """`config` is geth's of traces, of which nothing applies."""
    view = await block_in_geths_words(context, AtHash(block_hash))
    return [data(root) for root in await context.read.state_ranges.intermediate_roots(view.block_hash)]


async def modified_accounts_by_number(context: RpcContext, start: int, end: int | None) -> Json:
    first = await context.read.blocks.block(AtHeight(start))
    if first is None:
        raise server_error(f"start block {start:x} not found")
    if end is None:
        return await _modified_in(context, first)
    last = await context.read.blocks.block(AtHeight(end))
    if last is None:
        raise server_error(f"end block {end} not found")
    return await _modified_between(context, first.height, last)


async def modified_accounts_by_hash(context: RpcContext, start: bytes, end: bytes | None) -> Json:
    first = await context.read.blocks.block(AtHash(start))
    if first is None:
        raise server_error(f"start block {start.hex()} not found")
    if end is None:
        return await _modified_in(context, first)
    last = await context.read.blocks.block(AtHash(end))
    if last is None:
        raise server_error(f"end block {end.hex()} not found")
    return await _modified_between(context, first.height, last)


async def _modified_in(context: RpcContext, view: BlockView) -> Json:
    if view.height == 0:
        raise server_error("block 0 has no parent")
    return await _modified_between(context, view.height - 1, view)


async def _modified_between(context: RpcContext, since: int, last: BlockView) -> Json:
    if since >= last.height:
        raise server_error(f"start block height ({since}) must be less than end block height ({last.height})")
    return [data(each) for each in await context.read.state_ranges.modified_accounts(since, last.block_hash)]


# --- The table ---------------------------------------------------------------------------------------------------


def range_start(path: str, value: object) -> bytes:
    """The hash to begin at, or how it begins; also base64, as `next` is written."""
    start = byte_string(path, value) if not isinstance(value, str) or value[:2] == "0x" else _base64(path, value)
    if len(start) > 32:
        raise BadValue(path, f"expected at most 32 bytes, found {len(start)}")
    return start


def _base64(path: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadValue(path, f"expected hex that begins with 0x, or base64, found {picture(value)}") from error


def go_int(path: str, value: object) -> int:
    """A JSON number, which may be negative, or a quantity."""
    if isinstance(value, int) and not isinstance(value, bool) and -MAX_INT <= value < 0:
        return value
    return whole_number(path, value, maximum=MAX_INT)


START: Final = Parameter("keyStart", range_start, b"")
MODIFIED: Final = "At most 100 blocks, each of which is executed again."

METHODS = (
    Method(
        "debug_storageRangeAt",
        storage_range_at,
        (
            GIVEN_BLOCK,
            Parameter("txIndex", whole_number),
            ADDRESS,
            START,
            Parameter("maxResult", whole_number),
        ),
        source=Specification.GETH,
        note="The state before the transaction, what precedes it in the block included. At most 8,192 slots. `key` is "
        "known of slots below 256, of those in the genesis file and of those written earlier in the block; `storage` "
        "is empty, not null, where there is none.",
        takes_long=True,
    ),
    Method(
        "debug_accountRange",
        account_range,
        (
            GIVEN_BLOCK,
            Parameter("start", range_start, b""),
            Parameter("maxResults", go_int, 0),
            Parameter("nocode", boolean, None),
            Parameter("nostorage", boolean, None),
            Parameter("incompletes", boolean, None),
        ),
        source=Specification.GETH,
        note="Addresses are known of the genesis file's accounts alone; others are listed with `incompletes`, as "
        "`pre(0x<hash>)`, and so are slots that are not known. At most 256 accounts and 8,192 slots. "
        "`start` may be `next` as it came, in base64.",
    ),
    Method(
        "debug_dumpBlock",
        dump_block,
        (BLOCK_NUMBER,),
        source=Specification.GETH,
        note="As `debug_accountRange` without `incompletes`.",
    ),
    Method(
        "debug_intermediateRoots",
        intermediate_roots,
        (BLOCK_HASH, Parameter("config", anything, None)),
        source=Specification.GETH,
        note="What the protocol does after the last transaction (an election) comes after the last root.",
        takes_long=True,
    ),
    Method(
        "debug_getModifiedAccountsByNumber",
        modified_accounts_by_number,
        (Parameter("startNum", whole_number), Parameter("endNum", whole_number, None)),
        source=Specification.GETH,
        note=MODIFIED,
        takes_long=True,
    ),
    Method(
        "debug_getModifiedAccountsByHash",
        modified_accounts_by_hash,
        (Parameter("startHash", hash32), Parameter("endHash", hash32, None)),
        source=Specification.GETH,
        note=MODIFIED,
        takes_long=True,
    ),
)
