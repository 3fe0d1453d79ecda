"""`status`: whether a running node is well, at a glance."""

import json

import click

from astralink_node.cli.node_health import (
    Answer,
    away_text,
    duration,
    field,
    head_age_s,
    number,
    place,
    problems_of_node,
    short,
)
from astralink_node.cli.options import json_option
from astralink_node.cli.rpc_client import EXIT_UNHEALTHY, RpcClient, rpc_url_option
from astralink_node.clock import now_ms
from astralink_node.gateway.stall import MAX_NAMED


@click.command()
@rpc_url_option()
@json_option()
@click.pass_context
def status(context: click.Context, rpc_url: str, as_json: bool) -> None:
    """Show a running node's head, peers, role and mempool, and what is wrong with it.

    Exit code 0: healthy; 1: stalled, catching up or not signing; 69: no node answers.
    """
    client = RpcClient(rpc_url)
    node = client.call("astralink_nodeStatus")
    consensus = client.call("astralink_consensusState")
    net = client.call("astralink_netStatus")
    now_s = now_ms() / 1000
    problems = problems_of_node(node, consensus, net, now_s)
    if as_json:
        report = {
            "healthy": not problems,
            "problems": problems,
            "headAgeSeconds": round(head_age_s(node, now_s), 1),
            "node": node,
            "network": net,
            "consensus": consensus,
        }
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo("\n".join([*_overview(node, consensus, net, now_s), *verdict(problems, consensus)]))
    if problems:
        context.exit(EXIT_UNHEALTHY)


def _overview(node: Answer, consensus: Answer | None, net: Answer, now_s: float) -> list[str]:
    age = duration(head_age_s(node, now_s))
    return [
        field("Node", node["clientVersion"]),
        field("Chain", f"{number(node['chainId'])}, genesis {short(node['genesisHash'], 16)}"),
        field("Head", f"{number(node['headNumber']):,}, {short(node['headHash'], 16)}, {age} ago"),
        *(field("Listens", f"for other nodes on {place(address)}") for address in net["listenAddresses"]),
        field("Peers", peers_line(net)),
        field("Sync", _sync(net)),
        field("Validator", role(consensus)),
        field(
            "Mempool", f"{number(node['pendingTransactions']):,} pending, {number(node['queuedTransactions']):,} queued"
        ),
        field("Consensus", "not begun" if consensus is None else consensus["explanation"]),
        *_away(consensus),
    ]


def _away(consensus: Answer | None) -> list[str]:
    """Nothing where nobody is: a chain goes on without a third of the power, and a node is well all the same."""
    away = [] if consensus is None else consensus["away"]
    shown = [away_text(each) for each in away[:MAX_NAMED]]
    if len(away) > MAX_NAMED:
        shown.append(f"and {len(away) - MAX_NAMED} more: see `consensus status`")
    return [field("" if at else "Away", line) for at, line in enumerate(shown)]


def verdict(problems: list[str], consensus: Answer | None) -> list[str]:
    """Beside the explanation of consensus, which is not repeated."""
    told = "" if consensus is None else f": {consensus['explanation']}"
    first, *others = [problem.removesuffix(told) for problem in problems] or ["good"]
    return [field("Health", first), *(field("", other) for other in others)]


def peers_line(net: Answer) -> str:
    if net["peerId"] is None:
        return "none: this node runs without a network"
    known = number(net["validatorsKnown"])
    validators = f", {number(net['validatorsConnected'])} of {known} other validators connected" if known else ""
    return f"{number(net['peers'])}{validators}"


def _sync(net: Answer) -> str:
    if net["syncing"] is None:
        return "nobody to compare with" if net["peerId"] is not None and not number(net["peers"]) else "keeps up"
    current, highest = number(net["syncing"]["current"]), number(net["syncing"]["highest"])
    return f"at {current:,} of {highest:,} ({100 * current // max(highest, 1)} %)"


def role(consensus: Answer | None) -> str:
    if consensus is None or not consensus["isValidator"]:
        return "no"
    return "yes, signing" if consensus["isSigning"] else "yes, not signing yet"
