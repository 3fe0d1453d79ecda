"""Envelopes: what travels whole and what is announced, on gossip and on direct streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.envelopes import (
    MAX_FRAME_BYTES,
    MAX_WHOLE_BYTES,
    EnvelopeError,
    decode_direct,
    decode_envelope,
    encode_announced,
    encode_direct,
    encode_whole,
)
from p2p.parts import MAX_SPLIT_BYTES, announce
from p2p.topics import Topic


@given(st.binary(max_size=300), st.sampled_from(Topic))
def test_message_comes_back_from_its_envelope(data: bytes, topic: Topic) -> None:
    assert decode_envelope(encode_whole(data)) == data
    assert decode_direct(encode_direct(topic, encode_whole(data))) == (topic, data)


@given(st.binary(min_size=1, max_size=300), st.sampled_from(Topic))
def test_announcement_comes_back_from_its_envelope(data: bytes, topic: Topic) -> None:
    announcement = announce(data)
    assert decode_envelope(encode_announced(announcement)) == announcement
    assert decode_direct(encode_direct(topic, encode_announced(announcement))) == (topic, announcement)


def test_everything_that_is_sent_fits_a_frame() -> None:
    assert len(encode_direct(Topic.BLOCK, encode_whole(bytes(MAX_WHOLE_BYTES)))) == MAX_FRAME_BYTES
    assert len(encode_direct(Topic.BLOCK, encode_announced(announce(bytes(MAX_SPLIT_BYTES))))) <= MAX_FRAME_BYTES


@pytest.mark.parametrize("envelope", [b"", b"\x02", b"\xff" * 9, b"\x01", b"\x01" + bytes(36)])
def test_other_envelopes_are_refused(envelope: bytes) -> None:
    with pytest.raises(EnvelopeError):
        decode_envelope(envelope)


@pytest.mark.parametrize("frame", [b"", b"\x00\x00", b"\x05\x00", b"\x01", b"\x01\x02"])
def test_other_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(EnvelopeError):
        decode_direct(frame)


@given(st.binary(max_size=80))
def test_any_frame_is_read_or_refused(frame: bytes) -> None:
    try:
        topic, _ = decode_direct(frame)
    except EnvelopeError:
        return
    assert frame[0] == topic.value
