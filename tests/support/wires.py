"""A WebSocket client as the gateway's outboxes see one: what is written to it is taken apart into messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class MemoryWire:
    """Reads everything at once, unless a test says that it does not read."""

    def __init__(self) -> None:
        self.is_ready = True
        self.dropped = ""
        """Why; empty: it was not."""
        self.writes = 0
        self._resume: Callable[[], None] | None = None
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()

    def call_when_ready(self, resume: Callable[[], None]) -> None:
        self._resume = resume

    def write(self, frames: bytes) -> None:
        assert self.is_ready
        assert not self.dropped
        self.writes += 1
        for message in messages_of(frames):
            self._messages.put_nowait(message)

    def drop(self, reason: str) -> None:
        self.dropped = self.dropped or reason

    def read_again(self) -> None:
        self.is_ready = True
        if self._resume is not None:
            self._resume()

    async def get(self) -> bytes:
        """The next message; waits for it."""
        return await self._messages.get()

    @property
    def arrived(self) -> int:
        """Messages that nobody has got yet."""
        return self._messages.qsize()


def messages_of(frames: bytes) -> list[bytes]:
    """The texts of whole unmasked frames."""
    messages = []
    at = 0
    while at < len(frames):
        assert frames[at] == 0x81, "a whole text message"
        length, at = frames[at + 1], at + 2
        assert length < 128, "masked"
        if length > 125:
            width = 2 if length == 126 else 8
            length, at = int.from_bytes(frames[at : at + width], "big"), at + width
        messages.append(frames[at : at + length])
        assert len(messages[-1]) == length
        at += length
    return messages
