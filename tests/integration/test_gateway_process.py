"""The gateway process: how it starts, what ends it, and what it says then."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from astralink_node.gateway.config import GatewayConfig
from astralink_node.gateway.server import EXIT_NODE_GONE, EXIT_PORT, EXIT_USAGE, NICENESS
from tests.support.asynchronous import run
from tests.support.gateway_processes import ready_line, running_gateway, start_process
from tests.support.gateways import ALICE, BOB, ECHO, hexed, signed


def test_a_gateway_serves_what_a_wallet_asks(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            assert gateway.host == "127.0.0.1"
            assert (await gateway.call("eth_blockNumber"))["result"] == "0x0"
            raw = signed(ALICE, to=BOB.address, nonce=0, value=5)
            sent = (await gateway.call("eth_sendRawTransaction", hexed(raw)))["result"]
            assert (await gateway.call("eth_getTransactionReceipt", sent))["result"] is None
            gateway.node.produce()
            await gateway.until(lambda answer: answer["result"] == "0x1", "eth_blockNumber")
            receipt = (await gateway.call("eth_getTransactionReceipt", sent))["result"]
            assert receipt["status"] == "0x1"
            balance = (await gateway.call("eth_getBalance", hexed(BOB.address), "latest"))["result"]
            assert int(balance, 16) == 10_000 * 10**18 + 5

    run(main, timeout_s=60)


def test_sigterm_stops_it_in_time_even_with_clients_connected(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            idle = await gateway.connect()
            busy = await gateway.connect()
            gateway.sockets.answering.clear()
            busy[1].write(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
            body = b'{"jsonrpc":"2.0","id":1,"method":"eth_getCode","params":["%b"]}' % hexed(ECHO).encode()
            busy[1].write(b"content-length: %d\r\n\r\n" % len(body) + body)
            await busy[1].drain()
            started = time.monotonic()
            gateway.process.send_signal(signal.SIGINT)  # Ctrl-C reaches the whole group: the node decides
            try:
                assert await gateway.stop() == 0
                # It gives its clients a second; the node has five in all, and a busy machine needs some itself.
                assert time.monotonic() - started < 4
            finally:
                for _, writer in (idle, busy):
                    writer.close()

    run(main, timeout_s=60)


def test_it_gives_way_to_whoever_started_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            own, its = os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, gateway.process.pid)
            assert its == min(own + NICENESS, 19)

    run(main, timeout_s=60)


def test_sigint_alone_does_not_end_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            gateway.process.send_signal(signal.SIGINT)
            assert "result" in await gateway.call("eth_chainId")

    run(main, timeout_s=60)


def test_it_ends_when_the_node_closes_its_socket(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            await gateway.sockets.stop_node()
            assert await gateway.process.wait() == EXIT_NODE_GONE
            assert gateway.process.stderr is not None
            assert b"error: the node closed its gateway socket" in await gateway.process.stderr.read()

    run(main, timeout_s=60)


def test_it_outlives_the_execution_process_and_says_so_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            assert "result" in await gateway.call("eth_getBalance", hexed(ALICE.address), "latest")
            await gateway.sockets.stop_execution()
            error = (await gateway.call("eth_getBalance", hexed(ALICE.address), "latest"))["error"]
            assert (error["code"], error["message"]) == (-32000, "the execution process is temporarily unavailable")
            assert (await gateway.call("eth_blockNumber"))["result"] == "0x0"
            await gateway.sockets.start_execution()
            await gateway.until(lambda answer: "result" in answer, "eth_getBalance", hexed(ALICE.address), "latest")

    run(main, timeout_s=60)


def test_a_port_in_use_has_an_exit_code_of_its_own_and_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            process, descriptor = await start_process(GatewayConfig("nowhere", "nowhere", port=port))
            assert await ready_line(descriptor) is None
            _, errors = await process.communicate()
        assert process.returncode == EXIT_PORT
        lines = errors.decode().splitlines()
        assert len(lines) == 1
        assert f"port {port} on 127.0.0.1 is already in use" in lines[0]

    run(main, timeout_s=60)


def test_a_node_that_is_not_there_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        process, descriptor = await start_process(GatewayConfig(str(tmp_path / "none"), "none", port=0))
        assert await ready_line(descriptor) is None
        _, errors = await process.communicate()
        assert process.returncode == EXIT_NODE_GONE
        assert "error: the node's gateway socket cannot be reached" in errors.decode()

    run(main, timeout_s=60)


def test_sigterm_stops_one_that_still_waits_for_its_node(tmp_path: Path) -> None:
    async def main() -> None:
        arrived = asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_unix_server(say_nothing, str(tmp_path / "node")):
            process, descriptor = await start_process(GatewayConfig(str(tmp_path / "node"), "none", port=0))
            await arrived.wait()
            process.terminate()
            assert await process.wait() == 0
            assert await ready_line(descriptor) is None
            await process.communicate()

    run(main, timeout_s=60)


def test_a_node_that_leaves_before_it_announced_a_head_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.close()

        async with await asyncio.start_unix_server(leave, str(tmp_path / "node")):
            process, descriptor = await start_process(GatewayConfig(str(tmp_path / "node"), "none", port=0))
            _, errors = await process.communicate()
            assert process.returncode == EXIT_NODE_GONE
            assert errors.decode().splitlines()[-1].startswith("error: the node closed its gateway socket before")
            assert await ready_line(descriptor) is None

    run(main, timeout_s=60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--config", "{"], "not JSON"), (["--config", '{"port":1}'], "node_socket"), ([], "--config")],
)
def test_a_bad_configuration_is_a_usage_error(arguments: list[str], words: str) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "astralink_node.gateway.server", *arguments, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        assert process.returncode == EXIT_USAGE
        assert words in errors.decode()

    run(main, timeout_s=60)


def test_several_gateways_serve_one_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as first:
            second, descriptor = await start_process(
                GatewayConfig(first.sockets.node_path, first.sockets.execution_path, port=0)
            )
            ready = await ready_line(descriptor)
            assert ready is not None
            assert ready["port"] != first.port
            second.terminate()
            await second.communicate()
            assert second.returncode == 0
            assert "result" in await first.call("eth_blockNumber")

    run(main, timeout_s=60)


def test_the_process_never_imports_the_evm(tmp_path: Path) -> None:
    """It starts fast and small: py-evm belongs to the execution process alone."""
    program = "import sys, astralink_node.gateway.server; sys.exit('eth' in sys.modules or 'plyvel' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
