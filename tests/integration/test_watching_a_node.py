"""The verbs that look at a node, and its metrics, against a devnet in processes of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from astralink_node.gateway.stall import LEAST_STALL_MS
from tests.support.node_process import NodeProcess, await_that, run_verb


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A devnet whose execution process is held, so that nothing can be built; that shows after ten seconds."""
    folder = tmp_path_factory.mktemp("held")
    arguments = ("devnet", "--dir", str(folder / "chain"), "--rpc-port", "0", "--block-interval-ms", "200", "--json")
    with NodeProcess(folder / "log", *arguments) as node:
        node.await_ready().await_height(1)
        execution = node.child("astralink_node.chain.process")
        os.kill(execution, signal.SIGSTOP)
        try:
            yield node
        finally:
            os.kill(execution, signal.SIGCONT)


@pytest.mark.usefixtures("held")
def test_a_healthy_devnet_its_metrics_and_what_is_said_when_it_is_gone(tmp_path: Path) -> None:
    arguments = (
        "devnet",
        "--dir",
        str(tmp_path / "chain"),
        "--rpc-port",
        "0",
        "--block-interval-ms",
        "200",
        "--metrics",
    )
    with NodeProcess(tmp_path / "log", *arguments, "--json") as node:
        node.await_ready()
        node.await_height(3)
        url = node.ready["rpcUrl"]

        status = run_verb("status", "--rpc-url", url, "--json")
        shown = json.loads(status.stdout)
        assert (status.returncode, status.stderr, shown["problems"]) == (0, "", [])
        assert int(shown["node"]["headNumber"], 16) >= 2
        assert shown["consensus"]["isSigning"] is True
        assert shown["network"]["peerId"] is None

        overview = run_verb("status", "--rpc-url", url)
        assert overview.returncode == 0
        assert overview.stdout.splitlines()[-1] == "Health      good"
        consensus = run_verb("consensus", "status", "--rpc-url", url)
        assert (consensus.returncode, consensus.stderr) == (0, "")
        assert "Validator   yes, signing" in consensus.stdout
        peers = run_verb("peers", "--rpc-url", url)
        assert (peers.returncode, peers.stdout) == (0, "this node runs without a network\n")
        doctor = run_verb("net", "doctor", "--rpc-url", url)
        assert (doctor.returncode, doctor.stdout) == (
            0,
            "Network     this node runs without one: there is nothing to check\n",
        )

        metrics = scraped(url)
        assert metrics["astralink_head_height"] >= 2
        assert metrics["astralink_head_age_seconds"] < 10
        assert metrics["astralink_block_interval_seconds_count"] >= 2
        assert metrics["astralink_proposal_to_commit_seconds_count"] >= 2
        assert metrics["astralink_wal_sync_seconds_count"] >= 2
        assert metrics["astralink_is_signing"] == 1
        for process in ("node", "execution", "gateway"):
            assert metrics[f'astralink_process_resident_memory_bytes{{process="{process}"}}'] > 10 << 20
            assert metrics[f'astralink_process_open_fds{{process="{process}"}}'] > 3

        node.stop()
        gone = run_verb("status", "--rpc-url", url)
        assert (gone.returncode, gone.stdout) == (69, "")
        assert gone.stderr == f"error: no node answers at {url}: Connection refused\n"


def test_a_chain_that_stands_still_is_told_by_the_log_and_by_exit_code_1(held: NodeProcess) -> None:
    lines = [line for line in held.await_said("no new block").splitlines() if "no new block" in line]
    assert "WARN" in lines[0]
    assert "height" in lines[0]
    stood = re.search(r" for_s=(\d+) ", lines[0])
    assert stood is not None
    assert 1000 * int(stood[1]) >= LEAST_STALL_MS, "said too early"

    def unhealthy() -> bool:
        return run_verb("status", "--rpc-url", held.ready["rpcUrl"]).returncode == 1

    await_that(unhealthy, lambda: "status never called the node unhealthy")
    os.kill(held.child("astralink_node.chain.process"), signal.SIGCONT)
    held.await_said("the chain goes on")


def scraped(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}
