"""astralink_faucet: test BWT on a devnet. An ordinary transaction of one of its public test accounts, nothing else."""

from __future__ import annotations

from astralink_node.chain.call_messages import CallRequest
from astralink_node.chain.messages import AtLatest
from astralink_node.gateway.account_parameters import faucet_amount
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.dev_accounts import DevAccounts
from astralink_node.gateway.encoding import data
from astralink_node.gateway.filling import Draft
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import ADDRESS
from astralink_node.gateway.methods.eth_accounts import send_as
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.rpc_errors import server_error

DEFAULT_WEI = 10**18
FEE_RESERVE_WEI = 10**17
"""What an account must have beyond the amount to be chosen: more than a transfer's gas costs at any usual base fee."""


async def faucet(context: RpcContext, recipient: bytes, amount_wei: int) -> Json:
    """The transaction's hash, once the mempool has it."""
    ours = context.accounts
    assert ours is not None, "served only where accounts are unlocked"
    sender = await _payer(context, ours, amount_wei)
    request = CallRequest(
        sender=sender,
        to=recipient,
        gas=None,
        gas_price_wei=None,
        max_fee_wei=None,
        max_priority_fee_wei=None,
        value_wei=amount_wei,
        data=b"",
        access_list=(),
        authorizations=None,
    )
    draft = Draft(request, nonce=None, chain_id=None, has_access_list=False)
    return data(await send_as(context, ours, draft))


async def _payer(context: RpcContext, ours: DevAccounts, amount_wei: int) -> bytes:
    """The first that can pay, in this node's own order (:class:`DevAccounts`)."""
    for account in ours.payers:
        balance_wei = (await context.read.state.account(account, AtLatest())).balance_wei
        if balance_wei >= amount_wei + FEE_RESERVE_WEI:
            return account
    raise server_error(f"the faucet is empty: none of the devnet's accounts has {amount_wei} wei and its fee left")


METHODS = (
    Method(
        "astralink_faucet",
        faucet,
        (ADDRESS, Parameter("amount", faucet_amount, DEFAULT_WEI)),
        source=Specification.ASTRALINK,
        note="Only on a devnet that unlocked its test accounts; elsewhere the answer is -32601.",
    ),
)
