"""JSON text on its way to somebody, in chunks of bounded size, none of which waits for the whole.

The text is made of pieces that are JSON by themselves; chunks are cut between pieces, so that what is open can be
closed at any cut (:class:`StreamChunk.closing`). One piece larger than a chunk is a chunk of its own.
"""

from collections.abc import Callable
from typing import Final

from astralink_node.chain.trace_messages import StreamChunk, TracePart

CHUNK_BYTES: Final = 64 * 1024

Emit = Callable[[TracePart], None]
"""Hands a part of an answer on: waits while its reader has no room, raises what ends the work when that has gone."""


class JsonStream:
    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._parts: list[bytes] = []
        self._size = 0
        self._closing: list[bytes] = []
        self._is_first: list[bool] = []

    def open(self, text: bytes, closing: bytes) -> None:
        """Begin a list or an object, itself an item: `text` up to where its items go, `closing` from there on."""
        if self._is_first:
            if not self._is_first[-1]:
                self._add(b",")
            self._is_first[-1] = False
        self._add(text)
        self._closing.append(closing)
        self._is_first.append(True)

    def item(self, text: bytes) -> None:
        """One item of what was opened last: a value in a list, ``"name":value`` in an object."""
        if self._is_first[-1]:
            self._is_first[-1] = False
        else:
            self._parts.append(b",")
        self._parts.append(text)
        self._size += len(text) + 1
        if self._size >= CHUNK_BYTES:
            self.flush()

    def close(self, text: bytes = b"") -> None:
        """End what was opened last: with `text` instead of its closing, if there is more to say."""
        closing = self._closing.pop()
        self._is_first.pop()
        self._add(text or closing)

    def flush(self) -> None:
        if self._parts:
            data = b"".join(self._parts)
            self._parts.clear()
            self._size = 0
            self._emit(StreamChunk(data, b"".join(reversed(self._closing))))

    def _add(self, text: bytes) -> None:
        self._parts.append(text)
        self._size += len(text)
