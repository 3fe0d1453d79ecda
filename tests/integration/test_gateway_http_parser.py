"""Requests in the raw to a real gateway process: what a proxy could read otherwise, and one connection's bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import orjson

from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.http_protocol import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED
from tests.support.asynchronous import run
from tests.support.gateway_processes import GatewayProcess, running_gateway
from tests.support.gateways import ALICE, hexed

BODY = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
START = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
CHUNKED = START + b"transfer-encoding: chunked\r\n\r\n"
GOOD = START + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
LAST = START + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def request(number: int, *, last: bool = False) -> bytes:
    body = b'{"jsonrpc":"2.0","id":%d,"method":"eth_blockNumber"}' % number
    return START + (b"connection: close\r\n" if last else b"") + b"content-length: %d\r\n\r\n" % len(body) + body


def status(answer: bytes) -> bytes:
    return answer.partition(b"\r\n")[0]


def with_head(size: int) -> bytes:
    """A request that is good but for the size of its head."""
    return LAST.replace(b"\r\n\r\n", b"\r\nx: " + b"y" * (size - LAST.index(b"\r\n\r\n") - 9) + b"\r\n\r\n", 1)


AMBIGUOUS = {
    "a length beside chunks": START + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks beside a length": START + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": START + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "the same length twice": START + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "a list of lengths": START + b"content-length: 5, 5\r\n\r\nhello",
    "a signed length": START + b"content-length: +5\r\n\r\nhello",
    "a length beyond 64 bits": START + b"content-length: 99999999999999999999\r\n\r\n",
    "bare LF after the first line": GOOD.replace(b"\r\n", b"\n", 1),
    "bare LF in the head": START.replace(b"localhost\r\n", b"localhost\n") + b"content-length: 0\r\n\r\n",
    "bare LF at the head's end": START + b"content-length: 0\n\n",
    "bare CR in a value": START + b"x: a\rb\r\n\r\n",
    "a zero byte in a value": START + b"x: a\0b\r\n\r\n",
    "a folded line": START + b"x: a\r\n b\r\n\r\n",
    "space before the colon": START + b"content-length : 5\r\n\r\nhello",
    "a chunk size that is none": CHUNKED + b"zz\r\n",
    "a chunk size with a sign": CHUNKED + b"-1\r\n",
    "a chunk size with a prefix": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": CHUNKED + b"ffffffffffffffffff\r\n",
    "a chunk size with bare LF": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "a chunk with bare LF after it": CHUNKED + b"1\r\na\n0\r\n\r\n",
    "chunks within gzip": START + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": START + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks that are not the last coding": START + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "no host": b"OPTIONS / HTTP/1.1\r\n\r\n",
    "two hosts": b"OPTIONS / HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
    "two hosts for a WebSocket": UPGRADE.replace(b"\r\n", b"\r\nhost: evil.example\r\n", 1),
    "an unknown method": b"FOO / HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "HTTP 0.9": b"GET /\r\n\r\n",
    "HTTP 2 in the clear": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


def test_what_could_be_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            for case, data in AMBIGUOUS.items():
                answer = await gateway.raw(data + GOOD)
                assert status(answer) == b"HTTP/1.1 400 Bad Request", case
                assert answer.count(b"HTTP/1.1 ") == 1, f"{case}: what follows it is no request"
                assert b"0x" not in answer, case
            assert b"200" in status(await gateway.raw(LAST))

    run(main, timeout_s=60)


def test_what_is_unusual_but_clear_is_answered(tmp_path: Path) -> None:
    chunks = b"%x;name=value\r\n%b\r\n%x\r\n%b\r\n0\r\nhost: evil.example\r\n\r\n" % (
        9,
        BODY[:9],
        len(BODY) - 9,
        BODY[9:],
    )

    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            one_by_one = await gateway.connect()
            for byte in GOOD:
                one_by_one[1].write(bytes([byte]))
                await one_by_one[1].drain()
            assert b"200" in await one_by_one[0].readline()
            one_by_one[1].close()
            for data in (
                START + b"connection: close\r\ntransfer-encoding: Chunked\r\n\r\n" + chunks,
                b"\r\n\r\n" + LAST,
                LAST.replace(b"HTTP/1.1", b"HTTP/1.0"),
                LAST.replace(b"HTTP/1.1\r\nhost: localhost", b"HTTP/1.0"),
                LAST.replace(b"POST / ", b"POST http://localhost/ "),
                LAST + b"what comes after the last request",
                with_head(MAX_HEAD_BYTES - 100),
            ):
                answer = await gateway.raw(data)
                assert status(answer) == b"HTTP/1.1 200 OK", data[:100]
                assert answer.count(b"HTTP/1.1 ") == 1

    run(main, timeout_s=60)


def test_an_upgrade_to_what_we_do_not_speak_is_passed_over_with_its_body(tmp_path: Path) -> None:
    """As Java's client asks for HTTP/2 with each request over a new connection."""
    h2c = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\ncontent-type"

    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            first = request(1).replace(b"content-type", h2c)
            assert_answers(await gateway.raw(first + request(2, last=True)), 2)
            for cut in (10, len(first) - len(BODY), len(first) - 5):
                reader, writer = await gateway.connect()
                writer.write(first[:cut])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(first[cut:])
                writer.write(request(2, last=True))
                assert_answers(await reader.read(), 2)
                writer.close()

    run(main, timeout_s=60)


def assert_answers(data: bytes, requests: int) -> None:
    """Each in its place, to the requests from 1 on."""
    answers = data.split(b"HTTP/1.1 ")[1:]
    assert [(answer[:3], orjson.loads(answer.partition(b"\r\n\r\n")[2])["id"]) for answer in answers] == [
        (b"200", number) for number in range(1, requests + 1)
    ]


ENDLESS = {
    "an address": (b"", b"GET /" + b"a" * MAX_HEAD_BYTES),
    "a header": (b"", b"GET / HTTP/1.1\r\nx: " + b"a" * MAX_HEAD_BYTES),
    "a header's name": (b"", b"GET / HTTP/1.1\r\n" + b"a" * MAX_HEAD_BYTES),
    "headers": (b"", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_HEADERS + 2)),
    "empty lines": (b"", b"\r\n" * MAX_HEAD_BYTES),
    "a chunk's extension": (CHUNKED, b"1;" + b"a" * MAX_HEAD_BYTES),
    "a trailer": (CHUNKED, b"0\r\nx: " + b"a" * MAX_HEAD_BYTES),
    "trailers": (CHUNKED, b"0\r\n" + b"a: b\r\n" * (MAX_HEADERS + 2)),
}


def test_what_goes_on_for_ever_before_or_after_a_body_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            for case, (head, more) in ENDLESS.items():
                reader, writer = await gateway.connect()
                if head:
                    writer.write(head[:-2] + b"expect: 100-continue\r\n\r\n")
                    assert b"100" in await reader.readuntil(b"\r\n\r\n")
                writer.write(more)
                assert await reader.read(12) == b"HTTP/1.1 431", case
                writer.close()
            assert b"200" in status(await gateway.raw(LAST))

    run(main, timeout_s=60)


def test_a_head_with_too_many_headers_is_refused_and_one_with_many_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            for added, expected in ((MAX_HEADERS - 4, b"200"), (MAX_HEADERS - 3, b"431")):
                answer = await gateway.raw(LAST.replace(b"\r\n\r\n", b"\r\n" + b"x: y\r\n" * added + b"\r\n", 1))
                assert status(answer).split()[1] == expected

    run(main, timeout_s=60)


def test_a_head_is_bounded_however_it_arrives(tmp_path: Path) -> None:
    """It may come whole in one read, which the bound on what has no end yet does not see."""

    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            for length, expected in ((MAX_HEAD_BYTES - 1_000, b"200"), (MAX_HEAD_BYTES, b"431")):
                head = b"\r\nx: " + b"a" * length + b"\r\n\r\n"
                answer = await gateway.raw(LAST.replace(b"\r\n\r\n", head, 1))
                assert status(answer).split()[1] == expected
            assert answer.endswith(b"request head too large")

    run(main, timeout_s=60)


def balances(ids: Iterator[int]) -> Iterator[bytes]:
    """Requests that need the node's answer, so that they can be held up."""
    for number in ids:
        call = {"jsonrpc": "2.0", "id": number, "method": "eth_getBalance", "params": [hexed(ALICE.address), "latest"]}
        body = orjson.dumps(call)
        yield START + b"content-length: %d\r\n\r\n" % len(body) + body


def held_up(gateway: GatewayProcess, following: bytes) -> asyncio.Task[bytes]:
    """What comes back for a request that is under way when the rest comes, until the connection ends."""
    gateway.sockets.answering.clear()
    return asyncio.create_task(gateway.raw(next(balances(count(1))) + following))


async def let_go(gateway: GatewayProcess, answers: asyncio.Task[bytes]) -> bytes:
    await gateway.until(lambda answer: "result" in answer, "eth_chainId")  # needs nothing of the node
    gateway.sockets.answering.set()
    return await answers


def test_beyond_the_bound_on_pipelined_requests_the_connection_ends_after_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            many = b"".join(request(number) for number in range(2, 1000))
            assert_answers(await let_go(gateway, held_up(gateway, many)), 1 + MAX_PIPELINED)
            fewer = b"".join(request(number) for number in range(2, MAX_PIPELINED + 1))
            last = request(MAX_PIPELINED + 1, last=True)
            assert_answers(await let_go(gateway, held_up(gateway, fewer + last)), 1 + MAX_PIPELINED)

    run(main, timeout_s=60)


def test_rubbish_after_a_request_does_not_take_its_answer_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            for following in (b"rubbish\r\n\r\n", UPGRADE, b"GET / HTTP/1.1\r\nx: " + b"a" * 200_000):
                assert_answers(await let_go(gateway, held_up(gateway, following)), 1)

    run(main, timeout_s=60)


def test_a_body_that_goes_wrong_under_way_is_refused_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path) as gateway:
            reader, writer = await gateway.connect()
            writer.write(START + b"expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"1\r\n{\r\nrubbish\r\n")
            assert b"400" in status(await reader.read())
            writer.close()
            second = START + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\nrubbish\r\n"
            assert await let_go(gateway, held_up(gateway, second)) == b"", "no answer may be taken for another"
            assert b"200" in status(await gateway.raw(LAST))

    run(main, timeout_s=60)


def test_a_head_that_comes_byte_by_byte_has_as_long_as_any_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_gateway(tmp_path, limits=GatewayLimits(head_timeout_ms=300)) as gateway:
            for before in (b"", GOOD):
                reader, writer = await gateway.connect()
                ended = asyncio.create_task(reader.read())
                writer.write(before + START + b"x: ")
                while not ended.done():
                    await asyncio.wait((ended,), timeout=0.05)
                    writer.write(b"y")
                answers = ended.exception() or ended.result()
                assert isinstance(answers, ConnectionError) or answers.count(b"HTTP/1.1 ") == bool(before)
                writer.close()

    run(main, timeout_s=60)
