"""The first bytes of what nodes send each other: whether a message is here whole, or announced in parts; and its topic,
on a direct stream, where no name says it. The same envelope travels by gossip and directly."""

from enum import IntEnum
from typing import Final

from p2p.parts import Announcement, PartsError, decode_announcement, encode_announcement
from p2p.topics import Topic

MAX_WHOLE_BYTES: Final = 100_000
"""What is larger is announced, and fetched by whoever lacks it."""
MAX_FRAME_BYTES: Final = 2 + MAX_WHOLE_BYTES
"""On a direct stream."""


class EnvelopeError(ValueError):
    """Bytes that are no message of this network."""


class _Kind(IntEnum):
    WHOLE = 0
    ANNOUNCED = 1


def encode_whole(data: bytes) -> bytes:
    return bytes([_Kind.WHOLE]) + data


def encode_announced(announcement: Announcement) -> bytes:
    return bytes([_Kind.ANNOUNCED]) + encode_announcement(announcement)


def decode_envelope(envelope: bytes) -> bytes | Announcement:
    """The message, or how to fetch it. Raises EnvelopeError."""
    match envelope[:1]:
        case b"\x00":
            return envelope[1:]
        case b"\x01":
            try:
                return decode_announcement(envelope[1:])
            except PartsError as error:
                raise EnvelopeError(str(error)) from error
        case kind:
            raise EnvelopeError(f"envelope: expected kind 0 or 1, found {kind.hex() or 'nothing'}")


def encode_direct(topic: Topic, envelope: bytes) -> bytes:
    """One frame of a direct stream: the topic's byte, then the envelope."""
    return bytes([topic.value]) + envelope


def decode_direct(frame: bytes) -> tuple[Topic, bytes | Announcement]:
    """The inverse of `encode_direct`, with the envelope opened. Raises EnvelopeError."""
    try:
        topic = Topic(int.from_bytes(frame[:1], "big"))
    except ValueError:
        raise EnvelopeError(f"topic: expected 1 to {len(Topic)}, found {frame[:1].hex() or 'nothing'}") from None
    return topic, decode_envelope(frame[1:])
