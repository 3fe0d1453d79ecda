"""eth_*: what a node does for accounts that it has the keys of: a devnet's public test accounts, or none at all.

Elsewhere everything but eth_accounts and eth_fillTransaction is refused, whatever its arguments: keys belong in
wallets.
"""

from __future__ import annotations

import asyncio

from astralink_node.evm.transaction_encoding import unsigned_bytes
from astralink_node.evm.transactions import Transaction
from astralink_node.gateway.account_parameters import message, signed_text, transaction_draft, typed_data
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.dev_accounts import DevAccounts
from astralink_node.gateway.encoding import JsonObject, data, transaction_fields
from astralink_node.gateway.filling import Draft, fill, unsigned
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import ADDRESS
from astralink_node.gateway.methods.table import Handler, Method, Parameter, Specification
from astralink_node.gateway.mined_wait import settle
from astralink_node.gateway.parameters import BadValue, anything
from astralink_node.gateway.rpc_errors import accounts_not_managed, invalid_argument, server_error
from astralink_node.gateway.typed_data import typed_data_digest
from astralink_node.types import ZERO_ADDRESS

_LOCKED = "Only for the test accounts of a devnet that unlocked them; elsewhere the answer is -32601."
_PLACE_FIELDS = ("blockHash", "blockNumber", "blockTimestamp", "transactionIndex", "from")
_SIGNATURE_FIELDS = ("v", "r", "s", "yParity", "hash")


async def accounts(context: RpcContext) -> Json:
    return [] if context.accounts is None else [data(account) for account in context.accounts.addresses]


async def request_accounts(context: RpcContext) -> Json:
    return [data(account) for account in _unlocked(context).addresses]


async def send_transaction(context: RpcContext, draft: Draft) -> Json:
    return data(await send_as(context, _unlocked(context), draft))


async def send_as(context: RpcContext, ours: DevAccounts, draft: Draft) -> bytes:
    """Fill, sign and send as the draft's sender; the transaction's hash."""
    sender = draft.request.sender
    # The next transaction of this account chooses its nonce when the mempool has this one.
    async with ours.turn(sender):
        signed = ours.sign_transaction(sender, await fill(context.read, draft, context.identity.chain_id))
        sent = await context.submissions.submit(signed.raw)
    await settle(context.read, sent, context.mined_wait_ms)
    return sent.transaction_hash


async def sign_transaction(context: RpcContext, draft: Draft) -> Json:
    """Nothing is chosen for the caller, who sends it later: geth's rule, and its words."""
    ours = _unlocked(context)
    if draft.request.gas is None:
        raise server_error("gas not specified")
    if not draft.has_fees:
        raise server_error("missing gasPrice or maxFeePerGas/maxPriorityFeePerGas")
    if draft.nonce is None:
        raise server_error("nonce not specified")
    signed = ours.sign_transaction(draft.request.sender, unsigned(draft, context.identity.chain_id))
    return {"raw": data(signed.raw), "tx": _fields(signed)}


async def fill_transaction(context: RpcContext, draft: Draft) -> Json:
    """What eth_sendTransaction would sign, for whoever has the key."""
    transaction = await fill(context.read, draft, context.identity.chain_id)
    fields = {name: value for name, value in _fields(transaction).items() if name not in _SIGNATURE_FIELDS}
    return {"raw": data(unsigned_bytes(transaction)), "tx": fields}


async def sign(context: RpcContext, account: bytes, text: bytes) -> Json:
    return data(_unlocked(context).sign_message(account, text))


async def personal_sign(context: RpcContext, text: bytes, account: bytes, password: object) -> Json:
    """The same with its arguments the other way round; nobody asks for the password of a public key."""
    del password
    return data(_unlocked(context).sign_message(account, text))


async def sign_typed_data(context: RpcContext, account: bytes, message: object) -> Json:
    try:
        digest = await asyncio.to_thread(typed_data_digest, TYPED_DATA.name, message)
    except BadValue as error:
        raise invalid_argument(1, str(error)) from error
    return data(_unlocked(context).sign_digest(account, digest))


def _unlocked(context: RpcContext) -> DevAccounts:
    assert context.accounts is not None, "LOCKED is served in these methods' place"
    return context.accounts


def _refusal(method: str) -> Handler:
    async def refuse(context: RpcContext, *arguments: object) -> Json:
        del context, arguments
        raise accounts_not_managed(method)

    return refuse


def _fields(transaction: Transaction) -> JsonObject:
    """A transaction that is nowhere yet."""
    fields = transaction_fields(transaction, ZERO_ADDRESS, None)
    return {name: value for name, value in fields.items() if name not in _PLACE_FIELDS}


TRANSACTION = Parameter("transaction", transaction_draft)
TYPED_DATA = Parameter("typedData", typed_data)

METHODS = (
    Method("eth_accounts", accounts, note="Empty but on a devnet that unlocked its test accounts."),
    Method("eth_requestAccounts", request_accounts, source=Specification.ANVIL, note=_LOCKED),
    Method("eth_sendTransaction", send_transaction, (TRANSACTION,), note=_LOCKED),
    Method("eth_signTransaction", sign_transaction, (TRANSACTION,), note=_LOCKED),
    Method("eth_fillTransaction", fill_transaction, (TRANSACTION,)),
    Method("eth_sign", sign, (ADDRESS, Parameter("message", message)), note=_LOCKED),
    Method(
        "personal_sign",
        personal_sign,
        (Parameter("message", signed_text), ADDRESS, Parameter("password", anything, None)),
        source=Specification.GETH,
        note=_LOCKED,
    ),
    Method(
        "eth_signTypedData_v4",
        sign_typed_data,
        (ADDRESS, TYPED_DATA),
        source=Specification.ANVIL,
        note=_LOCKED,
    ),
)

_NEED_KEYS = frozenset({method.name for method in METHODS}) - {"eth_accounts", "eth_fillTransaction"}
_IGNORED = tuple(Parameter(f"argument{index}", anything, None) for index in range(3))

LOCKED = tuple(Method(name, _refusal(name), _IGNORED) for name in sorted(_NEED_KEYS))
"""What is served in their place where no account is unlocked."""
