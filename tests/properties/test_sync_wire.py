"""Every message of catching up survives its encoding; any other bytes are refused, or encode to themselves."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import sync_wire as wire
from consensus.params import MAX_HEIGHT
from consensus.wire import DecodeError

HEIGHTS = st.integers(0, MAX_HEIGHT)
HASHES = st.binary(min_size=32, max_size=32)
SMALL = st.binary(max_size=40)
BLOCKS_REQUESTS = st.builds(wire.BlocksRequest, st.integers(1, MAX_HEIGHT), st.integers(1, wire.MAX_BLOCKS))
BLOCKS_REPLIES = st.builds(
    wire.BlocksReply,
    HEIGHTS,
    st.lists(st.builds(wire.WireBlock, SMALL, SMALL), max_size=5).map(tuple),
)
LIGHT_BLOCKS = st.builds(
    wire.LightBlockReply,
    raw_header=SMALL,
    time_ms=st.integers(0, 2**64 - 1),
    voting_set_hash=HASHES,
    next_set_hash=HASHES,
    branches=st.tuples(*[st.tuples(HASHES, HASHES, HASHES, HASHES)] * 3),
    certificate=SMALL,
    voting_set=SMALL,
    next_set=SMALL,
    possessions=st.lists(
        st.tuples(st.binary(min_size=48, max_size=48), st.binary(min_size=96, max_size=96)), max_size=2
    ).map(tuple),
)
MANIFESTS = st.one_of(
    st.builds(wire.ManifestReply, st.integers(1, MAX_HEIGHT), st.integers(1, wire.MAX_MANIFEST_PARTS), SMALL),
    st.just(wire.ManifestReply(0, 0, b"")),
)
CHUNK_REQUESTS = st.tuples(HEIGHTS, HASHES, HASHES, HASHES).map(
    lambda parts: wire.ChunkRequest(parts[0], min(parts[1], parts[3]), parts[2], max(parts[1], parts[3]))
)
CODECS: dict[str, tuple[Any, Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    "blocks request": (BLOCKS_REQUESTS, wire.encode_blocks_request, wire.decode_blocks_request),
    "blocks": (BLOCKS_REPLIES, wire.encode_blocks_reply, wire.decode_blocks_reply),
    "light block request": (
        st.builds(wire.LightBlockRequest, HEIGHTS),
        wire.encode_light_block_request,
        wire.decode_light_block_request,
    ),
    "light block": (LIGHT_BLOCKS, wire.encode_light_block_reply, wire.decode_light_block_reply),
    "manifest request": (
        st.builds(wire.ManifestRequest, HEIGHTS, st.integers(0, wire.MAX_MANIFEST_PARTS - 1)),
        wire.encode_manifest_request,
        wire.decode_manifest_request,
    ),
    "manifest": (MANIFESTS, wire.encode_manifest_reply, wire.decode_manifest_reply),
    "chunk request": (CHUNK_REQUESTS, wire.encode_chunk_request, wire.decode_chunk_request),
}


@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_messages_survive_their_encoding_and_no_shorter_or_longer_bytes_do(name: str, data: st.DataObject) -> None:
    messages, encode, decode = CODECS[name]
    message = data.draw(messages)
    encoded = encode(message)
    assert decode(encoded) == message
    if name == "manifest":
        return  # its part is whatever is left
    with pytest.raises(DecodeError):
        decode(encoded + b"\x00")
    for length in {0, len(encoded) // 2, len(encoded) - 1}:
        with pytest.raises(DecodeError):
            decode(encoded[:length])


@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None, max_examples=100)
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_refused_or_canonical(name: str, raw: bytes) -> None:
    _, encode, decode = CODECS[name]
    try:
        message = decode(raw)
    except DecodeError:
        return
    assert encode(message) == raw


def test_more_than_the_bounds_is_refused() -> None:
    too_long = bytes(wire.MAX_BLOCKS_REPLY_BYTES + 1)
    for decode in (wire.decode_blocks_reply, wire.decode_light_block_reply):
        with pytest.raises(DecodeError, match="at most"):
            decode(too_long)
    with pytest.raises(DecodeError, match="at most"):
        wire.decode_manifest_reply(bytes(7) + b"\x01\x00\x01" + bytes(wire.MANIFEST_PART_BYTES + 1))
    with pytest.raises(DecodeError, match="count"):
        wire.decode_blocks_request(bytes(7) + b"\x01" + bytes([wire.MAX_BLOCKS + 1]))
    with pytest.raises(DecodeError, match="at least one"):
        wire.decode_blocks_request(bytes(7) + b"\x01\x00")
    with pytest.raises(DecodeError, match="last_account"):
        wire.decode_chunk_request(bytes(8) + b"\x01" * 32 + bytes(32) + bytes(32))
