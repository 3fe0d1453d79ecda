"""A real `astralink-node` process for tests: start it, ask it, end it in every way, by process id only."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

START_TIMEOUT_S = 60
GONE_TIMEOUT_S = 30
STOP_LIMIT_S = 5
"""A stopped node is gone within this (issue 2)."""
POLL_S = 0.02
NODE = "astralink_node.cli.main"


class NodeFailed(AssertionError):
    """The node did not do what the test waited for; carries what it wrote to stderr."""


class NodeProcess:
    """One run of a verb that runs a node. Use as a context manager: whatever happens, no process is left behind."""

    def __init__(
        self,
        log: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        enter: tuple[str, ...] = (),
        module: str = NODE,
    ) -> None:
        """`enter` goes in front of the command and becomes it: `nsenter` and the like."""
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self.ready: dict[str, Any] = {}
        self._children: set[int] = set()
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*enter, sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(environment or {})},
            )

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        if self.process.stdout:
            self.process.stdout.close()

    # --- Watching ----------------------------------------------------------------------------------------------

    def await_ready(self) -> NodeProcess:
        """Read the line of JSON that says where it serves."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_TIMEOUT_S)
        line = self.process.stdout.readline() if readable else b""
        if not line:
            raise NodeFailed(f"not ready (exit {self.process.poll()}):\n{self.said()}")
        self.ready = json.loads(line)
        return self

    def said(self) -> str:
        """What this run wrote to stderr so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def await_said(self, text: str) -> str:
        await_that(lambda: text in self.said(), lambda: f"{text!r} was never said:\n{self.said()}")
        return self.said()

    def await_exit(self, timeout_s: float = GONE_TIMEOUT_S) -> int:
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise NodeFailed(f"still running after {timeout_s} s:\n{self.said()}") from None

    def call(self, method: str, *params: object) -> Any:
        """The result of one JSON-RPC request; NodeFailed with the error object otherwise."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.ready["rpcUrl"], body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            reply = json.load(answer)
        if "error" in reply:
            raise NodeFailed(f"{method}: {reply['error']}")
        return reply["result"]

    def height(self) -> int:
        return int(self.call("eth_blockNumber"), 16)

    def await_height(self, height: int) -> None:
        await_that(lambda: self.height() >= height, lambda: f"block {height} never came:\n{self.said()}")

    def await_growth(self, blocks: int = 1) -> int:
        """So many blocks above the present head; gives the height."""
        height = self.height() + blocks
        self.await_height(height)
        return height

    # --- Ending ------------------------------------------------------------------------------------------------

    def child(self, module: str) -> int:
        """Process id of the child that runs `module`."""
        found = [pid for pid in self.children() if module in command_of(pid)]
        if len(found) != 1:
            raise NodeFailed(f"expected one child that runs {module}, found {found}")
        return found[0]

    def children(self) -> list[int]:
        children = children_of(self.process.pid)
        self._children.update(children)
        return children

    def stop(self, number: int = signal.SIGTERM) -> float:
        """End it politely; returns the seconds that took. Exit code, time limit and children are checked."""
        children = self.children()
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.await_exit()
        took = time.monotonic() - began
        if code != 0:
            raise NodeFailed(f"ended with code {code}:\n{self.said()}")
        left = [pid for pid in children if is_running(pid)]
        if left:
            raise NodeFailed(f"the children {left} outlived the node")
        return took

    def kill(self) -> None:
        """SIGKILL to the node and its children; returns when all are gone."""
        children = self.children()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(GONE_TIMEOUT_S)
        for pid in set(children) | self._children:
            if is_running(pid) and "astralink_node." in command_of(pid):
                os.kill(pid, signal.SIGKILL)
        self.await_children_gone()

    def await_children_gone(self) -> None:
        await_that(
            lambda: not any(is_running(pid) and "astralink_node." in command_of(pid) for pid in self._children),
            lambda: f"children outlived the node: {sorted(self._children)}",
        )


def await_that(condition: Callable[[], bool], complaint: Callable[[], str], timeout_s: float = GONE_TIMEOUT_S) -> None:
    """Poll for something that another process brings about and that gives no event."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise NodeFailed(complaint())
        time.sleep(POLL_S)


def children_of(pid: int) -> list[int]:
    """Whichever of its threads started them: a child is listed below the thread, while that lives."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in path.read_text().split()]
    return sorted(set(found))


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_running(pid: int) -> bool:
    """Alive and no zombie, which is only an exit code that waits to be collected."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def run_verb(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A verb that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", NODE, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
