"""A validator's life on a network of real processes, from a wallet's stake to its end by evidence that was gossiped.

Three validators of genesis and a fourth that joins, earns, is delegated to, misses a window and is jailed, unjails,
signs twice and is slashed and tombstoned with its delegators and what they are taking out. At the end every number of
the contract is what the reference ledger makes of the chain's blocks, to the wei.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE
from consensus.staking_params import StakingParams
from contracts.artifacts import encode_call, load
from contracts.places import STAKING
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_CHAIN_ID
from genesis.presets import GWEI
from tests.support.network_processes import ChainChoice, NetworkProcesses, await_receipt
from tests.support.node_process import NodeProcess, await_that, run_verb
from tests.support.staking_replay import StoredChain, replay
from tests.support.two_faced_validator import TRIGGER
from tests.support.wallets import put_account, put_secret

BWT = 10**18
EPOCH = 10
CHOICE = ChainChoice(
    validators=3,
    interval_ms=150,
    epoch_length=EPOCH,
    vote_timeout_ms=300,
    staking=StakingParams(downtime_window=8, downtime_jail_ms=1_000, base_fee_to_stakers_bps=2_500),
)
OPERATOR, DELEGATOR = DEVNET_ACCOUNTS[4], DEVNET_ACCOUNTS[5]
PATIENCE_S = 120
PASSWORD = "a password of a test"


class Life:
    """The network and its fourth validator."""

    def __init__(self, network: NetworkProcesses) -> None:
        self.network = network
        self.number = network.add_member(OPERATOR.address)
        self._nonces = {DELEGATOR.address: 0}

    @property
    def witness(self) -> NodeProcess:
        return self.network.nodes[0]

    # --- What the fourth's operator and its delegator do ------------------------------------------------------------

    def operate(self, *verb: str) -> Any:
        """A verb of the operator's, with the data folder of its node."""
        folder = self.network.members[self.number].folder.root
        wallet = folder.parent / "wallet-password"
        done = run_verb(
            *verb,
            *("--rpc", self.witness.ready["rpcUrl"], "--data-dir", str(folder)),
            *("--password-file", str(wallet), "--yes", "--json"),
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def open_wallet(self) -> None:
        folder = self.network.members[self.number].folder.root
        put_secret(folder.parent / "wallet-password", PASSWORD)
        put_account(folder, OPERATOR.private_key, PASSWORD)

    def delegator_calls(self, function: str, *arguments: object, value: int = 0) -> None:
        nonce = self._nonces[DELEGATOR.address]
        self._nonces[DELEGATOR.address] += 1
        unsigned = new_transaction(
            DYNAMIC_FEE_TYPE,
            chain_id=DEVNET_CHAIN_ID,
            nonce=nonce,
            max_fee_per_gas=100 * GWEI,
            max_priority_fee_per_gas=GWEI,
            gas_limit=1_000_000,
            to=STAKING,
            value=value,
            data=encode_call(load("Staking"), function, arguments),
        )
        raw = sign_transaction(unsigned, DELEGATOR.private_key).raw
        sent = self.witness.call("eth_sendRawTransaction", "0x" + raw.hex())
        assert await_receipt(self.witness, sent)["status"] == "0x1"

    # --- What is seen ----------------------------------------------------------------------------------------------

    def seen(self) -> Any:
        """The fourth validator, as the first node shows it."""
        registered = self.witness.call("astralink_getValidators")["registered"]
        (found,) = [each for each in registered if each["operator"].lower() == "0x" + OPERATOR.address.hex()]
        return found

    def await_status(self, status: str) -> Any:
        await_that(
            lambda: self.seen()["status"] == status,
            lambda: f"never {status}: {self.seen()}\n{self.network.said()}",
            PATIENCE_S,
        )
        return self.seen()

    def await_no_power(self) -> None:
        await_that(lambda: self.seen()["power"] == "0x0", lambda: f"it keeps its seat: {self.seen()}", PATIENCE_S)

    def await_vote(self) -> None:
        """A block's certificate names the fourth."""
        key = self.seen()["votingKey"]

        def has_signed() -> bool:
            members = [each["votingKey"] for each in self.witness.call("astralink_getValidators")["validators"]]
            signers = self.witness.call("astralink_getCertificate", "latest")["signers"]
            return hex(members.index(key)) in signers

        await_that(has_signed, lambda: f"it never votes:\n{self.network.said()}", PATIENCE_S)


def test_a_validators_life_from_a_wallets_stake_to_its_end_by_evidence(tmp_path: Path) -> None:
    with NetworkProcesses(tmp_path / "network", CHOICE) as network:
        network.start()
        network.await_height(2)
        life = Life(network)

        # It joins from a wallet, and votes when its epoch has come.
        life.open_wallet()
        keys = ("--keys-password-file", str(network.members[life.number].password_file))
        network.start(life.number)
        life.operate("validator", "create", "--name", "Fourth", "--stake", "32", "--commission", "10", *keys)
        assert life.seen()["status"] == "waiting"
        life.await_status("active")
        life.await_vote()

        # It is delegated to, and earns. Its power stays below a third: the others go on without it.
        operator = "0x" + OPERATOR.address.hex()
        life.delegator_calls("delegate", operator, value=12 * BWT)
        network.await_growth(EPOCH)
        rewards = life.witness.call("astralink_getRewards", "0x" + DELEGATOR.address.hex())
        assert int(rewards["totalWei"], 16) > 0
        assert int(life.seen()["commissionWei"], 16) > 0

        # It misses a window, is jailed and loses its seat; unjailed, it gets it back.
        network.stop(life.number)
        life.await_status("jailed")
        assert int(life.seen()["slashCount"], 16) == 1
        life.await_no_power()
        network.modules[life.number] = "tests.support.two_faced_validator"
        network.start(life.number)
        network.await_growth(2)
        life.operate("validator", "unjail")
        life.await_status("active")

        # Its signer is broken now: what it signs twice travels, a block carries the evidence, and it is out for ever.
        # Stake that began to leave in the same epoch still answers for it.
        await_that(lambda: life.witness.height() % EPOCH < EPOCH // 4, network.said, PATIENCE_S)
        life.delegator_calls("undelegate", operator, 5 * BWT)
        (network.members[life.number].folder.root / TRIGGER).touch()
        ended = life.await_status("tombstoned")
        assert int(ended["slashCount"], 16) == 2
        life.await_no_power()
        network.await_growth(4)
        slashes = life.witness.call("astralink_getSlashes", operator)
        assert [slash["kind"] for slash in slashes] == ["doubleSign", "downtime"], "the newest first"
        entries = life.witness.call("astralink_getDelegations", "0x" + DELEGATOR.address.hex())["unbondings"]
        assert int(entries[0]["valueNowWei"], 16) < int(entries[0]["amountWei"], 16)
        height = network.check_agreement()

        network.stop(0)
        stored = StoredChain(network.members[0].folder.root)
        reference = replay(network.genesis_file.read_bytes(), stored)
        assert stored.ledger.head().height >= height
        assert reference.differences(stored) == []  # type: ignore[arg-type]
        delegator, fourth = DELEGATOR.address, OPERATOR.address
        shares, value, pending, _ = stored.view("delegation", delegator, fourth)
        assert (shares, value, pending) == (
            reference.ledger.delegation(delegator, fourth).shares,
            reference.ledger.delegation_value(delegator, fourth),
            reference.ledger.pending(delegator, fourth),
        )
        (entry,) = stored.view("unbondings", delegator)
        (expected,) = reference.ledger.unbondings(delegator)
        assert (entry["amount"], entry["value_now"]) == (expected.entry.amount, expected.value_now)
        stored.close()
