"""`consensus status`: where the height that is being decided stands, who voted for what, and who is missing."""

import json

import click

from astralink_node.cli.node_health import Answer, away_text, duration, field, number, problems_of_node, short
from astralink_node.cli.options import json_option
from astralink_node.cli.rpc_client import EXIT_UNHEALTHY, NotServed, RpcClient, rpc_url_option
from astralink_node.cli.status import role, verdict
from astralink_node.clock import now_ms

MAX_VOTERS_NAMED = 16
"""In one cell of the table; of more it says how many."""
_COLUMN = 46


@click.group()
def consensus() -> None:
    """Look at what consensus does right now."""


@consensus.command("status")
@rpc_url_option()
@json_option()
@click.pass_context
def consensus_status(context: click.Context, rpc_url: str, as_json: bool) -> None:
    """Show the step that consensus is in, since when, its votes, and whom it waits for.

    Exit code 0: healthy; 1: stalled, catching up or not signing; 69: no node answers.
    """
    client = RpcClient(rpc_url)
    state = client.call("astralink_consensusState")
    problems = problems_of_node(
        client.call("astralink_nodeStatus"), state, client.call("astralink_netStatus"), now_ms() / 1000
    )
    if as_json:
        click.echo(json.dumps({"healthy": not problems, "problems": problems, "state": state}, indent=2))
    elif state is None:
        raise NotServed("consensus has not begun on this node: it recovers, or it neither makes blocks nor has peers")
    else:
        click.echo("\n".join(_overview(state, now_ms() / 1000)))
        click.echo("\n".join(verdict(problems, state)))
    if problems:
        context.exit(EXIT_UNHEALTHY)


def _overview(state: Answer, now_s: float) -> list[str]:
    waited_s = max(0.0, now_s - number(state["waitingSinceMs"]) / 1000)
    lines = [
        field("Height", f"{number(state['number']):,}"),
        field("Round", f"{number(state['round'])}, proposer #{number(state['proposerIndex'])}"),
        field("Step", f"{state['step']} since {duration(waited_s)}"),
        field("Locked", _value_at(state["lockedHash"], state["lockedRound"])),
        field("Valid", _value_at(state["validHash"], state["validRound"])),
        field("Validator", role(state)),
        "",
        f"{'Round':>5}  {'Proposer':<9} {'Prevotes':<{_COLUMN}} Precommits",
    ]
    total = number(state["totalPower"])
    for shown in state["rounds"]:
        prevotes, precommits = (_votes(shown[kind], total) for kind in ("prevotes", "precommits"))
        proposer = f"#{number(shown['proposerIndex'])}"
        lines.append(f"{number(shown['round']):>5}  {proposer:<9} {prevotes:<{_COLUMN}} {precommits}".rstrip())
    if state["away"]:
        lines += ["", "Away", *(f"  {away_text(each)}" for each in state["away"])]
    if state["missing"]:
        lines += ["", "Missing now"]
        lines += [_missing(each) for each in state["missing"]]
    return [*lines, "", state["explanation"]]


def _value_at(block_hash: str | None, round_: int) -> str:
    return "nothing" if block_hash is None else f"{short(block_hash)} since round {round_}"


def _votes(votes: list[Answer], total: int) -> str:
    """By value: its share of the power, and who."""
    cells = []
    for each in votes:
        voters = [f"#{number(index)}" for index in each["voters"]]
        named = " ".join(voters) if len(voters) <= MAX_VOTERS_NAMED else f"{len(voters)} validators"
        value = "nil" if each["blockHash"] is None else short(each["blockHash"])
        cells.append(f"{value} {100 * number(each['power']) // total} % ({named})")
    return ", ".join(cells) or "-"


def _missing(each: Answer) -> str:
    where = {True: "connected", False: "not connected", None: "-"}[each["isConnected"]]
    name, key = f"#{number(each['index'])}", short(each["votingKey"], 16)
    return f"  {name:<5} key {key:<21} operator {each['operator']}  {where:<14} {_last_vote(each)}"


def _last_vote(each: Answer) -> str:
    if each["lastVote"] is not None:
        return f"last vote: {each['lastVote']}"
    before = "" if each["lastVoteNumber"] is None else f", the last one at {number(each['lastVoteNumber']):,}"
    return f"no vote at this height{before}"
