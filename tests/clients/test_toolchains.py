"""hardhat 3, cast and forge, unchanged, against a real devnet: what tests/toolchains has, run from here."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.conftest import HERE, Devnet

TOOLCHAINS = HERE.parent / "toolchains"
TOOL_TIMEOUT_S = 180
HARDHAT_TESTS = 12
# Which of the devnet's accounts they use: no two clients share one, so their nonces never meet.
HARDHAT_ACCOUNT = 7
FOUNDRY_ACCOUNT = 8
FUNDED = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
OTHER = "0x00000000000000000000000000000000000000ca"
SUPPLY = 1_000_000
TRANSFER = "transfer(address,uint256)"
TRANSFER_EVENT = "Transfer(address indexed from, address indexed to, uint256 value)"

Run = Callable[..., str]


@pytest.fixture(scope="module")
def environment(devnet: Devnet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Node 22 first, which hardhat needs; folders of this worker's own; nothing looked up on the network."""
    if not (TOOLCHAINS / "node_modules/.ready").exists():
        pytest.fail("the toolchains are not installed: run `make clients-setup` first", pytrace=False)
    scratch = tmp_path_factory.mktemp("toolchains")
    binaries = (TOOLCHAINS / "node_modules/.bin", HERE / "node_modules/.bin")
    return {
        **os.environ,
        "PATH": os.pathsep.join([*map(str, binaries), os.environ["PATH"]]),
        "HOME": str(scratch),
        "NO_COLOR": "1",
        "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true",
        "DEVNET_URL": devnet.http_url,
        "DEVNET_KEY": devnet.keys[HARDHAT_ACCOUNT],
        "ETH_RPC_URL": devnet.http_url,
        "FOUNDRY_OFFLINE": "true",
        "FOUNDRY_OUT": str(scratch / "out"),
        "FOUNDRY_CACHE_PATH": str(scratch / "cache"),
        "FOUNDRY_BROADCAST": str(scratch / "broadcast"),
    }


@pytest.fixture(scope="module")
def run(environment: dict[str, str]) -> Run:
    def run_tool(*command: str) -> str:
        """What the tool prints. A tool that fails fails the test, with all that it said."""
        ran = run_unchecked(environment, *command)
        assert ran.returncode == 0, f"{' '.join(command)}\n{ran.stdout[-4000:]}\n{ran.stderr[-4000:]}"
        return ran.stdout.strip()

    return run_tool


def run_unchecked(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=TOOLCHAINS, env=environment, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
    )


@pytest.fixture(scope="module")
def key(devnet: Devnet) -> str:
    return devnet.keys[FOUNDRY_ACCOUNT]


@pytest.fixture(scope="module")
def owner(run: Run, key: str) -> str:
    return run("cast", "wallet", "address", "--private-key", key)


@pytest.fixture(scope="module")
def token(run: Run, key: str) -> str:
    """An ERC-20 that `forge create` deployed."""
    source = "foundry/src/Token.sol:Token"
    created = run(
        "forge", "create", source, "--json", "--broadcast", "--private-key", key, "--constructor-args", str(SUPPLY)
    )
    address: str = json.loads(created)["deployedTo"]
    return address


def send(run: Run, *arguments: str) -> dict[str, str]:
    """`cast send`'s receipt."""
    receipt: dict[str, str] = json.loads(run("cast", "send", "--json", *arguments))
    assert receipt["status"] == "0x1", receipt
    return receipt


def test_hardhats_own_tests_pass_with_unlocked_accounts_and_with_a_key(run: Run) -> None:
    printed = run("hardhat", "test", "nodejs")
    assert f"{HARDHAT_TESTS} passing" in printed, printed


def test_cast_reads_the_chain(run: Run, devnet: Devnet) -> None:
    assert run("cast", "chain-id") == str(devnet.chain_id)
    assert int(run("cast", "block-number")) >= 0
    assert int(run("cast", "balance", FUNDED)) > 10**18
    assert run("cast", "client").startswith("astralink/")
    assert json.loads(run("cast", "rpc", "eth_getBlockByNumber", "0x0", "false"))["number"] == "0x0"


def test_forge_creates_a_contract_and_cast_calls_it(run: Run, token: str, owner: str) -> None:
    assert run("cast", "call", token, "balanceOf(address)(uint256)", owner).split()[0] == str(SUPPLY)
    assert int(run("cast", "estimate", token, TRANSFER, OTHER, "5", "--from", owner)) > 21_000


def test_cast_sends_waits_for_the_receipt_and_finds_the_log(run: Run, token: str, key: str) -> None:
    receipt = send(run, token, TRANSFER, OTHER, "5", "--private-key", key)
    assert run("cast", "receipt", receipt["transactionHash"], "status").startswith("true")
    height = str(int(receipt["blockNumber"], 16))
    logs = json.loads(run("cast", "logs", "--json", "--from-block", height, "--address", token, TRANSFER_EVENT))
    assert [log["transactionHash"] for log in logs] == [receipt["transactionHash"]]
    assert int(logs[0]["data"], 16) == 5


def test_cast_sends_each_type_of_transaction(run: Run, key: str, owner: str, token: str) -> None:
    pay = (OTHER, "--value", "1")
    assert send(run, *pay, "--private-key", key)["type"] == "0x2"
    assert send(run, *pay, "--private-key", key, "--legacy")["type"] == "0x0"
    assert send(run, *pay, "--from", owner, "--unlocked")["type"] == "0x2"
    assert send(run, *pay, "--private-key", key, "--auth", token)["type"] == "0x4"
    assert run("cast", "code", owner) == f"0xef0100{token[2:].lower()}"
    send(run, *pay, "--private-key", key, "--auth", f"0x{'00' * 20}")
    assert run("cast", "code", owner) == "0x"


def test_cast_gives_a_proof_of_a_tokens_supply(run: Run, token: str) -> None:
    proof = json.loads(run("cast", "proof", token, "0x2"))
    assert int(proof["storageProof"][0]["value"], 16) == SUPPLY


def test_cast_runs_a_transaction_again_and_finds_the_same_gas(run: Run, token: str, key: str) -> None:
    receipt = send(run, token, TRANSFER, OTHER, "1", "--private-key", key)
    replayed = run("cast", "run", receipt["transactionHash"])
    assert "emit Transfer(" in replayed
    assert f"Gas used: {int(receipt['gasUsed'], 16)}" in replayed


def test_cast_is_told_that_there_are_no_cheats(environment: dict[str, str]) -> None:
    ran = run_unchecked(environment, "cast", "rpc", "anvil_setBalance", OTHER, "0x1")
    assert "-32601" in ran.stderr


def test_forge_script_broadcasts_its_transactions(
    run: Run, key: str, devnet: Devnet, environment: dict[str, str]
) -> None:
    command = ("forge", "script", "foundry/script/Deploy.s.sol", "--broadcast", "--private-key", key)
    run(*command, "--rpc-url", devnet.http_url)
    record = Path(environment["FOUNDRY_BROADCAST"], "Deploy.s.sol", str(devnet.chain_id), "run-latest.json")
    receipts = json.loads(record.read_text())["receipts"]
    assert [receipt["status"] for receipt in receipts] == ["0x1", "0x1"]


def test_forge_tests_run_on_a_fork_of_the_devnet(run: Run, devnet: Devnet) -> None:
    printed = run("forge", "test", "--fork-url", devnet.http_url)
    assert "2 tests passed, 0 failed" in printed
