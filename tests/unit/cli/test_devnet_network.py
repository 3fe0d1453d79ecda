"""`devnet --validators N` as far as it starts nothing: each member's command, the ports, when the network is up."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_one_way_pair

from astralink_node.cli import devnet_network
from astralink_node.cli.devnet_network import (
    MAX_VALIDATORS,
    READY_TIMEOUT_S,
    Member,
    NetworkFailed,
    Welcome,
    left_running,
    members_of,
    run_network,
)
from astralink_node.cli.settings import settings_from
from astralink_node.cli.start import start
from astralink_node.config import (
    BlocksConfig,
    HistoryConfig,
    LogConfig,
    MetricsConfig,
    NodeConfig,
    P2pConfig,
    RpcConfig,
)
from astralink_node.errors import UserError
from astralink_node.services.data_folder import DataFolder, FolderLock
from p2p.addresses import parse_address
from p2p.identity import load_or_create_identity

PASSWORD = "validator-password"
OTHER_THAN_DEFAULT = NodeConfig(
    rpc=RpcConfig(
        host="0.0.0.0",
        port=0,
        api=("eth", "txpool"),
        cors_origins=("*",),
        vhosts=("rpc.example",),
        rate_limit=7,
        gas_cap=30_000_000,
    ),
    blocks=BlocksConfig(interval_ms=250, on_demand=True, empty=False, fee_recipient="0x" + "ab" * 20),
    history=HistoryConfig(archive=True),
    p2p=P2pConfig(host="127.0.0.1", port=0),
    metrics=MetricsConfig(enabled=True),
    log=LogConfig(level="debug", format="json"),
)


def folders_in(place: Path, count: int) -> list[DataFolder]:
    found = [DataFolder(place / f"node{number}") for number in range(count)]
    for folder in found:
        folder.root.mkdir()
        (folder.root / PASSWORD).touch()
    return found


def settings_of(command: Sequence[str]) -> tuple[NodeConfig, dict[str, Any]]:
    """What `start` makes of a member's command: the settings, and its other arguments."""
    assert command[:4] == [sys.executable, "-m", "astralink_node.cli.main", "start"]
    flags = start.make_context("start", list(command[4:])).params
    names = (
        "data_dir",
        "config_file",
        "genesis_file",
        "trust",
        "password_file",
        "new_signing_history",
        "unlocked_dev_accounts",
        "stop_at_eof",
        "as_json",
    )
    others = {name: flags.pop(name) for name in names}
    return settings_from(others["data_dir"], others["config_file"], flags).config, others


# --- Commands and ports --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [NodeConfig(), OTHER_THAN_DEFAULT], ids=["defaults", "others"])
def test_a_members_command_starts_a_node_with_the_settings_of_the_network(
    tmp_path: Path, config: NodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASTRALINK_P2P_ENABLED", "false")
    members = members_of(folders_in(tmp_path, 3), PASSWORD, config)
    for member in members:
        others = [other for other in members if other is not member]
        found, arguments = settings_of(member.command(others, config))
        assert arguments["data_dir"] == member.folder.root
        assert arguments["password_file"] == member.folder.root / PASSWORD
        assert (arguments["stop_at_eof"], arguments["as_json"]) == (False, True)
        assert (found.rpc.host, found.rpc.port, found.rpc.api) == (config.rpc.host, member.rpc_port, config.rpc.api)
        assert (found.p2p.enabled, found.p2p.host, found.p2p.port) == (True, "127.0.0.1", member.p2p.port)
        assert found.p2p.bootnodes == tuple(str(other.p2p) for other in others)
        assert found.blocks == config.blocks
        assert found.history == config.history
        assert found.metrics == config.metrics
        assert found.log == config.log


@pytest.mark.parametrize("config", [NodeConfig(), OTHER_THAN_DEFAULT], ids=["defaults", "others"])
def test_the_command_for_people_says_the_same_without_what_goes_without_saying(
    tmp_path: Path, config: NodeConfig
) -> None:
    first, *others = members_of(folders_in(tmp_path, 3), PASSWORD, config)
    shown = first.command_by_hand(others, config)
    found, arguments = settings_of(shown)
    expected, _ = settings_of(first.command(others, config))
    assert found == expected
    assert (arguments["stop_at_eof"], arguments["as_json"]) == (False, False)
    if config == NodeConfig():
        bootnodes = [part for other in others for part in ("--bootnode", str(other.p2p))]
        assert shown[4:] == [
            "--data-dir",
            str(first.folder.root),
            "--password-file",
            str(first.folder.root / PASSWORD),
            "--p2p-host",
            "127.0.0.1",
            *bootnodes,
        ]


@pytest.mark.parametrize("unlocked", [True, False])
def test_members_unlock_the_test_accounts_where_the_network_does(tmp_path: Path, unlocked: bool) -> None:
    first, *others = members_of(folders_in(tmp_path, 2), PASSWORD, NodeConfig(), unlocks_dev_accounts=unlocked)
    assert settings_of(first.command(others, NodeConfig()))[1]["unlocked_dev_accounts"] is unlocked


def test_nodes_that_others_started_on_the_networks_folders_are_named_at_its_end(tmp_path: Path) -> None:
    members = members_of(folders_in(tmp_path, 2), PASSWORD, NodeConfig())
    assert left_running(members) == [], "no node ever ran there"
    for member in members:
        with FolderLock(member.folder):
            assert left_running(members) == [
                f"process {os.getpid()} still runs on {member.folder.root}: it was started by hand, and is stopped by "
                "itself"
            ]
    assert left_running(members) == []


def test_members_know_each_other_by_the_keys_in_their_folders(tmp_path: Path) -> None:
    folders = folders_in(tmp_path, 4)
    members = members_of(folders, PASSWORD, NodeConfig())
    assert [member.number for member in members] == [0, 1, 2, 3]
    assert len({member.p2p.peer for member in members}) == 4
    for member, folder in zip(members, folders, strict=True):
        assert member.p2p.peer == load_or_create_identity(folder.node_key).peer_id
        assert parse_address(str(member.p2p)) == member.p2p
    again = members_of(folders, PASSWORD, NodeConfig())
    assert again == members


def test_ports_follow_one_another_from_the_settings(tmp_path: Path) -> None:
    config = NodeConfig(rpc=RpcConfig(port=9_000), p2p=P2pConfig(port=31_000))
    members = members_of(folders_in(tmp_path, 3), PASSWORD, config)
    assert [member.rpc_port for member in members] == [9_000, 9_001, 9_002]
    assert [member.p2p.port for member in members] == [31_000, 31_001, 31_002]


def test_ports_that_the_system_chooses_are_all_different(tmp_path: Path) -> None:
    config = NodeConfig(rpc=RpcConfig(port=0), p2p=P2pConfig(port=0))
    members = members_of(folders_in(tmp_path, MAX_VALIDATORS), PASSWORD, config)
    assert {member.rpc_port for member in members} == {0}
    assert len({member.p2p.port for member in members}) == MAX_VALIDATORS


def test_a_network_whose_ports_would_pass_the_last_one_is_refused(tmp_path: Path) -> None:
    config = NodeConfig(p2p=P2pConfig(port=65_534))
    with pytest.raises(UserError, match=r"p2p.port: 3 nodes from port 65534 on: expected at most port 65535"):
        members_of(folders_in(tmp_path, 3), PASSWORD, config)


# --- When it is up -------------------------------------------------------------------------------------------------


def test_the_network_is_welcomed_once_when_all_serve_in_the_order_of_their_numbers() -> None:
    told: list[list[dict[str, Any]]] = []
    welcome = Welcome(3, told.append)
    for number in (2, 0):
        welcome.ready(number, {"rpc": number})
    welcome.ready(2, {"rpc": "again"})
    assert told == []
    assert not welcome.done.is_set()
    welcome.ready(1, {"rpc": 1})
    assert told == [[{"rpc": 0}, {"rpc": 1}, {"rpc": "again"}]]
    assert welcome.done.is_set()
    welcome.ready(1, {"rpc": "later"})
    assert len(told) == 1


def test_a_network_that_does_not_come_up_in_time_has_failed() -> None:
    async def main() -> None:
        started = trio.current_time()
        with pytest.raises(NetworkFailed, match="did not come up within 120 s: see what the nodes say above"):
            await devnet_network._expect_ready(Welcome(1, print))
        assert trio.current_time() - started == READY_TIMEOUT_S

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_member_that_ends_before_the_network_is_up_fails_it_with_its_number_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Member, "command", lambda *_: [sys.executable, "-c", "raise SystemExit(7)"])
    members = members_of(folders_in(tmp_path, 1), PASSWORD, NodeConfig(p2p=P2pConfig(port=0)))
    with pytest.raises(NetworkFailed, match="node 0 ended with code 7 before the network was up"):
        run_network(members, NodeConfig(), Welcome(1, print), lambda: None)


def test_who_is_left_of_the_network_is_said_and_none_is_an_error() -> None:
    welcome = Welcome(4, print)
    welcome.ended = 1
    assert welcome.others() == "the others go on"
    welcome.ended = 2
    assert welcome.others() == ("of those that this command started, the 2 that are left are too few to make blocks")
    welcome.ended = 4
    with pytest.raises(NetworkFailed, match="every node of the network has ended"):
        welcome.others()


def test_what_a_member_says_comes_line_by_line_the_last_one_too() -> None:
    async def main() -> list[str]:
        sender, receiver = memory_stream_one_way_pair()
        for piece in (
            b"one\ntw",
            b"o\n\n",
            "grün\n".encode()[:3],
            "grün\n".encode()[3:],
            b"the end without a line feed",
        ):
            await sender.send_all(piece)
        await sender.aclose()
        return [line async for line in devnet_network._lines(receiver)]

    assert trio.run(main) == ["one", "two", "", "grün", "the end without a line feed"]


def test_a_member_that_says_one_endless_line_takes_no_endless_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devnet_network, "_LINE_BYTES", 10)

    async def main() -> list[str]:
        sender, receiver = memory_stream_one_way_pair()
        for _ in range(100):
            await sender.send_all(b"0123456")
        await sender.send_all(b"\nshort\n")
        await sender.aclose()
        return [line async for line in devnet_network._lines(receiver)]

    long, short = trio.run(main)
    assert len(long) <= 10
    assert short == "short"
