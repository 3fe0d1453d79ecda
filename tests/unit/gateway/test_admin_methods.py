"""admin_* and rpc_modules: geth's forms, filled with what this node has in their place."""

from __future__ import annotations

from astralink_node.gateway.link_messages import BootnodeView
from tests.support.gateways import Client, SmallNode, hexed, with_client
from tests.support.networks import network_of, peer_view


def test_a_node_that_runs_alone_has_no_identity_on_a_network() -> None:
    async def body(client: Client) -> None:
        genesis = hexed(client.node.genesis_hash)
        assert await client.call("admin_nodeInfo") == {
            "id": "",
            "name": "AstraLink/test",
            "enode": "",
            "enr": "",
            "ip": "",
            "listenAddr": "",
            "ports": {"discovery": 0, "listener": 0},
            "protocols": {
                "eth": {
                    "network": client.node.chain_id,
                    "genesis": genesis,
                    "head": genesis,
                    "difficulty": 0,
                    "config": {"chainId": client.node.chain_id},
                }
            },
        }
        assert await client.call("admin_peers") == []

    with_client(body, apis=("admin",))


def test_a_node_says_where_it_listens_and_where_others_reach_it() -> None:
    node = SmallNode()
    node.network = network_of([])

    async def body(client: Client) -> None:
        client.node.produce()
        info = await client.call("admin_nodeInfo")
        assert (info["id"], info["enode"]) == ("node0", "/ip4/192.0.2.0/tcp/30400/p2p/node0")
        assert (info["ip"], info["listenAddr"]) == ("192.0.2.0", "0.0.0.0:30400")
        assert info["ports"] == {"discovery": 30400, "listener": 30400}
        head = await client.call("eth_getBlockByNumber", "latest", False)
        assert info["protocols"]["eth"]["head"] == head["hash"]

    with_client(body, node=node, apis=("admin", "eth"))


def test_peers_are_shown_as_geth_shows_its_own() -> None:
    node = SmallNode()
    inbound = peer_view(2, addresses=("/ip6/2001:db8::2/tcp/50112", "/ip4/192.0.2.2/tcp/30400"))
    strange = peer_view(4, addresses=("rubbish",))
    bootnode = BootnodeView("/ip4/192.0.2.1/tcp/30400/p2p/node1", is_connected=True, trouble="", trouble_ms=0)
    node.network = network_of([], peers=(peer_view(1), inbound, strange), bootnodes=(bootnode,))

    async def body(client: Client) -> None:
        first, second, third = await client.call("admin_peers")
        assert first == {
            "id": "node1",
            "name": "astralink/test",
            "enode": "/ip4/192.0.2.1/tcp/30400/p2p/node1",
            "caps": ["astralink/1"],
            "network": {
                "localAddress": "",
                "remoteAddress": "192.0.2.1:30400",
                "inbound": False,
                "trusted": False,
                "static": True,
            },
            "protocols": {"eth": {"version": 1, "number": 811}},
        }
        assert second["network"] == {
            "localAddress": "0.0.0.0:30400",
            "remoteAddress": "[2001:db8::2]:50112",
            "inbound": True,
            "trusted": False,
            "static": False,
        }
        assert (third["enode"], third["network"]["remoteAddress"]) == ("", "")

    with_client(body, node=node, apis=("admin",))


def test_rpc_modules_lists_what_is_served_and_is_served_always() -> None:
    async def body(client: Client) -> None:
        assert await client.call("rpc_modules") == {"eth": "1.0", "net": "1.0", "rpc": "1.0"}
        assert (await client.error("admin_nodeInfo"))["code"] == -32601

    with_client(body, apis=("net", "eth", "net"))
