"""Four validators as processes: whichever fault one of them has, the chain continues and all agree on every block.

The tests share one network and leave it whole; each begins with what the one before left, which is the point: a network
lives through one fault after another.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from astralink_node.services.data_folder import DataFolder
from astralink_node.validator.keys import load_public_keys
from p2p.addresses import peer_id_text
from p2p.identity import load_or_create_identity
from tests.support.network_processes import (
    ChainChoice,
    NetworkProcesses,
    await_receipt,
    welcomed_by,
)
from tests.support.node_process import NodeProcess, await_that, children_of, command_of, is_running
from tests.support.transfers import signed_transfer

QUIET_HEIGHTS = 2
"""So many blocks show that the chain goes on."""
ROUND_OF_TURNS = 4
"""So many contain the turn of whoever is away."""
VOTE_TIMEOUT_MS = 300
"""A missing proposer costs twice that at every fourth block."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkProcesses]:
    with NetworkProcesses(tmp_path_factory.mktemp("network"), ChainChoice(vote_timeout_ms=VOTE_TIMEOUT_MS)) as network:
        network.start()
        network.await_height(2)
        yield network


@pytest.fixture
def network(shared: NetworkProcesses) -> NetworkProcesses:
    """Whole, whatever a failed test before has left."""
    for number in list(shared.paused):
        shared.resume(number)
    missing = [number for number in range(len(shared.members)) if number not in shared.nodes]
    if missing:
        shared.start(*missing)
    shared.await_growth(1)
    return shared


def test_killed_validator_is_not_needed_and_catches_up(network: NetworkProcesses) -> None:
    network.await_turn_of(1)
    network.kill(1)
    network.await_growth(ROUND_OF_TURNS)
    network.start(1)
    network.await_growth(QUIET_HEIGHTS)
    network.check_agreement()


def test_paused_validator_is_not_needed_and_catches_up(network: NetworkProcesses) -> None:
    network.await_turn_of(2)
    network.pause(2)
    network.await_growth(ROUND_OF_TURNS)
    network.resume(2)
    network.await_growth(QUIET_HEIGHTS)
    network.check_agreement()


def test_validator_that_is_restarted_goes_on(network: NetworkProcesses) -> None:
    network.stop(3)
    network.start(3)
    network.await_growth(QUIET_HEIGHTS)
    network.check_agreement()


def test_wiped_validator_gets_the_chain_from_the_others_and_signs_on(network: NetworkProcesses) -> None:
    network.await_turn_of(0)
    network.kill(0)
    network.await_growth(1)
    network.wipe(0)
    network.start(0)
    network.await_growth(QUIET_HEIGHTS)
    height = network.check_agreement()
    # Three of four are a quorum only with the one that was wiped: it votes again.
    network.await_turn_of(1)
    network.kill(1)
    network.await_growth(QUIET_HEIGHTS)
    network.start(1)
    network.await_height(height + QUIET_HEIGHTS)
    assert "signing history is new" not in network.nodes[0].said()
    network.check_agreement()


def test_all_four_killed_at_once_recover_by_themselves(network: NetworkProcesses) -> None:
    height = max(network.heights())
    before = network.nodes[0].call("eth_getBlockByNumber", hex(height - 1), False)["hash"]
    network.kill(0, 1, 2, 3)
    network.start()
    network.await_height(height + QUIET_HEIGHTS)
    network.check_agreement()
    assert network.nodes[3].call("eth_getBlockByNumber", hex(height - 1), False)["hash"] == before


def test_node_without_keys_joins_from_genesis_and_one_bootnode(network: NetworkProcesses) -> None:
    with network.follower("follower", network.members[2].p2p) as follower:
        follower.await_ready()
        assert not follower.ready["isValidator"]
        follower.await_height(network.await_growth(QUIET_HEIGHTS))
        network.check_agreement([follower])
        # It was told of one; the others it heard of from there.
        await_that(lambda: len(welcomed_by(follower)) == 4, follower.said)
        # Its own transactions reach those who make blocks.
        transfer = signed_transfer(sender=9, nonce=0)
        follower.call("eth_sendRawTransaction", f"0x{transfer.raw.hex()}")
        await_receipt(network.nodes[0], f"0x{transfer.hash.hex()}")
        follower.stop()


def test_transaction_sent_to_any_node_is_mined_and_seen_on_all(network: NetworkProcesses) -> None:
    sent = {}
    for number, node in sorted(network.nodes.items()):
        transfer = signed_transfer(sender=number, nonce=0)
        sent[number] = node.call("eth_sendRawTransaction", f"0x{transfer.raw.hex()}")
    for number, transaction_hash in sent.items():
        receipts = [await_receipt(node, transaction_hash) for node in network.nodes.values()]
        assert {receipt["status"] for receipt in receipts} == {"0x1"}, f"sent to node {number}"
        assert len({receipt["blockHash"] for receipt in receipts}) == 1, f"sent to node {number}"


def test_stranger_with_another_genesis_is_refused_on_both_sides_and_nothing_else_happens(
    network: NetworkProcesses, tmp_path: Path
) -> None:
    other = json.loads(network.genesis_file.read_text())
    other["mixHash"] = "0x" + "77" * 32
    genesis_file = tmp_path / "other.json"
    genesis_file.write_text(json.dumps(other))
    asked = network.nodes[0]
    with network.follower("stranger", network.members[0].p2p, genesis_file=genesis_file) as stranger:
        stranger.await_ready()
        peer = peer_id_text(load_or_create_identity(network.root / "stranger" / "node.key").peer_id)
        refusal = 'a peer is not welcome peer={} why="another chain: genesis 0x'
        stranger.await_said(refusal.format(network.peer_id(0)))
        asked.await_said(refusal.format(peer))
        network.await_growth(QUIET_HEIGHTS)
        assert not welcomed_by(stranger)
        assert stranger.height() == 0
        assert not any(peer in welcomed_by(node) for node in network.running())
        assert "is banned" not in asked.said()
        stranger.stop()
    network.check_agreement()


def proposer_of(node: NodeProcess) -> str:
    """Of the newest block."""
    return str(node.call("eth_getBlockByNumber", "latest", False)["miner"])


def operator_in(folder: Path) -> str:
    operator = load_public_keys(DataFolder(folder).validator_keys).operator
    assert operator is not None
    return f"0x{operator.hex()}"


def test_devnet_prints_the_command_that_starts_a_killed_member_again(tmp_path: Path) -> None:
    """Two validators are a quorum only together: without one the chain stands, and with it goes on."""
    flags = ("--dir", str(tmp_path / "net"), "--rpc-port", "0", "--p2p-port", "0", "--block-interval-ms", "500")
    with NodeProcess(tmp_path / "devnet.log", "devnet", "--validators", "2", *flags, "--json") as devnet:
        devnet.await_ready().await_height(2)
        member = next(pid for pid in devnet.children() if str(tmp_path / "net" / "node1") in command_of(pid))
        # Right after a block of its own: the next is the other's, who then need not wait for it.
        await_that(lambda: proposer_of(devnet) == operator_in(tmp_path / "net" / "node1"), devnet.said)
        os.kill(member, signal.SIGKILL)
        said = devnet.await_said("To start it again:\n")
        stood = devnet.height()
        command = re.search(r"To start it again:\n\s+(.+)\n", said)
        assert command is not None
        # As a shell takes it apart; the first three run the node's program.
        with NodeProcess(tmp_path / "node1.log", *shlex.split(command[1])[3:], "--json") as again:
            again.await_ready()
            assert again.ready["isValidator"]
            again.await_height(stood + 2)
            devnet.await_height(stood + 2)
            devnet.stop()
            assert f"process {again.process.pid} still runs on {tmp_path / 'net' / 'node1'}" in devnet.said()
            assert devnet.said().endswith("\nstopped\n")
            again.stop()


def test_members_end_with_a_devnet_that_is_killed(tmp_path: Path) -> None:
    flags = ("--dir", str(tmp_path / "net"), "--rpc-port", "0", "--p2p-port", "0", "--block-interval-ms", "500")
    with NodeProcess(tmp_path / "devnet.log", "devnet", "--validators", "2", *flags, "--json") as devnet:
        devnet.await_ready().await_height(1)
        members = devnet.children()
        everybody = [*members, *(child for member in members for child in children_of(member))]
        assert len(everybody) == 2 * 3, "a node, its execution process and its gateway each"
        devnet.process.kill()
        await_that(
            lambda: not any(is_running(pid) for pid in everybody),
            lambda: f"outlived the devnet: {[pid for pid in everybody if is_running(pid)]}",
        )
