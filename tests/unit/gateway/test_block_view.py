"""What is made of a block is made once, and of a large one beside the event loop."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from astralink_node.chain.messages import BlockRecord
from astralink_node.evm.blocks import empty_header, encode_header
from astralink_node.gateway.reading.block_view import LARGE_WEIGHT_BYTES, BlockView
from tests.support.asynchronous import run


def view_of(raw_bytes: int) -> BlockView:
    header = replace(empty_header(), number=1)
    return BlockView(BlockRecord(header.hash, encode_header(header), (bytes(raw_bytes),), (bytes(20),), b"", 0), None)


@pytest.mark.parametrize(("raw_bytes", "beside"), [(100, False), (LARGE_WEIGHT_BYTES, True)])
def test_a_large_block_is_worked_on_in_a_thread_once(raw_bytes: int, *, beside: bool) -> None:
    made: list[bool] = []

    def make(view: BlockView) -> int:
        made.append(threading.current_thread() is not threading.main_thread())
        return view.height

    async def main() -> None:
        view = view_of(raw_bytes)
        assert await view.remember_beside(make) == 1
        assert await view.remember_beside(make) == view.remember(make) == 1

    run(main)
    assert made == [beside]
