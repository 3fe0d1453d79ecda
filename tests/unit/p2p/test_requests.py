"""Requests and answers between real hosts on loopback: every way in which one may fail, and every bound."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import trio

from p2p import requests
from p2p.identity import new_identity
from p2p.libp2p_host import Host
from p2p.peer_id import PeerId
from p2p.reputation import Offence
from p2p.requests import (
    MAX_AT_ONCE,
    Failure,
    MalformedRequest,
    Refused,
    RequestFailed,
    RequestProtocol,
    Requests,
    Status,
)
from p2p.streams import HandlerFailed, Stream
from tests.support.hosts import next_handler_failure, run, two_hosts

DOUBLE = RequestProtocol("/double/1", 1000, 2000, rate=1000, burst=1000, timeout_s=5)


@dataclass
class Pair:
    """Two connected hosts; the second answers."""

    asking: Host
    answering: Host
    asker: Requests
    answerer: Requests
    offences: list[tuple[PeerId, Offence]] = field(default_factory=list)

    async def ask(self, data: bytes, protocol: RequestProtocol = DOUBLE) -> bytes:
        return await self.asker.request(self.answering.own_id, protocol, data)

    async def fails(self, data: bytes, protocol: RequestProtocol = DOUBLE) -> RequestFailed:
        with pytest.raises(RequestFailed) as caught:
            await self.ask(data, protocol)
        return caught.value


@asynccontextmanager
async def pair(
    answerer: Callable[[PeerId, bytes], Awaitable[bytes]], protocol: RequestProtocol = DOUBLE
) -> AsyncIterator[Pair]:
    async with two_hosts() as (one, two):
        offences: list[tuple[PeerId, Offence]] = []

        def report(peer: PeerId, offence: Offence) -> None:
            offences.append((peer, offence))

        made = Pair(one, two, Requests(one, report), Requests(two, report), offences)
        made.answerer.serve(protocol, answerer)
        yield made


async def double(peer: PeerId, data: bytes) -> bytes:
    return data * 2


def open_streams(host: Host, peer: PeerId) -> int:
    return len(host.connections[peer].muxed.streams)


def test_a_request_is_answered_and_the_stream_used_again() -> None:
    async def main() -> None:
        async with pair(double) as hosts:
            assert await hosts.ask(b"ab") == b"abab"
            assert await hosts.ask(b"") == b""
            for index in range(50):
                assert await hosts.ask(b"%d" % index) == b"%d" % index * 2
            assert open_streams(hosts.asking, hosts.answering.own_id) == 1
            assert hosts.offences == []

    run(main)


def test_an_answer_and_a_request_may_have_their_greatest_length() -> None:
    async def main() -> None:
        async with pair(double) as hosts:
            assert len(await hosts.ask(b"x" * 1000)) == 2000

    run(main)


def test_a_megabyte_answer_arrives_whole() -> None:
    protocol = replace(DOUBLE, name="/big/1", max_request_bytes=2 << 20, max_answer_bytes=4 << 20)

    async def main() -> None:
        async with pair(double, protocol) as hosts:
            assert await hosts.ask(bytes(range(256)) * 8192, protocol) == bytes(range(256)) * 16384

    run(main)


def test_a_refusal_comes_with_its_reason() -> None:
    async def refuse(peer: PeerId, data: bytes) -> bytes:
        raise Refused("no block " + data.decode() + " \u00e9" * 300)

    async def main() -> None:
        async with pair(refuse) as hosts:
            failed = await hosts.fails(b"7")
            assert failed.failure is Failure.REFUSED
            assert "no block 7" in str(failed)
            assert hosts.offences == []

    run(main)


def test_a_malformed_request_is_refused_and_charged() -> None:
    async def refuse(peer: PeerId, data: bytes) -> bytes:
        raise MalformedRequest("expected 8 bytes, found 1")

    async def main() -> None:
        async with pair(refuse) as hosts:
            assert (await hosts.fails(b"7")).failure is Failure.REFUSED
            assert hosts.offences == [(hosts.asking.own_id, Offence.MALFORMED_REQUEST)]

    run(main)


def test_an_oversized_request_is_charged_and_not_read() -> None:
    async def main() -> None:
        async with pair(double) as hosts:
            assert (await hosts.fails(b"x" * 1001)).failure is Failure.BROKEN
            assert hosts.offences == [(hosts.asking.own_id, Offence.MALFORMED_REQUEST)]
            assert await hosts.ask(b"a") == b"aa"

    run(main)


def test_an_oversized_answer_is_charged_and_not_read() -> None:
    async def lie(stream: Stream) -> None:
        await stream.read_message(1000)
        await stream.write_message(bytes([Status.OK]) + b"x" * 2001)
        await stream.read()

    async def main() -> None:
        async with pair(double) as hosts:
            hosts.answering.handle(DOUBLE.name, lie)
            assert (await hosts.fails(b"a")).failure is Failure.TOO_LONG
            assert hosts.offences == [(hosts.answering.own_id, Offence.ANSWER_TOO_LONG)]

    run(main)


@pytest.mark.parametrize("answer", [b"", None])
def test_an_answer_of_nothing_is_no_answer(answer: bytes | None) -> None:
    async def lie(stream: Stream) -> None:
        await stream.read_message(1000)
        if answer is not None:
            await stream.write_message(answer)

    async def main() -> None:
        async with pair(double) as hosts:
            hosts.answering.handle(DOUBLE.name, lie)
            assert (await hosts.fails(b"a")).failure is Failure.BROKEN

    run(main)


def test_an_unknown_status_is_a_refusal() -> None:
    async def newer(stream: Stream) -> None:
        await stream.read_message(1000)
        await stream.write_message(b"\xff\xfe\xfd")

    async def main() -> None:
        async with pair(double) as hosts:
            hosts.answering.handle(DOUBLE.name, newer)
            assert (await hosts.fails(b"a")).failure is Failure.REFUSED

    run(main)


def test_a_protocol_that_is_not_served_is_said_so() -> None:
    async def main() -> None:
        async with pair(double) as hosts:
            assert (await hosts.fails(b"a", replace(DOUBLE, name="/triple/1"))).failure is Failure.NOT_SPOKEN

    run(main)


def test_a_peer_that_is_not_connected_is_said_so_and_not_remembered() -> None:
    async def main() -> None:
        async with pair(double) as hosts:
            with pytest.raises(RequestFailed) as caught:
                await hosts.asker.request(new_identity().peer_id, DOUBLE, b"a")
            assert caught.value.failure is Failure.NOT_CONNECTED
            assert len(hosts.asker._turns) == 0

    run(main)


def test_no_answer_in_time_is_a_failure_and_charged() -> None:
    async def sleep(stream: Stream) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with pair(double) as hosts:
            hosts.answering.handle(DOUBLE.name, sleep)
            assert (await hosts.fails(b"a", replace(DOUBLE, timeout_s=0.2))).failure is Failure.TIMEOUT
            assert hosts.offences == [(hosts.answering.own_id, Offence.UNRELIABLE)]
            assert open_streams(hosts.asking, hosts.answering.own_id) == 0

    run(main)


def test_an_answerer_that_takes_too_long_says_so() -> None:
    quick = replace(DOUBLE, timeout_s=0.2)

    async def sleep(peer: PeerId, data: bytes) -> bytes:
        await trio.sleep_forever()
        return b""

    async def main() -> None:
        async with pair(sleep, quick) as hosts:
            failed = await hosts.fails(b"a", DOUBLE)
            assert failed.failure is Failure.REFUSED
            assert "no answer in time" in str(failed)

    run(main)


def test_an_answerers_bug_breaks_one_stream_and_is_told() -> None:
    async def bug(peer: PeerId, data: bytes) -> bytes:
        if data == b"bug":
            raise ZeroDivisionError("a bug")
        return data if data == b"fine" else b"x" * 2001

    async def main() -> None:
        async with pair(bug) as hosts:
            for data in (b"bug", b"too long"):
                assert (await hosts.fails(data)).failure is Failure.BROKEN
                failed = await next_handler_failure(hosts.answering)
                assert isinstance(failed, HandlerFailed)
                assert (failed.peer, failed.protocol) == (hosts.asking.own_id, DOUBLE.name)
            assert await hosts.ask(b"fine") == b"fine"

    run(main)


def test_a_stream_that_died_while_idle_is_replaced() -> None:
    async def main() -> None:
        async with pair(double) as hosts:
            assert await hosts.ask(b"a") == b"aa"
            for stream in list(hosts.answering.connections[hosts.asking.own_id].muxed.streams.values()):
                stream.abort()
            assert await hosts.ask(b"b") == b"bb"

    run(main)


def test_more_than_the_rate_is_told_to_come_back_and_charged() -> None:
    slow = replace(DOUBLE, rate=0.001, burst=3)

    async def main() -> None:
        async with pair(double, slow) as hosts:
            for _ in range(3):
                assert await hosts.ask(b"a") == b"aa"
            assert (await hosts.fails(b"a")).failure is Failure.COME_BACK
            assert hosts.offences == [(hosts.asking.own_id, Offence.REQUEST_FLOOD)]

    run(main)


def test_a_reconnect_does_not_fill_the_bucket() -> None:
    slow = replace(DOUBLE, rate=0.001, burst=1)

    async def main() -> None:
        async with pair(double, slow) as hosts:
            assert await hosts.ask(b"a") == b"aa"
            connection = hosts.asking.connections[hosts.answering.own_id]
            connection.close("reconnect")
            await connection.ended.wait()
            hosts.asker.forget(hosts.answering.own_id)
            await hosts.asking.dial(hosts.answering.listen_addresses)
            assert (await hosts.fails(b"a")).failure is Failure.COME_BACK

    run(main)


def test_one_peer_is_asked_eight_things_at_once_and_the_rest_wait_their_turn() -> None:
    async def main() -> None:
        at_once = most = 0
        go = trio.Event()

        async def count(peer: PeerId, data: bytes) -> bytes:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            if at_once == MAX_AT_ONCE:
                go.set()
            await go.wait()
            at_once -= 1
            return data

        async with pair(count) as hosts:
            answers: list[bytes] = []

            async def ask(index: int) -> None:
                answers.append(await hosts.ask(b"%d" % index))

            async with trio.open_nursery() as nursery:
                for index in range(40):
                    nursery.start_soon(ask, index)
            assert sorted(answers) == sorted(b"%d" % index for index in range(40))
            assert most == MAX_AT_ONCE

    run(main)


def test_a_peer_that_asks_too_much_at_once_is_told_to_come_back() -> None:
    async def main() -> None:
        go = trio.Event()

        async def wait(peer: PeerId, data: bytes) -> bytes:
            await go.wait()
            return data

        async with pair(wait) as hosts:
            statuses: list[int] = []

            async def ask() -> None:
                stream = await hosts.asking.open_stream(hosts.answering.own_id, DOUBLE.name)
                await stream.write_message(b"a")
                answer = await stream.read_message(3000)
                assert answer is not None
                statuses.append(answer[0])
                if len(statuses) == 4:
                    go.set()
                await stream.aclose()

            async with trio.open_nursery() as nursery:
                for _ in range(MAX_AT_ONCE + 4):
                    nursery.start_soon(ask)
            assert sorted(statuses) == [Status.OK] * MAX_AT_ONCE + [Status.COME_BACK] * 4

    run(main)


def test_what_one_peer_is_given_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "ANSWER_BYTES_RATE", 20_000.0)
    monkeypatch.setattr(requests, "ANSWER_BYTES_BURST", 2_000.0)

    async def main() -> None:
        async with pair(double) as hosts:
            began = trio.current_time()
            for _ in range(6):
                await hosts.ask(b"x" * 1000)
            assert trio.current_time() - began >= 0.5

    run(main)


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async def main() -> None:
        started = trio.Event()

        async def wait(peer: PeerId, data: bytes) -> bytes:
            started.set()
            await trio.sleep_forever()
            return b""

        async with pair(wait) as hosts:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hosts.ask, b"a")
                await started.wait()
                nursery.cancel_scope.cancel()
            assert open_streams(hosts.asking, hosts.answering.own_id) == 0
            assert hosts.offences == []

    run(main)


def test_the_end_of_a_connection_fails_what_waits_for_answers() -> None:
    async def main() -> None:
        async def hang_up(peer: PeerId, data: bytes) -> bytes:
            hosts.answering.close_peer(peer, "enough")
            return data

        async with pair(hang_up) as hosts:
            assert (await hosts.fails(b"a")).failure in (Failure.BROKEN, Failure.NOT_CONNECTED)

    run(main)
