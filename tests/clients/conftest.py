"""A devnet process of its own, and contracts compiled by solc, for the tests of ordinary Ethereum clients."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.node_process import NodeProcess

HERE = Path(__file__).parent
NODE_BINARY = HERE / "node_modules/.bin/node"
CONTRACTS = ("TestToken", "TestItem", "Counter")
COMPILE_TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Devnet:
    """Where the running devnet answers, and the private keys of its ten funded accounts."""

    http_url: str
    ws_url: str
    chain_id: int
    keys: tuple[str, ...]


@pytest.fixture(scope="session")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    folder = tmp_path_factory.mktemp("devnet")
    arguments = ("devnet", "--dir", str(folder / "chain"), "--rpc-port", "0", "--block-interval-ms", "500", "--json")
    with NodeProcess(folder / "log", *arguments) as node:
        ready = node.await_ready().ready
        yield Devnet(
            http_url=ready["rpcUrl"],
            ws_url=ready["wsUrl"],
            chain_id=ready["chainId"],
            keys=tuple(account["privateKey"] for account in ready["accounts"]),
        )
        node.stop()


@pytest.fixture(scope="session")
def artifacts_folder() -> Path:
    """The compiled contracts; compiled again when a source, the compiler or the script changed."""
    if not NODE_BINARY.exists():
        pytest.fail("the client packages are not installed: run `make clients-setup` first", pytrace=False)
    folder = HERE / "artifacts"
    sources = [*sorted((HERE / "contracts").glob("*.sol")), HERE / "compile.mjs", HERE / "package-lock.json"]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()
    stamp = folder / "sources.sha256"
    if not stamp.is_file() or stamp.read_text() != digest:
        run_javascript("compile.mjs", str(folder), timeout_s=COMPILE_TIMEOUT_S)
        stamp.write_text(digest)
    return folder


@pytest.fixture(scope="session")
def artifacts(artifacts_folder: Path) -> dict[str, dict[str, Any]]:
    return {name: json.loads((artifacts_folder / f"{name}.json").read_text()) for name in CONTRACTS}


def run_javascript(script: str, *arguments: str, timeout_s: float) -> str:
    """The script's standard output; it may have failed, unless it is the compiler."""
    ran = subprocess.run(
        [str(NODE_BINARY), script, *arguments], cwd=HERE, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if not ran.stdout:
        pytest.fail(f"{script} printed nothing (exit {ran.returncode}):\n{ran.stderr[-4000:]}")
    if script == "compile.mjs" and ran.returncode:
        pytest.fail(f"solc failed:\n{ran.stderr[-4000:]}")
    return ran.stdout
