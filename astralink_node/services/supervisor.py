"""The node's two kinds of child process: execution, without which the node stops, and gateways, which come back.

Both are started with sockets or pipes that close when the node dies, and both end by themselves then. What a child
says on stderr goes to the node's stderr; its last line is what an error tells the operator.
"""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from astralink_node.chain import process_config
from astralink_node.chain.client import ExecutionClient
from astralink_node.chain.process_config import ProcessConfig
from astralink_node.errors import AstraLinkError, UserError
from astralink_node.gateway.config import GatewayConfig

logger = logging.getLogger(__name__)

GATEWAY_MODULE = "astralink_node.gateway.server"
FIRST_RESTART_S = 0.1
LAST_RESTART_S = 5.0
STEADY_S = 30.0
"""A gateway that ran so long is started again without delay."""
STOP_GRACE_S = 2.5
"""How long a child may take to end once asked; then it is killed."""
LINE_BYTES = 4096
"""Of a child's last line on stderr that is kept for an error message."""


class ExecutionDied(AstraLinkError):
    """The execution process ended while the node was running: the node stops, nothing is half-written."""

    exit_code = 3


class CannotStart(UserError):
    """A child process refused to start for a reason that the operator can mend."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a gateway answers."""

    host: str
    port: int


class Child:
    """A running child process and the relay of its stderr."""

    def __init__(self, name: str, process: trio.Process) -> None:
        self.name = name
        self.process = process
        self.last_line = ""
        self._stderr_ended = trio.Event()

    async def relay_stderr(self) -> None:
        """Copy lines to our stderr until the child closes its end."""
        stream = self.process.stderr
        assert stream is not None
        rest = b""
        try:
            async for data in stream:
                sys.stderr.write(bytes(data).decode("utf-8", "replace"))
                sys.stderr.flush()
                lines = [line for line in (rest + bytes(data)).split(b"\n") if line.strip()]
                rest = (lines[-1] if lines else b"")[-LINE_BYTES:] if not data.endswith(b"\n") else b""
                if lines:
                    self.last_line = lines[-1][-LINE_BYTES:].decode("utf-8", "replace").strip()
        finally:
            self._stderr_ended.set()

    async def exit_reason(self) -> str:
        """Wait for the end; the last words if there were any, else the exit code."""
        code = await self.process.wait()
        with trio.move_on_after(1):
            await self._stderr_ended.wait()
        return self.last_line or f"the {self.name} process ended with code {code}"

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the grace time; returns when the process has ended."""
        if self.process.returncode is None:
            self.process.terminate()
            with trio.move_on_after(STOP_GRACE_S):
                await self.process.wait()
        if self.process.returncode is None:
            logger.warning("the %s process did not end within %.1f s and is killed", self.name, STOP_GRACE_S)
            self.process.kill()
            await self.process.wait()


class Supervisor:
    """Starts children in a nursery that outlives them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._children: list[Child] = []
        self._stopping = False

    async def start_execution(self, config: ProcessConfig, keep_open: int) -> ExecutionClient:
        """The client of a started execution process. Raises CannotStart.

        `keep_open` is the data folder's lock: the child inherits it, so that the folder stays locked until both
        are gone. If the process ends later, ExecutionDied is raised in the nursery.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            config = replace(config, node_socket=theirs.fileno())
            child = await self._spawn(
                "execution", process_config.MODULE, [config.to_json()], (theirs.fileno(), keep_open)
            )
        client = ExecutionClient(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        self._nursery.start_soon(client.run)
        started = trio.Event()
        with trio.CancelScope() as scope:
            self._nursery.start_soon(self._watch_execution, child, started, scope)
            await client.status()
            started.set()
        if not started.is_set():
            raise CannotStart(_without_prefix(child.last_line) or await child.exit_reason())
        return client

    async def run_gateway(self, config: GatewayConfig, on_listening: Callable[[Listening], None]) -> None:
        """Keep one gateway running for ever. Raises CannotStart if it never answers.

        `on_listening` is called once, when the first one does.
        """
        delay_s = FIRST_RESTART_S
        first = True
        while True:
            began = trio.current_time()
            child, listening = await self._start_gateway(config)
            if listening is None and first:
                raise CannotStart(_without_prefix(await child.exit_reason()))
            if listening is not None:
                # A port that the system chose stays the same over restarts.
                config = replace(config, port=listening.port)
                if first:
                    on_listening(listening)
                first = False
            reason = await child.exit_reason()
            if self._stopping:
                return
            if trio.current_time() - began > STEADY_S:
                delay_s = FIRST_RESTART_S
            logger.warning("the gateway ended (%s); starting it again in %.1f s", reason, delay_s)
            await trio.sleep(delay_s)
            delay_s = min(2 * delay_s, LAST_RESTART_S)

    async def stop(self) -> None:
        """End all children, gateways first. The caller shields and bounds this."""
        self._stopping = True
        async with trio.open_nursery() as nursery:
            for child in self._children:
                if child.name != "execution":
                    nursery.start_soon(child.stop)
        for child in self._children:
            await child.stop()

    async def _start_gateway(self, config: GatewayConfig) -> tuple[Child, Listening | None]:
        read_end, write_end = os.pipe()
        try:
            arguments = ["--config", config.to_json(), "--ready-fd", str(write_end)]
            child = await self._spawn("gateway", GATEWAY_MODULE, arguments, (write_end,))
        finally:
            os.close(write_end)
        async with trio.lowlevel.FdStream(read_end) as ready:
            line = b""
            async for data in ready:
                line += bytes(data)
                if line.endswith(b"\n"):
                    break
        if not line.endswith(b"\n"):
            return child, None
        told = json.loads(line)
        return child, Listening(told["host"], told["port"])

    async def _watch_execution(self, child: Child, started: trio.Event, start_scope: trio.CancelScope) -> None:
        reason = await child.exit_reason()
        if not started.is_set():
            start_scope.cancel()
        elif not self._stopping:
            raise ExecutionDied(f"the execution process ended, so the node stops: {_without_prefix(reason)}")

    async def _spawn(self, name: str, module: str, arguments: list[str], descriptors: tuple[int, ...]) -> Child:
        # -P: a module in the current folder must not stand in for one of ours.
        process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
        )
        child = Child(name, process)
        self._children = [other for other in self._children if other.process.returncode is None] + [child]
        self._nursery.start_soon(child.relay_stderr)
        return child


def _without_prefix(line: str) -> str:
    """A child's line begins with who says it; the operator knows."""
    for prefix in ("astralink execution: ", "astralink gateway: "):
        line = line.removeprefix(prefix)
    return line
