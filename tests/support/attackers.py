"""Strangers and peers that mean harm, on loopback; and what a process holds while they are at it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from p2p.addresses import Address
from p2p.libp2p_host import Host
from p2p.libp2p_patches import BoundedYamux
from tests.support.hosts import ask_echo, plain_nursery, running_host

ROOT = Path(__file__).parents[2]
MULTISTREAM = b"\x13/multistream/1.0.0\n"
NOISE = b"\x07/noise\n"

HOLD_SOCKETS = """
import socket, sys
held = []
for _ in range(int(sys.argv[2])):
    try:
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30))
    except OSError:
        pass
print(len(held), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    tasks: int
    descriptors: int
    memory_bytes: int

    @classmethod
    def now(cls) -> Held:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            trio.lowlevel.current_statistics().tasks_living,
            len(os.listdir("/proc/self/fd")),
            pages * os.sysconf("SC_PAGE_SIZE"),
        )

    async def returns(self, memory_growth_bytes: int = 48 << 20) -> None:
        """Wait until the process holds no more than at the time of `self`, but for a growth of memory."""
        with trio.move_on_after(15):
            while True:
                now = Held.now()
                if now.tasks <= self.tasks and now.descriptors <= self.descriptors:
                    break
                await trio.sleep(0.05)
        now = Held.now()
        assert (now.tasks, now.descriptors) <= (self.tasks, self.descriptors), f"before {self}, now {now}"
        assert now.memory_bytes <= self.memory_bytes + memory_growth_bytes, f"before {self}, now {now}"


@dataclass
class Bystander:
    """An honest peer of the victim that talks to it all the time."""

    host: Host
    answers: int = 0
    slowest_s: float = 0.0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    async def talk(self, victim: Host) -> None:
        with self.scope:
            while True:
                began = trio.current_time()
                assert await ask_echo(self.host, victim.own_id, b"still there?") == b"still there?"
                self.answers += 1
                self.slowest_s = max(self.slowest_s, trio.current_time() - began)
                await trio.sleep(0.02)


@asynccontextmanager
async def undisturbed(victim: Host, slowest_s: float = 2.0) -> AsyncIterator[Bystander]:
    """While the block runs, a bystander of the victim must notice nothing: one connection, and every answer soon."""
    async with running_host() as host:
        connection = await host.dial(victim.listen_addresses)
        bystander = Bystander(host)
        async with plain_nursery() as nursery:
            nursery.start_soon(bystander.talk, victim)
            yield bystander
            assert await ask_echo(host, victim.own_id) == b"hello"
            bystander.scope.cancel()
        assert host.connections[victim.own_id] is connection
        assert bystander.answers > 0
        assert bystander.slowest_s < slowest_s


async def raw_socket(address: Address) -> trio.SocketStream:
    return await trio.open_tcp_stream(address.host, address.port)


async def authenticated(attacker: Host, victim: Host) -> BoundedYamux:
    """A connection with handshakes done and no multiplexer running: what is written to `secured_conn` is frames."""
    return await attacker._reach(victim.listen_addresses[0])


@contextmanager
def held_sockets(address: Address, processes: int, each: int) -> Iterator[Callable[[], int]]:
    """Processes that connect and say nothing; the callable waits until they have, and says how many connections."""
    command = [sys.executable, "-c", HOLD_SOCKETS, str(address.port), str(each)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]

    def connected() -> int:
        return sum(int(process.stdout.readline()) for process in started if process.stdout is not None)

    try:
        yield connected
    finally:
        for process in started:
            process.kill()
            process.communicate(timeout=10)


HOST_PROCESS = """
import sys, trio
from pathlib import Path
from p2p.addresses import Address
from p2p.identity import load_or_create_identity
from p2p.libp2p_host import Host
from tests.support.hosts import ECHO, echo

async def main():
    host = await Host.open(load_or_create_identity(Path(sys.argv[1])), [Address("127.0.0.1", int(sys.argv[2]))])
    host.handle(ECHO, echo)
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        print(host.listen_addresses[0].port, flush=True)

trio.run(main)
"""


@contextmanager
def host_process(key: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A host in a process of its own that echoes; the process and its port."""
    command = [sys.executable, "-W", "ignore", "-c", HOST_PROCESS, str(key), str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate(timeout=10)
