"""`devnet` as far as it starts nothing: what its mining flags mean, and what its first screen says."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from astralink_node.cli.devnet import devnet as devnet_verb
from astralink_node.cli.devnet import mining_flags
from astralink_node.cli.devnet_folder import running_on
from astralink_node.cli.devnet_screen import (
    ChainNow,
    chain_at_genesis,
    machine_line,
    network_screen,
    pace,
    read_chain,
    screen,
)
from astralink_node.cli.rpc_client import NodeUnreachable
from astralink_node.config import BlocksConfig, NodeConfig
from astralink_node.crypto.addresses import checksum_address
from astralink_node.errors import UserError
from astralink_node.services.data_folder import DataFolder, FolderLock, LockHolder
from genesis.dev_accounts import DEVNET_ACCOUNTS, DEVNET_MNEMONIC
from genesis.devnet_terms import DEVNET_MIN_BLOCK_INTERVAL_MS, is_devnet
from genesis.presets import devnet
from genesis.schema import GenesisFile
from genesis.sealing import parse_genesis
from tests.support.chains import genesis_text

NODE: dict[str, Any] = {
    "rpcUrl": "http://127.0.0.1:18545",
    "wsUrl": "ws://127.0.0.1:18545",
    "dataDir": "/data/devnet",
    "p2pAddress": "/ip4/127.0.0.1/tcp/30400/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
}


@pytest.fixture(scope="module")
def genesis() -> GenesisFile:
    example = parse_genesis(genesis_text())
    text = devnet(
        example.validators,
        timestamp=1_700_000_000,
        block_interval_ms=1000,
        min_block_interval_ms=DEVNET_MIN_BLOCK_INTERVAL_MS,
        staking=None,
    )
    return parse_genesis(text.encode())


# --- Mining --------------------------------------------------------------------------------------------------------


def test_the_flags_say_what_the_settings_are() -> None:
    assert mining_flags({}, instant=False, block_time_s=None) == {}
    assert mining_flags({}, instant=True, block_time_s=None) == {"blocks__interval_ms": 0}
    assert mining_flags({"blocks__interval_ms": None}, instant=False, block_time_s=2.5) == {
        "blocks__interval_ms": 2500,
        "blocks__on_demand": False,
        "blocks__empty": True,
    }


@pytest.mark.parametrize(
    ("flags", "instant", "block_time_s", "words"),
    [
        ({}, True, 1.0, "--instant and --block-time exclude each other"),
        ({"blocks__interval_ms": 5}, True, None, "--instant says all of --block-interval-ms"),
        ({"blocks__on_demand": False}, False, 1.0, "--block-time says all of --block-interval-ms"),
        ({}, False, 0.0, "--block-time: expected 0.01 to 86400 s, found 0"),
        ({}, False, 1e9, "--block-time: expected 0.01 to 86400 s"),
        ({}, False, float("nan"), "--block-time: expected 0.01 to 86400 s"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(
    flags: dict[str, Any], instant: bool, block_time_s: float | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        mining_flags(flags, instant=instant, block_time_s=block_time_s)


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        (BlocksConfig(interval_ms=0), "at once when a transaction comes"),
        (BlocksConfig(on_demand=True), "at once when a transaction comes, and every 1 s"),
        (BlocksConfig(on_demand=True, empty=False), "at once when a transaction comes"),
        (BlocksConfig(interval_ms=2500), "every 2.5 s"),
        (BlocksConfig(interval_ms=250, empty=False), "every 250 ms if a transaction waits"),
    ],
)
def test_the_screen_says_when_blocks_are_made(blocks: BlocksConfig, words: str) -> None:
    assert pace(NodeConfig(blocks=blocks)) == words


def test_blocks_of_a_devnet_of_one_may_follow_at_once(genesis: GenesisFile) -> None:
    assert genesis.consensus.min_block_interval_ms == 1


def test_only_a_devnet_is_one(genesis: GenesisFile) -> None:
    assert is_devnet(genesis)
    assert not is_devnet(replace(genesis, network_name="mainnet"))
    assert not is_devnet(replace(genesis, chain_id=1))


# --- One that runs already ---------------------------------------------------------------------------------------


def test_of_a_running_network_a_node_that_answers_is_found(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert running_on(folder) is None
    with FolderLock(DataFolder(tmp_path / "node0")), FolderLock(DataFolder(tmp_path / "node1")) as second:
        assert running_on(folder) == LockHolder(str(os.getpid()), "")
        second.note_url("http://127.0.0.1:8546")
        assert running_on(folder) == LockHolder(str(os.getpid()), "http://127.0.0.1:8546")


def test_a_devnet_that_does_not_answer_yet_is_not_watched(tmp_path: Path) -> None:
    with FolderLock(DataFolder(tmp_path)):
        result = CliRunner().invoke(devnet_verb, ["--dir", str(tmp_path), "--watch"])
    assert isinstance(result.exception, UserError)
    assert f"(process {os.getpid()}) answers nobody yet" in str(result.exception)


# --- The screen ----------------------------------------------------------------------------------------------------


def test_the_screen_of_one_validator_has_what_a_developer_needs_on_80_columns(genesis: GenesisFile) -> None:
    now = ChainNow(7, 123_456_789, 30_000_000, (9_999_999_900_000_000_000_000, *(10**18,) * 9))
    shown = screen(NODE, genesis, NodeConfig(), now, unlocked=True)
    assert max(map(len, shown.splitlines())) <= 80
    for account in DEVNET_ACCOUNTS:
        assert checksum_address(account.address) in shown
        assert f"0x{account.private_key.hex()}" in shown
    for expected in (
        NODE["rpcUrl"],
        NODE["wsUrl"],
        str(genesis.chain_id),
        "0.123 gwei",
        "30,000,000",
        "1700000000",
        "block 7",
        DEVNET_MNEMONIC,
        "9,999.9999 BWT",
        "1.0000 BWT",
        "--unlocked",
        "astralink-node faucet",
    ):
        assert expected in shown


def test_locked_accounts_are_used_by_their_keys_and_have_no_faucet(genesis: GenesisFile) -> None:
    shown = screen(NODE, genesis, NodeConfig(), chain_at_genesis(genesis), unlocked=False)
    assert "--unlocked" not in shown
    assert "faucet" not in shown
    assert f"--private-key 0x{DEVNET_ACCOUNTS[0].private_key.hex()}" in shown


def test_the_screen_of_several_lists_their_nodes(genesis: GenesisFile) -> None:
    nodes = [NODE, {**NODE, "rpcUrl": "http://127.0.0.1:18546", "p2pAddress": "/ip4/127.0.0.1/tcp/30401/p2p/x"}]
    keys = [bytes(48), bytes([1]) * 48]
    shown = network_screen(nodes, "/data", keys, genesis, NodeConfig(), chain_at_genesis(genesis), unlocked=True)
    rows = shown[shown.index("  (0) http") :].splitlines()
    assert all(len(row) <= 80 for row in shown.splitlines() if not row.strip().startswith("/ip4"))
    assert [row.strip() for row in rows[2:6:3]] == [node["p2pAddress"] for node in nodes]
    assert rows[3] == f"  (1) http://127.0.0.1:18546  0x{'01' * 8}..."


def test_scripts_get_one_object(genesis: GenesisFile) -> None:
    alone = json.loads(machine_line([NODE], genesis, NodeConfig(blocks=BlocksConfig(interval_ms=0))))
    assert "nodes" not in alone
    assert (alone["blockIntervalMs"], alone["blocksOnDemand"], len(alone["accounts"])) == (0, True, 10)
    assert json.loads(machine_line([NODE, NODE], genesis, NodeConfig()))["nodes"] == [NODE, NODE]


class Answers:
    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results

    def call(self, method: str, *params: object) -> Any:
        if method not in self.results:
            raise NodeUnreachable("no node")
        return self.results[method]


def test_the_chain_is_read_as_it_is_now_and_as_genesis_has_it_where_nobody_answers(genesis: GenesisFile) -> None:
    head = {"number": "0x7", "gasLimit": "0x64"}
    answers = {"eth_getBlockByNumber": head, "eth_baseFee": "0x5", "eth_getBalance": "0x9"}
    assert read_chain(Answers(answers), genesis) == ChainNow(7, 5, 100, (9,) * 10)
    del answers["eth_getBalance"]
    assert read_chain(Answers(answers), genesis) == chain_at_genesis(genesis)
