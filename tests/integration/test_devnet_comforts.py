"""A devnet process as a developer uses it: faucet, unlocked accounts, the live view, Ctrl-C on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.chains import genesis_text
from tests.support.node_process import NODE, STOP_LIMIT_S, NodeProcess, run_verb

PERSON = "0x00000000000000000000000000000000000000AB"
ALICE = f"0x{DEVNET_ACCOUNTS[0].address.hex()}"
TERMINAL_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One that mines at once, and only then."""
    folder = tmp_path_factory.mktemp("comforts")
    arguments = ("devnet", "--dir", str(folder / "chain"), "--rpc-port", "0", "--instant", "--json")
    with NodeProcess(folder / "log", *arguments) as node:
        yield node.await_ready()
        node.stop()


def test_a_sent_transaction_has_its_receipt_when_it_is_answered(devnet: NodeProcess) -> None:
    for _ in range(3):
        transaction_hash = devnet.call("eth_sendTransaction", {"from": ALICE, "to": PERSON, "value": "0x1"})
        assert devnet.call("eth_getTransactionReceipt", transaction_hash)["status"] == "0x1"


def test_the_faucet_verb_sends_and_waits(devnet: NodeProcess) -> None:
    before = devnet.call("eth_getBalance", PERSON, "latest")
    result = run_verb("faucet", PERSON.lower(), "2.5", "--rpc-url", devnet.ready["rpcUrl"], "--json")
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["amountWei"] == str(25 * 10**17)
    assert int(shown["balanceWei"]) - int(before, 16) == 25 * 10**17
    assert devnet.call("eth_getTransactionReceipt", shown["transactionHash"])["blockNumber"] == hex(
        shown["blockNumber"]
    )


def test_the_faucet_verb_says_what_is_wrong(devnet: NodeProcess) -> None:
    url = devnet.ready["rpcUrl"]
    result = run_verb("faucet", PERSON.lower(), "250", "--rpc-url", url)
    assert (result.returncode, "amount: expected 1 wei to 100 BWT" in result.stderr) == (2, True)
    result = run_verb("faucet", "0xab", "--rpc-url", url)
    assert (result.returncode, result.stderr.startswith("error: address: ")) == (2, True)


def test_blocks_are_followed_in_a_pipe_as_they_come(devnet: NodeProcess) -> None:
    command = [sys.executable, "-m", NODE, "watch", "--rpc-url", devnet.ready["rpcUrl"], "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        head = json.loads(watch.stdout.readline())["number"]
        devnet.call("eth_sendTransaction", {"from": ALICE, "to": PERSON, "value": "0x1"})
        block = json.loads(watch.stdout.readline())
        assert (block["number"], block["transactions"], block["gasUsed"]) == (head + 1, 1, 21_000)
        watch.send_signal(signal.SIGINT)
        assert watch.wait(STOP_LIMIT_S) == 0


def test_a_running_devnet_is_watched_where_it_answers_whatever_the_flags_say(devnet: NodeProcess) -> None:
    folder = str(devnet.ready["dataDir"])
    command = [sys.executable, "-m", NODE, "devnet", "--dir", folder, "--watch", "--rpc-port", "1", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        assert (
            json.loads(watch.stdout.readline())["hash"] == devnet.call("eth_getBlockByNumber", "latest", False)["hash"]
        )
        watch.send_signal(signal.SIGINT)
        assert watch.wait(STOP_LIMIT_S) == 0


def test_accounts_are_unlocked_on_a_devnet_alone(tmp_path: Path) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_bytes(genesis_text())
    folder = tmp_path / "node"
    assert run_verb("init", "--data-dir", str(folder), str(genesis)).returncode == 0
    result = run_verb("start", "--data-dir", str(folder), "--unlocked-dev-accounts")
    assert result.returncode == 2
    assert "is no devnet: nobody signs for its accounts here" in result.stderr


def test_ctrl_c_ends_a_watched_devnet_quickly_and_leaves_the_terminal_whole(tmp_path: Path) -> None:
    ours, its = pty.openpty()
    command = [sys.executable, "-m", NODE, "devnet", "--dir", str(tmp_path / "chain"), "--rpc-port", "0", "--watch"]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True) as process:
        os.close(its)
        written = read_until(ours, rb"#\d+ .{50,}ago\r")
        assert b"Private keys" in written
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_LIMIT_S) == 0
        written += read_until_closed(ours)
    os.close(ours)
    assert written.endswith(b"ago\r\nstopped\r\n")
    assert b"asking again" not in written
    assert re.search(rb"\x1b\[\?", written) is None, "no mode of the terminal was changed"


def read_until(terminal: int, pattern: bytes) -> bytes:
    written, deadline = b"", time.monotonic() + TERMINAL_TIMEOUT_S
    while re.search(pattern, written) is None:
        assert select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0], written
        written += os.read(terminal, 65_536)
    return written


def read_until_closed(terminal: int) -> bytes:
    """Linux says EIO where nobody has the other end open any more."""
    written = b""
    while True:
        try:
            data = os.read(terminal, 65_536)
        except OSError:
            return written
        if not data:
            return written
        written += data
