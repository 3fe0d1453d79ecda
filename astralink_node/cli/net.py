"""`net doctor`: whether others reach a node, whether they follow the same chain, and whether its clock is right."""

import json
from collections import Counter

import click

from astralink_node.cli.node_health import Answer, age, field, number, place, short, short_peer
from astralink_node.cli.options import json_option
from astralink_node.cli.rpc_client import EXIT_UNHEALTHY, RpcClient, rpc_url_option
from astralink_node.clock import now_ms


@click.group()
def net() -> None:
    """Look at a running node's place on the network."""


@net.command("doctor")
@rpc_url_option()
@json_option()
@click.pass_context
def doctor(context: click.Context, rpc_url: str, as_json: bool) -> None:
    """Check genesis and forks of the peers, the clock against theirs, and have peers dial this node back.

    Takes up to 15 seconds. Exit code 0: nothing is wrong; 1: something is; 69: no node answers.
    """
    report = RpcClient(rpc_url).call("astralink_netDoctor")
    if as_json:
        click.echo(json.dumps({"healthy": not report["problems"], **report}, indent=2))
    else:
        click.echo("\n".join(_lines(report, now_ms() / 1000)))
    if report["problems"]:
        context.exit(EXIT_UNHEALTHY)


def _lines(report: Answer, now_s: float) -> list[str]:
    if report["peerId"] is None:
        return [field("Network", "this node runs without one: there is nothing to check")]
    lines = [
        field("Node", report["peerId"]),
        field("Genesis", _agreement(report)),
        field("Clock", _clock(report)),
        *_reached(report),
    ]
    lines += [field("Bootnode", f"{each['address']}: {_standing(each, now_s)}") for each in report["bootnodes"]]
    lines += [field("Refused", _refusal(each, now_s)) for each in report["refused"]]
    if not report["problems"]:
        notices = report["notices"] or ["nothing is wrong"]
        return [*lines, *(field("" if at else "Verdict", notice) for at, notice in enumerate(notices))]
    return [*lines, "", "Problems", *(f"  {problem}" for problem in report["problems"])]


def _standing(bootnode: Answer, now_s: float) -> str:
    if bootnode["isConnected"]:
        return "connected"
    if bootnode["trouble"] is None:
        return "not connected yet"
    return f"not connected; {age(bootnode['atMs'], now_s)}: {bootnode['trouble']}"


def _refusal(refused: Answer, now_s: float) -> str:
    who = "" if refused["wasSought"] else ", a stranger that dialled this node"
    return f"{short_peer(refused['peerId'])}{who}, {age(refused['atMs'], now_s)}: {refused['reason']}"


def _agreement(report: Answer) -> str:
    peers = report["peers"]
    agree = sum(peer["genesisMatches"] and peer["forksMatch"] for peer in peers)
    return f"{short(report['genesisHash'], 16)}; {agree} of {len(peers)} peers have the same, and the same forks"


def _clock(report: Answer) -> str:
    skew_ms, limit_ms = report["clockSkewMs"], number(report["clockLimitMs"])
    if skew_ms is None:
        return "no peer to compare it with"
    found = "even with" if skew_ms == 0 else f"{abs(skew_ms)} ms {'behind' if skew_ms > 0 else 'ahead of'}"
    return f"{found} the peers' (median); up to {limit_ms} ms is fine"


def _reached(report: Answer) -> list[str]:
    """One line an advertised address."""
    addresses = report["advertisedAddresses"]
    if not addresses:
        return [field("Address", "none is advertised")]
    lines = []
    for address in addresses:
        attempts = [each for each in report["dialBack"] if each["address"] == address]
        counts = Counter(each["outcome"] for each in attempts)
        asked = f"{counts['reached']} of {len(attempts)} peers reached it" if attempts else "nobody dialled it"
        details = [
            f"{short_peer(each['peerId'])} {each['outcome']}: {each['detail']}"
            for each in attempts
            if each["outcome"] != "reached"
        ]
        lines.append(field("Address", "; ".join([f"{place(address)}: {asked}", *details])))
    return lines
