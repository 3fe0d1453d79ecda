"""A real gateway process between a test's HTTP client and a small node that listens on two Unix sockets."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from astralink_node.chain.codec import decode, encode
from astralink_node.chain.frames import PUSH_ID, FrameDecoder, encode_frame
from astralink_node.chain.messages import Answer, Query
from astralink_node.chain.query_server import QueryServer, WorkGate
from astralink_node.gateway.config import GatewayConfig
from astralink_node.gateway.link_messages import NewHead, Push, Request
from tests.support.gateways import SmallNode
from tests.support.query_sockets import WatchedQueries


class NodeSockets:
    """A small node's gateway socket and its execution process's query socket.

    With `watched`, the latter is a real query server's, which answers in threads, and may answer in parts.
    """

    def __init__(self, node: SmallNode, folder: Path, watched: WatchedQueries | None = None) -> None:
        self._watched = watched
        self._query_server: QueryServer | None = None
        self.node = node
        self.node_path = str(folder / "node")
        self.execution_path = str(folder / "execution")
        self._gateways: list[asyncio.StreamWriter] = []
        self._queriers: list[asyncio.StreamWriter] = []
        self.answering = asyncio.Event()
        self.answering.set()
        node.followers.append(self._push)

    async def start(self) -> None:
        self._node_server = await asyncio.start_unix_server(self._serve_node, self.node_path)
        await self.start_execution()

    async def start_execution(self) -> None:
        if self._watched is not None:
            self._query_server = QueryServer(self._watched, WorkGate(), self.execution_path, threads=2)
            self._query_server.__enter__()
            return
        self._execution_server = await asyncio.start_unix_server(self._serve_execution, self.execution_path)

    async def stop_execution(self) -> None:
        if self._watched is not None:
            server, self._query_server = self._query_server, None
            if server is not None:
                await asyncio.to_thread(server.__exit__, None, None, None)
            return
        await _stop(self._execution_server, self._queriers)

    async def stop_node(self) -> None:
        await _stop(self._node_server, self._gateways)

    async def stop(self) -> None:
        self.answering.set()
        await self.stop_node()
        await self.stop_execution()

    def _push(self, push: Push) -> None:
        for gateway in self._gateways:
            gateway.write(encode_frame(PUSH_ID, encode(push)))

    async def _serve_node(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._gateways.append(writer)
        writer.write(encode_frame(PUSH_ID, encode(NewHead(self.node.head))))
        await self._serve(reader, writer, lambda payload: [encode(self.node.reply(decode(Request, payload)))])

    async def _serve_execution(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._queriers.append(writer)
        await self._serve(reader, writer, self._query)

    def _query(self, payload: bytes) -> list[bytes]:
        """What is streamed comes in parts, then how it ended."""
        parts: list[Answer] = []
        ending = self.node.execution.query(decode(Query, payload), emit=parts.append)
        return [encode(part) for part in (*parts, ending)]

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Callable[[bytes], list[bytes]]
    ) -> None:
        decoder = FrameDecoder()
        while data := await reader.read(1 << 16):
            await self.answering.wait()
            for frame in decoder.feed(data):
                for part in answer(frame.payload):
                    writer.write(encode_frame(frame.request_id, part))
        writer.close()


async def _stop(server: asyncio.Server, writers: list[asyncio.StreamWriter]) -> None:
    server.close()
    for writer in writers:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    writers.clear()
    await server.wait_closed()


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class GatewayProcess:
    def __init__(self, process: asyncio.subprocess.Process, host: str, port: int, sockets: NodeSockets) -> None:
        self.process = process
        self.host = host
        self.port = port
        self.sockets = sockets

    @property
    def node(self) -> SmallNode:
        return self.sockets.node

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    async def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Everything that comes back for some bytes until the server closes the connection."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            if half_close:
                writer.write_eof()
            return await reader.read()
        except ConnectionError:
            return b""
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # half-closing what the server has closed already
                raise
            return b""
        finally:
            writer.close()

    async def until(self, reached: Callable[[Any], bool], method: str, *params: object) -> None:
        """Poll a method as wallets do, until its answer is as wished."""
        while not reached(await self.call(method, *params)):  # noqa: ASYNC110 - a poll is the point
            await asyncio.sleep(0.01)

    async def request(self, body: bytes = b"", *, method: str = "POST", path: str = "/", **headers: str) -> Response:
        given = {"host": f"{self.host}:{self.port}", "content-type": "application/json", "connection": "close"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        given["content-length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
        return parse_response(await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body))

    async def call(self, method: str, *params: object) -> Any:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        return (await self.request(orjson.dumps(message))).json()

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


def parse_response(data: bytes) -> Response:
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Response(int(status_line.split()[1]), headers, body)


async def start_process(config: GatewayConfig) -> tuple[asyncio.subprocess.Process, int]:
    """The process and the descriptor that its ready line comes through."""
    config_read, config_write = os.pipe()
    ready_read, ready_write = os.pipe()
    os.write(config_write, config.to_json().encode())
    os.close(config_write)
    command = ["-m", "astralink_node.gateway.server", "--config-fd", str(config_read), "--ready-fd", str(ready_write)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, pass_fds=(config_read, ready_write), stderr=asyncio.subprocess.PIPE
    )
    os.close(config_read)
    os.close(ready_write)
    return process, ready_read


async def ready_line(descriptor: int) -> dict[str, Any] | None:
    """What the process says when it is ready; None if it ends without saying it."""

    def read() -> bytes:
        with os.fdopen(descriptor, "rb") as pipe:
            return pipe.readline()

    line = await asyncio.to_thread(read)
    return json.loads(line) if line else None


@asynccontextmanager
async def running_gateway(
    folder: Path, node: SmallNode | None = None, *, watched: WatchedQueries | None = None, **config: Any
) -> AsyncIterator[GatewayProcess]:
    sockets = NodeSockets(SmallNode() if node is None else node, folder, watched)
    await sockets.start()
    settings = {"port": 0, **config}
    process, descriptor = await start_process(
        GatewayConfig(node_socket=sockets.node_path, execution_socket=sockets.execution_path, **settings)
    )
    try:
        ready = await ready_line(descriptor)
        if ready is None:
            _, errors = await process.communicate()
            raise AssertionError(f"the gateway did not start: {errors.decode()}")
        yield GatewayProcess(process, ready["host"], ready["port"], sockets)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        await sockets.stop()
