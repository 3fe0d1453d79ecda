"""`evidence submit`: hand in what proves validators guilty, to a running node that holds and passes it on."""

from typing import BinaryIO, Final

import click

from astralink_node.cli.rpc_client import RpcClient, rpc_url_option
from astralink_node.errors import UserError

MAX_FILE_BYTES: Final = 16_384
"""More hex digits than any evidence has."""
_NO_HEX: Final = "evidence: expected one line of hex, 0x first or not"


@click.group()
def evidence() -> None:
    """Hand in evidence against validators."""


@evidence.command("submit")
@click.argument("file", type=click.File("rb"))
@rpc_url_option()
def submit(file: BinaryIO, rpc_url: str) -> None:
    """Hand in the evidence in FILE, as hex digits (`-`: standard input), and show its hash.

    The node looks into it with its own chain first. Evidence is two testimonies that contradict each other, or a
    header that validators signed on another parent than the chain's (docs/specification.md, "Evidence").
    """
    text = file.read(MAX_FILE_BYTES + 1)
    click.echo(RpcClient(rpc_url).call("astralink_submitEvidence", f"0x{_read_hex(text).hex()}"))


def _read_hex(text: bytes) -> bytes:
    if len(text) > MAX_FILE_BYTES:
        raise UserError(f"evidence: expected at most {MAX_FILE_BYTES} bytes of hex digits, found more")
    try:
        found = bytes.fromhex(text.decode().strip().removeprefix("0x"))
    except ValueError as error:
        raise UserError(_NO_HEX) from error
    if not found:
        raise UserError(_NO_HEX)
    return found
