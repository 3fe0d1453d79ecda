"""Catches up by ranges of blocks: fetched from several peers at once, judged, and handed to the consensus driver.

Runs beside the driver and sleeps while the node keeps up; gaps of a few blocks are left to consensus itself. What is
on its way and what waits is bounded. A peer that lies is reported and not asked again until the node has caught up;
one that is slow or has less than it said is asked last. The database alone remembers how far a sync has come.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, assert_never

import trio

from astralink_node.chain.messages import Status
from astralink_node.clock import NowMs
from astralink_node.log import Log
from astralink_node.services.block_ranges import DecidedBlock, Standing, judge_range
from astralink_node.services.offload import Offload
from astralink_node.services.peer_choice import PeerChoice
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.snapshot_trust import JoiningRules, TrustNeeded, check_beginning
from astralink_node.services.sync_offences import Report, SyncOffence
from astralink_node.services.sync_protocols import BLOCKS
from consensus.forged_header import ForgedHeader
from consensus.sync_wire import (
    BlocksReply,
    BlocksRequest,
    WireBlock,
    decode_blocks_reply,
    encode_blocks_request,
)
from consensus.validator_set import decode_validator_set
from consensus.wire import DecodeError
from p2p.peer_id import PeerId
from p2p.request_protocol import AsksPeers, Failure, RequestFailed

SYNC_FROM: Final = 8
"""Heights behind the furthest peer from which ranges are fetched; below, consensus catches up by itself."""
RANGE_BLOCKS: Final = 32
MAX_RANGES: Final = 8
"""On their way or waiting."""
MAX_AHEAD_BYTES: Final = 32 << 20
"""Fetched and not committed; no further range is asked for beyond."""
COMMIT_BLOCKS: Final = 16
"""Handed to the driver at once; it takes no other event meanwhile."""
HEDGE_S: Final = 2.0
"""The range that everything waits for is asked of a second peer after this."""
PAUSE_S: Final = 1.0
"""Before trying again when nobody gave anything."""

UNTRUSTED_PAUSE_S: Final = 60.0
"""Before saying again that the operator is needed."""

_log = Log("sync")

CommitDecided = Callable[[Sequence[DecidedBlock]], Awaitable[None]]
"""ConsensusDriver.commit_decided."""


LookInto = Callable[[ForgedHeader], Awaitable[None]]
"""Takes a header that may be a forged one: what is verified, and kept if it is."""


class TellsStatus(Protocol):
    async def status(self) -> Status: ...


@dataclass(slots=True)
class _Range:
    first: int
    count: int
    blocks: tuple[WireBlock, ...] = ()
    giver: PeerId | None = None
    tried: set[PeerId] = field(default_factory=set)
    fetchers: int = 0
    settled: trio.Event = field(default_factory=trio.Event)
    """Its blocks are here, or nobody has them."""

    @property
    def size(self) -> int:
        return sum(len(block.raw_block) for block in self.blocks)


@dataclass(slots=True)
class SyncCounts:
    """For people, since the start."""

    blocks: int = 0
    ranges: int = 0


class BlockSync:
    """See the module's description."""

    def __init__(
        self,
        requests: AsksPeers,
        execution: TellsStatus,
        commit: CommitDecided,
        heads: PeerHeads,
        rules: JoiningRules,
        report: Report,
        now_ms: NowMs,
        offload: Offload,
        look_into: LookInto,
    ) -> None:
        self._rules = rules
        self._now_ms = now_ms
        self._requests = requests
        self._execution = execution
        self._commit = commit
        self._heads = heads
        self._peers = PeerChoice(report)
        self._offload = offload
        self._look_into = look_into
        self.counts = SyncCounts()
        self.is_syncing = False

    async def run(self) -> None:
        """Whenever a peer is far enough ahead, catch up; until cancelled. Raises TrustNeeded for a new node."""
        while True:
            standing = await self._standing()
            if self._heads.best() - standing.head_height < SYNC_FROM:
                await self._heads.change()
                continue
            if not await self._may_begin():
                await trio.sleep(UNTRUSTED_PAUSE_S)
                continue
            self.is_syncing = True
            _log.info("catching up", head=standing.head_height, peers_at=self._heads.best())
            before = standing.head_height
            async with trio.open_nursery() as nursery:
                reached = await self._catch_up(nursery, standing)
                nursery.cancel_scope.cancel()
            self.is_syncing = False
            _log.info("caught up as far as peers go", head=reached, blocks=reached - before)
            self._peers.pardon(self._heads.at_least(0))
            if reached == before:
                await trio.sleep(PAUSE_S)

    async def _may_begin(self) -> bool:
        """A new node ends with what its operator must do. One with a chain goes on: whoever says to be ahead of a
        network that stood still for long may be lying."""
        status = await self._execution.status()
        try:
            check_beginning(status, self._rules, self._now_ms())
        except TrustNeeded as needed:
            if status.head_height == 0:
                raise
            _log.error("no blocks are taken from peers that say to be ahead", why=str(needed))
            return False
        return True

    async def _standing(self) -> Standing:
        status, trusted = await self._execution.status(), self._rules.trusted
        return Standing(
            status.head_height,
            status.head_hash,
            decode_validator_set(status.voting_set),
            decode_validator_set(status.next_set),
            status.genesis_hash,
            None if trusted is None else (trusted.height, trusted.block_hash),
        )

    async def _catch_up(self, nursery: trio.Nursery, standing: Standing) -> int:
        """Until no honest-looking peer is ahead, or nobody gives the next range. Returns the head's height."""
        ranges: list[_Range] = []
        while True:
            head_height = standing.head_height
            ranges = [one for one in ranges if one.first + one.count > head_height + 1]
            self._plan(nursery, ranges, head_height)
            if not ranges:
                return head_height
            front = ranges[0]
            await self._wait_for(nursery, front)
            if front.giver is None:
                return head_height
            blocks = front.blocks[max(0, head_height + 1 - front.first) :]
            judgement = await self._offload(judge_range, standing, blocks)
            for start in range(0, len(judgement.blocks), COMMIT_BLOCKS):
                await self._commit(judgement.blocks[start : start + COMMIT_BLOCKS])
            self.counts.blocks += len(judgement.blocks)
            standing = await self._standing()
            if judgement.suspect is not None:
                await self._look_into(judgement.suspect)
            if judgement.offence is not None:
                self._convict(front.giver, judgement.offence, judgement.detail)
                self._replace(nursery, ranges, front.giver)
            elif len(judgement.blocks) == len(blocks):
                self._keep_rest(nursery, ranges, front, standing.head_height)

    def _plan(self, nursery: trio.Nursery, ranges: list[_Range], head_height: int) -> None:
        """Ask for what comes next, as far ahead as is bounded."""
        next_height = ranges[-1].first + ranges[-1].count if ranges else head_height + 1
        target = self._heads.best(self._peers.liars)
        while next_height <= target and len(ranges) < MAX_RANGES and sum(one.size for one in ranges) < MAX_AHEAD_BYTES:
            one = _Range(next_height, min(RANGE_BLOCKS, target - next_height + 1))
            ranges.append(one)
            self._start(nursery, one)
            next_height += one.count

    def _keep_rest(self, nursery: trio.Nursery, ranges: list[_Range], front: _Range, head_height: int) -> None:
        """A range of which less came than was asked for: too many bytes, or the peer's head was nearer."""
        last = front.first + front.count - 1
        if front.first + len(front.blocks) - 1 < last and head_height < last:
            rest = _Range(head_height + 1, last - head_height)
            ranges[0] = rest
            self._start(nursery, rest)

    def _replace(self, nursery: trio.Nursery, ranges: list[_Range], liar: PeerId) -> None:
        """Nothing that a liar gave is used: ask others for it."""
        for index, one in enumerate(ranges):
            if one.giver == liar:
                ranges[index] = _Range(one.first, one.count)
                self._start(nursery, ranges[index])

    def _convict(self, peer: PeerId, offence: SyncOffence, detail: str) -> None:
        self._heads.forget(peer)
        self._peers.convict(peer, offence, detail)

    # --- Fetching --------------------------------------------------------------------------------------------------

    async def _wait_for(self, nursery: trio.Nursery, one: _Range) -> None:
        with trio.move_on_after(HEDGE_S):
            await one.settled.wait()
        if not one.settled.is_set() and one.fetchers == 1:
            self._start(nursery, one)
        await one.settled.wait()

    def _start(self, nursery: trio.Nursery, one: _Range) -> None:
        one.fetchers += 1
        nursery.start_soon(self._fetch, one)

    async def _fetch(self, one: _Range) -> None:
        """Ask peer after peer until the range is here; the last one to give up says so."""
        while not one.settled.is_set():
            peer = await self._peers.pick(partial(self._candidates, one), one.settled.is_set)
            if peer is None:
                break
            one.tried.add(peer)
            reply = await self._ask(peer, one)
            if reply is not None and not one.settled.is_set():
                one.blocks, one.giver = reply.blocks, peer
                self.counts.ranges += 1
                one.settled.set()
        one.fetchers -= 1
        if one.fetchers == 0:
            one.settled.set()

    def _candidates(self, one: _Range) -> list[PeerId]:
        return [peer for peer in self._heads.at_least(one.first) if peer not in one.tried]

    async def _ask(self, peer: PeerId, one: _Range) -> BlocksReply | None:
        """None if it gave nothing of use; then it is not believed to be as far as it said."""
        request = encode_blocks_request(BlocksRequest(one.first, one.count))
        try:
            with self._peers.asking(peer):
                data = await self._requests.request(peer, BLOCKS, request)
            reply = decode_blocks_reply(data)
        except RequestFailed as failed:
            self._after_failure(peer, failed)
            return None
        except DecodeError as error:
            self._convict(peer, SyncOffence.MALFORMED, str(error))
            return None
        if peer in self._peers.liars:
            return None  # found out while it answered
        if len(reply.blocks) > one.count:
            self._convict(peer, SyncOffence.OTHER_HEIGHTS, f"expected {one.count} blocks, found {len(reply.blocks)}")
            return None
        if not reply.blocks:
            self._peers.note(
                peer, SyncOffence.NOT_THERE, f"block {one.first} and more; its head is {reply.head_height}"
            )
            self._heads.forget(peer)
            return None
        self._heads.note(peer, reply.head_height)
        return reply

    def _after_failure(self, peer: PeerId, failed: RequestFailed) -> None:
        match failed.failure:
            case Failure.COME_BACK | Failure.REFUSED:
                self._peers.ask_last(peer, BLOCKS.timeout_s)  # it is busy, or began with a snapshot
            case Failure.TOO_LONG:
                self._convict(peer, SyncOffence.MALFORMED, str(failed))
            case Failure.TIMEOUT:
                self._heads.forget(peer)
                self._peers.note(peer, SyncOffence.TOO_SLOW, str(failed))
            case Failure.NOT_CONNECTED | Failure.NOT_SPOKEN | Failure.BROKEN:
                self._heads.forget(peer)
            case _:
                assert_never(failed.failure)
