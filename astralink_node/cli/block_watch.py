"""A live view of a running node's blocks: one line that rewrites itself on a terminal, a line a block elsewhere.

The node is asked over JSON-RPC a few times a second, so the view shows any node's blocks, this machine's or
another's, and no terminal mode is ever changed: whatever ends it leaves the terminal whole.
"""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol, TextIO

from astralink_node.cli.rpc_client import NodeUnreachable, RequestFailed

POLL_S: Final = 0.2
MAX_BLOCKS_BEHIND: Final = 256
"""Blocks that are fetched one by one when many came at once; of more, the older ones are passed over and counted."""
_GWEI: Final = 10**9


class Rpc(Protocol):
    """:class:`~astralink_node.cli.rpc_client.RpcClient`, or a small one of a test's."""

    def call(self, method: str, *params: object) -> Any: ...


@dataclass(frozen=True, slots=True)
class SeenBlock:
    height: int
    block_hash: bytes
    transactions: int
    gas_used: int
    gas_limit: int
    base_fee_wei: int
    time_s: int
    """Of the header, whole seconds since 1970."""

    @property
    def gas_used_percent(self) -> float:
        return 100 * self.gas_used / self.gas_limit if self.gas_limit else 0.0


def read_block(fields: dict[str, Any]) -> SeenBlock:
    """A block as eth_getBlockByNumber gives it."""
    return SeenBlock(
        height=int(fields["number"], 16),
        block_hash=bytes.fromhex(fields["hash"][2:]),
        transactions=len(fields["transactions"]),
        gas_used=int(fields["gasUsed"], 16),
        gas_limit=int(fields["gasLimit"], 16),
        base_fee_wei=int(fields["baseFeePerGas"], 16),
        time_s=int(fields["timestamp"], 16),
    )


# --- Words ---------------------------------------------------------------------------------------------------------


def block_line(block: SeenBlock) -> str:
    """Without its age: 65 columns up to a million blocks, so that the age fits beside it on a terminal of 80."""
    return (
        f"#{block.height:<6}  0x{block.block_hash.hex()[:10]}..  {counted(block.transactions, 'tx'):>7}  "
        f"gas {block.gas_used_percent:4.1f} %  base {gwei(block.base_fee_wei)}"
    )


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def gwei(wei: int) -> str:
    """Three significant digits, as many as a glance takes in."""
    return f"{wei / _GWEI:.3g} gwei"


def age(seconds: float) -> str:
    whole = max(0, int(seconds))
    return f"{whole} s ago" if whole < 120 else f"{whole // 60} min ago"


def block_object(block: SeenBlock) -> dict[str, object]:
    return {
        "number": block.height,
        "hash": f"0x{block.block_hash.hex()}",
        "transactions": block.transactions,
        "gasUsed": block.gas_used,
        "gasLimit": block.gas_limit,
        "baseFeePerGasWei": block.base_fee_wei,
        "timestamp": block.time_s,
    }


# --- Where they go -------------------------------------------------------------------------------------------------


class LiveLine:
    """For a terminal. The cursor waits at the line's beginning, so that a message of the log takes its place."""

    def __init__(self, stream: TextIO, now: Callable[[], float], columns: Callable[[], int]) -> None:
        self._stream = stream
        self._now = now
        self._columns = columns
        self._newest: SeenBlock | None = None
        self._came_at = 0.0
        self._trouble = ""
        self._drawn = ""

    def block(self, block: SeenBlock, *, is_first: bool) -> None:
        """A block that was there before is as old as its header says; others come now."""
        self._newest, self._trouble = block, ""
        self._came_at = min(float(block.time_s), self._now()) if is_first else self._now()

    def passed_over(self, count: int) -> None:
        """The line shows the newest block alone, however many came."""

    def lost(self, why: str) -> None:
        self._trouble = why

    def tick(self) -> None:
        if self._trouble:
            line = self._trouble
        elif self._newest is None:
            line = "no block yet"
        else:
            line = f"{block_line(self._newest)}  {age(self._now() - self._came_at)}"
        line = line[: max(1, self._columns() - 1)]
        if line != self._drawn:
            self._stream.write(f"\r\033[K{line}\r")
            self._stream.flush()
            self._drawn = line

    def close(self) -> None:
        """The last line stays on the screen, and what comes next begins on one of its own."""
        if self._drawn:
            self._stream.write(f"\r\033[K{self._drawn}\n")
            self._stream.flush()


class Lines:
    """For files and pipes: a line a block, for people or as JSON."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._was_lost = False

    def block(self, block: SeenBlock, *, is_first: bool) -> None:
        del is_first
        self._was_lost = False
        self._say(json.dumps(block_object(block)) if self._as_json else block_line(block))

    def passed_over(self, count: int) -> None:
        if not self._as_json:
            self._say(f"({count} blocks between are not shown)")

    def lost(self, why: str) -> None:
        if not self._was_lost and not self._as_json:
            self._say(why)
        self._was_lost = True

    def tick(self) -> None:
        """Nothing changes between blocks."""

    def close(self) -> None:
        """Every line is whole already."""

    def _say(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


class View(Protocol):
    """Where blocks are shown."""

    def block(self, block: SeenBlock, *, is_first: bool) -> None: ...

    def passed_over(self, count: int) -> None: ...

    def lost(self, why: str) -> None: ...

    def tick(self) -> None: ...

    def close(self) -> None: ...


def view_for(stream: TextIO, *, as_json: bool) -> View:
    if stream.isatty() and not as_json:
        return LiveLine(stream, time.time, lambda: shutil.get_terminal_size().columns)
    return Lines(stream, as_json=as_json)


# --- Following -----------------------------------------------------------------------------------------------------


class BlockFollower:
    """Which blocks came since it was asked last."""

    def __init__(self, client: Rpc) -> None:
        self._client = client
        self._next: int | None = None
        self.passed_over = 0
        """Blocks between those of the last two answers that were too many to fetch."""

    def new_blocks(self) -> Iterator[SeenBlock]:
        """The newest block at first, later every new one. Raises NodeUnreachable, RequestFailed, NotServed."""
        head = int(self._client.call("eth_blockNumber"), 16)
        if self._next is None or head + 1 < self._next:  # a chain that was begun anew is shown from its head on
            self._next = head
        first = max(self._next, head + 1 - MAX_BLOCKS_BEHIND)
        self.passed_over = first - self._next
        for height in range(first, head + 1):
            fields = self._client.call("eth_getBlockByNumber", hex(height), False)  # noqa: FBT003
            if fields is None:
                return  # the chain was begun anew between the two questions
            self._next = height + 1
            yield read_block(fields)


def watch(client: Rpc, view: View, stop: threading.Event, *, says_if_lost: bool = True) -> None:
    """Until `stop` is set. A node that goes away is asked again until it is back; raises NotServed.

    `says_if_lost`: not of a node that this process itself runs, and is about to stop.
    """
    follower, is_first = BlockFollower(client), True
    try:
        while not stop.is_set():
            try:
                for block in follower.new_blocks():
                    if follower.passed_over:
                        view.passed_over(follower.passed_over)
                        follower.passed_over = 0
                    view.block(block, is_first=is_first)
                    is_first = False
            except (NodeUnreachable, RequestFailed) as error:
                if says_if_lost:
                    view.lost(f"{error}; asking again")
            view.tick()
            stop.wait(POLL_S)
    finally:
        view.close()


def watch_until_interrupted(client: Rpc, *, as_json: bool) -> None:
    """On standard output; Ctrl-C ends it. Raises NodeUnreachable if no node answers to begin with."""
    client.call("eth_chainId")
    try:
        watch(client, view_for(sys.stdout, as_json=as_json), threading.Event())
    except KeyboardInterrupt:
        return
