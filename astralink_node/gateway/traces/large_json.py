"""JSON of results that may be large: made in a thread, and given up at the limit of answers while it is made.

What it is made of comes as pieces of text, so that nothing much larger than the limit is ever in memory, and so that
the event loop goes on with everybody else's requests meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator

import orjson

from astralink_node.gateway.rpc_errors import response_too_large


async def json_text(pieces: Callable[[], Iterable[bytes]], max_bytes: int) -> orjson.Fragment:
    """The pieces, which together are JSON. Raises RESPONSE_TOO_LARGE, and what making them raises."""
    return orjson.Fragment(await asyncio.to_thread(lambda: joined(pieces(), max_bytes)))


async def json_list(items: Callable[[], Iterable[bytes]], max_bytes: int) -> orjson.Fragment:
    """A list of what is JSON by itself, likewise."""
    return orjson.Fragment(b"[" + await asyncio.to_thread(lambda: joined(items(), max_bytes, b",")) + b"]")


def joined(pieces: Iterable[bytes], max_bytes: int, separator: bytes = b"") -> bytes:
    return separator.join(bounded(pieces, max_bytes))


def bounded(pieces: Iterable[bytes], max_bytes: int) -> list[bytes]:
    """All of them, unless they are more than so many bytes together. Raises RESPONSE_TOO_LARGE."""
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > max_bytes:
            raise response_too_large(max_bytes)
        parts.append(piece)
    return parts


def list_pieces(items: Iterable[bytes]) -> Iterator[bytes]:
    """A list as a part of something else."""
    before = b"["
    for item in items:
        yield before + item
        before = b","
    yield b"[]" if before == b"[" else b"]"
