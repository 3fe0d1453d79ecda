"""The live view of blocks: what a line says, where it is shown and how, and what the node is asked for."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from typing import Any

import pytest

from astralink_node.cli.block_watch import (
    MAX_BLOCKS_BEHIND,
    BlockFollower,
    Lines,
    LiveLine,
    SeenBlock,
    block_line,
    watch,
)
from astralink_node.cli.rpc_client import NodeUnreachable, NotServed

BLOCK = SeenBlock(
    height=12,
    block_hash=bytes(range(32)),
    transactions=3,
    gas_used=1_500_000,
    gas_limit=30_000_000,
    base_fee_wei=987_654_321,
    time_s=1000,
)
LINE = "#12      0x0001020304..    3 txs  gas  5.0 %  base 0.988 gwei"


class GrowingChain:
    """A node with a chain of its own that grows when a test says so. Answers what the follower asks."""

    def __init__(self, head: int) -> None:
        self.head = head
        self.asked: list[tuple[str, ...]] = []
        self.failures: list[Exception] = []

    def call(self, method: str, *params: object) -> Any:
        if self.failures:
            raise self.failures.pop(0)
        self.asked.append((method, *(str(each) for each in params)))
        if method == "eth_blockNumber":
            return hex(self.head)
        height = int(str(params[0]), 16)
        if height > self.head:
            return None
        return {
            "number": hex(height),
            "hash": f"0x{height:064x}",
            "transactions": ["0x1"] * 2,
            "gasUsed": "0x5208",
            "gasLimit": "0x1c9c380",
            "baseFeePerGas": "0x3b9aca00",
            "timestamp": hex(height),
        }


def heights(follower: BlockFollower) -> list[int]:
    return [block.height for block in follower.new_blocks()]


# --- A line --------------------------------------------------------------------------------------------------------


def test_a_line_says_what_the_block_is() -> None:
    assert block_line(BLOCK) == LINE
    assert " 1 tx  gas" in block_line(replace(BLOCK, transactions=1))


def test_a_full_block_of_a_long_chain_fits_beside_its_age_on_80_columns() -> None:
    largest = replace(BLOCK, height=9_999_999, transactions=1428, gas_used=30_000_000, base_fee_wei=10**20)
    assert len(block_line(largest) + "  59 s ago") < 80


# --- On a terminal -------------------------------------------------------------------------------------------------


def shown_by(steps: list[Any], *, columns: int = 80) -> str:
    """What a live line writes for steps of (what to do, the time then)."""
    stream, clock = io.StringIO(), [1000.0]
    line = LiveLine(stream, lambda: clock[0], lambda: columns)
    for act, now in steps:
        clock[0] = now
        act(line)
        line.tick()
    line.close()
    return stream.getvalue()


def test_the_line_rewrites_itself_as_its_block_ages_and_stays_at_the_end() -> None:
    nothing = lambda line: None  # noqa: E731 - a step without a block
    written = shown_by([(lambda line: line.block(BLOCK, is_first=True), 1003.0), (nothing, 1003.9), (nothing, 1004.0)])
    assert written.split("\r\033[K") == ["", f"{LINE}  3 s ago\r", f"{LINE}  4 s ago\r", f"{LINE}  4 s ago\n"]


def test_a_block_that_comes_now_is_no_older_than_that_whatever_its_header_says() -> None:
    written = shown_by([(lambda line: line.block(BLOCK, is_first=False), 5000.0)])
    assert written.endswith(f"{LINE}  0 s ago\n")


def test_a_node_that_is_gone_shows_until_a_block_comes() -> None:
    written = shown_by(
        [(lambda line: line.lost("no node answers"), 1.0), (lambda line: line.block(BLOCK, is_first=False), 2.0)]
    )
    assert written.split("\r\033[K")[1:] == ["no node answers\r", f"{LINE}  0 s ago\r", f"{LINE}  0 s ago\n"]


def test_a_line_is_never_longer_than_the_terminal_is_wide() -> None:
    written = shown_by([(lambda line: line.block(BLOCK, is_first=False), 1.0)], columns=30)
    assert written == f"\r\033[K{LINE[:29]}\r\r\033[K{LINE[:29]}\n"


def test_nothing_is_written_of_a_view_that_never_showed_anything() -> None:
    assert shown_by([]) == ""


# --- In a pipe -----------------------------------------------------------------------------------------------------


def test_a_pipe_gets_a_line_a_block_and_a_lost_node_once() -> None:
    stream = io.StringIO()
    lines = Lines(stream, as_json=False)
    lines.block(BLOCK, is_first=True)
    for _ in range(3):
        lines.lost("no node answers")
        lines.tick()
    lines.passed_over(7)
    lines.block(replace(BLOCK, height=20), is_first=False)
    lines.close()
    last = LINE.replace("#12", "#20")
    assert stream.getvalue().splitlines() == [LINE, "no node answers", "(7 blocks between are not shown)", last]


def test_json_has_an_object_a_block_and_nothing_else() -> None:
    stream = io.StringIO()
    lines = Lines(stream, as_json=True)
    lines.lost("no node answers")
    lines.passed_over(7)
    lines.block(BLOCK, is_first=True)
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {
            "number": 12,
            "hash": "0x" + bytes(range(32)).hex(),
            "transactions": 3,
            "gasUsed": 1_500_000,
            "gasLimit": 30_000_000,
            "baseFeePerGasWei": 987_654_321,
            "timestamp": 1000,
        }
    ]


# --- Following -----------------------------------------------------------------------------------------------------


def test_the_head_comes_first_and_then_every_new_block_once() -> None:
    chain = GrowingChain(5)
    follower = BlockFollower(chain)
    assert heights(follower) == [5]
    assert heights(follower) == []
    chain.head = 8
    assert heights(follower) == [6, 7, 8]


def test_of_more_blocks_than_the_bound_the_older_ones_are_passed_over() -> None:
    chain = GrowingChain(5)
    follower = BlockFollower(chain)
    heights(follower)
    chain.head = 5 + MAX_BLOCKS_BEHIND + 3
    assert heights(follower) == list(range(9, chain.head + 1))
    assert follower.passed_over == 3


def test_a_chain_that_was_begun_anew_is_shown_from_its_head_on() -> None:
    chain = GrowingChain(500)
    follower = BlockFollower(chain)
    heights(follower)
    chain.head = 2
    assert heights(follower) == [2]


class StoppingView:
    """Notes what it is told, and stops the watch at its last block."""

    def __init__(self, stop: threading.Event, last: int) -> None:
        self.stop, self.last = stop, last
        self.told: list[object] = []

    def block(self, block: SeenBlock, *, is_first: bool) -> None:
        self.told.append((block.height, is_first))
        if block.height == self.last:
            self.stop.set()

    def passed_over(self, count: int) -> None:
        self.told.append(count)

    def lost(self, why: str) -> None:
        self.told.append(why)

    def tick(self) -> None:
        """Nothing to draw."""

    def close(self) -> None:
        self.told.append("closed")


@pytest.mark.parametrize(("says_if_lost", "said"), [(True, ["no node; asking again"]), (False, [])])
def test_a_node_that_goes_away_is_asked_until_it_is_back(says_if_lost: bool, said: list[str]) -> None:
    chain, stop = GrowingChain(5), threading.Event()
    chain.failures.append(NodeUnreachable("no node"))
    view = StoppingView(stop, 5)
    watch(chain, view, stop, says_if_lost=says_if_lost)
    assert view.told == [*said, (5, True), "closed"]


def test_a_node_without_blocks_to_show_ends_the_watch_and_closes_the_view() -> None:
    chain, stop = GrowingChain(5), threading.Event()
    chain.failures.append(NotServed("no eth"))
    view = StoppingView(stop, 5)
    with pytest.raises(NotServed):
        watch(chain, view, stop)
    assert view.told == ["closed"]
