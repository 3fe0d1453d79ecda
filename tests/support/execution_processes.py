"""An execution process on a data folder, with both of its sockets open."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from astralink_node.chain.client import ExecutionClient
from astralink_node.chain.data_folder import DATABASE_NAME, GENESIS_NAME
from astralink_node.chain.process_config import MODULE, ProcessConfig


@dataclass(frozen=True, slots=True)
class ExecutionProcess:
    process: trio.Process
    client: ExecutionClient
    """Block work."""
    queries: ExecutionClient
    """The socket for queries."""


@asynccontextmanager
async def execution_process(folder: Path) -> AsyncIterator[ExecutionProcess]:
    """Killed at the end."""
    node_end, child_end = trio.socket.socketpair()
    path = folder / "q.sock"
    config = ProcessConfig(str(folder / DATABASE_NAME), str(folder / GENESIS_NAME), child_end.fileno(), str(path))
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", MODULE, config.to_json()], pass_fds=[child_end.fileno()], stderr=subprocess.DEVNULL
    )
    child_end.close()
    client = ExecutionClient(trio.SocketStream(node_end))
    queries: ExecutionClient | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            await client.status()  # it serves: its other socket listens
            queries = ExecutionClient(await trio.open_unix_socket(str(path)))
            nursery.start_soon(queries.run)
            yield ExecutionProcess(process, client, queries)
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            await client.aclose()
            if queries is not None:
                await queries.aclose()
