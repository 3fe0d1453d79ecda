"""Real hosts on loopback for one test, and what strangers send to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

import trio

from p2p.addresses import Address
from p2p.identity import Identity, new_identity
from p2p.libp2p_host import Gate, Host
from p2p.peer_id import PeerId
from p2p.peer_limits import HostLimits
from p2p.streams import Disconnected, HandlerFailed, Stream

LOOPBACK = Address("127.0.0.1", 0)
ECHO = "/echo/1"
MAX_ECHO_BYTES = 8 << 20


def run(main: Callable[[], Awaitable[None]], timeout_s: float = 60) -> None:
    """The body of a test, bounded in time."""

    async def bounded() -> None:
        with trio.fail_after(timeout_s):
            await main()

    trio.run(bounded)


async def echo(stream: Stream) -> None:
    while (message := await stream.read_message(MAX_ECHO_BYTES)) is not None:
        await stream.write_message(message)


@asynccontextmanager
async def plain_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises a single failure as it is, so that a failing test shows it."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None


@asynccontextmanager
async def running_host(
    identity: Identity | None = None,
    *,
    listen: Address = LOOPBACK,
    limits: HostLimits | None = None,
    gate: Gate | None = None,
    needed: Collection[PeerId] = (),
) -> AsyncIterator[Host]:
    """A host that echoes messages, until the block ends."""
    host = await Host.open(identity or new_identity(), [listen], limits, gate, lambda peer: peer in needed)
    host.handle(ECHO, echo)
    async with plain_nursery() as nursery:
        await nursery.start(host.run)
        yield host
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def two_hosts(*, limits: HostLimits | None = None) -> AsyncIterator[tuple[Host, Host]]:
    """The first has dialled the second, which has the limits."""
    async with running_host() as one, running_host(limits=limits) as two:
        await one.dial(two.listen_addresses)
        yield one, two


async def ask_echo(host: Host, peer: PeerId, message: bytes = b"hello") -> bytes | None:
    """One message there and back on a stream of its own."""
    stream = await host.open_stream(peer, ECHO)
    await stream.write_message(message)
    answer = await stream.read_message(MAX_ECHO_BYTES)
    await stream.aclose()
    return answer


async def next_end(host: Host, peer: PeerId) -> Disconnected:
    """The end of the peer's connection; other events before it are skipped."""
    async for event in host.events:
        if isinstance(event, Disconnected) and event.connection.peer == peer:
            return event
    raise AssertionError("the host has no more events")


async def next_handler_failure(host: Host) -> HandlerFailed:
    async for event in host.events:
        if isinstance(event, HandlerFailed):
            return event
    raise AssertionError("the host has no more events")
