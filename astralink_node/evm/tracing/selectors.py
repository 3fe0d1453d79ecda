"""geth's ``4byteTracer``: which functions are called with how much data, inner calls included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from astralink_node.evm.tracing.hooks import RefusedCall, SilentTracer
from astralink_node.evm.tracing.instructions import CREATIONS
from astralink_node.evm.tracing.kept_bytes import KeptBytes
from astralink_node.evm.tracing.records import SelectorCount, SelectorCounts

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation

SELECTOR_BYTES: Final = 4
COUNT_BYTES: Final = 500
"""What a selector with its size is counted as."""


class SelectorTracer(SilentTracer):
    """Counts every call with at least a selector as data; creations and precompiles are not calls of functions."""

    def __init__(self, kept: KeptBytes | None = None) -> None:
        self._counts: dict[tuple[bytes, int], int] = {}
        self._kept = kept or KeptBytes()

    def result(self) -> SelectorCounts:
        return SelectorCounts(
            tuple(SelectorCount(selector, size, count) for (selector, size), count in sorted(self._counts.items()))
        )

    def enter(self, computation: Computation) -> None:
        message = computation.msg
        if not message.is_create and message.code_address not in computation.state.precompile_addresses:
            self._count(message.data)

    def refuse(self, refused: RefusedCall) -> None:
        if refused.opcode not in CREATIONS:
            self._count(refused.input)

    def _count(self, data: bytes) -> None:
        if len(data) >= SELECTOR_BYTES:
            place = (bytes(data[:SELECTOR_BYTES]), len(data) - SELECTOR_BYTES)
            if place not in self._counts:
                self._kept.add(COUNT_BYTES)
            self._counts[place] = self._counts.get(place, 0) + 1
