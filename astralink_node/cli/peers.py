"""`peers`: whom a running node is connected to."""

import json

import click

from astralink_node.cli.node_health import Answer, duration, number, short_peer
from astralink_node.cli.options import json_option
from astralink_node.cli.rpc_client import EXIT_UNHEALTHY, RpcClient, rpc_url_option
from astralink_node.clock import now_ms


@click.command()
@rpc_url_option()
@json_option()
@click.pass_context
def peers(context: click.Context, rpc_url: str, as_json: bool) -> None:
    """Show the node's peers: where they are, how far, how quick, and how well they behave.

    Exit code 0: there are some, or the node runs without a network; 1: there are none; 69: no node answers.
    """
    client = RpcClient(rpc_url)
    connected = client.call("astralink_peers")
    net = client.call("astralink_netStatus")
    if as_json:
        click.echo(json.dumps({"peerId": net["peerId"], "peers": connected}, indent=2))
    else:
        click.echo("\n".join(_table(connected, net, now_ms() / 1000)))
    if net["peerId"] is not None and not connected:
        context.exit(EXIT_UNHEALTHY)


def _table(connected: list[Answer], net: Answer, now_s: float) -> list[str]:
    if net["peerId"] is None:
        return ["this node runs without a network"]
    lines = [f"this node is {net['peerId']}"]
    if not connected:
        return [*lines, "no peer is connected"]
    client_width = max(len("Client"), *(len(peer["client"]) for peer in connected))
    head = f"{'Peer':<11} {'Dialled':<8} {'Since':>8} {'Head said':>11} {'RTT':>7} {'Clock':>10} {'Points':>6}  "
    lines.append(f"{head}{'Role':<14} {'Client':<{client_width}} Address")
    for peer in sorted(connected, key=lambda peer: number(peer["connectedSinceMs"])):
        lines.append(_row(peer, now_s, client_width))
    return [*lines, "Head said: by its last status, which is renewed every 10 s"]


def _row(peer: Answer, now_s: float, client_width: int) -> str:
    since = duration(max(0.0, now_s - number(peer["connectedSinceMs"]) / 1000))
    round_trip = "-" if peer["rttMs"] is None else f"{peer['rttMs']} ms"
    clock = "-" if peer["clockSkewMs"] is None else f"{peer['clockSkewMs']:+} ms"
    dialled = "by us" if peer["direction"] == "outbound" else "by them"
    index = peer["validatorIndex"]
    role = "-" if not peer["isValidator"] else "validator" if index is None else f"validator #{number(index)}"
    address = peer["addresses"][0] if peer["addresses"] else "-"
    return (
        f"{short_peer(peer['peerId']):<11} {dialled:<8} {since:>8} {number(peer['headNumber']):>11,} {round_trip:>7} "
        f"{clock:>10} {peer['points']:>6}  {role:<14} {peer['client']:<{client_width}} {address}"
    )
