"""One run of a staking verb: its options, its question, its transactions in order, and what it prints.

What can be checked is checked before the password is asked for; results go to stdout, all talk to stderr.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import click

from astralink_node.cli.account_keys import AccountFile, find_account
from astralink_node.cli.amounts import bwt
from astralink_node.cli.options import Decorator, data_dir_option, json_option, password_file_option
from astralink_node.cli.rpc_client import RpcClient, rpc_url_option
from astralink_node.cli.staking_calls import Event, event_object, events_of, sentence_of
from astralink_node.cli.staking_refusals import Refused
from astralink_node.cli.staking_state import StakingState
from astralink_node.cli.transactions import (
    ContractCall,
    OutOfGas,
    Plan,
    Receipt,
    Rpc,
    WouldRevert,
    await_receipt,
    plan,
    ran_out_of_gas,
    revert_of,
    send,
    sign,
)
from astralink_node.errors import UserError


class NotConfirmed(UserError):
    """Nobody is there to ask, and --yes is not given."""


@dataclass(frozen=True, slots=True)
class Done:
    call: ContractCall
    receipt: Receipt
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Session:
    rpc: Rpc
    account: AccountFile
    data_dir: Path
    password_file: Path | None = None
    yes: bool = False
    as_json: bool = False
    notes: list[str] = field(default_factory=list)
    """Said after the result, to people: what comes next."""

    @property
    def state(self) -> StakingState:
        return StakingState(self.rpc)

    def run(self, calls: Sequence[ContractCall]) -> list[Done]:
        """Send one after the other, each in a block before the next. Raises `Refused` and what planning raises."""
        first = self._plan(calls[0])
        self._confirm(calls, first)
        key = self.account.private_key(self.password_file)
        done: list[Done] = []
        for call in calls:
            planned = first if call is calls[0] else self._plan(call)
            transaction = sign(planned, key)
            sent = send(self.rpc, transaction)
            self.tell(f"{call.purpose}: sent as 0x{sent.hex()}, waiting for its block")
            receipt = await_receipt(self.rpc, sent, self.tell)
            if ran_out_of_gas(planned, receipt):
                raise OutOfGas(
                    f"{call.purpose} ran out of gas in block {receipt.height:,} and did nothing: send it again"
                )
            if not receipt.succeeded:
                when = f" in block {receipt.height:,} (fee {bwt(receipt.fee_wei)})"
                raise Refused(call.purpose, revert_of(self.rpc, planned, receipt), when)
            done.append(Done(call, receipt, tuple(events_of(receipt.logs))))
        return done

    def check_confirmable(self) -> None:
        """For verbs that have much to do before there is something to ask about. Raises `NotConfirmed`."""
        if not self.yes and not sys.stdin.isatty():
            raise NotConfirmed("nobody is there to confirm: give --yes")

    def report(self, done: Sequence[Done], **more: object) -> None:
        """`more` are facts beside the transactions: they belong to --json alone."""
        if self.as_json:
            shown = {"transactions": [done_object(each) for each in done], **more}
            click.echo(json.dumps(shown, indent=2))
            return
        for each in done:
            for event in each.events:
                click.echo(sentence_of(event))
            click.echo(f"  block {each.receipt.height:,}, fee {bwt(each.receipt.fee_wei)}")
        for note in self.notes:
            click.echo(note)

    def tell(self, line: str) -> None:
        click.echo(line, err=True)

    def _plan(self, call: ContractCall) -> Plan:
        try:
            return plan(self.rpc, self.account.address, call)
        except WouldRevert as refused:
            raise Refused(call.purpose, refused.output) from refused

    def _confirm(self, calls: Sequence[ContractCall], first: Plan) -> None:
        self.check_confirmable()
        if self.yes:
            return
        for call in calls:
            self.tell(f"  {call.purpose}")
        fee = first.highest_fee_wei * len(calls)
        click.confirm(
            f"Send {'this' if len(calls) == 1 else 'these'} (about {bwt(fee)} of fees at most)?", abort=True, err=True
        )


def done_object(done: Done) -> dict[str, object]:
    """For --json; quantities as JSON-RPC writes them."""
    receipt = done.receipt
    return {
        "purpose": done.call.purpose,
        "transactionHash": "0x" + receipt.transaction_hash.hex(),
        "blockNumber": hex(receipt.height),
        "gasUsed": hex(receipt.gas_used),
        "feeWei": hex(receipt.fee_wei),
        "events": [event_object(event) for event in done.events],
    }


def staking_verb(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every verb which sends has; they arrive as one `Session`, the first argument."""

    @data_dir_option()
    @rpc_url_option()
    @click.option("--from", "sender", metavar="ADDRESS", help="The account that sends. [default: the only one there]")
    @click.option(
        "--keystore",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Its keystore file, if it is not in the data folder.",
    )
    @password_file_option()
    @click.option("--yes", is_flag=True, help="Send without asking.")
    @json_option()
    @wraps(command)
    def verb(
        data_dir: Path,
        rpc_url: str,
        sender: str | None,
        keystore: Path | None,
        password_file: Path | None,
        yes: bool,
        as_json: bool,
        **own: Any,
    ) -> None:
        account = find_account(data_dir, sender, keystore)
        command(Session(RpcClient(rpc_url), account, data_dir, password_file, yes, as_json), **own)

    return verb


__all__ = ["Decorator", "Done", "NotConfirmed", "Session", "done_object", "staking_verb"]
