"""The node's two kinds of child process: the execution process, which it cannot live without, and gateways.

A gateway that crashes is started again, with growing pauses. When the execution process ends, the node stops
safely. Children end with the node, because its sockets close. What they write to stderr becomes our log.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import orjson
import trio

from astralink_node.chain.client import ExecutionClient
from astralink_node.chain.process_config import (
    EXIT_CANNOT_START,
    EXIT_CONFLICT,
    EXIT_STOPPED,
    EXIT_STORAGE,
    ORPHAN_GRACE_S,
    ProcessConfig,
)
from astralink_node.chain.process_config import MODULE as EXECUTION_MODULE
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.errors import AstraLinkError, UserError
from astralink_node.gateway.config import GatewayConfig
from astralink_node.log import Log

GATEWAY_MODULE: Final = "astralink_node.gateway.server"
GATEWAY_CANNOT_START: Final = frozenset({2, 3})
"""Exit codes of a gateway (gateway.server) that say: starting it again will not help."""

EXIT_EXECUTION_DIED: Final = 69
"""The node's own exit code when the execution process died of a signal or a bug (EX_UNAVAILABLE)."""

GATEWAY_STOP_S: Final = 2.5
EXECUTION_STOP_S: Final = ORPHAN_GRACE_S + 0.5
"""By then it has ended by itself. Together less than the five seconds within which a stopped node has to be gone."""
SAME_SIGNAL_S: Final = 1.0
"""A SIGTERM to every process of a service (systemd, `timeout`) reaches the node this much after its child at most."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
STEADY_AFTER_S: Final = 30.0
"""A gateway that served this long starts again without a pause when it crashes."""

_LAST_LINES: Final = 20
_MAX_LINE: Final = 4096
_LAST_WORDS: Final = ("astralink execution: ", "error: ")
"""How the line begins in which an execution process or a gateway says why it ends."""
_ORDINARY: Final = ("DEBUG ", "INFO ")
_ENDED_BY_SIGTERM: Final = frozenset({EXIT_STOPPED, -signal.SIGTERM})
"""The second one before it has begun to listen for it."""
_LEVELLED: Final = re.compile(r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL) ([\w.]+): (.*)$")

_log = Log("supervisor")


class ExecutionDied(AstraLinkError):
    """The execution process ended while the node was running; nothing more may be signed."""

    def __init__(self, returncode: int, last_words: str) -> None:
        known = returncode in {EXIT_CANNOT_START, EXIT_CONFLICT, EXIT_STORAGE}
        self.exit_code = returncode if known else EXIT_EXECUTION_DIED
        ended = (
            f"was killed by {signal.Signals(-returncode).name}" if returncode < 0 else f"ended with code {returncode}"
        )
        reason = last_words.removeprefix("astralink execution: ")
        if known and reason:
            super().__init__(reason)
        else:
            hint = "every committed block is safe; start the node again"
            super().__init__(f"the execution process {ended}, so the node stopped: {reason or hint}")


class GatewayCannotStart(UserError):
    """The RPC gateway cannot start with these settings, for example because its port is taken."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Where a gateway answers."""

    host: str
    port: int

    @property
    def rpc_url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


class _Child:
    """A running process whose stderr is read line by line."""

    def __init__(self, name: str, process: trio.Process) -> None:
        self.name = name
        self.process = process
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._log = Log(name)
        self.stderr_closed = trio.Event()

    @property
    def last_words(self) -> str:
        """What it said last, unless that is an ordinary report and explains nothing."""
        last = self._last_lines[-1] if self._last_lines else ""
        return "" if last.startswith(_ORDINARY) else last

    async def read_stderr(self) -> None:
        """Turn what it says into log events until it closes its stderr."""
        stream = self.process.stderr
        if stream is None:
            raise ValueError("the process was started without a pipe for stderr")
        rest = b""
        async with stream:
            async for chunk in stream:
                *lines, rest = (rest + bytes(chunk)).split(b"\n")
                rest = rest[:_MAX_LINE]
                for line in lines:
                    self._report(line)
        if rest:
            self._report(rest)
        self.stderr_closed.set()

    def _report(self, line: bytes) -> None:
        text = line[:_MAX_LINE].decode(errors="replace").rstrip()
        if not text:
            return
        self._last_lines.append(text)
        if text.startswith(_LAST_WORDS):
            return  # whoever deals with its end reports them
        levelled = _LEVELLED.match(text)
        if levelled is None:
            self._log.warning("the process says", text=text)
            return
        level, _, message = levelled.groups()
        report = {"DEBUG": self._log.debug, "INFO": self._log.info, "WARNING": self._log.warning}.get(
            level, self._log.error
        )
        report(message)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL when that takes too long. Not to be cancelled."""
        with trio.CancelScope(shield=True):
            if self.process.poll() is None:
                self.process.terminate()
            with trio.move_on_after(grace_s):
                await self.process.wait()
            if self.process.poll() is None:
                _log.warning("a process did not stop in time and was killed", process=self.name)
                self.process.kill()
                await self.process.wait()


class ExecutionProcess:
    """The execution process and the socket to it."""

    def __init__(self, child: _Child, client: ExecutionClient, stop_asked: trio.Event) -> None:
        self._child = child
        self.client = client
        self._stop_asked = stop_asked
        self._stopping = False

    @property
    def pid(self) -> int:
        return self._child.process.pid

    async def watch(self) -> None:
        """Carry answers until the process ends; raises ExecutionDied unless it was told to stop."""
        await self.client.run()
        with trio.CancelScope(shield=True):
            if not self._stopping:
                # It closed its socket, or broke the protocol: either way it is of no use any more.
                with trio.move_on_after(EXECUTION_STOP_S):
                    await self._child.process.wait()
                await self._child.stop(EXECUTION_STOP_S)
                with trio.move_on_after(1):
                    await self._child.stderr_closed.wait()
                code = self._child.process.returncode or 0
                if code not in _ENDED_BY_SIGTERM or not await self._is_stop_asked():
                    raise ExecutionDied(code, self._child.last_words)

    async def _is_stop_asked(self) -> bool:
        """Whether the signal that ended it was for the whole node, which then goes on to stop."""
        with trio.move_on_after(SAME_SIGNAL_S):
            await self._stop_asked.wait()
        return self._stop_asked.is_set()

    async def stop(self) -> None:
        """Close its socket and wait until it is gone, so that the database is free. Not to be cancelled."""
        self._stopping = True
        with trio.CancelScope(shield=True):
            await self.client.aclose()
            await self._child.stop(EXECUTION_STOP_S)


async def start_execution(
    nursery: trio.Nursery,
    database: Path,
    genesis_file: Path,
    query_socket: Path,
    history_heights: int | None,
    query_limits: QueryLimits,
    stop_asked: trio.Event,
    *,
    explorer_index: bool,
) -> ExecutionProcess:
    """Start it; `nursery` gets its two tasks. Whether it could open the database, its first answer tells.

    `stop_asked` is set when the node itself is told to stop.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        config = ProcessConfig(
            database=str(database),
            genesis_file=str(genesis_file),
            node_socket=theirs.fileno(),
            query_socket=str(query_socket),
            history_heights=history_heights,
            explorer_index=explorer_index,
            query_limits=query_limits,
        )
        process = await _start(EXECUTION_MODULE, [config.to_json()], [theirs.fileno()])
    child = _Child("execution", process)
    client = ExecutionClient(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
    execution = ExecutionProcess(child, client, stop_asked)
    nursery.start_soon(child.read_stderr)
    nursery.start_soon(execution.watch)
    return execution


class GatewayKeeper:
    """Keeps one gateway running. `on_serving` is told whenever it has begun to answer requests."""

    def __init__(self, config: GatewayConfig, on_serving: Callable[[Serving], None]) -> None:
        self._config = config
        self._on_serving = on_serving
        self._child: _Child | None = None
        self._stopping = False
        self._stopped = trio.Event()

    @property
    def pid(self) -> int | None:
        """Of the gateway that was started last, if it still runs."""
        return None if self._child is None or self._child.process.poll() is not None else self._child.process.pid

    async def run(self) -> None:
        """Until :meth:`stop` or cancellation. Raises GatewayCannotStart if the first one cannot."""
        pause_s, starts = FIRST_PAUSE_S, 0
        try:
            while not self._stopping:
                started_at = trio.current_time()
                served, returncode, last_words = await self._run_once()
                starts += 1
                if self._stopping:
                    return
                if not served and starts == 1 and returncode in GATEWAY_CANNOT_START:
                    raise GatewayCannotStart(last_words.removeprefix("error: "))
                if trio.current_time() - started_at > STEADY_AFTER_S:
                    pause_s = FIRST_PAUSE_S
                reason = f"killed by {signal.Signals(-returncode).name}" if returncode < 0 else last_words
                _log.error("the gateway ended: starting it again", code=returncode, pause_s=pause_s, reason=reason)
                await trio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            self._stopped.set()

    async def stop(self) -> None:
        """Let it finish what it is answering, take no more, and be gone."""
        self._stopping = True
        if self._child is not None:
            await self._child.stop(GATEWAY_STOP_S)
            await self._stopped.wait()

    async def _run_once(self) -> tuple[bool, int, str]:
        """Start one and wait for its end: (whether it served, exit code, last words)."""
        ready_end, their_end = os.pipe()
        ready = trio.lowlevel.FdStream(ready_end)
        try:
            arguments = ["--config", self._config.to_json(), "--ready-fd", str(their_end)]
            process = await _start(GATEWAY_MODULE, arguments, [their_end])
        finally:
            os.close(their_end)
        self._child = child = _Child("gateway", process)
        served = False
        try:
            async with ready, trio.open_nursery() as nursery:
                nursery.start_soon(child.read_stderr)
                serving = await _read_ready_line(ready)
                if serving is not None and not self._stopping:
                    served = True
                    # Clients reconnect to where they were, also where the system had chosen the port.
                    self._config = replace(self._config, port=serving.port)
                    self._on_serving(serving)
                await process.wait()
                with trio.move_on_after(1):
                    await child.stderr_closed.wait()
                nursery.cancel_scope.cancel()
        finally:
            await child.stop(GATEWAY_STOP_S)
        return served, process.returncode or 0, child.last_words


async def _read_ready_line(stream: trio.lowlevel.FdStream) -> Serving | None:
    """The line that says where it serves, or None if the process ends before."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = await stream.receive_some(_MAX_LINE)
        if not chunk:
            return None
        line += bytes(chunk)
    values = orjson.loads(line)
    return Serving(values["host"], values["port"])


async def _start(module: str, arguments: Sequence[str], descriptors: Sequence[int]) -> trio.Process:
    """In a process group of its own: what Ctrl-C or a closed terminal means to a child is the node's to say."""
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=tuple(descriptors),
        process_group=0,
    )
