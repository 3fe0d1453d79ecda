"""The host on loopback: connecting, and attacks at every layer while an honest peer talks on and notices nothing."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio

from p2p import libp2p_host, peer_limits
from p2p.addresses import Address, parse_address
from p2p.identity import load_or_create_identity, new_identity
from p2p.libp2p_host import IDENTIFY, PING, Host
from p2p.peer_id import PeerId
from p2p.peer_limits import HostLimits
from p2p.streams import Connected, DialFailed, MessageTooLong, NotConnected, ProtocolRefused, Stream, StreamFailed
from p2p.turned_away import Lately

# isort: split
# The lines above make `import libp2p` possible.
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

from tests.support.attackers import (
    MULTISTREAM,
    NOISE,
    Held,
    authenticated,
    held_sockets,
    host_process,
    raw_socket,
    undisturbed,
)
from tests.support.hosts import (
    ECHO,
    LOOPBACK,
    ask_echo,
    echo,
    next_end,
    next_handler_failure,
    plain_nursery,
    run,
    running_host,
    two_hosts,
)
from tests.support.p2p_nodes import until
from tests.support.yamux_peers import DATA, HEADER, SYN, WINDOW

SEED = 20261126


async def refusal(host: Host, address: Address) -> str:
    with pytest.raises(DialFailed) as caught:
        await host.dial([address])
    return str(caught.value)


async def answered(host: Host, other: Host) -> None:
    """Ask until an answer comes: the connection may just be replaced."""
    while True:
        try:
            assert await ask_echo(host, other.own_id) == b"hello"
        except (NotConnected, StreamFailed):
            await trio.sleep(0.01)
        else:
            return


# Connecting.


def test_both_sides_know_each_other_and_talk_both_ways() -> None:
    async def main() -> None:
        async with two_hosts() as (one, two):
            assert list(one.connections) == [two.own_id]
            assert list(two.connections) == [one.own_id]
            assert one.connections[two.own_id].outbound
            assert not two.connections[one.own_id].outbound
            assert await ask_echo(one, two.own_id) == await ask_echo(two, one.own_id) == b"hello"
            big = bytes(range(256)) * (4 << 12)
            assert await ask_echo(one, two.own_id, big) == big
            for host, peer in ((one, two), (two, one)):
                event = await host.events.receive()
                assert isinstance(event, Connected)
                assert event.connection is host.connections[peer.own_id]
            assert await one.dial(two.listen_addresses) is one.connections[two.own_id], "it is connected already"

    run(main)


def test_a_dial_says_of_every_address_why_it_failed() -> None:
    async def main() -> None:
        async with running_host() as one, running_host() as two:
            there = two.listen_addresses[0]
            assert "this node itself" in await refusal(one, one.listen_addresses[0])
            assert "this node itself" in await refusal(one, one.listen_addresses[0].with_peer(None))
            assert "expected 12D3KooW" in await refusal(one, there.with_peer(new_identity().peer_id))
            assert "Connection refused" in await refusal(one, Address("127.0.0.1", 1))
            assert "too long" in await refusal(one, Address("a" * 64 + ".example", 1))
            with pytest.raises(DialFailed, match="no address"):
                await one.dial([])
            assert (await one.dial([Address("127.0.0.1", 1), there])).peer == two.own_id

    run(main)


def test_simultaneous_dials_leave_one_connection() -> None:
    async def main() -> None:
        for _ in range(20):
            async with running_host() as one, running_host() as two:

                async def dial(host: Host, other: Host) -> None:
                    with suppress(DialFailed):  # the other side's was quicker, or is the one that stays
                        await host.dial(other.listen_addresses)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(dial, one, two)
                    nursery.start_soon(dial, two, one)
                # Both have settled on the same one when an answer has come from each side.
                await answered(one, two)
                await answered(two, one)
                assert one.connections[two.own_id].outbound != two.connections[one.own_id].outbound
                assert await ask_echo(one, two.own_id) == b"hello"
                assert await ask_echo(two, one.own_id) == b"hello"

    run(main)


def test_a_peer_that_comes_again_replaces_its_old_connection() -> None:
    async def main() -> None:
        identity = new_identity()
        async with running_host() as host, running_host(identity) as before:
            await before.dial(host.listen_addresses)
            old = host.connections[identity.peer_id]
            async with running_host(identity) as after:
                await after.dial(host.listen_addresses)
                ended = await next_end(host, identity.peer_id)
                assert (ended.connection, ended.reason) == (old, "replaced by a newer connection")
                assert await ask_echo(after, host.own_id) == b"hello"
                assert host.connections[identity.peer_id] is not old

    run(main)


def test_a_closed_connection_is_told_to_both_sides_and_ends_their_streams() -> None:
    async def main() -> None:
        async with two_hosts() as (one, two):
            stream = await one.open_stream(two.own_id, ECHO)
            two.close_peer(one.own_id, "enough")
            with pytest.raises(StreamFailed):
                await stream.read()
            assert (await next_end(two, one.own_id)).reason == "enough"
            assert not (await next_end(one, two.own_id)).violated
            with pytest.raises(NotConnected):
                await one.open_stream(two.own_id, ECHO)

    run(main)


def test_what_was_written_before_a_goodbye_arrives() -> None:
    async def main() -> None:
        async with two_hosts() as (one, two):

            async def tell_and_close(stream: Stream) -> None:
                await stream.write_message(b"you are on another chain")
                await two.connections[stream.peer].finish("another chain")

            two.handle("/status/1", tell_and_close)
            stream = await one.open_stream(two.own_id, "/status/1")
            assert await stream.read_message(1000) == b"you are on another chain"
            assert (await next_end(two, one.own_id)).reason == "another chain"

    run(main)


def test_identify_and_ping_are_answered_as_other_implementations_expect() -> None:
    async def main() -> None:
        async with two_hosts() as (one, two):
            stream = await one.open_stream(two.own_id, IDENTIFY)
            message = await stream.read_message(4096)
            assert message is not None
            assert ECHO.encode() in message
            assert two.own_id[-32:] in message
            await stream.aclose()
            stream = await one.open_stream(two.own_id, PING)
            for index in range(3):
                await stream.write(bytes([index]) * 32)
                assert await stream.read_exactly(32) == bytes([index]) * 32
            await stream.aclose()

    run(main)


def test_an_address_in_use_is_an_error_of_the_operating_system() -> None:
    async def main() -> None:
        async with running_host() as host:
            with pytest.raises(OSError, match="in use") as caught:
                await Host.open(new_identity(), [host.listen_addresses[0]])
            assert caught.value.errno == errno.EADDRINUSE

    run(main)


def test_a_message_beyond_the_limit_is_not_read() -> None:
    async def main() -> None:
        async with two_hosts() as (one, two):
            stream = await one.open_stream(two.own_id, ECHO)
            await stream.write_message(b"x" * 1000)
            with pytest.raises(MessageTooLong, match="at most 999 bytes, found 1000"):
                await stream.read_message(999)
            stream.abort()
            stream = await one.open_stream(two.own_id, ECHO)
            await stream.write(b"\xff" * 5)
            with pytest.raises(StreamFailed):
                await stream.read()

    run(main)


def test_a_host_that_listens_nowhere_dials_and_is_spoken_to() -> None:
    async def main() -> None:
        async with running_host() as one:
            silent = await Host.open(new_identity(), [])
            silent.handle(ECHO, echo)
            async with plain_nursery() as nursery:
                await nursery.start(silent.run)
                await silent.dial(one.listen_addresses)
                assert await ask_echo(silent, one.own_id) == b"hello"
                assert await ask_echo(one, silent.own_id) == b"hello"
                nursery.cancel_scope.cancel()

    run(main)


# Beside py-libp2p's own host: another implementation of everything above TCP but the handshakes.


def stock_host() -> BasicHost:
    keys = create_new_key_pair()
    noise = NoiseTransport(keys, create_noise_key_pair().private_key)
    host = new_host(key_pair=keys, sec_opt={NOISE_ID: noise}, muxer_opt={TProtocol("/yamux/1.0.0"): Yamux})
    assert isinstance(host, BasicHost)
    return host


def test_pylibp2ps_own_host_is_understood() -> None:
    async def stock_echo(stream: INetStream) -> None:
        await stream.write(await stream.read(300_000))
        await stream.close()

    async def main() -> None:
        stock = stock_host()
        stock.set_stream_handler(TProtocol("/stock/1"), stock_echo)
        async with stock.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]), running_host() as host:
            connection = await host.dial([parse_address(str(stock.get_addrs()[0]))])
            stream = await host.open_stream(connection.peer, "/stock/1")
            await stream.write(b"x" * 1000)
            assert await stream.read_exactly(1000) == b"x" * 1000
            await stream.aclose()
            theirs = await stock.new_stream(ID(host.own_id), [TProtocol(ECHO)])
            await theirs.write(b"\x05hello")
            assert await theirs.read(6) == b"\x05hello"
            await theirs.close()

    run(main)


def test_pylibp2ps_own_host_ends_with_an_exception_of_a_handler() -> None:
    """Why ours takes its place: compare test_a_handler_that_raises_ends_its_stream_and_nothing_else."""

    async def bug(stream: INetStream) -> None:
        raise ZeroDivisionError("a bug")

    async def main() -> None:
        stock = stock_host()
        stock.set_stream_handler(TProtocol("/bug/1"), bug)

        async def serve() -> None:
            async with running_host() as host, stock.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
                connection = await host.dial([parse_address(str(stock.get_addrs()[0]))])
                await host.open_stream(connection.peer, "/bug/1")
                await trio.sleep_forever()

        with pytest.raises(ExceptionGroup) as caught:
            await serve()
        assert caught.group_contains(ZeroDivisionError)

    run(main)


# Who may connect.


class Refuses:
    def __init__(self, *, ip: str | None = None, peer: PeerId | None = None) -> None:
        self._ip, self._peer = ip, peer

    def admits_ip(self, ip: str) -> bool:
        return ip != self._ip

    def admits_peer(self, peer: PeerId) -> bool:
        return peer != self._peer


def test_banned_addresses_and_peers_are_kept_out() -> None:
    async def main() -> None:
        bad = new_identity()
        async with running_host(gate=Refuses(ip="127.0.0.1")) as host, running_host() as other:
            await refusal(other, host.listen_addresses[0])
            assert not host.connections
            assert host.turned_away.lately() == Lately(1, "127.0.0.1", 1)
        async with (
            running_host(gate=Refuses(peer=bad.peer_id)) as host,
            running_host(bad) as banned,
            running_host() as other,
        ):
            assert "banned" in await refusal(host, banned.listen_addresses[0])
            await other.dial(host.listen_addresses)
            await banned.dial(host.listen_addresses)
            await next_end(banned, host.own_id)
            assert list(host.connections) == [other.own_id]
            before = host.turned_away.refused  # it may have taken the end of the host's own dial for a connection
            await until(lambda: host.own_id not in banned.connections)
            await banned.dial(host.listen_addresses)
            await until(lambda: host.turned_away.refused == before + 1)
            assert host.turned_away.failed == 0

    run(main)


@pytest.mark.parametrize("limits", [HostLimits(inbound=2), HostLimits(inbound_each_ip=2)])
def test_inbound_connections_are_bounded_and_an_end_makes_room(limits: HostLimits) -> None:
    async def main() -> None:
        async with running_host(limits=limits) as host, running_host() as one, running_host() as two:
            await one.dial(host.listen_addresses)
            await two.dial(host.listen_addresses)
            async with running_host() as three:
                await three.dial(host.listen_addresses)
                await next_end(three, host.own_id)
                assert set(host.connections) == {one.own_id, two.own_id}
                await until(lambda: host.turned_away.refused == 1)
                connection = one.connections[host.own_id]
                connection.close("room for another")
                await next_end(host, one.own_id)
                await three.dial(host.listen_addresses)
                assert await ask_echo(three, host.own_id) == b"hello"
                assert set(host.connections) == {two.own_id, three.own_id}

    run(main)


@pytest.mark.parametrize("limits", [HostLimits(inbound=2), HostLimits(inbound_each_ip=2)])
def test_a_validator_takes_the_place_of_another_peer_but_not_of_a_validator(limits: HostLimits) -> None:
    async def main() -> None:
        first, second, third = (new_identity() for _ in range(3))
        needed = {identity.peer_id for identity in (first, second, third)}
        async with (
            running_host(limits=limits, needed=needed) as host,
            running_host() as crowd,
            running_host() as more,
            running_host(first) as one,
            running_host(second) as two,
            running_host(third) as three,
        ):
            await crowd.dial(host.listen_addresses)
            await more.dial(host.listen_addresses)
            await one.dial(host.listen_addresses)
            assert (await next_end(host, more.own_id)).reason == "its place is needed"
            await two.dial(host.listen_addresses)
            await next_end(host, crowd.own_id)
            await three.dial(host.listen_addresses)
            await next_end(three, host.own_id)
            assert set(host.connections) == {one.own_id, two.own_id}
            assert await ask_echo(two, host.own_id) == b"hello"

    run(main)


def test_handshakes_of_one_address_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_host, "HANDSHAKE_BURST", 2.0)

    async def main() -> None:
        limits = HostLimits(handshakes_a_second_each_ip=4.0)
        async with running_host(limits=limits) as host, running_host() as other:
            began = trio.current_time()
            for _ in range(5):
                connection = await other.dial(host.listen_addresses)
                connection.close("next")
                await connection.ended.wait()
            assert trio.current_time() - began >= 3 / 4 - 0.05

    run(main)


def test_outbound_connections_are_bounded() -> None:
    async def main() -> None:
        async with running_host(limits=HostLimits(outbound=1)) as host, running_host() as one, running_host() as two:
            await host.dial(one.listen_addresses)
            assert "at most 1 outbound" in await refusal(host, two.listen_addresses[0])

    run(main)


def test_four_hundred_connections_in_sequence_leave_nothing_behind() -> None:
    """py-libp2p's own host refuses everybody after 250 inbound connections in total."""

    async def main() -> None:
        limits = HostLimits(handshakes_a_second_each_ip=1e6)
        async with running_host(limits=limits) as host, running_host() as other:

            async def connect() -> None:
                connection = await other.dial(host.listen_addresses)
                connection.close("next")
                await connection.ended.wait()
                await next_end(host, other.own_id)
                while True:
                    try:
                        other.events.receive_nowait()
                    except trio.WouldBlock:
                        return

            await connect()
            before = Held.now()
            for _ in range(400):
                await connect()
            await before.returns()
            await other.dial(host.listen_addresses)
            assert await ask_echo(other, host.own_id) == b"hello"

    run(main, timeout_s=120)


# Handlers.


def test_a_handler_that_raises_ends_its_stream_and_nothing_else() -> None:
    async def nested(stream: Stream) -> None:
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as inner:
                inner.start_soon(bug)
                inner.start_soon(bug)
            nursery.start_soon(bug)

    async def bug(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    async def main() -> None:
        async with running_host() as host, undisturbed(host) as bystander:
            other = bystander.host
            host.handle("/bug/1", bug)
            host.handle("/nested/1", nested)
            for protocol, kind in (("/bug/1", ZeroDivisionError), ("/nested/1", ExceptionGroup)):
                stream = await other.open_stream(host.own_id, protocol)
                with pytest.raises(StreamFailed):
                    await stream.read()
                failure = await next_handler_failure(host)
                assert (failure.peer, failure.protocol) == (other.own_id, protocol)
                assert isinstance(failure.error, kind)
            with pytest.raises(ProtocolRefused):
                await other.open_stream(host.own_id, "/unknown/1")

    run(main)


def test_closing_the_host_closes_everything() -> None:
    async def main() -> None:
        before = Held.now()
        async with two_hosts() as (one, two):
            stream = await one.open_stream(two.own_id, ECHO)
            await stream.write_message(b"x")
        await before.returns()

    run(main)


# Garbage, layer by layer.


async def garbage_before_anything(victim: Host, attacker: Host, random: Random) -> None:
    await _say(victim, random.randbytes(random.randrange(1, 4096)))


async def garbage_in_the_negotiation(victim: Host, attacker: Host, random: Random) -> None:
    said = random.choice(
        [
            b"\xff" * 10,
            b"\x00" * 100,
            b"\x80\x80\x80\x80\x7f" + b"x" * 1000,
            b"\x03na\n" * 50,
            b"\x03ls\n" * 1000,
            b"\x0b/yamux/9.9\n" * 200,
            b"\x02\xff\n",
            MULTISTREAM * 100,
        ]
    )
    await _say(victim, MULTISTREAM + said)


async def garbage_in_the_noise_handshake(victim: Host, attacker: Host, random: Random) -> None:
    length = random.choice([0, 1, 31, 32, 33, 48, 500, 65535])
    message = random.randbytes(length) if random.random() < 0.5 else bytes(length)
    await _say(victim, MULTISTREAM + NOISE + length.to_bytes(2, "big") + message + random.randbytes(200))


async def garbage_in_the_ciphertext(victim: Host, attacker: Host, random: Random) -> None:
    muxed = await authenticated(attacker, victim)
    await _break(muxed, b"", random.randbytes(random.randrange(2, 2000)))


async def garbage_instead_of_frames(victim: Host, attacker: Host, random: Random) -> None:
    await _break(await authenticated(attacker, victim), random.randbytes(random.randrange(12, 20_000)))


async def garbage_in_a_new_stream(victim: Host, attacker: Host, random: Random) -> None:
    muxed = await authenticated(attacker, victim)
    garbage = random.choice([random.randbytes(100), b"\xff" * 100, MULTISTREAM + random.randbytes(100), b"\x01\n"])
    opening = HEADER.pack(0, WINDOW, SYN, 1, 0) + HEADER.pack(0, DATA, 0, 1, len(garbage)) + garbage
    await _break(muxed, opening + HEADER.pack(0, WINDOW, 8, 1, 0))


async def frames_without_sense(victim: Host, attacker: Host, random: Random) -> None:
    muxed = await authenticated(attacker, victim)
    frames = [
        HEADER.pack(0, random.randrange(4), random.randrange(16), random.randrange(6), random.randrange(100))
        + random.randbytes(random.randrange(100))
        for _ in range(200)
    ]
    await _break(muxed, b"".join(frames))


async def _say(victim: Host, data: bytes) -> None:
    """Send it as a stranger, and wait for the answer to end."""
    stream = await raw_socket(victim.listen_addresses[0])
    async with stream:
        try:
            await stream.send_all(data)
            await stream.send_eof()
            while await stream.receive_some(65536):
                pass
        except trio.BrokenResourceError:
            return  # it was closed, which is right


async def _break(muxed: object, plain: bytes, raw: bytes = b"") -> None:
    """Send it as an authenticated peer, in good noise messages or below them, and hang up."""
    assert isinstance(muxed, libp2p_host.BoundedYamux)
    if raw:
        await muxed.secured_conn.conn.conn.write(raw)  # type: ignore[attr-defined]
    for start in range(0, len(plain), 60_000):
        await muxed.secured_conn.write(plain[start : start + 60_000])
    muxed.abort("done")


Attack = Callable[[Host, Host, Random], Awaitable[None]]


@pytest.mark.parametrize(
    "attack",
    [
        garbage_before_anything,
        garbage_in_the_negotiation,
        garbage_in_the_noise_handshake,
        garbage_in_the_ciphertext,
        garbage_instead_of_frames,
        garbage_in_a_new_stream,
        frames_without_sense,
    ],
)
def test_garbage_at_any_layer_harms_nobody(attack: Attack) -> None:
    async def main() -> None:
        random = Random(SEED)
        async with running_host() as victim, running_host() as attacker, undisturbed(victim):
            await attack(victim, attacker, random)
            before = Held.now()
            for _ in range(60):
                await attack(victim, attacker, random)
            await before.returns()

    run(main)


# Floods.


def test_three_thousand_silent_connections_harm_nobody_and_a_newcomer_gets_in() -> None:
    async def main() -> None:
        async with running_host() as victim, undisturbed(victim), running_host() as newcomer:
            before = Held.now()
            with held_sockets(victim.listen_addresses[0], processes=4, each=750) as connected:
                made = await trio.to_thread.run_sync(connected)
                during = Held.now()
                assert made > 2500, "the operating system completes a connection before the host sees it"
                pipes = 2 * 4
                assert during.descriptors - before.descriptors <= HostLimits().handshakes_each_ip + pipes + 8
                assert during.tasks - before.tasks <= 2 * HostLimits().handshakes_each_ip
                await newcomer.dial(victim.listen_addresses)
                assert await ask_echo(newcomer, victim.own_id) == b"hello"
                newcomer.close_peer(victim.own_id, "done")
            await before.returns()

    run(main, timeout_s=100)


def test_a_dial_that_nobody_answers_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a cable is cut. A listener whose queue is full does not answer either."""
    monkeypatch.setattr(libp2p_host, "CONNECT_TIMEOUT_S", 0.3)

    async def main() -> None:
        with socket.socket() as full, socket.socket() as queued:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            queued.connect(full.getsockname())
            async with running_host() as host:
                with trio.fail_after(2), pytest.raises(DialFailed, match="no answer in time"):
                    await host.dial([Address("127.0.0.1", full.getsockname()[1])])

    run(main)


def test_handshakes_byte_by_byte_are_cut_off_and_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libp2p_host, "HANDSHAKE_TIMEOUT_S", 1.5)

    async def drip(address: Address) -> None:
        async with await raw_socket(address) as stream:
            try:
                for byte in MULTISTREAM + NOISE + b"\x00\x20" + bytes(1000):
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(0.1)
            except trio.BrokenResourceError:
                return
            raise AssertionError("the handshake was never cut off")

    async def main() -> None:
        async with running_host() as victim, undisturbed(victim), running_host() as newcomer:
            before = Held.now()
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(drip, victim.listen_addresses[0])
                await trio.sleep(0.5)
                await newcomer.dial(victim.listen_addresses)
                assert await ask_echo(newcomer, victim.own_id) == b"hello"
                newcomer.close_peer(victim.own_id, "done")
            await before.returns()
            assert victim.turned_away.lately() == Lately(100, "127.0.0.1", 100)

    run(main)


def test_a_peer_that_leaks_streams_holds_a_bounded_number() -> None:
    async def main() -> None:
        async with running_host() as victim, undisturbed(victim), running_host() as attacker:
            await attacker.dial(victim.listen_addresses)
            before = Held.now()
            limit = HostLimits().streams_each_peer
            opened = refused = 0
            leaked = []
            for _ in range(100):
                try:
                    leaked.append(await attacker.open_stream(victim.own_id, ECHO))
                    opened += 1
                except StreamFailed:
                    refused += 1
            assert (opened, refused) == (limit, 100 - limit)
            assert len(victim.connections[attacker.own_id].muxed.streams) == limit
            for stream in leaked:
                stream.abort()
            await before.returns()
            assert await ask_echo(attacker, victim.own_id) == b"hello"

    run(main)


def test_a_peer_that_takes_nothing_from_its_socket_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_limits, "WRITE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(peer_limits, "PING_INTERVAL_S", 60.0)

    async def pour(stream: Stream) -> None:
        while True:
            await stream.write(b"x" * 60_000)

    async def main() -> None:
        async with running_host() as victim, undisturbed(victim), running_host() as attacker:
            victim.handle("/pour/1", pour)
            before = Held.now()
            muxed = await authenticated(attacker, victim)
            hello = b"\x13/multistream/1.0.0\n\x08/pour/1\n"
            await muxed.secured_conn.write(
                HEADER.pack(0, WINDOW, SYN, 1, 1 << 30) + HEADER.pack(0, DATA, 0, 1, len(hello)) + hello
            )
            began = trio.current_time()
            ended = await next_end(victim, attacker.own_id)
            assert ended.reason == "the peer took nothing for 1 s"
            assert trio.current_time() - began < 10
            muxed.abort("done")
            await before.returns()

    run(main)


def test_a_peer_that_reads_its_socket_but_not_its_stream_loses_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_limits, "STALL_TIMEOUT_S", 0.5)

    async def main() -> None:
        async with running_host() as victim, undisturbed(victim), running_host() as attacker:
            await attacker.dial(victim.listen_addresses)
            stream = await attacker.open_stream(victim.own_id, ECHO)

            async def never_read() -> None:
                while True:
                    await stream.write_message(b"x" * 100_000)

            with pytest.raises(StreamFailed):
                await never_read()
            assert await ask_echo(attacker, victim.own_id) == b"hello", "the connection is as it was"

    run(main)


def test_a_peer_that_ignores_the_window_is_cut_off() -> None:
    async def hold(stream: Stream) -> None:
        await trio.sleep_forever()

    async def main() -> None:
        async with running_host() as victim, undisturbed(victim), running_host() as attacker:
            victim.handle("/hold/1", hold)
            before = Held.now()
            muxed = await authenticated(attacker, victim)
            hello = b"\x13/multistream/1.0.0\n\x08/hold/1\n"
            await muxed.secured_conn.write(
                HEADER.pack(0, WINDOW, SYN, 1, 0) + HEADER.pack(0, DATA, 0, 1, len(hello)) + hello
            )
            with suppress(libp2p_host.ConnectionClosedError):
                for _ in range(10):
                    await muxed.secured_conn.write(HEADER.pack(0, DATA, 0, 1, 60_000) + bytes(60_000))
            ended = await next_end(victim, attacker.own_id)
            assert ended.violated
            assert "expected at most" in ended.reason
            muxed.abort("done")
            await before.returns(memory_growth_bytes=16 << 20)

    run(main)


def test_a_flood_of_tiny_frames_slows_its_sender_and_nobody_else() -> None:
    async def main() -> None:
        async with running_host() as victim, undisturbed(victim), running_host() as attacker:
            muxed = await authenticated(attacker, victim)
            await muxed.secured_conn.write(HEADER.pack(0, WINDOW, SYN, 1, 0))
            tiny = HEADER.pack(0, WINDOW, 0, 1, 1) * 5000
            with trio.move_on_after(3):
                while True:
                    await muxed.secured_conn.write(tiny)
            muxed.abort("done")

    run(main)


# Peers that go away.


def test_a_killed_peer_is_noticed_and_found_again_when_it_restarts(tmp_path: Path) -> None:
    async def main() -> None:
        key = tmp_path / "node.key"
        peer = load_or_create_identity(key).peer_id
        async with running_host() as host:
            with host_process(key) as (process, port):
                there = replace(LOOPBACK, port=port, peer=peer)
                await host.dial([there])
                assert await ask_echo(host, peer) == b"hello"
                process.send_signal(signal.SIGKILL)
                began = trio.current_time()
                await next_end(host, peer)
                assert trio.current_time() - began < 1
            assert "Connection refused" in await refusal(host, there)
            with host_process(key, port):
                connection = await host.dial([there])
                assert connection.peer == peer
                assert await ask_echo(host, peer) == b"hello"

    run(main)


def test_a_paused_peer_is_noticed_by_its_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_limits, "PING_INTERVAL_S", 0.5)

    async def main() -> None:
        key = tmp_path / "node.key"
        async with running_host() as host:
            with host_process(key) as (process, port):
                await host.dial([replace(LOOPBACK, port=port)])
                peer = load_or_create_identity(key).peer_id
                process.send_signal(signal.SIGSTOP)
                began = trio.current_time()
                assert (await next_end(host, peer)).reason == "no answer to 2 pings"
                assert trio.current_time() - began < 3 * 0.5 + 0.5

    run(main)


def test_a_host_without_a_consumer_of_events_keeps_serving() -> None:
    async def main() -> None:
        async with two_hosts() as (one, two):
            for _ in range(50):
                connection = one.connections[two.own_id]
                connection.close("again")
                await connection.ended.wait()
                await one.dial(two.listen_addresses)
            assert await ask_echo(one, two.own_id) == b"hello"

    run(main)


def test_the_handler_for_a_protocol_can_be_replaced_while_running() -> None:
    async def main() -> None:
        async with two_hosts() as (one, two):

            async def shout(stream: Stream) -> None:
                message = await stream.read_message(100)
                assert message is not None
                await stream.write_message(message.upper())

            two.handle(ECHO, shout)
            assert await ask_echo(one, two.own_id) == b"HELLO"
            two.handle(ECHO, echo)
            assert await ask_echo(one, two.own_id) == b"hello"

    run(main)
