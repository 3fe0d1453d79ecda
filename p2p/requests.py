"""Requests and answers: one message each way, on streams of the request's own protocol that are used again.

An answer is a status byte and then bytes: what was asked for, or why not. A request may be served twice, where a
stream turns out to be dead after it was sent: protocols here only read. Nothing waits without a time limit, and what
a peer may ask for is bounded three times: at once, per second, and in bytes.
"""

from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import trio

from p2p.libp2p_host import Host
from p2p.peer_id import PeerId
from p2p.peer_limits import PeerBuckets
from p2p.reputation import Offence
from p2p.request_protocol import Answerer, Failure, MalformedRequest, Refused, RequestFailed, RequestProtocol
from p2p.streams import MessageTooLong, NotConnected, ProtocolRefused, Stream, StreamFailed

MAX_AT_ONCE: Final = 8
"""Requests to one peer that wait for answers, further ones wait for their turn; and requests of one peer that are
being answered, further ones are told to come back."""
MAX_IDLE_STREAMS: Final = 4
"""Kept for one peer and protocol; others are closed after their answer."""
IDLE_TIMEOUT_S: Final = 20.0
"""A stream that was idle longer is not used again; the answering side keeps it three times as long."""
ANSWER_BYTES_RATE: Final = 8.0 * (1 << 20)
ANSWER_BYTES_BURST: Final = 16.0 * (1 << 20)
"""What one peer is given; answers beyond come later."""
MAX_REASON_BYTES: Final = 200


class Status(IntEnum):
    """The first byte of an answer. Further values are refusals too."""

    OK = 0
    REFUSED = 1
    """A reason follows, as text."""
    COME_BACK = 2
    """Too much was asked for of late."""
    FAILED = 3
    """The fault is the answering side's."""


Report = Callable[[PeerId, Offence], None]


class Requests:
    """Both sides, on one host. Offences of peers go to `report`."""

    def __init__(self, host: Host, report: Report) -> None:
        self._host = host
        self._report = report
        self._turns: dict[PeerId, trio.CapacityLimiter] = {}
        self._idle: dict[tuple[PeerId, str], list[tuple[float, Stream]]] = {}
        self._answering: Counter[PeerId] = Counter()
        self._bytes: PeerBuckets[PeerId] = PeerBuckets(ANSWER_BYTES_RATE, ANSWER_BYTES_BURST)

    # Asking.

    async def request(self, peer: PeerId, protocol: RequestProtocol, data: bytes) -> bytes:
        """The answer, at most `max_answer_bytes`. Raises RequestFailed."""
        turns = self._turns.setdefault(peer, trio.CapacityLimiter(MAX_AT_ONCE))
        try:
            with trio.fail_after(protocol.timeout_s):
                async with turns:
                    return await self._ask(peer, protocol, data)
        except trio.TooSlowError:
            self._report(peer, Offence.UNRELIABLE)
            raise RequestFailed(Failure.TIMEOUT, peer, protocol.name) from None
        except NotConnected:
            raise RequestFailed(Failure.NOT_CONNECTED, peer) from None
        except ProtocolRefused:
            raise RequestFailed(Failure.NOT_SPOKEN, peer, protocol.name) from None
        except MessageTooLong as error:
            self._report(peer, Offence.ANSWER_TOO_LONG)
            raise RequestFailed(Failure.TOO_LONG, peer, str(error)) from error
        except StreamFailed as error:
            raise RequestFailed(Failure.BROKEN, peer, str(error)) from error
        finally:
            if peer not in self._host.connections and turns.borrowed_tokens == 0:
                self.forget(peer)

    def forget(self, peer: PeerId) -> None:
        """The peer is gone: give up its idle streams."""
        self._turns.pop(peer, None)
        for key in [key for key in self._idle if key[0] == peer]:
            for _, stream in self._idle.pop(key):
                stream.abort()

    async def _ask(self, peer: PeerId, protocol: RequestProtocol, data: bytes) -> bytes:
        stream = self._idle_stream(peer, protocol)
        if stream is not None:
            try:
                return await self._ask_on(stream, protocol, data)
            except (MessageTooLong, ProtocolRefused):
                raise
            except StreamFailed:
                pass  # the other side had given the idle stream up: once more on a fresh one
        return await self._ask_on(await self._host.open_stream(peer, protocol.name), protocol, data)

    async def _ask_on(self, stream: Stream, protocol: RequestProtocol, data: bytes) -> bytes:
        is_whole = False
        try:
            await stream.write_message(data)
            answer = await stream.read_message(1 + max(protocol.max_answer_bytes, MAX_REASON_BYTES))
            is_whole = answer is not None
        finally:
            if not is_whole:
                stream.abort()
        if not answer:
            stream.abort()
            raise StreamFailed("expected an answer, found the end")
        self._keep(stream, protocol)
        return _answer(stream.peer, protocol, answer)

    def _idle_stream(self, peer: PeerId, protocol: RequestProtocol) -> Stream | None:
        idle = self._idle.get((peer, protocol.name), [])
        while idle:
            since, stream = idle.pop()
            if trio.current_time() - since < IDLE_TIMEOUT_S and stream.is_open:
                return stream
            stream.abort()
        return None

    def _keep(self, stream: Stream, protocol: RequestProtocol) -> None:
        idle = self._idle.setdefault((stream.peer, protocol.name), [])
        if len(idle) < MAX_IDLE_STREAMS:
            idle.append((trio.current_time(), stream))
        else:
            stream.abort()

    # Answering.

    def serve(self, protocol: RequestProtocol, answerer: Answerer) -> None:
        """Answer this protocol's requests from now on."""
        buckets: PeerBuckets[PeerId] = PeerBuckets(protocol.rate, protocol.burst)

        async def handle(stream: Stream) -> None:
            while True:
                with trio.move_on_after(3 * IDLE_TIMEOUT_S) as scope:
                    try:
                        data = await stream.read_message(protocol.max_request_bytes)
                    except MessageTooLong:
                        self._report(stream.peer, Offence.MALFORMED_REQUEST)
                        raise
                if scope.cancelled_caught or data is None:
                    return
                status, answer = await self._answer(stream.peer, protocol, answerer, buckets, data)
                await trio.sleep(self._bytes.borrow(stream.peer, len(answer), trio.current_time()))
                with trio.move_on_after(protocol.timeout_s) as scope:
                    await stream.write_message(bytes([status]) + answer)
                if scope.cancelled_caught:
                    return

        self._host.handle(protocol.name, handle)

    async def _answer(
        self,
        peer: PeerId,
        protocol: RequestProtocol,
        answerer: Answerer,
        buckets: PeerBuckets[PeerId],
        data: bytes,
    ) -> tuple[Status, bytes]:
        if not buckets.take(peer, 1, trio.current_time()):
            self._report(peer, Offence.REQUEST_FLOOD)
            return Status.COME_BACK, b""
        if self._answering[peer] >= MAX_AT_ONCE:
            return Status.COME_BACK, b""
        self._answering[peer] += 1
        try:
            with trio.move_on_after(protocol.timeout_s):
                answer = await answerer(peer, data)
                if len(answer) > protocol.max_answer_bytes:
                    raise ValueError(
                        f"{protocol.name}: expected an answer of at most {protocol.max_answer_bytes} bytes, "
                        f"found {len(answer)}"
                    )
                return Status.OK, answer
        except MalformedRequest as error:
            self._report(peer, Offence.MALFORMED_REQUEST)
            return Status.REFUSED, str(error).encode()[:MAX_REASON_BYTES]
        except Refused as error:
            return Status.REFUSED, str(error).encode()[:MAX_REASON_BYTES]
        finally:
            self._answering[peer] -= 1
            if self._answering[peer] == 0:
                del self._answering[peer]
        return Status.FAILED, b"no answer in time"


def _answer(peer: PeerId, protocol: RequestProtocol, answer: bytes) -> bytes:
    status, body = answer[0], answer[1:]
    match status:
        case Status.OK if len(body) <= protocol.max_answer_bytes:
            return body
        case Status.OK:
            raise MessageTooLong(f"expected an answer of at most {protocol.max_answer_bytes} bytes, found {len(body)}")
        case Status.COME_BACK:
            raise RequestFailed(Failure.COME_BACK, peer, protocol.name)
        case _:
            raise RequestFailed(Failure.REFUSED, peer, body[:MAX_REASON_BYTES].decode("utf-8", "replace"))
