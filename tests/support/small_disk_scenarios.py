"""Run inside a mount namespace: commands and nodes whose data folder, or a part of it, is on a disk that is too small.

    python -m tests.support.small_disk_scenarios SCENARIO FOLDER

FOLDER holds `net`, a devnet's data folder with blocks, and `blocks`, their export. What does not happen as it should
is an AssertionError. Started by tests/integration/test_full_disk.py.
"""

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from astralink_node.chain.check import check_database
from astralink_node.chain.data_folder import open_database
from astralink_node.cli.devnet_folder import PASSWORD_FILE
from astralink_node.cli.main import run
from astralink_node.errors import EXIT_STORAGE, EXIT_USER
from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_CHAIN_ID
from tests.support.full_disk_scenario import fill
from tests.support.node_process import NodeFailed, NodeProcess, run_verb

GWEI = 10**9


def mount(place: Path, size: str, *options: str) -> None:
    """A tmpfs of that size; with `remount` among the options, the one that is there in another way."""
    place.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *options)), "tmpfs", str(place)], check=True
    )


def leave(place: Path, free_bytes: int) -> None:
    """Fill the disk up to so many bytes."""
    ballast = place / "ballast"
    fill(ballast)
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - free_bytes)


def run_here(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """A verb in this process: the same program as in one of its own, without its imports."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        code = run(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


def refused(code: int, *arguments: str) -> str:
    """The one line of a verb that cannot do its work."""
    result = (run_verb if arguments[0] == "start" else run_here)(*arguments)
    assert result.returncode == code, (arguments, result.returncode, result.stderr)
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("error: ")
    return result.stderr


def done(*arguments: str) -> str:
    result = run_here(*arguments)
    assert result.returncode == 0, (arguments, result.stderr)
    return result.stdout


def head_of(folder: Path) -> int:
    with open_database(folder) as store:
        report = check_database(store, lambda *_: None)
    assert report.problems == []
    return report.head_height


# --- Commands ----------------------------------------------------------------------------------------------------


def commands(base: Path) -> None:
    """What cannot be written is told, leaves nothing half-made behind, and works when there is room."""
    disk = base / "disk"
    mount(disk, "1m")
    net, genesis = disk / "net", str(base / "net" / "genesis.json")
    # Creating the database fails first, then writing block 0, at last only genesis.json.
    for free_bytes in (4096, 12288, 28672):
        leave(disk, free_bytes)
        line = refused(EXIT_STORAGE, "init", genesis, "--data-dir", str(net))
        assert "is full" in line or "No space left on device" in line
        assert not list(net.glob(".genesis*"))
        assert not (net / "genesis.json").exists()
        (disk / "ballast").unlink()
    done("init", genesis, "--data-dir", str(net))
    head = head_of(base / "net")
    # The first opening puts genesis, with its contracts, from LevelDB's log into a table of its own.
    done("db", "check", "--data-dir", str(net))
    leave(disk, 40960)
    line = refused(EXIT_STORAGE, "import", str(base / "blocks"), "--data-dir", str(net))
    assert "is full: make room" in line
    assert "blocks were imported, the head is" in line
    imported = int(line.rsplit(" ", 1)[1])
    assert imported < head
    (disk / "ballast").unlink()
    assert head_of(net) == imported
    done("import", str(base / "blocks"), "--data-dir", str(net))
    assert head_of(net) == head
    leave(disk, 0)
    for name in ("out", "out.gz"):
        line = refused(EXIT_USER, "export", str(disk / name), "--data-dir", str(base / "net"))
        assert f"{disk / name}: No space left on device" in line
        assert not (disk / name).exists()
    password = str(base / "net" / PASSWORD_FILE)
    line = refused(EXIT_STORAGE, "account", "new", "--data-dir", str(disk / "other"), "--password-file", password)
    assert "No space left on device" in line
    assert not list((disk / "other").rglob("*.json"))
    (disk / "ballast").unlink()
    mount(disk, "1m", "remount", "ro")
    for verb in (
        ("start", "--password-file", password, "--rpc-port", "0", "--no-p2p"),
        ("db", "check"),
        ("db", "stats"),
    ):
        line = refused(EXIT_USER, *verb, "--data-dir", str(net))
        assert "Read-only file system" in line


# --- A node ------------------------------------------------------------------------------------------------------


def starting(base: Path, *arguments: str) -> NodeProcess:
    return NodeProcess(
        base / "log", "devnet", "--dir", str(base / "net"), "--rpc-port", "0", "--json", *arguments
    ).await_ready()


def stopped_by_the_disk(node: NodeProcess) -> str:
    """What a node that ran into a full disk said last."""
    assert node.await_exit() == EXIT_STORAGE, node.said()
    said = node.said()
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    assert "full" in lines[0]
    return lines[0]


def goes_on(base: Path, seen: int) -> None:
    assert head_of(base / "net") >= seen
    with starting(base, "--block-interval-ms", "50") as node:
        assert node.ready["headHeight"] >= seen
        node.await_height(node.ready["headHeight"] + 2)
        node.stop()


def with_own_disk(base: Path, part: str, size: str) -> Path:
    """Put a part of the data folder, with its content, on a small disk of its own."""
    place = base / "net" / part
    content = {path.name: path.read_bytes() for path in place.iterdir()}
    mount(place, size)
    for name, data in content.items():
        (place / name).write_bytes(data)
        (place / name).chmod(0o600)
    return place


def consensus_log(base: Path) -> None:
    """A block that does not fit into the consensus log is never signed."""
    place = with_own_disk(base, "consensus", "32k")
    with starting(base, "--block-interval-ms", "0") as node:
        seen = node.height()
        sender = DEVNET_ACCOUNTS[0]
        unsigned = new_transaction(
            DYNAMIC_FEE_TYPE,
            chain_id=DEVNET_CHAIN_ID,
            nonce=0,
            max_fee_per_gas=100 * GWEI,
            max_priority_fee_per_gas=GWEI,
            gas_limit=4_000_000,
            to=bytes(19) + b"\x42",
            data=b"\x01" * 60_000,
        )
        raw = "0x" + sign_transaction(unsigned, sender.private_key).raw.hex()
        with pytest.raises(NodeFailed, match="the node is stopping"):  # the answer waits for a block that never comes
            node.call("eth_sendRawTransaction", raw)
        assert str(place) in stopped_by_the_disk(node)
    goes_on(base, seen)


def signing_history(base: Path) -> None:
    """A signature whose record does not fit never leaves; the torn record is cut off when there is room."""
    used = sum(path.stat().st_size for path in (base / "net" / "signing").iterdir())
    # Opening writes the history anew beside the old file.
    place = with_own_disk(base, "signing", f"{2 * used // 1024 + 12}k")
    with starting(base, "--block-interval-ms", "50") as node:
        seen = node.ready["headHeight"]
        assert "signing history: No space left on device" in stopped_by_the_disk(node)
    mount(place, "1m", "remount")
    goes_on(base, seen)


SCENARIOS = {"commands": commands, "consensus log": consensus_log, "signing history": signing_history}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]](Path(sys.argv[2]))
