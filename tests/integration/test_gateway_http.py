"""HTTP in front of a real gateway process: what browsers, health checks and attackers send."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.rpc_errors import (
    INVALID_REQUEST,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RESPONSE_TOO_LARGE,
    TIMEOUT,
)
from tests.support.asynchronous import run
from tests.support.gateway_processes import GatewayProcess, running_gateway
from tests.support.gateways import ALICE, SmallNode, hexed

CHAIN_ID = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'


async def still_serves(gateway: GatewayProcess) -> None:
    assert "result" in await gateway.call("eth_chainId")


def test_http_methods_paths_and_content_types(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            answer = await gateway.request(CHAIN_ID)
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert (await gateway.request(CHAIN_ID, content_type="application/json; charset=utf-8")).status == 200
            for refused in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
                assert (await gateway.request(CHAIN_ID, content_type=refused)).status == 415
            page = await gateway.request(method="GET")
            assert (page.status, page.body) == (
                405,
                b"this is a JSON-RPC endpoint: POST a request, or connect by WebSocket\n",
            )
            for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"):
                response = await gateway.request(CHAIN_ID, method=method)
                assert (response.status, "POST" in response.headers["allow"]) == (405, True)
            assert (await gateway.request(CHAIN_ID, path="/admin")).status == 404
            note = await gateway.request(b'{"jsonrpc":"2.0","method":"eth_chainId"}')
            assert (note.status, note.body) == (204, b"")

    run(main, timeout_s=60)


def test_metrics_are_served_where_they_are_enabled_to_the_same_hosts(tmp_path: Path) -> None:
    async def main() -> None:
        node = SmallNode()
        node.metrics = "astralink_head_height 7\n"
        async with running_gateway(tmp_path, node, metrics=True) as gateway:
            answer = await gateway.request(method="GET", path="/metrics")
            assert (answer.status, answer.body) == (200, b"astralink_head_height 7\n")
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            foreign = await gateway.request(method="GET", path="/metrics", origin="http://localhost:3000")
            assert "access-control-allow-origin" not in foreign.headers
            assert (await gateway.request(method="GET", path="/metrics", host="evil.example")).status == 403
            for method in ("POST", "HEAD", "OPTIONS"):
                assert (await gateway.request(CHAIN_ID, method=method, path="/metrics")).status == 405
            node.metrics = ""
            assert (await gateway.request(method="GET", path="/metrics")).status == 503
            await still_serves(gateway)

    run(main, timeout_s=60)


def test_metrics_are_not_served_unless_enabled(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            assert (await gateway.request(method="GET", path="/metrics")).status == 404

    run(main, timeout_s=60)


def test_hosts_and_origins(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            assert (await gateway.request(CHAIN_ID, host="evil.example")).status == 403
            assert (await gateway.request(CHAIN_ID, host="localhost:1")).status == 200
            page = await gateway.request(CHAIN_ID, origin="http://localhost:3000")
            assert page.headers["access-control-allow-origin"] == "http://localhost:3000"
            foreign = await gateway.request(CHAIN_ID, origin="https://evil.example")
            assert "access-control-allow-origin" not in foreign.headers
            preflight = await gateway.request(
                method="OPTIONS",
                origin="http://localhost:3000",
                access_control_request_method="POST",
                access_control_request_headers="content-type",
                access_control_request_private_network="true",
            )
            assert preflight.status == 204
            assert preflight.headers["access-control-allow-headers"] == "Content-Type"
            assert preflight.headers["access-control-allow-private-network"] == "true"
            refused = await gateway.request(method="OPTIONS", origin="https://evil.example")
            assert not any(name.startswith("access-control") for name in refused.headers)

    run(main, timeout_s=60)


def test_requests_beyond_the_limits_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    limits = GatewayLimits(request_bytes=2000, response_bytes=3000, batch_items=20, request_timeout_ms=300)

    async def main() -> None:
        async with running_gateway(tmp_path, limits=limits) as gateway:
            announced = await gateway.request(b" " * 2001)
            assert (announced.status, announced.json()["error"]["code"]) == (413, INVALID_REQUEST)
            chunked = (
                b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                + b"transfer-encoding: chunked\r\n\r\n"
                + b"400\r\n"
                + b" " * 0x400
                + b"\r\n400\r\n"
                + b" " * 0x400
                + b"\r\n0\r\n\r\n"
            )
            assert b"413" in (await gateway.raw(chunked)).partition(b"\r\n")[0]
            assert (await gateway.request(b"[" + b",".join([b"1"] * 21) + b"]")).json()["error"][
                "code"
            ] == INVALID_REQUEST
            block = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0x0", False]}
            answers = (await gateway.request(orjson.dumps([block] * 6))).json()
            assert [answer.get("error", {}).get("code") for answer in answers] == [None] + [RESPONSE_TOO_LARGE] * 5
            gateway.sockets.answering.clear()
            slow = await gateway.call("eth_getBalance", hexed(ALICE.address))
            assert slow["error"] == {"code": TIMEOUT, "message": "request timed out"}
            gateway.sockets.answering.set()
            await still_serves(gateway)

    run(main, timeout_s=60)


def test_more_requests_than_the_rate_allows_get_429_and_when_to_come_back(tmp_path: Path) -> None:
    limits = GatewayLimits(requests_per_second=1000, client_requests_per_second=2)

    async def main() -> None:
        async with running_gateway(tmp_path, limits=limits) as gateway:
            batch = orjson.dumps([{"jsonrpc": "2.0", "id": n, "method": "eth_chainId"} for n in range(100)])
            assert (await gateway.request(batch)).status == 200
            refused = await gateway.request(CHAIN_ID)
            assert (refused.status, refused.json()["id"]) == (429, 1)
            error = refused.json()["error"]
            assert (error["code"], error["data"]["requestsPerSecond"]) == (LIMIT_EXCEEDED, 2)
            assert 0 < int(refused.headers["retry-after"]) * 1000 - error["data"]["retryAfterMs"] < 1000
            in_batch = (await gateway.request(batch[:-1] + b",1]")).json()
            assert [answer["error"]["code"] for answer in in_batch] == [LIMIT_EXCEEDED] * 101
            note = await gateway.request(b'{"jsonrpc":"2.0","method":"eth_chainId"}')
            assert (note.status, note.body) == (429, b"")
            assert (await gateway.request(method="OPTIONS")).status == 204, "preflights are free"

    run(main, timeout_s=60)


RUBBISH = [
    b"",
    b"\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS client hello
    b"GET\r\n\r\n",
    b"POST / HTTP/9.9\r\n\r\n",
    b"POST / HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: 99999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 1\r\n"
    b"sec-websocket-key: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
    b"A" * 200_000,
    b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: \xff\xfe\r\n\r\n",
]


def test_raw_rubbish_gets_an_error_or_nothing_and_never_hurts_others(tmp_path: Path) -> None:
    async def main() -> None:
        seed = int.from_bytes(os.urandom(4), "big")
        print("seed", seed)
        chance = random.Random(seed)
        async with running_gateway(tmp_path) as gateway:
            random_bytes = [chance.randbytes(chance.randrange(1, 3000)) for _ in range(40)]
            for rubbish in RUBBISH + random_bytes:
                answer = await gateway.raw(rubbish, half_close=True)
                status = answer.partition(b"\r\n")[0]
                # An upgrade to a protocol that we do not speak is no error (RFC 9110, 7.8): it is passed over.
                assert not answer or status.split()[1][:1] in (b"2", b"4"), (rubbish[:60], answer[:200])
            await still_serves(gateway)
            assert gateway.process.returncode is None

    run(main, timeout_s=60)


BODIES = [
    b"",
    b"\x00",
    b"\xff\xfe\xfd",
    b"{",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'"' + b"a" * 100_000,
    b"1" * 100_000,
    b"[" + b"{}," * 900 + b"{}]",
    b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["\\u0000"]}',
    b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x' + b"\xc3\xa9" * 20 + b'"]}',
    b'{"jsonrpc":"2.0","id":1,"method":"\\ud83d\\ude00"}',
    b'{"jsonrpc":"2.0","id":1,"method":"__class__","params":[]}',
    b'{"jsonrpc":"2.0","id":1,"method":"eth_getStorageAt","params":["0x'
    + b"00" * 20
    + b'","0x'
    + b"f" * 64
    + b'","0x'
    + b"f" * 16
    + b'"]}',
    b'{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x7fffffffffffffff",true]}',
    b'{"jsonrpc":"2.0","id":1,"method":"eth_feeHistory","params":[18446744073709551615,"latest",[1e-300,1e300]]}',
    b'{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"gas":"0xffffffffffffffff","value":"0x'
    + b"f" * 64
    + b'"},"latest"]}',
    b'{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x' + b"c0" * 50_000 + b'"]}',
    b'{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x02' + b"f8" * 1000 + b'"]}',
    b'{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"address":' + b"[" * 500 + b"]" * 500 + b"}]}",
]


def test_json_rubbish_is_answered_with_an_error_that_is_never_internal(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            for body in BODIES:
                response = await gateway.request(body)
                assert response.status == 200
                answers = response.json()
                for answer in answers if isinstance(answers, list) else [answers]:
                    if "error" in answer:
                        assert answer["error"]["code"] != -32603, body[:100]
            assert (await gateway.request(b"{")).json()["error"]["code"] == PARSE_ERROR
            assert (await gateway.call("nothing"))["error"]["code"] == METHOD_NOT_FOUND
            await still_serves(gateway)
            gateway.process.terminate()
            _, log = await gateway.process.communicate()
            assert b"Traceback" not in log

    run(main, timeout_s=60)


def test_every_method_survives_every_kind_of_wrong_parameter(tmp_path: Path) -> None:
    from astralink_node.gateway.methods.namespaces import NAMESPACES

    wrong: list[object] = [
        None,
        True,
        -1,
        1.5,
        2**63,
        "",
        "0x",
        "0x1",
        "0x" + "ff" * 20,
        "0x" + "ff" * 32,
        "latest",
        "pending",
        "é" * 50,
        [],
        [[]],
        {},
        {"x": 1},
        ["0x1"],
    ]

    async def main() -> None:
        async with running_gateway(tmp_path, apis=tuple(NAMESPACES)) as gateway:
            for methods in NAMESPACES.values():
                for method in methods:
                    batch = [
                        {"jsonrpc": "2.0", "id": n, "method": method.name, "params": [value] * count}
                        for n, value in enumerate(wrong)
                        for count in range(len(method.parameters) + 2)
                    ]
                    answers = (await gateway.request(orjson.dumps(batch))).json()
                    assert len(answers) == len(batch)
                    internal = [answer for answer in answers if answer.get("error", {}).get("code") == -32603]
                    assert not internal, (method.name, internal)

    run(main, timeout_s=120)


def test_a_client_that_is_slow_with_headers_or_body_is_dropped(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path, limits=GatewayLimits(body_timeout_ms=300, head_timeout_ms=300)) as gateway:
            silent = gateway.raw(b"")
            slow_head = gateway.raw(b"POST / HTTP/1.1\r\nhost: localhost\r\n")
            slow_body = gateway.raw(
                b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
            )
            first, second, third = await asyncio.gather(silent, slow_head, slow_body)
            assert (first, second) == (b"", b"")
            assert third.startswith(b"HTTP/1.1 408")
            # A second request on a connection that was used before gets no more patience than the first.
            reader, writer = await gateway.connect()
            writer.write(b"OPTIONS / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
            writer.write(b"POST / HTTP/1.1\r\nhost: lo")
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            await still_serves(gateway)

    run(main, timeout_s=60)


HALF_OPEN = [
    b"",
    b"POST / HTTP/1.1\r\nhost: localhost\r\n",
    b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
    b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
]
"""What a client may send and then leave the server waiting: nothing, half a head, half a body, one request alone."""


def test_connections_that_send_nothing_make_room_for_those_that_ask(tmp_path: Path) -> None:
    limits = GatewayLimits(connections=60, connections_per_client=40)

    async def main() -> None:
        async with running_gateway(tmp_path, limits=limits) as gateway:
            held = []
            for number in range(2 * limits.connections):
                reader, writer = await gateway.connect()
                writer.write(HALF_OPEN[number % len(HALF_OPEN)])
                held.append((reader, writer))
                if number % 10 == 0:
                    await still_serves(gateway)
            await still_serves(gateway)
            # The oldest were the ones to go.
            with suppress(ConnectionError):
                assert await held[0][0].read() == b""
            for _, writer in held:
                writer.close()

    run(main, timeout_s=60)


def test_connections_at_work_turn_newcomers_away_until_there_is_room(tmp_path: Path) -> None:
    limits = GatewayLimits(connections=5, connections_per_client=5)
    balance = orjson.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": [hexed(ALICE.address), "latest"]}
    )
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

    async def main() -> None:
        async with running_gateway(tmp_path, limits=limits) as gateway:
            gateway.sockets.answering.clear()
            held = [await gateway.connect() for _ in range(5)]
            for _, writer in held:
                writer.write(head % len(balance) + balance)
            # A newcomer takes the place of one whose request is still on its way; of none once all are there.
            while not (await gateway.raw(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).startswith(
                b"HTTP/1.1 503"
            ):
                reader, writer = await gateway.connect()
                writer.write(head % len(balance) + balance)
                held.append((reader, writer))
            gateway.sockets.answering.set()
            answers = await asyncio.gather(*(reader.read(15) for reader, _ in held), return_exceptions=True)
            assert answers.count(b"HTTP/1.1 200 OK") == 5
            await still_serves(gateway)
            for _, writer in held:
                writer.close()

    run(main, timeout_s=60)


@pytest.mark.parametrize("way", ["announced", "chunked", "with a go-ahead asked for"])
def test_a_client_that_sends_far_too_much_still_reads_the_refusal(way: str, tmp_path: Path) -> None:
    limits = GatewayLimits(request_bytes=100_000)
    content = bytes(20_000_000)

    def send(port: int) -> tuple[int, dict[str, Any]]:
        """As most clients do: everything is sent before anything is read."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        headers = {"content-type": "application/json"}
        if way == "with a go-ahead asked for":
            connection.putrequest("POST", "/")
            for name, value in {**headers, "content-length": str(len(content)), "expect": "100-continue"}.items():
                connection.putheader(name, value)
            connection.endheaders()
        else:
            body = iter([content]) if way == "chunked" else content
            connection.request("POST", "/", body, headers, encode_chunked=way == "chunked")
        answer = connection.getresponse()
        try:
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    async def main() -> None:
        async with running_gateway(tmp_path, limits=limits) as gateway:
            status, answer = await asyncio.to_thread(send, gateway.port)
            assert (status, answer["error"]["code"]) == (413, INVALID_REQUEST)
            assert answer["error"]["message"] == "request body too large: more than 100000 bytes"
            await still_serves(gateway)

    run(main, timeout_s=60)


def test_a_client_that_does_not_read_its_answers_is_dropped(tmp_path: Path) -> None:
    limits = GatewayLimits(body_timeout_ms=500)

    async def main() -> None:
        async with running_gateway(tmp_path, limits=limits) as gateway:
            reader, writer = await gateway.connect()
            block = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0x0", False]}
            body = orjson.dumps([block] * 1000)
            head = (
                b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                % len(body)
            )
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            try:
                for _ in range(50):
                    writer.write(head + body)
                    await writer.drain()
            except ConnectionError:
                pass
            while not writer.is_closing():
                try:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.05)
                except ConnectionError:
                    break
            await still_serves(gateway)
            writer.close()

    run(main, timeout_s=60)


def test_pipelined_and_keep_alive_requests_are_answered_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            head = (
                b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"
            )
            bodies = [b'{"jsonrpc":"2.0","id":%d,"method":"eth_blockNumber"}' % number for number in range(5)]
            data = b"".join(head % (len(body), b"") + body for body in bodies[:-1])
            data += head % (len(bodies[-1]), b"connection: close\r\n") + bodies[-1]
            answer = await gateway.raw(data)
            assert [b'"id":%d,' % number in answer for number in range(5)] == [True] * 5
            positions = [answer.index(b'"id":%d,' % number) for number in range(5)]
            assert positions == sorted(positions)

    run(main, timeout_s=60)
