"""What asking peers for something looks like to services, whatever carries it: `p2p.requests`, or memory in tests."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from p2p.addresses import peer_id_text
from p2p.peer_id import PeerId


class Failure(Enum):
    """Why there is no answer."""

    NOT_CONNECTED = "not connected"
    NOT_SPOKEN = "the peer does not speak the protocol"
    TIMEOUT = "no answer in time"
    REFUSED = "the peer refused"
    COME_BACK = "the peer has answered enough for now"
    TOO_LONG = "the answer is longer than the protocol allows"
    BROKEN = "the stream ended before the answer"


class RequestFailed(Exception):
    """Expected on any network; `failure` says what to do about it."""

    def __init__(self, failure: Failure, peer: PeerId, detail: str = "") -> None:
        super().__init__(f"{peer_id_text(peer)}: {failure.value}{': ' if detail else ''}{detail}")
        self.failure: Final = failure
        self.peer: Final = peer


class Refused(Exception):
    """Raised by an answerer: the peer gets the reason."""


class MalformedRequest(Refused):
    """Raised by an answerer: what was asked means nothing, which an honest peer does not do."""


@dataclass(frozen=True, slots=True)
class RequestProtocol:
    name: str
    """The protocol id of its streams."""
    max_request_bytes: int
    max_answer_bytes: int
    rate: float
    """Requests a second that one peer may make in the long run."""
    burst: float
    timeout_s: float = 10.0
    """From asking, or waiting for one's turn, to the whole answer."""


Answerer = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Raises Refused, MalformedRequest."""


class AsksPeers(Protocol):
    """The asking side."""

    async def request(self, peer: PeerId, protocol: RequestProtocol, data: bytes) -> bytes:
        """The answer, at most as long as the protocol allows. Raises RequestFailed."""


class ServesPeers(Protocol):
    """The answering side."""

    def serve(self, protocol: RequestProtocol, answerer: Answerer) -> None:
        """Answer this protocol's requests from now on."""
