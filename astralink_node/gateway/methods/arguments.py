"""Parameters that many methods declare, and what is made of a call object once it is known which chain it is for."""

from __future__ import annotations

from typing import Final

from astralink_node.chain.call_messages import CallRequest
from astralink_node.chain.messages import AtLatest
from astralink_node.gateway.call_parameters import CallArguments, call_arguments
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.methods.table import Parameter
from astralink_node.gateway.parameters import address, block, block_number, hash32, quantity64
from astralink_node.gateway.rpc_errors import server_error

ADDRESS: Final = Parameter("address", address)
BLOCK: Final = Parameter("block", block, AtLatest())
"""The head's if it is left out."""
GIVEN_BLOCK: Final = Parameter("block", block)
BLOCK_NUMBER: Final = Parameter("block", block_number)
BLOCK_HASH: Final = Parameter("blockHash", hash32)
INDEX: Final = Parameter("index", quantity64)
TRANSACTION: Final = Parameter("transaction", call_arguments)
"""Of a call; :func:`request_of` makes a request of it."""
TRANSACTION_HASH: Final = Parameter("transactionHash", hash32)


def request_of(context: RpcContext, arguments: CallArguments) -> CallRequest:
    """The call, if it is meant for this chain."""
    ours = context.identity.chain_id
    if arguments.chain_id is not None and arguments.chain_id != ours:
        raise server_error(f"chainId does not match node's (have={arguments.chain_id}, want={ours})")
    return arguments.request
