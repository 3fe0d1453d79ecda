"""The verbs that look at a running node: what they print, when they call it unhealthy, and what they say when nobody
answers. The node is a small HTTP server that gives prepared answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from astralink_node.cli import main
from astralink_node.cli.node_health import duration
from tests.support import watched_answers as answers

NOW_S = 1_700_000_000


class PreparedNode:
    """Answers JSON-RPC methods with what is prepared; others do not exist."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = answers.healthy(NOW_S)
        self.raw: bytes | None = None
        self.status = 200
        self.error: dict[str, Any] | None = None
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                body = node.answer(request["method"]) if node.raw is None else node.raw
                self.send_response(node.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing to the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method: str) -> bytes:
        if self.error is not None:
            return json.dumps({"jsonrpc": "2.0", "id": 1, "error": self.error}).encode()
        if method not in self.results:
            return json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "none"}}).encode()
        return json.dumps({"jsonrpc": "2.0", "id": 1, "result": self.results[method]}).encode()


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[PreparedNode]:
    for verb in ("status", "consensus", "peers", "net"):
        monkeypatch.setattr(f"astralink_node.cli.{verb}.now_ms", lambda: 1000 * NOW_S)
    prepared = PreparedNode()
    thread = threading.Thread(target=prepared.server.serve_forever, args=(0.01,))
    thread.start()
    yield prepared
    prepared.server.shutdown()
    prepared.server.server_close()
    thread.join()


@pytest.fixture
def seen(node: PreparedNode, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a verb: (exit code, stdout, stderr)."""

    def run(*verb: str) -> tuple[int, str, str]:
        code = main.run([*verb, "--rpc-url", node.url])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


VERBS = [["status"], ["consensus", "status"], ["peers"], ["net", "doctor"]]


def lines_of(text: str) -> list[str]:
    return text.rstrip("\n").split("\n")


# --- status ----------------------------------------------------------------------------------------------------


def test_status_of_a_healthy_validator(seen: Any) -> None:
    code, out, err = seen("status")
    assert (code, err) == (0, "")
    assert lines_of(out) == [
        "Node        astralink/test",
        "Chain       1234, genesis 0xabababababababab..",
        "Head        811, 0xcdcdcdcdcdcdcdcd.., 0 s ago",
        "Listens     for other nodes on every address of this machine, port 30400",
        "Peers       2, 2 of 3 other validators connected",
        "Sync        keeps up",
        "Validator   yes, signing",
        "Mempool     7 pending, 0 queued",
        "Consensus   height 812 waits for its turn since 0 s",
        "Health      good",
    ]


def test_status_as_json_holds_the_answers_and_the_verdict(seen: Any, node: PreparedNode) -> None:
    code, out, _ = seen("status", "--json")
    shown = json.loads(out)
    assert code == 0
    assert (shown["healthy"], shown["problems"]) == (True, [])
    assert shown["node"] == node.results["astralink_nodeStatus"]
    assert shown["headAgeSeconds"] == 0


def gone(index: int, **fields: Any) -> dict[str, Any]:
    key, operator = "0x" + f"a{index}" * 48, "0x" + f"b{index}" * 20
    known = {"isSelf": False, "isConnected": False, "lastVote": None, "lastVoteNumber": hex(8_202)}
    return {"index": hex(index), "votingKey": key, "operator": operator} | known | fields


def test_who_is_away_is_named_while_the_chain_goes_on(seen: Any, node: PreparedNode) -> None:
    away = node.results["astralink_consensusState"]["away"]
    away += [gone(1), gone(2, isConnected=None, lastVoteNumber=None), gone(3, isConnected=True)]
    lines = [
        "#1 0xa1a1a1a1.. no vote since height 8,202, not connected",
        "#2 0xa2a2a2a2.. no vote since this node started, its node is not known",
        "#3 0xa3a3a3a3.. no vote since height 8,202, connected",
    ]
    code, out, _ = seen("status")
    assert code == 0
    assert [line[12:] for line in lines_of(out)[-4:-1]] == lines
    assert [line[:12].strip() for line in lines_of(out)[-4:]] == ["Away", "", "", "Health"]
    _, out, _ = seen("consensus", "status")
    shown = lines_of(out)
    assert shown[shown.index("Away") + 1 :][:3] == [f"  {line}" for line in lines]
    away += [gone(0, isSelf=True, isConnected=None), *[gone(4)] * 6]
    assert "            #0 0xa0a0a0a0.. no vote since height 8,202, this node" in lines_of(seen("status")[1])
    assert "            and 2 more: see `consensus status`" in lines_of(seen("status")[1])


def test_a_vote_at_this_height_is_told_from_none_at_it(seen: Any, node: PreparedNode) -> None:
    state = node.results["astralink_consensusState"] = answers.stalled(NOW_S)
    for fields, told in (
        ({"lastVote": "prevote of round 2"}, "last vote: prevote of round 2"),
        ({"lastVoteNumber": None}, "no vote at this height"),
    ):
        state["missing"] = [gone(3, **fields)]
        (line,) = [each for each in lines_of(seen("consensus", "status")[1]) if each.startswith("  #3")]
        assert line.endswith(f"not connected  {told}")


def test_a_chain_that_stands_still_is_unhealthy_and_explained_once(seen: Any, node: PreparedNode) -> None:
    node.results["astralink_nodeStatus"]["headTimestamp"] = hex(NOW_S - 300)
    node.results["astralink_consensusState"] = answers.stalled(NOW_S)
    code, out, _ = seen("status")
    assert code == 1
    assert lines_of(out)[-2:] == [
        "Consensus   height 812 round 3 waits in prevote since 12 s: 1 of 4 validators silent (#3 0xa3a3a3a3.. "
        "not connected)",
        "Health      no block for 5 min",
    ]
    _, out, _ = seen("status", "--json")
    assert json.loads(out)["problems"] == [
        "no block for 5 min: height 812 round 3 waits in prevote since 12 s: 1 of 4 validators silent (#3 0xa3a3a3a3.. "
        "not connected)"
    ]


def test_a_chain_on_demand_that_nobody_uses_is_healthy(seen: Any, node: PreparedNode) -> None:
    status = node.results["astralink_nodeStatus"]
    status |= {"headTimestamp": hex(NOW_S - 300), "blockIntervalMs": "0x0", "pendingTransactions": "0x0"}
    assert seen("status")[0] == 0
    status["pendingTransactions"] = "0x1"
    assert seen("status")[0] == 1


def test_a_node_that_catches_up_or_does_not_sign_is_not_well(seen: Any, node: PreparedNode) -> None:
    node.results["astralink_netStatus"]["syncing"] = {"current": "0x32b", "highest": "0x1388"}
    code, out, _ = seen("status")
    assert code == 1
    assert "Sync        at 811 of 5,000 (16 %)" in out
    assert lines_of(out)[-1] == "Health      catching up: 811 of 5,000"
    node.results["astralink_netStatus"]["syncing"] = None
    node.results["astralink_consensusState"]["isSigning"] = False
    code, out, _ = seen("status")
    assert code == 1
    assert "Validator   yes, not signing yet" in out
    assert "does not sign yet" in lines_of(out)[-1]


def test_a_node_without_peers_does_not_claim_to_keep_up(seen: Any, node: PreparedNode) -> None:
    node.results["astralink_netStatus"]["peers"] = "0x0"
    assert "Sync        nobody to compare with" in lines_of(seen("status")[1])
    node.results["astralink_netStatus"]["peerId"] = None
    assert "Sync        keeps up" in lines_of(seen("status")[1]), "a chain of its own"


def test_a_node_alone_that_recovers(seen: Any, node: PreparedNode) -> None:
    node.results["astralink_consensusState"] = None
    node.results["astralink_netStatus"] |= {
        "peerId": None,
        "listenAddresses": [],
        "peers": "0x0",
        "validatorsKnown": "0x0",
    }
    code, out, _ = seen("status")
    assert code == 0
    assert "Peers       none: this node runs without a network" in out
    assert "Validator   no" in out
    assert "Consensus   not begun" in out
    node.results["astralink_nodeStatus"]["headTimestamp"] = hex(NOW_S - 11)
    code, out, _ = seen("status")
    assert code == 1
    assert "consensus has not begun on this node" in out


# --- consensus status ------------------------------------------------------------------------------------------


def test_votes_and_the_missing_are_a_table(seen: Any, node: PreparedNode) -> None:
    node.results["astralink_nodeStatus"]["headTimestamp"] = hex(NOW_S - 60)
    node.results["astralink_consensusState"] = answers.stalled(NOW_S)
    code, out, err = seen("consensus", "status")
    assert (code, err) == (1, "")
    lines = lines_of(out)
    assert lines[:2] == ["Height      812", "Round       3, proposer #1"]
    assert lines[2] in ("Step        prevote since 12 s", "Step        prevote since 13 s")
    assert (
        lines[3:]
        == [
            "Locked      0x0b0b0b0b.. since round 2",
            "Valid       nothing",
            "Validator   yes, signing",
            "",
            "Round  Proposer  Prevotes                                       Precommits",
            "    2  #0        0x0b0b0b0b.. 75 % (#0 #1 #2)                   nil 25 % (#1)",
            "    3  #1        0x0b0b0b0b.. 50 % (#0 #1), nil 25 % (#2)       -",
            "",
            "Missing now",
            "  #3    key 0xa3a3a3a3a3a3a3a3..  operator 0xb3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3b3  "
            "not connected  no vote at this height, the last one at 811",
            "",
            "height 812 round 3 waits in prevote since 12 s: 1 of 4 validators silent (#3 0xa3a3a3a3.. not connected)",
            "Health      no block for 60 s",
        ]
        or lines[-1] == "Health      no block for 61 s"
    )


def test_a_node_without_consensus_is_an_error_that_says_so(seen: Any, node: PreparedNode) -> None:
    node.results["astralink_consensusState"] = None
    code, out, err = seen("consensus", "status")
    assert (code, out) == (2, "")
    assert err.startswith("error: consensus has not begun on this node")
    code, out, _ = seen("consensus", "status", "--json")
    assert json.loads(out)["state"] is None


# --- peers -----------------------------------------------------------------------------------------------------


def test_peers_are_a_table_of_fixed_width(seen: Any) -> None:
    code, out, _ = seen("peers")
    assert code == 0
    assert lines_of(out) == [
        "this node is 12D3KooWOwnOwnOwnOwn",
        "Peer        Dialled     Since   Head said     RTT      Clock Points  Role           Client         Address",
        "..AAAAAAAA  by us       5 min         811    4 ms      +1 ms      0  validator #2   astralink/test "
        "/ip4/192.0.2.1/tcp/30400",
        "..BBBBBBBB  by them      60 s   1,000,000       -          -     25  -              other          "
        "/ip4/192.0.2.2/tcp/50000",
        "Head said: by its last status, which is renewed every 10 s",
    ]


def test_a_client_is_shown_whole_and_the_addresses_stay_one_below_the_other(seen: Any, node: PreparedNode) -> None:
    client = "astralink/v0.1.0/linux-x86_64/python3.11.7"
    node.results["astralink_peers"][0]["client"] = client
    _, head, *rows, _ = lines_of(seen("peers")[1])
    assert client in rows[1]
    assert {row.index("/ip4/") for row in rows} == {head.index("Address")}


def test_no_peers_are_unhealthy_unless_there_is_no_network(seen: Any, node: PreparedNode) -> None:
    node.results["astralink_peers"] = []
    code, out, _ = seen("peers")
    assert (code, lines_of(out)[-1]) == (1, "no peer is connected")
    node.results["astralink_netStatus"]["peerId"] = None
    assert seen("peers")[:2] == (0, "this node runs without a network\n")
    assert json.loads(seen("peers", "--json")[1]) == {"peerId": None, "peers": []}


# --- net doctor ------------------------------------------------------------------------------------------------


def test_doctor_of_a_healthy_node(seen: Any) -> None:
    code, out, _ = seen("net", "doctor")
    assert code == 0
    assert lines_of(out) == [
        "Node        12D3KooWOwnOwnOwnOwn",
        "Genesis     0xabababababababab..; 2 of 2 peers have the same, and the same forks",
        "Clock       12 ms behind the peers' (median); up to 250 ms is fine",
        "Address     /ip4/9.9.9.9/tcp/30400: 1 of 2 peers reached it; ..BBBBBBBB unanswered: no answer in time",
        "Verdict     nothing is wrong",
    ]


def test_a_node_that_nobody_could_dial_is_told_so_and_is_not_unwell(seen: Any, node: PreparedNode) -> None:
    node.results["astralink_netDoctor"] |= {
        "advertisedAddresses": ["/ip4/0.0.0.0/tcp/30400"],
        "dialBack": [],
        "notices": ["nobody can dial this node: give --p2p-advertise"],
    }
    code, out, _ = seen("net", "doctor")
    assert code == 0
    assert lines_of(out)[3:] == [
        "Address     every address of this machine, port 30400: nobody dialled it",
        "Verdict     nobody can dial this node: give --p2p-advertise",
    ]


def refused(**fields: Any) -> dict[str, Any]:
    at_ms = 1000 * (NOW_S - 180)
    return {"peerId": "12D3KooWCCCCCCCC", "reason": "another chain", "atMs": hex(at_ms), "wasSought": True} | fields


def bootnode(trouble: str | None, ago_s: int, **fields: Any) -> dict[str, Any]:
    at_ms = None if trouble is None else hex(1000 * (NOW_S - ago_s))
    return {"address": "/ip4/9.9.9.9/tcp/1/p2p/X", "isConnected": False, "trouble": trouble, "atMs": at_ms} | fields


def test_doctor_lists_what_is_wrong(seen: Any, node: PreparedNode) -> None:
    node.results["astralink_netDoctor"] |= {
        "problems": ["no peer is connected", "no address is advertised"],
        "peers": [],
        "clockSkewMs": None,
        "advertisedAddresses": [],
        "dialBack": [],
        "bootnodes": [bootnode("connection refused", 12), bootnode(None, 0), bootnode(None, 0, isConnected=True)],
        "refused": [refused(wasSought=False), refused(wasSought=True)],
    }
    code, out, _ = seen("net", "doctor")
    assert code == 1
    assert lines_of(out)[2:] == [
        "Clock       no peer to compare it with",
        "Address     none is advertised",
        "Bootnode    /ip4/9.9.9.9/tcp/1/p2p/X: not connected; 12 s ago: connection refused",
        "Bootnode    /ip4/9.9.9.9/tcp/1/p2p/X: not connected yet",
        "Bootnode    /ip4/9.9.9.9/tcp/1/p2p/X: connected",
        "Refused     ..CCCCCCCC, a stranger that dialled this node, 3 min ago: another chain",
        "Refused     ..CCCCCCCC, 3 min ago: another chain",
        "",
        "Problems",
        "  no peer is connected",
        "  no address is advertised",
    ]
    assert json.loads(seen("net", "doctor", "--json")[1])["healthy"] is False


# --- Nobody there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_nobody_who_answers_is_exit_code_69_on_stderr(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refused
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert main.run([*verb, "--rpc-url", url]) == 69
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"error: no node answers at {url}: Connection refused\n")


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b"{}", b'{"error": 7}', b"\xff"])
def test_answers_that_are_no_nodes_are_exit_code_69(seen: Any, node: PreparedNode, raw: bytes) -> None:
    node.raw = raw
    code, out, err = seen("status")
    assert (code, out) == (69, "")
    assert "expected a" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x13/multistream/1.0.0\n", b"x" * 70_000 + b"\r\n"])
def test_something_that_is_no_http_server_is_called_so(greeting: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        assert main.run(["status", "--rpc-url", url]) == 69
        thread.join()
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"error: {url}: expected a node, found something that is no HTTP server\n")


def test_an_http_error_and_a_nodes_own_are_told(seen: Any, node: PreparedNode) -> None:
    node.error = {"code": -32000, "message": "the node could not be asked; try again"}
    assert seen("peers") == (2, "", "error: the node could not be asked; try again\n")
    node.status = 403
    assert seen("peers") == (69, "", f"error: {node.url}: expected a node, found HTTP status 403\n")


def test_a_node_that_does_not_serve_the_method_is_told_what_to_change(seen: Any, node: PreparedNode) -> None:
    node.results.clear()
    code, _, err = seen("status")
    assert code == 2
    assert "does not serve astralink_nodeStatus" in err


@pytest.mark.parametrize("url", ["127.0.0.1:8545", "ws://127.0.0.1", "http://", "file:///etc/passwd"])
def test_a_url_that_is_none_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["status", "--rpc-url", url]) == 2
    assert "--rpc-url: expected http://HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0 s"), (119, "119 s"), (300, "5 min"), (7200, "2 h"), (200_000, "2 days")]
)
def test_durations_are_in_units_for_people(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
