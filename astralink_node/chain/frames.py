"""Length-prefixed frames for the Unix sockets between processes. Sans-IO: bytes in, frames out.

A frame is a 4-byte length (of what follows), an 8-byte request id, and a payload (chain.codec). A reply carries
the id of its request; id 0 marks a push that answers nothing. A frame above the bound is a protocol error: the
peer is our own program, so the connection is closed rather than resynchronised.
"""

import struct
from dataclasses import dataclass

from astralink_node.chain.codec import MAX_MESSAGE_BYTES
from astralink_node.errors import AstraLinkError

PUSH_ID = 0
MAX_REQUEST_ID = 2**64 - 1
HEADER_BYTES = 12

_HEADER = struct.Struct(">IQ")
_ID_BYTES = 8


class FrameError(AstraLinkError):
    """A frame whose announced length is impossible or above the bound."""


@dataclass(frozen=True, slots=True)
class Frame:
    request_id: int
    payload: bytes


def encode_frame(request_id: int, payload: bytes, *, max_payload_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    if len(payload) > max_payload_bytes:
        raise FrameError(f"a payload of {len(payload)} bytes exceeds the bound of {max_payload_bytes}")
    return _HEADER.pack(len(payload) + _ID_BYTES, request_id) + payload


class FrameDecoder:
    """Collects received bytes and yields whole frames; holds at most one incomplete frame."""

    def __init__(self, *, max_payload_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order. Raises FrameError; the decoder is then unusable."""
        buffer = self._buffer
        buffer += data
        frames: list[Frame] = []
        start = 0
        while len(buffer) - start >= HEADER_BYTES:
            length, request_id = _HEADER.unpack_from(buffer, start)
            if not _ID_BYTES <= length <= self._max_payload_bytes + _ID_BYTES:
                raise FrameError(f"a frame of {length - _ID_BYTES} bytes, the bound is {self._max_payload_bytes}")
            end = start + 4 + length
            if end > len(buffer):
                break
            frames.append(Frame(request_id, bytes(buffer[start + HEADER_BYTES : end])))
            start = end
        del buffer[:start]
        return frames

    @property
    def pending_bytes(self) -> int:
        """Bytes of an incomplete frame; not zero when the stream ended means that it was cut."""
        return len(self._buffer)
