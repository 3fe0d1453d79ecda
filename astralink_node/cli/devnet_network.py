"""`devnet --validators N`: a network of N validators on this machine, each a process of its own with its own folder.

Each is an ordinary `astralink-node start` on loopback that knows the others as bootnodes, so each can be stopped,
killed and started again by itself with the command that is printed; who does that stops it, too. This process only
starts them, passes on what they say, and stops them; those that it started end with it, also where it is killed.
"""

import json
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import click
import trio

from astralink_node.config import NodeConfig
from astralink_node.errors import AstraLinkError, UserError
from astralink_node.services.data_folder import DataFolder, node_on
from p2p.addresses import Address
from p2p.identity import load_or_create_identity

MAX_VALIDATORS: Final = 32
READY_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 10.0
_LINE_BYTES: Final = 65_536
_LAST_PORT: Final = 65_535
_HOST: Final = "127.0.0.1"
_OVER_LIVE_LINE: Final = "\033[K"
"""Clears what a live view left of the line that a message takes; click leaves it out where there is no terminal."""


class NetworkFailed(AstraLinkError):
    """A node of the network did not start."""


@dataclass(frozen=True, slots=True)
class Member:
    number: int
    folder: DataFolder
    password_file: Path
    rpc_port: int
    p2p: Address
    """With its peer id."""
    unlocks_dev_accounts: bool = False
    """Whether it signs for the devnet's test accounts."""

    def command(self, others: Sequence["Member"], config: NodeConfig) -> list[str]:
        """What starts it; every setting is said, whatever a settings file or the environment would make of it."""
        return [*self._start(), *chain.from_iterable(self._flags(others, config)), "--json"]

    def command_by_hand(self, others: Sequence["Member"], config: NodeConfig) -> list[str]:
        """Likewise for people: without what goes without saying."""
        usual = _flags_of(NodeConfig())
        return [*self._start(), *chain.from_iterable(flag for flag in self._flags(others, config) if flag not in usual)]

    def _start(self) -> list[str]:
        program = [sys.executable, "-m", "astralink_node.cli.main", "start"]
        unlocked = ["--unlocked-dev-accounts"] if self.unlocks_dev_accounts else []
        return [*program, "--data-dir", str(self.folder.root), "--password-file", str(self.password_file), *unlocked]

    def _flags(self, others: Sequence["Member"], config: NodeConfig) -> list[tuple[str, ...]]:
        bootnodes = tuple(str(other.p2p) for other in others)
        p2p = replace(config.p2p, enabled=True, host=self.p2p.host, port=self.p2p.port, bootnodes=bootnodes)
        return _flags_of(replace(config, rpc=replace(config.rpc, port=self.rpc_port), p2p=p2p))


def _flags_of(config: NodeConfig) -> list[tuple[str, ...]]:
    """The flags of `start` that say these settings, as far as members of a network need them."""
    rpc, p2p, blocks = config.rpc, config.p2p, config.blocks
    return [
        ("--rpc-host", rpc.host),
        ("--rpc-port", str(rpc.port)),
        ("--rpc-api", ",".join(rpc.api)),
        ("--rpc-cors-origins", ",".join(rpc.cors_origins)),
        ("--rpc-vhosts", ",".join(rpc.vhosts)),
        ("--rpc-rate-limit", str(rpc.rate_limit)),
        ("--rpc-gas-cap", str(rpc.gas_cap)),
        ("--p2p" if p2p.enabled else "--no-p2p",),
        ("--p2p-host", p2p.host),
        ("--p2p-port", str(p2p.port)),
        *(("--bootnode", bootnode) for bootnode in p2p.bootnodes),
        ("--block-interval-ms", str(blocks.interval_ms)),
        ("--on-demand" if blocks.on_demand else "--no-on-demand",),
        ("--empty-blocks" if blocks.empty else "--no-empty-blocks",),
        *((("--fee-recipient", blocks.fee_recipient),) if blocks.fee_recipient else ()),
        ("--archive" if config.history.archive else "--no-archive",),
        ("--explorer-index" if config.index.explorer else "--no-explorer-index",),
        ("--metrics" if config.metrics.enabled else "--no-metrics",),
        ("--log-level", config.log.level),
        ("--log-format", config.log.format),
    ]


def members_of(
    folders: Sequence[DataFolder], password_file_name: str, config: NodeConfig, *, unlocks_dev_accounts: bool = False
) -> list[Member]:
    """Ports follow one another from the settings'; 0 lets the system choose each. Raises UserError."""
    count = len(folders)
    for name, first in (("p2p.port", config.p2p.port), ("rpc.port", config.rpc.port)):
        if first and first + count - 1 > _LAST_PORT:
            raise UserError(f"{name}: {count} nodes from port {first} on: expected at most port {_LAST_PORT}")
    p2p_ports = range(config.p2p.port, config.p2p.port + count) if config.p2p.port else _free_ports(count)
    members = []
    for number, (folder, p2p_port) in enumerate(zip(folders, p2p_ports, strict=True)):
        identity = load_or_create_identity(folder.node_key)
        rpc_port = config.rpc.port + number if config.rpc.port else 0
        address = Address(_HOST, p2p_port, identity.peer_id)
        password_file = folder.root / password_file_name
        members.append(Member(number, folder, password_file, rpc_port, address, unlocks_dev_accounts))
    return members


def run_network(
    members: Sequence[Member], config: NodeConfig, welcome: "Welcome", before_stop: Callable[[], None]
) -> None:
    """Until SIGINT or SIGTERM; `before_stop` ends a live view. Raises NetworkFailed where a node does not start."""
    try:
        trio.run(_run, members, config, welcome, before_stop)
    except BaseExceptionGroup as group:
        failed, others = group.split(NetworkFailed)
        if failed is None or others is not None:
            raise
        raise _first(failed) from group
    for line in (*left_running(members), "stopped"):
        click.echo(line, err=True)


def left_running(members: Sequence[Member]) -> list[str]:
    """Nodes on the network's folders that others started, when its own have stopped."""
    found = ((member, node_on(member.folder)) for member in members)
    return [
        f"process {node.process} still runs on {member.folder.root}: it was started by hand, and is stopped by itself"
        for member, node in found
        if node is not None
    ]


def _first(group: BaseExceptionGroup[NetworkFailed]) -> NetworkFailed:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


class Welcome:
    """Prints once, when all of them serve."""

    def __init__(self, count: int, tell: Any) -> None:
        self._count = count
        self._tell = tell
        self._ready: dict[int, dict[str, Any]] = {}
        self.done = trio.Event()
        self.ended = 0
        """Nodes that are gone since."""

    def ready(self, number: int, line: dict[str, Any]) -> None:
        if self.done.is_set():
            return
        self._ready[number] = line
        if len(self._ready) == self._count:
            self._tell([self._ready[at] for at in sorted(self._ready)])
            self.done.set()

    def others(self) -> str:
        """What becomes of the network without those that ended. Raises NetworkFailed when all did."""
        left = self._count - self.ended
        if not left:
            raise NetworkFailed("every node of the network has ended: see what they say above")
        if 3 * left > 2 * self._count:
            return "the others go on"
        return f"of those that this command started, the {left} that are left are too few to make blocks"


async def _run(
    members: Sequence[Member], config: NodeConfig, welcome: Welcome, before_stop: Callable[[], None]
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            for member in members:
                others = [other for other in members if other is not member]
                by_hand = member.command_by_hand(others, config)
                nursery.start_soon(_run_member, member, member.command(others, config), by_hand, welcome)
            nursery.start_soon(_expect_ready, welcome)
            async for _ in signals:
                await trio.to_thread.run_sync(before_stop)
                click.echo("stopping the network", err=True)
                nursery.cancel_scope.cancel()
                break


async def _expect_ready(welcome: Welcome) -> None:
    with trio.move_on_after(READY_TIMEOUT_S):
        await welcome.done.wait()
        return
    raise NetworkFailed(f"the network did not come up within {READY_TIMEOUT_S:.0f} s: see what the nodes say above")


async def _run_member(member: Member, command: list[str], by_hand: list[str], welcome: Welcome) -> None:
    # It ends with this process, which holds its standard input.
    process = await trio.lowlevel.open_process(
        [*command, "--stop-at-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, process.stderr, member.number)
            nursery.start_soon(_read_ready, process.stdout, member.number, welcome)
            code = await process.wait()
            if not welcome.done.is_set():
                raise NetworkFailed(f"node {member.number} ended with code {code} before the network was up")
            welcome.ended += 1
            click.echo(
                f"{_OVER_LIVE_LINE}node {member.number} ended with code {code}; {welcome.others()}. "
                "To start it again:\n"
                f"  {shlex.join(by_hand)}\n"
                "It then belongs to whoever started it: Ctrl-C here does not stop it.",
                err=True,
            )
    finally:
        with trio.CancelScope(shield=True):
            await _stop(process)


async def _stop(process: trio.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with trio.move_on_after(STOP_TIMEOUT_S):
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _read_ready(stream: trio.abc.ReceiveStream, number: int, welcome: Welcome) -> None:
    async for line in _lines(stream):
        welcome.ready(number, json.loads(line))


async def _pass_on(stream: trio.abc.ReceiveStream, number: int) -> None:
    async for line in _lines(stream):
        click.echo(f"{_OVER_LIVE_LINE}[{number}] {line}", err=True)


async def _lines(stream: trio.abc.ReceiveStream) -> Any:
    rest = b""
    async for data in stream:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line[:_LINE_BYTES].decode(errors="replace")
        rest = rest[-_LINE_BYTES:]
    if rest:
        yield rest.decode(errors="replace")


def _free_ports(count: int) -> list[int]:
    """All different: each is held until the last one is chosen."""
    with ExitStack() as probes:
        ports: list[int] = []
        for _ in range(count):
            probe = probes.enter_context(socket.socket())
            probe.bind((_HOST, 0))
            ports.append(probe.getsockname()[1])
        return ports
