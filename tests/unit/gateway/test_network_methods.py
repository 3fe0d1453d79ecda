"""What operators see of the network over RPC, from the view that the node gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astralink_node.gateway.link_messages import (
    BootnodeView,
    DialedBack,
    LinkFailed,
    RefusedPeer,
    Reply,
    Request,
    SyncProgress,
)
from astralink_node.gateway.network_health import is_clock_off, notices_of, problems_of
from astralink_node.gateway.rpc_errors import SERVER_ERROR
from tests.support.gateways import Client, SmallNode, hexed, with_client
from tests.support.networks import MEMBERS, network_of, peer_view, waiting

ADDRESS = "/ip4/192.0.2.0/tcp/30400"


def test_a_node_that_runs_alone_says_so_and_has_no_problem() -> None:
    async def body(client: Client) -> None:
        assert await client.call("net_listening") is False
        assert await client.call("net_peerCount") == "0x0"
        assert await client.call("eth_syncing") is False
        assert await client.call("astralink_peers") == []
        assert await client.call("astralink_netStatus") == {
            "listening": False,
            "peerId": None,
            "listenAddresses": [],
            "advertisedAddresses": [],
            "peers": "0x0",
            "validatorsConnected": "0x0",
            "validatorsKnown": "0x0",
            "syncing": None,
            "clockSkewMs": None,
        }
        assert (await client.call("astralink_netDoctor"))["problems"] == []

    with_client(body)


def test_peers_and_the_state_of_the_network_are_shown() -> None:
    node = SmallNode()
    node.network = network_of([1, 3], sync=SyncProgress(5, 812, 5000))
    node.consensus_state = waiting("new_height")

    async def body(client: Client) -> None:
        first, second = await client.call("astralink_peers")
        assert first == {
            "peerId": "node1",
            "addresses": ["/ip4/192.0.2.1/tcp/30400"],
            "direction": "outbound",
            "connectedSinceMs": hex(1_700_000_000_000),
            "headNumber": hex(811),
            "genesisMatches": True,
            "forksMatch": True,
            "clockSkewMs": 10,
            "client": "astralink/test",
            "points": 0,
            "isValidator": True,
            "validatorIndex": "0x1",
            "rttMs": 1,
        }
        assert second["peerId"] == "node3"
        status = await client.call("astralink_netStatus")
        assert (status["peers"], status["validatorsConnected"], status["validatorsKnown"]) == ("0x2", "0x2", "0x3")
        assert status["syncing"] == {"current": hex(812), "highest": hex(5000)}
        assert status["clockSkewMs"] == 10
        assert await client.call("net_listening") is True
        assert await client.call("net_peerCount") == "0x2"
        assert (await client.call("astralink_nodeStatus"))["peerCount"] == "0x2"
        assert await client.call("eth_syncing") == {
            "startingBlock": "0x5",
            "currentBlock": hex(812),
            "highestBlock": hex(5000),
        }

    with_client(body, node=node)


def test_a_peer_that_runs_no_validator_is_none() -> None:
    node = SmallNode()
    node.network = network_of([1], peers=(peer_view(7, clock_skew_ms=None, round_trip_ms=None),))

    async def body(client: Client) -> None:
        (peer,) = await client.call("astralink_peers")
        assert (peer["isValidator"], peer["clockSkewMs"], peer["rttMs"]) == (False, None, None)
        assert peer["validatorIndex"] is None
        assert (await client.call("astralink_netStatus"))["validatorsConnected"] == "0x0"

    with_client(body, node=node)


def test_the_missing_of_consensus_are_joined_to_the_network() -> None:
    node = SmallNode()
    node.network = network_of([2])
    node.consensus_state = waiting("propose")

    async def body(client: Client) -> None:
        shown = await client.call("astralink_consensusState")
        assert [(each["index"], each["isConnected"]) for each in shown["missing"]] == [("0x1", False)]
        assert "no proposal of #1 0xa1a1a1a1.. not connected" in shown["explanation"]

    with_client(body, node=node)


def test_who_is_away_is_shown_whatever_the_step_waits_for() -> None:
    node = SmallNode()
    node.network = network_of([3])
    members = tuple(replace(member, last_height=800 + at, is_away=at > 1) for at, member in enumerate(MEMBERS))
    node.consensus_state = waiting("new_height", members=members)

    async def body(client: Client) -> None:
        shown = await client.call("astralink_consensusState")
        assert shown["missing"] == []
        found = [(each["index"], each["isConnected"], each["lastVoteNumber"]) for each in shown["away"]]
        assert found == [("0x2", False, hex(802)), ("0x3", True, hex(803))]

    with_client(body, node=node)


def test_the_doctor_joins_what_peers_found_when_they_dialled_back() -> None:
    node = SmallNode()
    node.network = network_of(
        [1, 2], refused=(RefusedPeer("node9", "another chain: genesis 0xab", 1_000, was_sought=True),)
    )
    bootnodes = (BootnodeView(ADDRESS, False, "refused", 2_000), BootnodeView(ADDRESS, True, "", 0))
    node.network = replace(node.network, bootnodes=bootnodes)
    node.dialed_back = (
        DialedBack("node1", ADDRESS, "failed", "no answer within 8 s"),
        DialedBack("node2", ADDRESS, "unanswered", "no answer in time"),
    )

    async def body(client: Client) -> None:
        found = await client.call("astralink_netDoctor")
        assert found["genesisHash"] == hexed(node.genesis_hash)
        assert found["clockLimitMs"] == hex(250)
        assert found["peers"][0] == {
            "peerId": "node1",
            "genesisMatches": True,
            "forksMatch": True,
            "clockSkewMs": 10,
        }
        assert found["refused"] == [
            {"peerId": "node9", "reason": "another chain: genesis 0xab", "atMs": "0x3e8", "wasSought": True}
        ]
        assert found["bootnodes"] == [
            {"address": ADDRESS, "isConnected": False, "trouble": "refused", "atMs": "0x7d0"},
            {"address": ADDRESS, "isConnected": True, "trouble": None, "atMs": None},
        ]
        assert found["dialBack"][0] == {
            "peerId": "node1",
            "address": ADDRESS,
            "outcome": "failed",
            "detail": "no answer within 8 s",
        }
        assert [problem.split(":")[0] for problem in found["problems"]] == [
            "peer node9 was refused",
            f"{ADDRESS} was not reached by 1 of the peers asked (no answer within 8 s)",
        ]

    with_client(body, node=node)


@pytest.mark.parametrize("method", ["astralink_peers", "astralink_netStatus", "astralink_netDoctor", "eth_syncing"])
def test_a_node_that_cannot_answer_is_an_error(method: str) -> None:
    class Stopping(SmallNode):
        def reply(self, request: Request) -> Reply:
            return LinkFailed(f"stopping: {type(request).__name__}")

    async def body(client: Client) -> None:
        assert (await client.error(method))["code"] == SERVER_ERROR

    with_client(body, node=Stopping())


# --- What counts as a problem ----------------------------------------------------------------------------------


def test_a_healthy_network_has_no_problem() -> None:
    reached = [DialedBack("node1", ADDRESS, "reached", "")]
    assert problems_of(network_of([1, 2, 3]), reached) == []


def test_a_stranger_that_was_refused_is_no_problem_of_this_node() -> None:
    refused = (RefusedPeer("node9", "another chain", 1, was_sought=False),)
    assert problems_of(network_of([1, 2], refused=refused), []) == []


def test_one_who_reached_the_address_outweighs_one_who_did_not() -> None:
    reports = [DialedBack("node1", ADDRESS, "failed", "refused"), DialedBack("node2", ADDRESS, "reached", "")]
    assert problems_of(network_of([1, 2]), reports) == []


def test_nobody_who_could_say_is_no_proof_of_a_closed_port() -> None:
    reports = [
        DialedBack("node1", ADDRESS, "refused", "a private address"),
        DialedBack("node2", ADDRESS, "unanswered", ""),
    ]
    assert problems_of(network_of([1, 2]), reports) == []
    (notice,) = notices_of(reports)
    assert notice.startswith("nobody can dial this node")
    assert "--p2p-advertise" in notice


@pytest.mark.parametrize("outcome", ["reached", "failed"])
def test_one_who_could_say_makes_the_notice_needless(outcome: str) -> None:
    reports = [DialedBack("node1", ADDRESS, "unanswered", ""), DialedBack("node2", ADDRESS, outcome, "")]
    assert notices_of(reports) == []
    assert notices_of([]) == []


def test_no_peers_and_no_address_are_problems() -> None:
    lonely, unnamed = problems_of(network_of([], advertised_addresses=()), [])
    assert lonely.startswith("no peer is connected")
    assert unnamed.startswith("no address is advertised")


@pytest.mark.parametrize(
    ("skews", "off"), [((251, 251), True), ((250, 250), False), ((-251, -300), True), ((0, 9999), False), ((), False)]
)
def test_the_clock_is_judged_by_the_median_of_the_peers(skews: tuple[int, ...], off: bool) -> None:
    peers = tuple(peer_view(index + 1, clock_skew_ms=skew) for index, skew in enumerate(skews))
    network = network_of([], peers=peers)
    assert is_clock_off(network) is off
    assert any("clock" in problem for problem in problems_of(network, [])) is off


def test_whether_this_clock_is_behind_or_ahead_is_told() -> None:
    assert "800 ms behind" in problems_of(network_of([], peers=(peer_view(1, clock_skew_ms=800),)), [])[0]
    assert "800 ms ahead of" in problems_of(network_of([], peers=(peer_view(1, clock_skew_ms=-800),)), [])[0]


def test_peers_with_another_genesis_or_other_forks_are_named() -> None:
    peers = (peer_view(1, genesis_matches=False), peer_view(2, forks_match=False))
    first, second = problems_of(network_of([], peers=peers), [])
    assert first.startswith("peer node1 has another genesis")
    assert second.startswith("peer node2 applies other forks")
