"""From a proposal to its commit: four whole validators in one process, an in-memory network, LevelDB on disk.

The time runs from the moment at which the proposer signs its proposal to each validator's commit, synced signing
histories, logs and databases included; each validator's execution works in a thread, as it would in its process.
Every block carries a few transfers. Wall-clock time.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import trio

from astralink_node.chain.messages import Candidate
from astralink_node.clock import now_ms
from astralink_node.node import tune_interpreter
from astralink_node.services.offload import in_thread
from astralink_node.storage.leveldb import open_leveldb
from consensus.gossip import ProposalGossip, decode_gossip
from genesis.sealing import parse_genesis
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from p2p.topics import Topic
from tests.support.chains import candidate, genesis_text
from tests.support.memory_nodes import MemoryNode

VALIDATORS = 4
TRANSFERS = 5
WARM_UP_HEIGHTS = 5
BLOCK_INTERVAL_MS = 250


def measure_latency_ms(heights: int = 60) -> list[float]:
    """Milliseconds from proposal to commit, one for each validator and height after a warm-up."""
    tune_interpreter()
    with tempfile.TemporaryDirectory(prefix="astralink-latency-") as folder:
        return trio.run(_measure, Path(folder), heights)


class _WatchedNetwork(MemoryNetwork):
    """Notes when a proposal of each height is first sent."""

    def __init__(self) -> None:
        super().__init__()
        self.proposed_at_s: dict[int, float] = {}

    def carry(self, sender: PeerId, receiver: PeerId, topic: Topic, data: bytes) -> None:
        message = decode_gossip(data)
        if isinstance(message, ProposalGossip):
            self.proposed_at_s.setdefault(message.proposal.height, trio.current_time())
        super().carry(sender, receiver, topic, data)


def transfers(height: int) -> tuple[Candidate, ...]:
    """The same for everybody: the head's height gives the nonces."""
    return tuple(candidate(0, height * TRANSFERS + number) for number in range(TRANSFERS))


async def _measure(folder: Path, heights: int) -> list[float]:
    network = _WatchedNetwork()
    genesis = genesis_text(VALIDATORS, timestamp=int(time.time()))
    nodes = [
        MemoryNode(
            number,
            folder / str(number),
            network,
            genesis,
            parse_genesis(genesis).consensus,
            interval_ms=BLOCK_INTERVAL_MS,
            offload=in_thread,
            make_store=partial(open_leveldb, folder / f"{number}.db", create=True),
            make_transactions=transfers,
            now_ms=now_ms,
        )
        for number in range(VALIDATORS)
    ]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.live)
        for node in nodes:
            await node.reach(heights + WARM_UP_HEIGHTS)
        for node in nodes:
            node.kill()
    return [
        (node.committed_at_s[height] - network.proposed_at_s[height]) * 1000
        for node in nodes
        for height in range(WARM_UP_HEIGHTS + 1, heights + WARM_UP_HEIGHTS + 1)
    ]
