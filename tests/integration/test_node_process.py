"""Real node processes on loopback: starting, stopping, dying and coming back, and every start-up error."""

import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from astralink_node.chain.check import check_database
from astralink_node.cli.devnet_folder import PASSWORD_FILE
from astralink_node.cli.main import run
from astralink_node.evm.fork_rules import TX_GAS_CAP
from astralink_node.services.data_folder import DataFolder
from astralink_node.services.supervisor import EXIT_EXECUTION_DIED
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import load_public_keys
from astralink_node.validator.signing_history import history_path
from tests.crash.campaign import transfer
from tests.support.chains import genesis_text
from tests.support.node_process import STOP_LIMIT_S, NodeFailed, NodeProcess, await_that, run_verb
from tests.support.wallets import put_validator

EXECUTION = "astralink_node.chain.process"
GATEWAY = "astralink_node.gateway.server"
ENDLESS_CODE = "5b5f546001015f555f56"
"""Reads slot 0, raises it by one, writes it, for ever: nine steps a turn."""
FAST = ("--block-interval-ms", "50")

Devnet = Callable[..., NodeProcess]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "net"


@pytest.fixture
def devnet(folder: Path, tmp_path: Path) -> Iterator[Devnet]:
    """Starts devnets on one folder; whatever a test leaves running is ended."""
    started: list[NodeProcess] = []

    def start(*arguments: str) -> NodeProcess:
        node = NodeProcess(
            tmp_path / "log", "devnet", "--dir", str(folder), "--rpc-port", "0", "--json", *(arguments or FAST)
        )
        started.append(node)
        return node

    yield start
    for node in started:
        node.__exit__()


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with some blocks in it, made once; tests work on copies."""
    base = tmp_path_factory.mktemp("grown")
    arguments = ("devnet", "--dir", str(base / "net"), "--rpc-port", "0", "--json", *FAST)
    with NodeProcess(base / "log", *arguments) as node:
        node.await_ready()
        node.await_height(3)
        node.stop()
    return base / "net"


@pytest.fixture
def stopped(grown: Path, folder: Path) -> Path:
    """A data folder with some blocks in it, and no node on it."""
    shutil.copytree(grown, folder)
    return folder


def start_on(folder: Path, tmp_path: Path, *arguments: str) -> NodeProcess:
    password = ("--password-file", str(folder / PASSWORD_FILE))
    return NodeProcess(
        tmp_path / "log",
        "start",
        "--data-dir",
        str(folder),
        "--rpc-port",
        "0",
        "--no-p2p",
        "--json",
        *password,
        *arguments,
    )


def refusal_of(node: NodeProcess) -> tuple[int, str]:
    """Exit code and message of a node that must not start."""
    with node:
        code = node.await_exit()
        said = node.said()
    assert "Traceback" not in said
    line = next(line for line in said.splitlines() if line.startswith("error: "))
    return code, line


def whole_height(folder: Path) -> int:
    """The head of a database that a full check finds whole."""
    database = DataFolder(folder).database
    # A killed process is a zombie while its threads still end, and so still has the lock.
    await_that(lambda: is_free(database), lambda: f"{database} stays locked")
    store = open_leveldb(database, create=False)
    try:
        report = check_database(store, lambda *_: None)
    finally:
        store.close()
    assert not report.problems
    return report.head_height


def is_free(database: Path) -> bool:
    descriptor = os.open(database / "astralink.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


# --- Starting and stopping ---------------------------------------------------------------------------------------


def runtime_folder_of(node: NodeProcess) -> Path:
    """Where its sockets are, as the execution process was told."""
    arguments = Path(f"/proc/{node.child(EXECUTION)}/cmdline").read_text().split("\0")
    config = next(argument for argument in arguments if argument.startswith("{"))
    return Path(json.loads(config)["query_socket"]).parent


def test_devnet_serves_stops_in_time_and_keeps_its_chain(devnet: Devnet, folder: Path) -> None:
    first = devnet().await_ready()
    assert first.ready["headHeight"] == 0
    assert len(first.ready["accounts"]) == 10
    assert int(first.call("eth_chainId"), 16) == first.ready["chainId"]
    first.await_height(3)
    block = first.call("eth_getBlockByNumber", "0x2", False)
    assert first.stop() < STOP_LIMIT_S
    second = devnet().await_ready()
    assert second.ready["headHeight"] >= 3
    assert second.ready["genesisHash"] == first.ready["genesisHash"]
    assert second.call("eth_getBlockByNumber", "0x2", False) == block
    sockets = runtime_folder_of(second)
    assert sockets.is_dir()
    assert second.stop(signal.SIGINT) < STOP_LIMIT_S
    assert not sockets.exists()
    assert whole_height(folder) >= 3
    assert (folder / PASSWORD_FILE).stat().st_mode & 0o777 == 0o600


def test_node_stopped_while_it_starts_ends_cleanly(devnet: Devnet, stopped: Path) -> None:
    node = devnet()
    await_that(lambda: len(node.children()) == 2, lambda: f"no children: {node.said()}")
    assert node.stop() < STOP_LIMIT_S
    assert whole_height(stopped) >= 3


def test_a_stop_ends_heavy_traces_and_every_process_ends_by_itself(devnet: Devnet) -> None:
    node = devnet("--instant").await_ready()
    account = node.call("eth_accounts")[0]
    deployed = node.call("eth_sendTransaction", {"from": account, "data": "0x69" + ENDLESS_CODE + "5f52600a6016f3"})
    contract = node.call("eth_getTransactionReceipt", deployed)["contractAddress"]
    heavy = node.call("eth_sendTransaction", {"from": account, "to": contract, "gas": hex(TX_GAS_CAP)})
    node.await_height(2)
    began = threading.Semaphore(0)

    def trace(**config: object) -> bytes:
        with closing(http.client.HTTPConnection(urlsplit(node.ready["rpcUrl"]).netloc)) as connection:
            params = [heavy, {"timeout": "5m", **config}]
            message = {"jsonrpc": "2.0", "id": 1, "method": "debug_traceTransaction", "params": params}
            connection.request("POST", "/", json.dumps(message), {"content-type": "application/json"})
            if config:
                began.release()
                return connection.getresponse().read()
            response = connection.getresponse()
            began.release()
            return response.read()

    with ThreadPoolExecutor(6) as clients:
        answers = [clients.submit(trace) for _ in range(2)]
        for _ in answers:
            began.acquire()
        answers += [clients.submit(trace, tracer="callTracer") for _ in range(4)]
        for _ in range(4):
            began.acquire()
        assert node.stop() < STOP_LIMIT_S
    for answer in answers:
        assert json.loads(answer.result())["error"] == {"code": -32000, "message": "the node is stopping"}
    assert "killed" not in node.said()
    assert "Traceback" not in node.said()


def test_sigterm_to_every_process_at_once_is_a_clean_stop(devnet: Devnet, stopped: Path) -> None:
    node = devnet().await_ready()
    height = node.await_growth()
    for pid in (*node.children(), node.process.pid):  # as systemd and `timeout` do; here in the worst order
        os.kill(pid, signal.SIGTERM)
    assert node.await_exit(STOP_LIMIT_S) == 0
    assert "error" not in node.said()
    node.await_children_gone()
    assert whole_height(stopped) >= height


def test_second_signal_does_not_cut_the_stop_short(devnet: Devnet, stopped: Path) -> None:
    node = devnet().await_ready()
    height = node.await_growth()
    node.process.send_signal(signal.SIGINT)
    node.await_said("stopping")
    node.process.send_signal(signal.SIGINT)
    node.process.send_signal(signal.SIGTERM)
    assert node.await_exit(STOP_LIMIT_S) == 0
    node.await_children_gone()
    assert whole_height(stopped) >= height


def test_reset_begins_a_new_chain_and_keeps_the_keys(devnet: Devnet, stopped: Path) -> None:
    before = json.loads((stopped / "genesis.json").read_text())["astralink"]["validators"]
    old_hash = run_verb("genesis", "show", "--json", str(stopped / "genesis.json")).stdout
    node = devnet("--reset", *FAST).await_ready()
    assert node.ready["headHeight"] == 0
    assert node.ready["genesisHash"] not in old_hash
    node.await_height(1)
    node.stop()
    assert json.loads((stopped / "genesis.json").read_text())["astralink"]["validators"] == before


def test_chain_on_demand_makes_a_block_for_a_transaction_and_none_without(devnet: Devnet) -> None:
    node = devnet("--block-interval-ms", "0").await_ready()
    transaction_hash = node.call("eth_sendRawTransaction", "0x" + transfer(0).hex())
    node.await_height(1)
    receipt = node.call("eth_getTransactionReceipt", transaction_hash)
    assert (receipt["blockNumber"], receipt["status"]) == ("0x1", "0x1")
    assert len(node.call("eth_getBlockByNumber", "0x1", False)["transactions"]) == 1
    # Had an empty block been made since genesis, it would stand in front of this one.
    node.call("eth_sendRawTransaction", "0x" + transfer(1).hex())
    node.await_height(2)
    assert len(node.call("eth_getBlockByNumber", "0x2", False)["transactions"]) == 1
    node.stop()


def test_json_log_has_a_line_for_every_block_and_no_secret(devnet: Devnet, stopped: Path) -> None:
    node = devnet(*FAST, "--log-format", "json").await_ready()
    head = int(node.ready["headHeight"])
    node.await_height(head + 3)
    node.stop()
    events = [json.loads(line) for line in node.said().splitlines()]
    blocks = [event for event in events if event["event"] == "block committed"]
    assert [event["height"] for event in blocks[:3]] == [head + 1, head + 2, head + 3]
    assert {"height", "hash", "txs", "gas", "after_ms"} <= set(blocks[0])
    assert (stopped / PASSWORD_FILE).read_text().strip() not in node.said()


def test_node_without_validator_keys_serves_and_makes_no_blocks(stopped: Path, tmp_path: Path) -> None:
    shutil.move(stopped / "validator", tmp_path / "elsewhere")
    arguments = ("start", "--data-dir", str(stopped), "--rpc-port", "0", "--no-p2p", "--json")
    with NodeProcess(tmp_path / "log", *arguments) as node:
        node.await_ready()
        assert node.ready["isValidator"] is False
        assert node.height() == node.ready["headHeight"] >= 3
        node.await_said("the node makes no blocks")
        node.stop()


# --- Children that die -------------------------------------------------------------------------------------------


def test_killed_gateway_comes_back_on_its_port_while_blocks_go_on(devnet: Devnet, stopped: Path) -> None:
    node = devnet().await_ready()
    height = node.await_growth()
    before = node.child(GATEWAY)
    os.kill(before, signal.SIGKILL)
    assert 'reason="killed by SIGKILL"' in node.await_said("the gateway ended: starting it again")

    def answers() -> bool:
        try:
            return node.height() > height
        except OSError:
            return False

    await_that(answers, lambda: f"the gateway did not come back:\n{node.said()}")
    assert node.child(GATEWAY) != before
    node.stop()


def test_killed_execution_stops_the_node_with_its_own_code_and_a_restart_goes_on(devnet: Devnet, stopped: Path) -> None:
    node = devnet().await_ready()
    height = node.await_growth()
    gateway = node.child(GATEWAY)
    os.kill(node.child(EXECUTION), signal.SIGKILL)
    assert node.await_exit() == EXIT_EXECUTION_DIED
    assert "the execution process was killed by SIGKILL" in node.said()
    assert "Traceback" not in node.said()
    node.await_children_gone()
    assert not Path(f"/proc/{gateway}").exists()
    again = devnet().await_ready()
    assert again.ready["headHeight"] >= height
    again.await_growth()
    again.stop()


@pytest.mark.parametrize("alone", [True, False], ids=["the node alone", "all at once"])
def test_kill_nine_while_blocks_are_made_loses_nothing(devnet: Devnet, stopped: Path, alone: bool) -> None:
    node = devnet().await_ready()
    node.await_growth()
    transaction_hash = node.call("eth_sendRawTransaction", "0x" + transfer(0).hex())
    await_that(
        lambda: node.call("eth_getTransactionReceipt", transaction_hash) is not None, lambda: "the transfer is not in"
    )
    height = node.height()
    block = node.call("eth_getBlockByNumber", hex(height), True)
    children = node.children()
    node.process.kill()
    node.process.wait()
    if alone:
        node.await_children_gone()
    else:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        node.await_children_gone()
    assert whole_height(stopped) >= height
    again = devnet().await_ready()
    assert again.ready["headHeight"] >= height
    assert again.call("eth_getBlockByNumber", hex(height), True) == block
    assert again.call("eth_getTransactionReceipt", transaction_hash)["status"] == "0x1"
    again.await_growth()
    again.stop()


def test_start_waits_for_an_orphan_to_free_the_database(devnet: Devnet, stopped: Path) -> None:
    descriptor = os.open(DataFolder(stopped).database / "astralink.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    node = devnet()
    node.await_said("the database is still locked: waiting")
    os.close(descriptor)
    node.await_ready().stop()


# --- Start-up errors ---------------------------------------------------------------------------------------------


def test_second_node_on_a_folder_is_refused_and_the_first_goes_on(
    devnet: Devnet, stopped: Path, tmp_path: Path
) -> None:
    first = devnet().await_ready()
    code, line = refusal_of(NodeProcess(tmp_path / "second", "devnet", "--dir", str(stopped), "--rpc-port", "0"))
    assert code == 2
    assert f"in use by another node (process {first.process.pid})" in line
    first.await_growth()
    first.stop()


@pytest.mark.parametrize("begun", [False, True], ids=["new folder", "folder with a chain"])
def test_port_in_use_is_refused_and_leaves_nothing_behind(
    devnet: Devnet, folder: Path, grown: Path, begun: bool
) -> None:
    if begun:
        shutil.copytree(grown, folder)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = devnet("--rpc-port", str(port))
        code, line = refusal_of(node)
    assert code == 2
    assert (
        f"port {port} on 127.0.0.1 is already in use; stop what uses it, or choose another one with --rpc-port" in line
    )
    node.await_children_gone()
    if begun:
        assert whole_height(folder) >= 3
    else:
        assert not folder.exists()


def test_folder_without_a_chain_says_how_to_prepare_it(tmp_path: Path) -> None:
    code, line = refusal_of(NodeProcess(tmp_path / "log", "start", "--data-dir", str(tmp_path / "empty")))
    assert code == 2
    assert "holds no chain: prepare it with `astralink-node init" in line


def test_genesis_of_another_chain_is_refused(stopped: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(genesis_text(timestamp=1_600_000_000))
    code, line = refusal_of(start_on(stopped, tmp_path, "--genesis", str(other)))
    assert code == 2
    assert "the data folder holds another chain" in line


def test_exchanged_genesis_file_is_found_by_the_boot_check(stopped: Path, tmp_path: Path) -> None:
    genesis = json.loads((stopped / "genesis.json").read_text())
    genesis["mixHash"] = "0x" + "77" * 32
    (stopped / "genesis.json").write_text(json.dumps(genesis))
    code, line = refusal_of(start_on(stopped, tmp_path))
    assert code == 2
    assert "the data folder holds another chain" in line


def test_broken_genesis_file_names_the_field(stopped: Path, tmp_path: Path) -> None:
    genesis = json.loads((stopped / "genesis.json").read_text())
    genesis["astralink"]["epochLength"] = "soon"
    (stopped / "genesis.json").write_text(json.dumps(genesis))
    code, line = refusal_of(start_on(stopped, tmp_path))
    assert code == 2
    assert "epochLength" in line


def test_wrong_password_is_told_as_such(stopped: Path, tmp_path: Path) -> None:
    (stopped / PASSWORD_FILE).write_text("not the password\n")
    code, line = refusal_of(start_on(stopped, tmp_path))
    assert code == 2
    assert "password" in line
    assert "not the password" not in line


def test_password_is_not_asked_for_without_a_terminal(stopped: Path, tmp_path: Path) -> None:
    node = NodeProcess(tmp_path / "log", "start", "--data-dir", str(stopped), "--rpc-port", "0", "--no-p2p")
    code, line = refusal_of(node)
    assert code == 2
    assert "give --password-file" in line


def test_keys_that_are_not_in_the_genesis_set_are_refused(stopped: Path, tmp_path: Path) -> None:
    shutil.rmtree(stopped / "validator")
    put_validator(DataFolder(stopped), None, (stopped / PASSWORD_FILE).read_text().strip())
    code, line = refusal_of(start_on(stopped, tmp_path))
    assert code == 2
    assert "is not in the genesis set of this chain" in line


def test_signing_history_that_another_process_holds_is_refused(stopped: Path, tmp_path: Path) -> None:
    data = DataFolder(stopped)
    held = HistoryFile(history_path(data.signing, load_public_keys(data.validator_keys).voting_key))
    try:
        code, line = refusal_of(start_on(stopped, tmp_path))
    finally:
        held.close()
    assert code == 2
    assert "another process is signing with this history" in line


def test_lost_signing_history_needs_the_flag_and_then_goes_on(stopped: Path, tmp_path: Path) -> None:
    shutil.rmtree(stopped / "signing")
    code, line = refusal_of(start_on(stopped, tmp_path))
    assert code == 2
    assert "--new-signing-history" in line
    with start_on(stopped, tmp_path, "--new-signing-history", *FAST) as node:
        node.await_ready()
        node.await_height(node.ready["headHeight"] + 1)
        node.stop()


def test_devnet_has_the_flag_that_its_refusal_names(devnet: Devnet, stopped: Path) -> None:
    shutil.rmtree(stopped / "signing")
    assert "--new-signing-history" in refusal_of(devnet())[1]
    node = devnet("--new-signing-history", *FAST).await_ready()
    node.await_height(node.ready["headHeight"] + 1)
    node.stop()


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST"])
def test_damaged_database_is_told_and_not_touched(stopped: Path, tmp_path: Path, name: str) -> None:
    database = DataFolder(stopped).database
    victim = next(path for path in database.iterdir() if path.name.startswith(name))
    content = victim.read_bytes()
    if name == "CURRENT":
        victim.unlink()
    else:
        victim.write_bytes(bytes(len(content)))
    code, line = refusal_of(start_on(stopped, tmp_path))
    assert code != 0
    assert "damaged" in line
    victim.write_bytes(content)
    assert whole_height(stopped) >= 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--validators", "99"), "--validators: expected 1 to 32, found 99"),
        (("--rpc-port", "70000"), "rpc.port: expected a whole number from 0 to 65535, found 70000 (flag --rpc-port)"),
        (("--rpc-api", "eth,nett"), "rpc.api: unknown 'nett'; did you mean net?"),
        (("--fee-recipient", "me"), "blocks.fee_recipient: expected an address"),
    ],
)
def test_nonsense_flags_are_named(folder: Path, arguments: tuple[str, ...], complaint: str) -> None:
    result = run_verb("devnet", "--dir", str(folder), *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {complaint}")
    assert not (folder / "genesis.json").exists()


def test_reset_refuses_a_network_that_is_no_devnet(folder: Path, tmp_path: Path) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_bytes(genesis_text())
    assert run(["init", "--data-dir", str(folder), str(genesis)]) == 0
    result = run_verb("devnet", "--dir", str(folder), "--reset")
    assert result.returncode == 2
    assert "not a devnet: it is not reset" in result.stderr
    assert (folder / "genesis.json").exists()


def test_folder_of_another_kind_of_network_is_no_devnet(folder: Path, tmp_path: Path) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_bytes(genesis_text())
    assert run(["init", "--data-dir", str(folder), str(genesis)]) == 0
    result = run_verb("devnet", "--dir", str(folder), "--rpc-port", "0")
    assert result.returncode == 2
    assert "holds a chain, but not the keys of a devnet" in result.stderr


def test_devnet_whose_genesis_file_was_never_written_goes_on_with_the_database(devnet: Devnet, stopped: Path) -> None:
    """A kill between database and genesis file, or a file deleted by hand: the database has a copy."""
    before = (stopped / "genesis.json").read_bytes()
    (stopped / "genesis.json").unlink()
    node = devnet().await_ready()
    assert node.ready["headHeight"] >= 3
    node.stop()
    assert (stopped / "genesis.json").read_bytes() == before


def test_helper_tells_what_a_failed_node_said(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "log", "start", "--data-dir", str(tmp_path)) as node:
        with pytest.raises(NodeFailed, match="holds no chain"):
            node.await_ready()
        unused: Any = node.await_exit()
    assert unused == 2
