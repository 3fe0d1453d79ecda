"""The staking verbs against a devnet in processes of its own: a delegator, a refusal, a second validator registered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from astralink_node.services.data_folder import DataFolder
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.node_process import NodeProcess, run_verb
from tests.support.wallets import put_account, put_secret, put_validator

BWT = 10**18
PASSWORD = "a password of a test"


class Holder:
    """An account with a data folder, whose verbs go to one devnet."""

    def __init__(self, folder: Path, number: int, url: str) -> None:
        self.folder = folder / f"holder{number}"
        self.address = "0x" + DEVNET_ACCOUNTS[number].address.hex()
        self._url = url
        self.password_file = put_secret(folder / f"password{number}", PASSWORD)
        put_account(self.folder, DEVNET_ACCOUNTS[number].private_key, PASSWORD)

    def asks(self, *verb: str) -> CompletedProcess[str]:
        return run_verb(*verb, "--rpc", self._url, "--data-dir", str(self.folder))

    def sends(self, *verb: str) -> CompletedProcess[str]:
        return self.asks(*verb, "--password-file", str(self.password_file), "--yes")

    def succeeds(self, *verb: str) -> Any:
        """The JSON that it prints."""
        done = self.sends(*verb, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def held(self) -> Any:
        return json.loads(self.asks("stake", "list", "--json").stdout)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    base = tmp_path_factory.mktemp("devnet")
    arguments = ("devnet", "--dir", str(base / "chain"), "--rpc-port", "0", "--block-interval-ms", "200", "--json")
    with NodeProcess(base / "log", *arguments) as running:
        yield running.await_ready()


def operator_of(node: NodeProcess) -> str:
    (validator,) = node.call("astralink_getValidators")["validators"]
    return str(validator["operator"])


def events_of(shown: Any) -> list[str]:
    return [event["event"] for sent in shown["transactions"] for event in sent["events"]]


def test_a_holder_delegates_lists_claims_and_undelegates(node: NodeProcess, tmp_path: Path) -> None:
    holder, operator = Holder(tmp_path, 0, node.ready["rpcUrl"]), operator_of(node)
    delegated = holder.succeeds("stake", "delegate", operator, "12.5")
    assert events_of(delegated) == ["Delegated"]
    assert delegated["transactions"][0]["events"][0]["amount"] == hex(25 * BWT // 2)
    node.await_height(int(delegated["transactions"][0]["blockNumber"], 16) + 12)
    (delegation,) = holder.held()["delegations"]
    assert (delegation["operator"], int(delegation["valueWei"], 16)) == (operator, 25 * BWT // 2)
    assert int(delegation["pendingWei"], 16) > 0, "more than a second of blocks pays something"

    claimed = holder.succeeds("stake", "claim")
    assert events_of(claimed) == ["Claimed"]
    assert int(claimed["transactions"][0]["events"][0]["amount"], 16) >= int(delegation["pendingWei"], 16)

    told = holder.sends("stake", "undelegate", operator, "2.25")
    assert (told.returncode, "2.25 BWT leaves 0x" in told.stdout) == (0, True)
    assert "sent as 0x" in told.stderr
    assert PASSWORD not in told.stdout + told.stderr
    held = holder.held()
    assert int(held["delegations"][0]["valueWei"], 16) == 41 * BWT // 4
    (entry,) = held["unbondings"]
    assert (int(entry["valueNowWei"], 16), entry["isMature"]) == (9 * BWT // 4, False)
    listed = holder.asks("stake", "list").stdout
    assert "unbonding 0: 2.25 BWT from 0x" in listed


def test_refusals_say_why_and_what_to_do(node: NodeProcess, tmp_path: Path) -> None:
    holder, operator = Holder(tmp_path, 1, node.ready["rpcUrl"]), operator_of(node)
    refused = holder.sends("stake", "poke", holder.address)
    assert refused.returncode == 1
    assert "is refused: staking: no such validator: no validator has this operator" in refused.stderr
    too_much = holder.sends("stake", "delegate", operator, "1000000")
    assert (too_much.returncode, "found 10,000 BWT" in too_much.stderr) == (2, True)
    unasked = holder.asks("stake", "delegate", operator, "1", "--password-file", str(holder.password_file))
    assert (unasked.returncode, "give --yes" in unasked.stderr) == (2, True)
    early = holder.sends("stake", "withdraw")
    assert (early.returncode, "nothing is unbonding" in early.stderr) == (2, True)


def test_a_second_validator_registers_rotates_its_keys_and_is_seen(node: NodeProcess, tmp_path: Path) -> None:
    """Its stake is small beside what is delegated to the first, so that the chain does not wait for it."""
    url = node.ready["rpcUrl"]
    whale, second = Holder(tmp_path, 2, url), Holder(tmp_path, 3, url)
    whale.succeeds("stake", "delegate", operator_of(node), "5000")
    keys = ("--keys-password-file", str(second.password_file))
    put_validator(DataFolder(second.folder), DEVNET_ACCOUNTS[3].address, PASSWORD)
    created = second.succeeds("validator", "create", "--name", "Second", "--stake", "40", "--commission", "2.5", *keys)
    assert events_of(created) == ["Registered", "Delegated"]
    rows = json.loads(run_verb("validator", "list", "--rpc", url, "--json").stdout)
    (row,) = [each for each in rows if each["name"] == "Second"]
    assert (row["operator"], row["commissionBps"], int(row["powerIfElected"], 16)) == (second.address, hex(250), 40)
    status = second.asks("validator", "status")
    assert "Validator   Second" in status.stdout
    again = second.sends("validator", "create", "--name", "Third", "--stake", "40", *keys)
    assert (again.returncode, "registered a validator already" in again.stderr) == (2, True)

    rotated = second.succeeds("validator", "rotate-key", *keys)
    assert events_of(rotated) == ["KeyRotated", "KeyRotated"]
    rows = json.loads(run_verb("validator", "list", "--rpc", url, "--json").stdout)
    (after,) = [each for each in rows if each["name"] == "Second"]
    public = json.loads((second.folder / "validator-next" / "validator.json").read_text())
    assert after["votingKey"] == public["votingKey"] != row["votingKey"]


def test_what_staking_is_over_json_rpc(node: NodeProcess) -> None:
    staking = node.call("astralink_getStaking")
    assert int(staking["parameters"]["minStakeWei"], 16) == 32 * BWT
    assert int(staking["nextElectionHeight"], 16) % 100 == 98
    log = node.call("astralink_getProtocolLog", "0x1")
    assert [call["failure"] for call in log["calls"] if call["failure"]] == []
    # The second validator has no node: it may have missed a window by now, and nobody else anything.
    assert {slash["operator"] for slash in node.call("astralink_getSlashes")} <= {
        "0x" + DEVNET_ACCOUNTS[3].address.hex()
    }
