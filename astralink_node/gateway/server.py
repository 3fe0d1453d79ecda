"""The gateway process: ``python -m astralink_node.gateway.server --config-fd 3 --ready-fd 4``.

Contract with the node, which starts it:

* ``--config-fd N`` reads :class:`GatewayConfig` as JSON from an inherited descriptor to its end; or ``--config JSON``.
* ``--ready-fd N`` gets one line, ``{"host":"127.0.0.1","port":8545}``, once requests are answered: the port is
  bound, the node is connected and its head is known.
* Exit codes: 0 after SIGTERM; ``EXIT_USAGE`` for a bad configuration; ``EXIT_PORT`` when the port cannot be had;
  ``EXIT_NODE_GONE`` when the node's socket cannot be reached or closes. A reason of one line goes to stderr.
* SIGTERM stops within two seconds: what takes long is answered with an error at once, the rest as far as it is ready
  within half a second, and clients that do not read are cut off.
* SIGINT and SIGHUP are ignored: Ctrl-C, or a terminal that is closed, reaches the whole process group, and the order
  of stopping is the node's to choose.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, cast

import orjson
import uvicorn
import uvloop

from astralink_node.gateway.asgi import application
from astralink_node.gateway.config import GatewayConfig, GatewayConfigError
from astralink_node.gateway.connections import Connections
from astralink_node.gateway.context import ChainIdentity
from astralink_node.gateway.descriptors import make_room
from astralink_node.gateway.gateway import Gateway, HeadFeed
from astralink_node.gateway.http_protocol import http_protocol
from astralink_node.gateway.link_messages import GetNodeStatus, NodeStatus, Push
from astralink_node.gateway.links import NodeLink, SocketBackend
from astralink_node.gateway.rate_limits import RateLimits
from astralink_node.gateway.reading.errors import Unavailable
from astralink_node.gateway.websocket_protocol import websocket_protocol
from astralink_node.interpreter import take_short_turns
from astralink_node.listening import CannotListen, listen_tcp

EXIT_USAGE = 2
EXIT_PORT = 3
EXIT_NODE_GONE = 4

CONNECT_TIMEOUT_S = 60.0
"""For the node to say who it is and announce its head: it starts us before its database and keys are open."""
ANSWER_GRACE_S = 0.5
"""What calls that do not take long get to finish."""
CLIENT_GRACE_S = 0.5
"""What clients get to read their last answers."""
SHUTDOWN_GRACE_S = 1
"""For uvicorn to wait until nobody is connected; whoever still is has been cut off by then."""
NICENESS = 5
"""Added to the node's: where processor time is short, blocks go before requests, of which strangers may send any
number. A third of the weight of the node's other processes in Linux' scheduler."""
LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"
KEEP_ALIVE_S = 60

logger = logging.getLogger(__name__)


class StartError(Exception):
    """Why the process cannot start or go on, and the code it exits with."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class GatewayServer(uvicorn.Server):
    """uvicorn without its signal handling, which re-raises what it caught after a clean stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Clients that are left after a while count as gone; uvicorn would cancel their requests and log each."""
        cut = asyncio.get_running_loop().call_later(CLIENT_GRACE_S, self._cut_off)
        await super().shutdown(sockets=sockets)
        cut.cancel()

    def _cut_off(self) -> None:
        for connection in list(self.server_state.connections):
            cast(asyncio.WriteTransport, connection.transport).abort()


async def serve(config: GatewayConfig, listener: socket.socket, ready_fd: int | None) -> None:
    """Run until SIGTERM; raises StartError when the node goes away."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(ignored, lambda: None)
    feed = HeadFeed(config)
    first_head = asyncio.Event()

    def on_push(push: Push) -> None:
        feed.on_push(push)
        if feed.heads.has_head:
            first_head.set()

    node = NodeLink(on_push)
    backend = SocketBackend(
        node,
        config.execution_socket,
        max_in_flight=config.limits.queries_in_flight,
        max_waiting=config.limits.queries_waiting,
    )
    meeting = asyncio.create_task(_meet_node(config, node, first_head))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((meeting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not meeting.done():
        meeting.cancel()
        await asyncio.gather(meeting, return_exceptions=True)
        node.close()
        return
    identity = meeting.result()
    gateway = Gateway(config, identity, backend, feed)
    server = GatewayServer(_uvicorn_config(config, gateway))
    background = [
        asyncio.create_task(backend.run()),
        asyncio.create_task(gateway.submissions.run()),
        asyncio.create_task(gateway.sync_watch.run()),
    ]
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    ends: list[asyncio.Task[Any]] = [
        stopping,
        asyncio.create_task(node.lost.wait()),
        serving,
        *background,
    ]
    try:
        await server.listening.wait()
        limits = config.limits
        is_rate_limited = bool(limits.requests_per_second or limits.client_requests_per_second)
        _announce_ready(listener, ready_fd, is_rate_limited=is_rate_limited)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        lost = node.lost.is_set() and not stop.is_set()
        await gateway.stop(ANSWER_GRACE_S)
        server.should_exit = True
        await serving
        for task in background:
            if task.done():
                task.result()  # they run for ever: an end is a bug, and its exception says which
    finally:
        for task in ends:
            task.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        node.close()
    if lost:
        raise StartError(EXIT_NODE_GONE, "the node closed its gateway socket")


async def _meet_node(config: GatewayConfig, node: NodeLink, first_head: asyncio.Event) -> ChainIdentity:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await node.connect(config.node_socket)
            status = await node.ask(GetNodeStatus())
            if not isinstance(status, NodeStatus):
                raise StartError(EXIT_NODE_GONE, "the node did not say who it is")
            waits = [asyncio.create_task(event.wait()) for event in (first_head, node.lost)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
    except TimeoutError as error:
        raise StartError(
            EXIT_NODE_GONE, f"the node did not announce a head within {CONNECT_TIMEOUT_S:.0f} s"
        ) from error
    except OSError as error:
        raise StartError(EXIT_NODE_GONE, f"the node's gateway socket cannot be reached: {error.strerror}") from error
    except Unavailable as error:
        raise StartError(EXIT_NODE_GONE, "the node closed its gateway socket before it announced a head") from error
    if not first_head.is_set():
        raise StartError(EXIT_NODE_GONE, "the node closed its gateway socket before it announced a head")
    return ChainIdentity(status.chain_id, status.genesis_hash, status.client_version)


def _uvicorn_config(config: GatewayConfig, gateway: Gateway) -> uvicorn.Config:
    connections = Connections(config.limits)
    rates = RateLimits(config.limits, time.monotonic)
    return uvicorn.Config(
        application(config, gateway),
        http=http_protocol(config.limits, connections, rates),
        ws=websocket_protocol(config.limits, connections),
        ws_max_size=config.limits.request_bytes,
        ws_per_message_deflate=False,  # hex would shrink, but every client would cost zlib's memory and our time
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
    )


def _announce_ready(listener: socket.socket, ready_fd: int | None, *, is_rate_limited: bool) -> None:
    host, port = listener.getsockname()[:2]
    where = _netloc(host, port)
    logger.info("serving JSON-RPC on http://%s and ws://%s", where, where)
    if not is_rate_limited and not ipaddress.ip_address(host).is_loopback:
        logger.warning("others reach JSON-RPC at %s and nothing limits their requests: see rpc.rate_limit", where)
    if ready_fd is not None:
        os.write(ready_fd, orjson.dumps({"host": host, "port": port}) + b"\n")
        os.close(ready_fd)


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main(arguments: Sequence[str] | None = None) -> int:
    take_short_turns()
    parser = argparse.ArgumentParser(prog="astralink-gateway", description="AstraLink's JSON-RPC gateway process")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--config-fd", type=int, help="descriptor to read the JSON configuration from")
    given.add_argument("--config", help="the JSON configuration itself")
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets a line when requests are answered")
    options = parser.parse_args(arguments)
    try:
        config = _load_config(options.config_fd, options.config)
        # Plain lines: the node reads them, gives each its level, and writes them in its own format.
        logging.basicConfig(level=config.log_level.upper(), stream=sys.stderr, format=LOG_FORMAT)
        # It warns of every malformed request, and whoever sends them would write our log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = replace(config, limits=make_room(config.limits))
        listener = listen_tcp(config.host, config.port, "--rpc-port")
        listener.setblocking(False)  # noqa: FBT003
        with listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, listener, options.ready_fd))
    except GatewayConfigError as error:
        return _fail(EXIT_USAGE, str(error))
    except CannotListen as error:
        return _fail(EXIT_PORT, str(error))
    except StartError as error:
        return _fail(error.exit_code, str(error))
    return 0


def _load_config(fd: int | None, text: str | None) -> GatewayConfig:
    if text is not None:
        return GatewayConfig.from_json(text)
    try:
        with open(fd if fd is not None else 0, "rb") as source:
            return GatewayConfig.from_json(source.read())
    except OSError as error:
        raise GatewayConfigError(f"--config-fd: {error.strerror}") from error


def _fail(exit_code: int, message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return exit_code


if __name__ == "__main__":
    os.nice(NICENESS)
    sys.exit(main())
