"""A node whose keys are in a signer process: it makes blocks, outlives its absence, and cannot go behind its back."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest

from astralink_node.cli.main import run
from tests.support.node_process import NodeProcess

INTERVAL = ("--block-interval-ms", "100")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A devnet's folder with some blocks in it; tests work on copies."""
    base = tmp_path_factory.mktemp("grown")
    arguments = ("devnet", "--dir", str(base / "chain"), "--rpc-port", "0", "--json", *INTERVAL)
    with NodeProcess(base / "log", *arguments) as devnet:
        devnet.await_ready().await_height(2)
        devnet.stop()
    return base / "chain"


@pytest.fixture
def folders(grown: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A devnet's chain without its keys, and a signer's folder with them."""
    chain, keys = copytree(grown, tmp_path / "chain"), tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name in ("validator", "signing", "validator-password"):
        (chain / name).rename(keys / name)
    return chain, keys


def signer(keys: Path, *more: str) -> NodeProcess:
    flags = ("--data-dir", str(keys), "--password-file", str(keys / "validator-password"), "--json")
    return NodeProcess(keys / "log", "signer", *flags, *more)


def node(chain: Path, address: str) -> NodeProcess:
    flags = ("--data-dir", str(chain), "--rpc-port", "0", "--no-p2p", "--json", "--signer", address)
    return NodeProcess(chain / "log", "start", *flags, *INTERVAL)


def test_node_signs_through_the_process_and_goes_on_when_it_comes_back(folders: tuple[Path, Path]) -> None:
    chain, keys = folders
    with signer(keys) as first:
        address = first.await_ready().ready["address"]
        with node(chain, address) as running:
            assert running.await_ready().ready["isValidator"]
            running.await_height(running.ready["headHeight"] + 3)
            first.stop()
            running.await_said("the signer cannot be reached; it will be asked again")
            stood = running.height()
            with signer(keys) as second:
                second.await_ready()
                running.await_height(stood + 3)
                running.stop()


def test_node_without_its_signer_does_not_start(folders: tuple[Path, Path]) -> None:
    chain, keys = folders
    address = f"unix:{keys / 'signer' / 'signer.sock'}"
    with node(chain, address) as running:
        assert running.await_exit() != 0
        assert f"signer {address}" in running.said()


def test_older_database_behind_a_signer_signs_nothing_else(folders: tuple[Path, Path], tmp_path: Path) -> None:
    chain, keys = folders
    older = copytree(chain, tmp_path / "older")
    with signer(keys) as process:
        address = process.await_ready().ready["address"]
        with node(chain, address) as running:
            running.await_ready().await_height(running.ready["headHeight"] + 3)
            running.stop()
        (older / "consensus" / "wal").unlink(missing_ok=True)
        with node(older, address) as running:
            assert running.await_exit() == 1
            assert "the signer refuses height" in running.said()
    assert run(["db", "check", "--data-dir", str(older)]) == 0
