"""Frames: any chopping of the stream gives the same frames, and an impossible length is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.chain.frames import MAX_REQUEST_ID, PUSH_ID, Frame, FrameDecoder, FrameError, encode_frame

FRAMES = st.lists(st.builds(Frame, st.integers(0, MAX_REQUEST_ID), st.binary(max_size=40)), max_size=6)


@given(frames=FRAMES, cuts=st.lists(st.integers(1, 30), min_size=1, max_size=30))
def test_a_stream_chopped_anywhere_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(frame.request_id, frame.payload) for frame in frames)
    decoder = FrameDecoder()
    found: list[Frame] = []
    for step in range(len(stream) + 1):
        if not stream:
            break
        size = cuts[step % len(cuts)]
        found += decoder.feed(stream[:size])
        stream = stream[size:]
    assert found == frames
    assert decoder.pending_bytes == 0


def test_an_incomplete_frame_stays_pending() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(encode_frame(7, b"payload")[:-1]) == []
    assert decoder.pending_bytes > 0
    assert decoder.feed(b"d") == [Frame(7, b"payload")]


def test_a_frame_above_the_bound_is_refused_on_both_sides() -> None:
    with pytest.raises(FrameError, match="bound"):
        encode_frame(1, bytes(101), max_payload_bytes=100)
    with pytest.raises(FrameError, match="bound"):
        FrameDecoder(max_payload_bytes=100).feed(encode_frame(1, bytes(101)))


def test_a_length_too_short_for_a_request_id_is_refused() -> None:
    with pytest.raises(FrameError):
        FrameDecoder().feed(b"\x00\x00\x00\x07" + bytes(8))


def test_an_empty_payload_is_a_frame() -> None:
    assert FrameDecoder().feed(encode_frame(PUSH_ID, b"")) == [Frame(PUSH_ID, b"")]
