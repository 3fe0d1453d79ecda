"""Four validators as processes, and ERC-20 transfers signed beforehand that arrive at a fixed rate, whatever happens.

Each transfer's time runs from the moment at which it is sent to its node (eth_sendRawTransaction over WebSocket) to
the moment at which the same node announces the block with it (newHeads): its receipt can be read from then on.
The client is a thread of this process, on the same cores as the nodes. Receipts are checked afterwards.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson
from websockets.asyncio.client import ClientConnection, connect

from astralink_node.crypto.keccak import keccak256
from benchmarks.workload import BALANCE_WEI, SENDERS, Kind, SignedTransaction, Workload
from genesis.devnet_terms import DEVNET_MAX_GAS_TARGET
from genesis.schema import GenesisAccount
from tests.support.network_processes import ChainChoice, NetworkProcesses, await_receipt
from tests.support.node_process import NodeProcess

VALIDATORS: Final = 4
WARM_UP_S: Final = 5
"""Of load that is not counted: caches fill, and the first blocks come."""
DRAIN_S: Final = 30.0
"""So long the last transfers may take; those without a receipt then count as not included."""
DRAINED_BLOCKS: Final = 5
"""Announced after the last transfer: a mempool that was not saturated is empty by then."""
IDLE_BLOCKS: Final = 12
"""Whose consensus is measured, before there is load."""
TRANSFER: Final = Kind("erc20-transfer", SENDERS, required_ratio=0.0)
_COMMITTED = re.compile(r"block committed height=(\d+) .*txs=0 .*round=0 after_ms=(\d+)")


class LoadFailed(Exception):
    """The run says nothing about latency: set-up or a transfer failed."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one rate; times in milliseconds."""

    rate: int
    counted: int
    missing: int
    """Transfers without a receipt at the end."""
    refused: int
    """That a node did not take, because its mempool was full or the like."""
    median_ms: float
    p99_ms: float
    answered_median_ms: float
    """Until eth_sendRawTransaction answered."""
    client_late_ms: float
    """How far behind its schedule the client sent at worst: large on a machine that is busy with other things."""
    consensus_median_ms: float
    """From the timestamp of an empty block, which precedes its proposal, to its commit on each of the four."""
    block_transfers: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Sent:
    node: int
    hash: str
    at_s: float
    answered_s: float = 0.0
    refused: str = ""


def measure(folder: Path, rate: int, seconds: int, interval_ms: int, *, on_demand: bool) -> Latency:
    """A network of its own, loaded for so many seconds. Raises LoadFailed and NodeFailed."""
    workload = Workload(accounts=SENDERS + 1, seed=0)
    addresses = [workload.owner.address, *(sender.address for sender in workload.senders)]
    choice = ChainChoice(
        validators=VALIDATORS,
        interval_ms=interval_ms,
        on_demand=on_demand,
        max_gas_target=DEVNET_MAX_GAS_TARGET,
        accounts={address: GenesisAccount(BALANCE_WEI, 0, b"", ()) for address in addresses},
    )
    with NetworkProcesses(folder, choice) as network:
        network.start()
        network.await_height(IDLE_BLOCKS)
        consensus_ms = [
            int(after_ms)
            for node in network.running()
            for height, after_ms in _COMMITTED.findall(node.said())
            if int(height) > 1
        ]
        nodes = network.running()
        for transactions in workload.setup_blocks():
            for transaction in transactions:
                sent = nodes[0].call("eth_sendRawTransaction", f"0x{transaction.raw.hex()}")
            if await_receipt(nodes[0], sent)["status"] != "0x1":
                raise LoadFailed("the token could not be set up")
        network.await_growth(1)
        transfers: list[SignedTransaction] = []
        while len(transfers) < rate * (seconds + WARM_UP_S):
            transfers += workload.block(TRANSFER, len(transfers) // SENDERS)
        load = Load([node.ready["wsUrl"] for node in nodes], rate)
        asyncio.run(load.run(transfers[: rate * (seconds + WARM_UP_S)]))
        return _judged(load, nodes, rate, median(consensus_ms))


class Load:
    """Sends at the rate; notes when each was sent and answered, and when each node announced each block."""

    def __init__(self, urls: Sequence[str], rate: int) -> None:
        self._urls = urls
        self._rate = rate
        self.sent: list[Sent] = []
        self.heads: list[dict[str, float]] = [{} for _ in urls]
        """By node: block number, as RPC writes it, -> when it was announced."""
        self.late_s = 0.0
        self._announced = asyncio.Event()

    async def run(self, transfers: Sequence[SignedTransaction]) -> None:
        """Returns when what was sent had time to be included."""
        async with AsyncExitStack() as stack:
            sockets = [await stack.enter_async_context(connect(url)) for url in self._urls]
            for socket in sockets:
                await socket.send(_request(-1, "eth_subscribe", "newHeads"))
                await socket.recv()
            tasks = [asyncio.create_task(self._listen(number, socket)) for number, socket in enumerate(sockets)]
            await self._send(transfers, sockets)
            await self._drain()
            for task in tasks:
                if task.done():
                    raise LoadFailed(f"a node closed the connection: {task.exception()}")
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, transfers: Sequence[SignedTransaction], sockets: Sequence[ClientConnection]) -> None:
        hashes = [f"0x{keccak256(transfer.raw).hex()}" for transfer in transfers]
        began = time.monotonic()
        for index, transfer in enumerate(transfers):
            due = began + index / self._rate
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
            # One sender's transfers all go to one node, which so sees its nonces in order.
            node = index % SENDERS % len(sockets)
            at_s = time.monotonic()
            self.late_s = max(self.late_s, at_s - due)
            self.sent.append(Sent(node, hashes[index], at_s))
            await sockets[node].send(_request(index, "eth_sendRawTransaction", f"0x{transfer.raw.hex()}"))

    async def _listen(self, number: int, socket: ClientConnection) -> None:
        async for message in socket:
            now = time.monotonic()
            reply = orjson.loads(message)
            if reply.get("method") == "eth_subscription":
                self.heads[number][reply["params"]["result"]["number"]] = now
                self._announced.set()
            elif reply["id"] >= 0:
                sent = self.sent[reply["id"]]
                sent.answered_s = now
                sent.refused = str(reply["error"]) if "error" in reply else ""

    async def _drain(self) -> None:
        """Until every node has announced DRAINED_BLOCKS after the last transfer, or after DRAIN_S."""
        deadline = time.monotonic() + DRAIN_S
        last_s = self.sent[-1].at_s
        while time.monotonic() < deadline:
            self._announced.clear()
            newest = [[at_s for at_s in heads.values() if at_s > last_s] for heads in self.heads]
            if all(sent.answered_s for sent in self.sent) and min(len(times) for times in newest) >= DRAINED_BLOCKS:
                return
            try:
                await asyncio.wait_for(self._announced.wait(), deadline - time.monotonic())
            except TimeoutError:
                return


def _judged(load: Load, nodes: Sequence[NodeProcess], rate: int, consensus_ms: float) -> Latency:
    """Finds each transfer's block, and checks that it did what it says."""
    numbers = sorted({number for heads in load.heads for number in heads}, key=lambda number: int(number, 16))
    block_of: dict[str, str] = {}
    block_transfers = []
    for number in numbers:
        receipts: list[dict[str, Any]] = nodes[0].call("eth_getBlockReceipts", number)
        failed = [receipt["transactionHash"] for receipt in receipts if receipt["status"] != "0x1"]
        if failed:
            raise LoadFailed(f"transfers failed in block {number}: {failed[:3]}")
        block_of |= {receipt["transactionHash"]: number for receipt in receipts}
        if receipts:
            block_transfers.append(len(receipts))
    counted = [sent for sent in load.sent[rate * WARM_UP_S :] if not sent.refused]
    found = [
        (load.heads[sent.node][block_of[sent.hash]] - sent.at_s) * 1000
        for sent in counted
        if sent.hash in block_of and block_of[sent.hash] in load.heads[sent.node]
    ]
    refused = [sent.refused for sent in load.sent if sent.refused]
    if not found:
        raise LoadFailed(f"no transfer got a receipt; refused were {len(refused)}: {refused[:1]}")
    return Latency(
        rate=rate,
        counted=len(counted),
        missing=len(counted) - len(found),
        refused=len(refused),
        median_ms=round(median(found), 1),
        p99_ms=round(sorted(found)[-(-len(found) * 99 // 100) - 1], 1),
        answered_median_ms=round(median((sent.answered_s - sent.at_s) * 1000 for sent in counted), 1),
        client_late_ms=round(load.late_s * 1000, 1),
        consensus_median_ms=consensus_ms,
        block_transfers=block_transfers,
    )


def _request(number: int, method: str, parameter: str) -> str:
    return orjson.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": [parameter]}).decode()
