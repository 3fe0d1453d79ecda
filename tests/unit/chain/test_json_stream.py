"""JSON in chunks: joined it is the whole text, and cut anywhere it can be closed."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from astralink_node.chain.json_stream import CHUNK_BYTES, JsonStream
from astralink_node.chain.trace_messages import StreamChunk

TEXTS = st.text(max_size=40) | st.integers(0, 3 * CHUNK_BYTES).map(lambda size: "x" * size)


@given(groups=st.lists(st.lists(TEXTS, max_size=8), max_size=5))
def test_every_cut_closes_to_valid_json_and_all_chunks_make_the_text(groups: list[list[str]]) -> None:
    chunks: list[StreamChunk] = []
    stream = JsonStream(chunks.append)
    stream.open(b"[", b"]")
    for number, group in enumerate(groups):
        stream.open(b'{"number":%d,"logs":[' % number, b"]}")
        for text in group:
            stream.item(json.dumps(text).encode())
        stream.close(b'],"count":%d}' % len(group))
    stream.close()
    stream.flush()
    so_far = b""
    for chunk in chunks:
        so_far += chunk.data
        closed: list[Any] = json.loads(so_far + chunk.closing)
        for group, found in zip(groups, closed, strict=False):
            assert found["logs"] == group[: len(found["logs"])]
    assert [found["logs"] for found in json.loads(so_far)] == groups
    assert not chunks[-1].closing


def test_a_chunk_ends_with_the_piece_that_fills_it() -> None:
    chunks: list[StreamChunk] = []
    stream = JsonStream(chunks.append)
    stream.open(b"[", b"]")
    for _ in range(3 * CHUNK_BYTES // 1000):
        stream.item(b'"' + b"x" * 998 + b'"')
    assert [CHUNK_BYTES <= len(chunk.data) < CHUNK_BYTES + 1002 for chunk in chunks] == [True, True]


def test_an_empty_text_is_no_chunk() -> None:
    chunks: list[StreamChunk] = []
    JsonStream(chunks.append).flush()
    assert not chunks
