"""WebSocket in front of a real gateway process: subscriptions, limits, clients that misbehave."""

from __future__ import annotations

import asyncio
import resource
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.rpc_errors import INVALID_REQUEST, LIMIT_EXCEEDED, PARSE_ERROR
from astralink_node.gateway.websocket_protocol import MAX_FRAGMENTS
from tests.support.asynchronous import run
from tests.support.gateway_processes import GatewayProcess, running_gateway
from tests.support.gateways import ALICE, ECHO, hexed, signed


def client(gateway: GatewayProcess, **options: Any) -> Any:
    return connect(f"ws://{gateway.host}:{gateway.port}", **options)


async def ask(socket: ClientConnection, method: str, *params: object) -> Any:
    await socket.send(orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}).decode())
    return orjson.loads(await socket.recv())


def test_a_subscriber_hears_of_heads_and_logs_and_reads_them_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway, client(gateway) as socket:
            heads = (await ask(socket, "eth_subscribe", "newHeads"))["result"]
            logs = (await ask(socket, "eth_subscribe", "logs", {"address": hexed(ECHO)}))["result"]
            for nonce in range(3):
                raw = signed(ALICE, to=ECHO, nonce=nonce, data=b"\x07" * 32)
                assert "result" in await ask(socket, "eth_sendRawTransaction", hexed(raw))
                gateway.node.produce()
                head, log = [orjson.loads(await socket.recv())["params"] for _ in range(2)]
                assert (head["subscription"], log["subscription"]) == (heads, logs)
                assert log["result"]["blockHash"] == head["result"]["hash"]
                assert (await ask(socket, "eth_blockNumber"))["result"] == hex(nonce + 1)
                receipt = (await ask(socket, "eth_getTransactionReceipt", log["result"]["transactionHash"]))["result"]
                assert receipt["logs"] == [log["result"]]
            assert (await ask(socket, "eth_unsubscribe", heads))["result"] is True

    run(main, timeout_s=60)


def test_a_connection_outlives_the_time_for_the_heads_of_requests(tmp_path: Path) -> None:
    """That time is for HTTP: a subscriber may have nothing more to say."""

    async def main() -> None:
        limits = GatewayLimits(head_timeout_ms=300)
        async with running_gateway(tmp_path, limits=limits) as gateway, client(gateway) as socket:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket.wait_closed(), 2 * limits.head_timeout_ms / 1000)
            assert (await ask(socket, "eth_blockNumber"))["result"] == "0x0"

    run(main, timeout_s=60)


def test_two_clients_have_subscriptions_of_their_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway, client(gateway) as first, client(gateway) as second:
            heads = (await ask(first, "eth_subscribe", "newHeads"))["result"]
            assert "error" in await ask(second, "eth_unsubscribe", heads)
            gateway.node.produce()
            assert orjson.loads(await first.recv())["params"]["subscription"] == heads
            assert (await ask(second, "eth_blockNumber"))["id"] == 1

    run(main, timeout_s=60)


def test_web_pages_of_elsewhere_may_not_connect_and_wallet_extensions_may(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            for origin in ("https://evil.example", "null"):
                with pytest.raises(InvalidStatus) as refusal:
                    await client(gateway, origin=origin)
                assert refusal.value.response.status_code == 403
            with pytest.raises(InvalidStatus):
                await client(gateway, additional_headers={"Host": "evil.example"})
            for origin in ("http://localhost:3000", "chrome-extension://abcdef", None):
                async with client(gateway, origin=origin) as socket:
                    assert "result" in await ask(socket, "eth_chainId")

    run(main, timeout_s=60)


def test_rubbish_messages_are_answered_and_the_connection_stays(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway, client(gateway) as socket:
            for rubbish, code in (
                ("", PARSE_ERROR),
                ("{", PARSE_ERROR),
                ("[" * 5000, PARSE_ERROR),
                ("5", INVALID_REQUEST),
                ("[]", INVALID_REQUEST),
            ):
                await socket.send(rubbish)
                assert orjson.loads(await socket.recv())["error"]["code"] == code
            await socket.send(b'{"jsonrpc":"2.0","id":2,"method":"eth_chainId"}')
            assert orjson.loads(await socket.recv())["id"] == 2
            await socket.send('{"jsonrpc":"2.0","method":"eth_chainId"}')
            batch = [{"jsonrpc": "2.0", "id": n, "method": "eth_chainId"} for n in range(3)]
            await socket.send(orjson.dumps(batch).decode())
            assert [answer["id"] for answer in orjson.loads(await socket.recv())] == [0, 1, 2]

    run(main, timeout_s=60)


def test_a_message_too_large_closes_the_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path, limits=GatewayLimits(request_bytes=1000)) as gateway:
            async with client(gateway) as socket:
                await socket.send("x" * 1001)
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1009
            async with client(gateway) as socket:
                await socket.send(["x" * 300] * 4)
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1009
            async with client(gateway) as socket:
                assert "result" in await ask(socket, "eth_chainId")

    run(main, timeout_s=60)


def test_raw_bytes_after_the_handshake_close_the_connection_only(tmp_path: Path) -> None:
    handshake = (
        b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )

    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            for rubbish in (
                b"\xff" * 100,
                b"\x81\x05hello",
                b"\x81\xff" + b"\xff" * 12,
                b"\x81\x82\0\0\0\0\xc3\x28",
                b"GET / HTTP/1.1\r\n\r\n",
            ):
                reader, writer = await gateway.connect()
                writer.write(handshake)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
                writer.write(rubbish)
                assert (await reader.read())[:1] in (b"\x88", b""), rubbish  # a close frame at most
                writer.close()
            assert "result" in await gateway.call("eth_chainId")

    run(main, timeout_s=60)


def test_websockets_leave_room_for_requests_and_too_many_are_refused(tmp_path: Path) -> None:
    limits = GatewayLimits(connections=20, connections_per_client=20, websockets=10, websockets_per_client=8)

    async def main() -> None:
        async with running_gateway(tmp_path, limits=limits) as gateway, AsyncExitStack() as held:
            sockets = [await held.enter_async_context(client(gateway)) for _ in range(8)]
            for _ in range(30):
                with pytest.raises(InvalidStatus) as refusal:
                    await client(gateway)
                assert refusal.value.response.status_code == 503
                assert refusal.value.response.body == b"too many WebSocket connections"
            assert "result" in await gateway.call("eth_chainId")
            for socket in sockets:
                assert "result" in await ask(socket, "eth_chainId")
            await sockets[0].close()
            async with client(gateway) as another:
                assert "result" in await ask(another, "eth_chainId")

    run(main, timeout_s=60)


def test_subscriptions_of_one_connection_are_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        limits = GatewayLimits(subscriptions_per_connection=2)
        async with running_gateway(tmp_path, limits=limits) as gateway, client(gateway) as socket:
            answers = [await ask(socket, "eth_subscribe", "newHeads") for _ in range(3)]
            assert answers[2]["error"]["code"] == LIMIT_EXCEEDED

    run(main, timeout_s=60)


SUBSCRIPTIONS, LOG_BYTES = 20, 30_000


async def make_logs(gateway: GatewayProcess, good: ClientConnection, blocks: int, first_nonce: int = 0) -> None:
    """So many blocks, each with a log that every subscription of the good client hears of, once and in order."""
    for nonce in range(first_nonce, first_nonce + blocks):
        gateway.node.add(signed(ALICE, to=ECHO, nonce=nonce, data=b"\x07" * LOG_BYTES, gas=3_000_000))
        gateway.node.produce()
        for _ in range(SUBSCRIPTIONS):
            event = orjson.loads(await good.recv())
            assert int(event["params"]["result"]["blockNumber"], 16) == nonce + 1


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"send_queue_bytes": 2_000_000}, "too slow: more than 2000000 bytes wait for you"),
        ({"send_queue_messages": 30}, "too slow: more than 30 messages wait for you"),
        ({"send_queues_bytes": 2_000_000}, "too slow: 2000000 bytes wait for all clients, most of them for you"),
    ],
)
def test_a_slow_subscriber_is_told_why_it_is_disconnected_and_others_hear_everything(
    limits: dict[str, int], reason: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with (
            running_gateway(tmp_path, limits=GatewayLimits(**limits)) as gateway,
            client(gateway, max_queue=None) as good,
            client(gateway, max_queue=1) as slow,
        ):
            for socket in (good, slow):
                for _ in range(SUBSCRIPTIONS):
                    await ask(socket, "eth_subscribe", "logs", {})
            slow.transport.pause_reading()
            await make_logs(gateway, good, 15)
            slow.transport.resume_reading()
            with pytest.raises(ConnectionClosed) as closed:
                await read_on(slow)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, reason)
            await make_logs(gateway, good, 1, first_nonce=15)
            gateway.process.terminate()
            _, log = await gateway.process.communicate()
            assert log.decode().count(f"a WebSocket client at 127.0.0.1 was disconnected: {reason}") == 1

    run(main, timeout_s=120)


async def read_on(socket: ClientConnection) -> None:
    while True:
        await socket.recv()


def test_a_subscriber_that_never_reads_again_is_cut_off(tmp_path: Path) -> None:
    async def main() -> None:
        limits = GatewayLimits(body_timeout_ms=300)
        async with (
            running_gateway(tmp_path, limits=limits) as gateway,
            client(gateway, max_queue=None) as good,
            client(gateway, max_queue=1) as slow,
        ):
            for socket in (good, slow):
                for _ in range(SUBSCRIPTIONS):
                    await ask(socket, "eth_subscribe", "logs", {})
            slow.transport.pause_reading()
            await make_logs(gateway, good, 15)
            assert gateway.process.stderr is not None
            while b"too slow: nothing was read for 0.3 s" not in await gateway.process.stderr.readline():
                pass
            while not _peer_is_gone(slow):  # noqa: ASYNC110 - only a write tells; a fast machine is here first
                await asyncio.sleep(0.05)

    run(main, timeout_s=120)


def _peer_is_gone(socket: ClientConnection) -> bool:
    """Whether writing meets a closed connection, although nothing is read from it."""
    socket.transport.write(b"\x8a\x80\x00\x00\x00\x00")  # a pong nobody asked for
    return socket.transport.is_closing()


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def test_a_message_of_endless_empty_fragments_is_refused(tmp_path: Path) -> None:
    """Their bytes are few, but each would cost memory for as long as the message does not end."""

    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            first, empty = b"\x01\x81\0\0\0\0{", b"\x00\x80\0\0\0\0"
            reader, writer = await gateway.connect()
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first + empty * (MAX_FRAGMENTS + 10))
            close = await reader.read()
            writer.close()
            assert (close[0], int.from_bytes(close[2:4], "big")) == (0x88, 1009)
            assert close[4:] == b"more than %d frames in a message" % MAX_FRAGMENTS
            async with client(gateway) as socket:
                await socket.send(["{}"[at : at + 1] for at in range(2)])
                assert orjson.loads(await socket.recv())["error"]["code"] == INVALID_REQUEST

    run(main, timeout_s=60)


def test_pings_that_nobody_reads_the_pongs_of_pile_nothing_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            before = resident_bytes(gateway)
            reader, writer = await gateway.connect()
            writer.write(HANDSHAKE)
            await reader.readuntil(b"\r\n\r\n")
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(60):
                writer.write((b"\x89\xfd\0\0\0\0" + b"x" * 125) * 2000)
                await writer.drain()
            async with client(gateway) as socket:
                assert "result" in await ask(socket, "eth_chainId")
            # 15 MB of pongs were called for; what the kernel holds is not ours.
            assert resident_bytes(gateway) - before < 8_000_000
            writer.close()

    run(main, timeout_s=60)


def resident_bytes(gateway: GatewayProcess) -> int:
    pages = int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_more_calls_than_the_rate_allows_are_told_when_to_come_back(tmp_path: Path) -> None:
    async def main() -> None:
        limits = GatewayLimits(requests_per_second=5)
        async with running_gateway(tmp_path, limits=limits) as gateway, client(gateway) as socket:
            batch = orjson.dumps([{"jsonrpc": "2.0", "id": n, "method": "eth_chainId"} for n in range(1000)])
            await socket.send(batch, text=True)
            assert len(orjson.loads(await socket.recv())) == 1000, "a full bucket lets any batch pass"
            refused = await ask(socket, "eth_chainId")
            assert (refused["id"], refused["error"]["code"]) == (1, LIMIT_EXCEEDED)
            assert refused["error"]["data"]["requestsPerSecond"] == 5
            assert refused["error"]["data"]["retryAfterMs"] > 100_000
            async with client(gateway) as another:
                assert "result" in await ask(another, "eth_chainId"), "each connection has its own"

    run(main, timeout_s=60)


def test_a_client_that_vanishes_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path, limits=GatewayLimits(connections=10)) as gateway:
            for _ in range(30):
                socket = await client(gateway)
                await ask(socket, "eth_subscribe", "newHeads")
                socket.transport.abort()
            gateway.node.produce()
            async with client(gateway) as socket:
                assert (await ask(socket, "eth_blockNumber"))["result"] == "0x1"
            gateway.process.terminate()
            _, log = await gateway.process.communicate()
            assert b"Traceback" not in log

    run(main, timeout_s=60)
