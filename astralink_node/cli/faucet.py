"""`faucet`: asks a running devnet for test BWT (astralink_faucet), and waits until they are there."""

import json
import time
from typing import Final

import click

from astralink_node.cli.amounts import bwt, parse_amount
from astralink_node.cli.options import json_option
from astralink_node.cli.rpc_client import NotServed, RpcClient, rpc_url_option
from astralink_node.crypto.addresses import checksum_address, parse_address
from astralink_node.errors import UserError

RECEIPT_WAIT_S: Final = 30.0
_POLL_S: Final = 0.05


@click.command()
@click.argument("address")
@click.argument("amount", required=False)
@rpc_url_option()
@json_option()
def faucet(address: str, amount: str | None, rpc_url: str, as_json: bool) -> None:
    """Have a devnet send AMOUNT (12.5, or 12500wei; 1 BWT if not given) to ADDRESS from one of its test accounts."""
    recipient = parse_address(address)
    arguments = [f"0x{recipient.hex()}"]
    if amount is not None:
        arguments.append(hex(parse_amount(amount)))
    client = RpcClient(rpc_url)
    try:
        transaction_hash = str(client.call("astralink_faucet", *arguments))
    except NotServed as error:
        raise NotServed(
            f"{rpc_url} has no faucet: only a devnet has one, if its accounts are unlocked and its --rpc-api has "
            "astralink"
        ) from error
    block, value_wei = _mined(client, transaction_hash)
    balance_wei = int(client.call("eth_getBalance", arguments[0], "latest"), 16)
    if as_json:
        shown = {
            "transactionHash": transaction_hash,
            "address": checksum_address(recipient),
            "amountWei": str(value_wei),
            "balanceWei": str(balance_wei),
            "blockNumber": block,
        }
        click.echo(json.dumps(shown, indent=2))
    else:
        click.echo(
            f"sent {bwt(value_wei)} to {checksum_address(recipient)}\n"
            f"  transaction {transaction_hash}, block {block}\n"
            f"  the account now has {bwt(balance_wei)}"
        )


def _mined(client: RpcClient, transaction_hash: str) -> tuple[int, int]:
    """(height of its block, wei sent), once it is in one."""
    deadline = time.monotonic() + RECEIPT_WAIT_S
    while time.monotonic() < deadline:
        found = client.call("eth_getTransactionByHash", transaction_hash)
        if found is not None and found["blockNumber"] is not None:
            return int(found["blockNumber"], 16), int(found["value"], 16)
        time.sleep(_POLL_S)
    raise UserError(
        f"transaction {transaction_hash} is in no block after {RECEIPT_WAIT_S:.0f} s; it may still come: "
        "`astralink-node status` says whether blocks are made"
    )
