"""A network of real validator processes for tests: each member is started, killed, paused, wiped and asked by itself.

The members are what `devnet --validators` makes, started with the very command that it starts and prints. The chain's
timing and its accounts are the test's choice, which the verb's are not.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from astralink_node.chain.new_folder import initialise_folder
from astralink_node.cli.devnet_folder import PASSWORD_FILE
from astralink_node.cli.devnet_network import Member
from astralink_node.config import BlocksConfig, NodeConfig, RpcConfig
from astralink_node.evm.fee_rules import MIN_GAS_TARGET
from astralink_node.services.data_folder import DataFolder
from astralink_node.types import Address as Account
from astralink_node.validator.keys import load_public_keys
from consensus.params import ConsensusParams
from consensus.staking_params import StakingParams
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_BALANCE_WEI, DEVNET_CHAIN_ID, DEVNET_STAKE_WEI
from genesis.presets import new_genesis
from genesis.schema import GenesisAccount, GenesisValidator
from genesis.sealing import parse_genesis
from p2p.addresses import Address, peer_id_text
from p2p.identity import load_or_create_identity
from tests.support.node_process import GONE_TIMEOUT_S, NODE, NodeFailed, NodeProcess, await_that
from tests.support.wallets import put_secret, put_validator

AGREE_TIMEOUT_S = 60
"""For all to stand at one height, on a machine that is busy with other things."""


@dataclass(frozen=True, slots=True)
class ChainChoice:
    """What a test's chain is like; the defaults make faults cheap to wait for."""

    validators: int = 4
    interval_ms: int = 500
    max_gas_target: int = MIN_GAS_TARGET
    """The least, since the propose timeout grows with the gas limit (ADR 10): what a missing proposer costs."""
    epoch_length: int = 100
    on_demand: bool = False
    accounts: Mapping[Account, GenesisAccount] = field(default_factory=dict)
    """Beside the developers' ten."""
    staking: StakingParams | None = None
    """None: the set never changes."""
    vote_timeout_ms: int = ConsensusParams().prevote_timeout_ms
    """Of prevotes and of precommits: both together are what the turn of an absent proposer costs, once it is missed."""

    def genesis(self, validators: Sequence[GenesisValidator]) -> bytes:
        alloc = {account.address: GenesisAccount(DEVNET_BALANCE_WEI, 0, b"", ()) for account in DEVNET_ACCOUNTS}
        text = new_genesis(
            chain_id=DEVNET_CHAIN_ID,
            network_name="test",
            timestamp=int(time.time()),
            seed=secrets.token_bytes(32),
            validators=validators,
            alloc={**alloc, **self.accounts},
            block_interval_ms=self.interval_ms,
            epoch_length=self.epoch_length,
            max_gas_target=self.max_gas_target,
            staking=self.staking,
        )
        document = json.loads(text)
        for name in ("prevoteTimeoutMs", "precommitTimeoutMs"):
            document["astralink"]["consensus"][name] = self.vote_timeout_ms
        return json.dumps(document).encode()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member lives."""

    p2p_host: str = "127.0.0.1"
    rpc_host: str = "127.0.0.1"
    enter: tuple[str, ...] = ()
    """In front of its command: what puts it there."""


class NetworkProcesses:
    """Use as a context manager: whatever happens, no process is left behind."""

    def __init__(
        self,
        root: Path,
        choice: ChainChoice | None = None,
        places: Sequence[Place] = (),
        flags: tuple[str, ...] = (),
    ) -> None:
        """`flags` are given to every member beside the devnet's."""
        self._flags = flags
        self.choice = choice or ChainChoice()
        self.places = list(places) or [Place()] * self.choice.validators
        self.root = root
        self.genesis_file = root / "genesis.json"
        folders = [DataFolder(root / f"node{number}") for number in range(self.choice.validators)]
        self.genesis_file.parent.mkdir(parents=True, exist_ok=True)
        self.genesis_file.write_bytes(self.choice.genesis([_make_keys(folder) for folder in folders]))
        for folder in folders:
            initialise_folder(folder.root, self.genesis_file.read_bytes())
        self.members = [
            member_at(number, folder, place)
            for number, (folder, place) in enumerate(zip(folders, self.places, strict=True))
        ]
        self.nodes: dict[int, NodeProcess] = {}
        """Those that run, by number, and others that the test adds."""
        self.paused: set[int] = set()
        self.modules: dict[int, str] = {}
        """What runs as the node of that number, where it is not the node's own program."""

    @property
    def consensus(self) -> ConsensusParams:
        return parse_genesis(self.genesis_file.read_bytes()).consensus

    def __enter__(self) -> NetworkProcesses:
        return self

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as ends:
            for node in self.nodes.values():
                ends.push(node)

    # --- One member ------------------------------------------------------------------------------------------------

    def start(self, *numbers: int) -> None:
        """Those given, or all; ready when this returns."""
        chosen = numbers or tuple(range(len(self.members)))
        for number in chosen:
            self._launch(number)
        for number in chosen:
            self.nodes[number].await_ready()

    def _launch(self, number: int) -> None:
        member, place = self.members[number], self.places[number]
        config = replace(
            NodeConfig(),
            rpc=RpcConfig(host=place.rpc_host, port=0, api=("eth", "net", "web3", "astralink", "txpool")),
            blocks=BlocksConfig(interval_ms=self.choice.interval_ms, on_demand=self.choice.on_demand),
        )
        command = member.command([other for other in self.members if other is not member], config)
        # The first three say how to run the node's program, which NodeProcess knows.
        self.nodes[number] = NodeProcess(
            self.log_of(number), *command[3:], *self._flags, enter=place.enter, module=self.modules.get(number, NODE)
        )

    def add_member(self, operator: Account) -> int:
        """A node with keys that are not in genesis, for a validator that is yet to register; its number."""
        number = len(self.members)
        folder = DataFolder(self.root / f"node{number}")
        _make_keys(folder, operator)
        initialise_folder(folder.root, self.genesis_file.read_bytes())
        self.places.append(Place())
        self.members.append(member_at(number, folder, Place()))
        return number

    def log_of(self, number: int) -> Path:
        return self.root / f"node{number}.log"

    def peer_id(self, number: int) -> str:
        """As logs show it."""
        peer = self.members[number].p2p.peer
        assert peer is not None
        return peer_id_text(peer)

    def await_turn_of(self, number: int) -> None:
        """It has just made a block, so that its next turn is as far away as can be.

        Whoever leaves now is known to be away when that comes; at once, it would cost the whole propose timeout.
        """
        operator = f"0x{load_public_keys(self.members[number].folder.validator_keys).operator.hex()}"
        await_that(
            lambda: self.nodes[number].call("eth_getBlockByNumber", "latest", False)["miner"] == operator,
            lambda: f"validator {number} makes no block:\n{self.said()}",
            AGREE_TIMEOUT_S,
        )

    def kill(self, *numbers: int) -> None:
        """SIGKILL to the node's process alone, as a crash does; its children have to notice."""
        for number in numbers:
            self.nodes[number].children()
            self.nodes[number].process.kill()
        for number in numbers:
            node = self.nodes.pop(number)
            self.paused.discard(number)
            try:
                node.process.wait(GONE_TIMEOUT_S)
                node.await_children_gone()
            finally:
                node.__exit__()

    def stop(self, number: int) -> None:
        with self.nodes.pop(number) as node:
            node.stop()

    def pause(self, number: int) -> None:
        """The node and its children stand still, as on a machine that is suspended."""
        node = self.nodes[number]
        for pid in (node.process.pid, *node.children()):
            os.kill(pid, signal.SIGSTOP)
        self.paused.add(number)

    def resume(self, number: int) -> None:
        node = self.nodes[number]
        for pid in (*node.children(), node.process.pid):
            os.kill(pid, signal.SIGCONT)
        self.paused.discard(number)

    def wipe(self, number: int) -> None:
        """A member that does not run loses its chain, and keeps its keys and what they signed."""
        folder = self.members[number].folder
        shutil.rmtree(folder.database)
        shutil.rmtree(folder.consensus)

    def follower(
        self, name: str, *bootnodes: Address, genesis_file: Path | None = None, p2p_port: int = 0
    ) -> NodeProcess:
        """A node without keys, from the genesis file and bootnodes alone, on an empty folder."""
        flags = [part for address in bootnodes for part in ("--bootnode", str(address))]
        return NodeProcess(
            self.root / f"{name}.log",
            *("start", "--data-dir", str(self.root / name), "--genesis", str(genesis_file or self.genesis_file)),
            *("--rpc-port", "0", "--p2p-host", "127.0.0.1", "--p2p-port", str(p2p_port), "--json", *flags),
        )

    # --- The chain -------------------------------------------------------------------------------------------------

    def running(self) -> list[NodeProcess]:
        return [node for number, node in sorted(self.nodes.items()) if number not in self.paused]

    def heights(self) -> list[int]:
        return [node.height() for node in self.running()]

    def await_growth(self, blocks: int = 3, timeout_s: float = AGREE_TIMEOUT_S) -> int:
        """Every running member commits so many blocks above the present highest; gives the height reached."""
        target = max(self.heights()) + blocks
        self.await_height(target, timeout_s)
        return target

    def await_height(self, height: int, timeout_s: float = AGREE_TIMEOUT_S) -> None:
        await_that(
            lambda: min(self.heights()) >= height,
            lambda: f"not all came to height {height}: {self.heights()}\n{self.said()}",
            timeout_s,
        )

    def check_agreement(self, others: Iterable[NodeProcess] = ()) -> int:
        """Every block hash up to the lowest head is the same on all; gives that height. Raises NodeFailed."""
        nodes = [*self.running(), *others]
        lowest = min(node.height() for node in nodes)
        chains = [block_hashes(node, lowest) for node in nodes]
        for height, found in enumerate(zip(*chains, strict=True)):
            if len(set(found)) != 1:
                raise NodeFailed(f"the chain forked: at height {height} the nodes hold {found}\n{self.said()}")
        return lowest

    def said(self, lines: int = 30) -> str:
        """The end of every member's log."""
        logs = sorted(self.root.glob("*.log"))
        return "\n".join(
            f"--- {log.stem}\n" + "\n".join(log.read_text(errors="replace").split("\n")[-lines:]) for log in logs
        )


def member_at(number: int, folder: DataFolder, place: Place) -> Member:
    address = Address(place.p2p_host, free_port(), load_or_create_identity(folder.node_key).peer_id)
    return Member(number, folder, folder.root / PASSWORD_FILE, rpc_port=0, p2p=address)


def block_hashes(node: NodeProcess, height: int) -> list[str]:
    """From genesis to `height`."""
    return [node.call("eth_getBlockByNumber", hex(number), False)["hash"] for number in range(height + 1)]


def welcomed_by(node: NodeProcess) -> set[str]:
    """The ids of all peers that this run of the node was connected to, by its log."""
    return set(re.findall(r"a peer is connected peer=(\w+)", node.said()))


def await_receipt(node: NodeProcess, transaction_hash: str) -> Mapping[str, Any]:
    receipts: list[Mapping[str, Any]] = []

    def has_come() -> bool:
        receipt = node.call("eth_getTransactionReceipt", transaction_hash)
        if receipt is not None:
            receipts.append(receipt)
        return bool(receipts)

    await_that(has_come, lambda: f"{transaction_hash} has no receipt:\n{node.said()}")
    return receipts[0]


def free_port() -> int:
    """Free at the moment; a member needs the same one after each restart."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _make_keys(folder: DataFolder, operator: Account | None = None) -> GenesisValidator:
    folder.root.mkdir(mode=0o700, parents=True)
    password = secrets.token_hex(32)
    put_secret(folder.root / PASSWORD_FILE, password)
    operator = operator or Account(secrets.token_bytes(20))
    public = put_validator(folder, operator, password)
    return GenesisValidator(
        operator, public.voting_key, public.proof_of_possession, public.checkpoint_key, DEVNET_STAKE_WEI
    )
