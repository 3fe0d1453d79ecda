"""Requests between peers inside one process: for tests and simulation, with the failures that a network has."""

from collections.abc import Callable

import trio

from p2p.peer_id import PeerId
from p2p.request_protocol import Answerer, Failure, Refused, RequestFailed, RequestProtocol

Delay = Callable[[PeerId, PeerId], float]
"""(from, to) -> seconds that one message takes."""


class MemoryRequests:
    """Joins members. A request is served by the asker's own task, so nothing has to run."""

    def __init__(self, delay: Delay | None = None) -> None:
        self.delay = delay
        self._members: dict[PeerId, MemoryRequester] = {}

    def join(self, own_id: PeerId) -> "MemoryRequester":
        """The member of that name from now on; an earlier one is cut off, as after a restart."""
        member = self._members[own_id] = MemoryRequester(self, own_id)
        return member

    def leave(self, own_id: PeerId) -> None:
        self._members.pop(own_id, None)

    def answerer(self, asked: PeerId, protocol: str) -> Answerer:
        """Raises RequestFailed."""
        member = self._members.get(asked)
        if member is None:
            raise RequestFailed(Failure.NOT_CONNECTED, asked)
        answerer = member.answerers.get(protocol)
        if answerer is None:
            raise RequestFailed(Failure.NOT_SPOKEN, asked, protocol)
        return answerer

    async def travel(self, sender: PeerId, receiver: PeerId) -> None:
        await trio.sleep(0 if self.delay is None else self.delay(sender, receiver))


class MemoryRequester:
    """One member, asking and answering; see `p2p.request_protocol`."""

    def __init__(self, network: MemoryRequests, own_id: PeerId) -> None:
        self._network = network
        self.own_id = own_id
        self.answerers: dict[str, Answerer] = {}
        self.asked: list[tuple[PeerId, str]] = []
        """Every request that was made, for those who look on."""

    def serve(self, protocol: RequestProtocol, answerer: Answerer) -> None:
        self.answerers[protocol.name] = answerer

    async def request(self, peer: PeerId, protocol: RequestProtocol, data: bytes) -> bytes:
        self.asked.append((peer, protocol.name))
        try:
            with trio.fail_after(protocol.timeout_s):
                await self._network.travel(self.own_id, peer)
                answer = await self._network.answerer(peer, protocol.name)(self.own_id, data)
                await self._network.travel(peer, self.own_id)
        except trio.TooSlowError:
            raise RequestFailed(Failure.TIMEOUT, peer, protocol.name) from None
        except Refused as error:
            raise RequestFailed(Failure.REFUSED, peer, str(error)) from error
        if len(answer) > protocol.max_answer_bytes:
            raise RequestFailed(Failure.TOO_LONG, peer, f"{len(answer)} bytes")
        return answer
