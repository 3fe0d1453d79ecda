"""A lone validator's node, and a hundred thousand signed transfers that reach it by JSON-RPC while it makes blocks.

Every block that counts is full, with and without the load, so what differs is the admission alone. The client is
this process, on the same cores as the node but below it, as other machines would be. A second connection goes
straight to the node's own socket and asks for its status at a fixed pace: how late the answers are is how long the
node's event loop is busy with other things.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import orjson
from websockets.asyncio.client import ClientConnection, connect

from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE, TX_BASE_GAS
from astralink_node.gateway.link_messages import GetNodeStatus, NodeStatus
from astralink_node.gateway.links import NodeLink
from astralink_node.services.data_folder import DataFolder, runtime_folder_path
from benchmarks.workload import BALANCE_WEI, CHAIN_ID, GWEI, Account, SignedTransaction
from genesis.schema import GenesisAccount
from tests.support.network_processes import ChainChoice, NetworkProcesses
from tests.support.node_process import NodeProcess

MAX_FEE_WEI: Final = 10**17
"""Above every base fee that a run of full blocks comes to."""
CONNECTIONS: Final = 8
CLIENT_NICENESS: Final = 5
BATCH: Final = 100
"""Transfers in one JSON-RPC batch; each connection has one batch on its way."""
PING_INTERVAL_S: Final = 0.02
FULL: Final = 0.98
"""Of the gas limit: from then on a block counts as full."""
_COMMITTED = re.compile(r"block committed height=(\d+) .*after_ms=(\d+)")


class LoadFailed(Exception):
    """The run says nothing about admission."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What was measured while something went on, or nothing did."""

    name: str
    blocks: int
    blocks_per_minute: float
    interval_ms: list[float]
    """Between announcements of full blocks that follow each other."""
    commit_ms: list[int]
    """From a block's timestamp, at which its build begins, to its commit."""
    loop_ms: list[float]
    """Until the node's own socket answered: its event loop's delay."""


@dataclass(slots=True)
class Admission:
    accepted: int = 0
    refused: list[str] = field(default_factory=list)
    seconds: float = 0.0
    most_pooled: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    phases: list[Phase]
    admission: Admission
    block_transfers: int
    """In a full block."""
    node_memory_bytes: tuple[int, int]
    """Resident, of the node process: before the load and when all was admitted."""


def signed_transfers(senders: Sequence[Account], each: int) -> Iterator[SignedTransaction]:
    """Nonce by nonce: all senders' first, then all senders' second."""
    for nonce in range(each):
        for number, sender in enumerate(senders):
            transfer = new_transaction(
                DYNAMIC_FEE_TYPE,
                chain_id=CHAIN_ID,
                nonce=nonce,
                max_priority_fee_per_gas=GWEI + (number * 7919 + nonce * 104_729) % GWEI,
                max_fee_per_gas=MAX_FEE_WEI,
                gas_limit=TX_BASE_GAS,
                to=senders[number - 1].address,
                value=1 + number,
                data=b"",
            )
            yield SignedTransaction(sign_transaction(transfer, sender.private_key).raw, sender.address)


def measure(
    folder: Path, filling: Sequence[SignedTransaction], load: Sequence[SignedTransaction], idle_blocks: int
) -> Measured:
    """One network of one validator: full blocks without load, with it, and without it again."""
    accounts = {transfer.sender for transfer in [*filling, *load]}
    choice = ChainChoice(
        validators=1,
        interval_ms=1000,
        accounts={address: GenesisAccount(BALANCE_WEI, 0, b"", ()) for address in accounts},
    )
    with NetworkProcesses(folder, choice) as network:
        network.start()
        network.await_height(3)
        node = network.nodes[0]
        os.nice(CLIENT_NICENESS)
        socket = runtime_folder_path(DataFolder(folder / "node0")) / "node.sock"
        return asyncio.run(_Run(node, socket).run(filling, load, idle_blocks))


class _Run:
    def __init__(self, node: NodeProcess, socket: Path) -> None:
        self._node = node
        self._socket = socket
        self._heads: list[tuple[float, int, bool]] = []
        """(when announced, height, whether it is full)"""
        self._announced = asyncio.Event()
        self._pings: list[tuple[float, float]] = []
        """(when asked, milliseconds until the answer)"""
        self._pooled = 0
        self._block_transfers = 0

    async def run(
        self, filling: Sequence[SignedTransaction], load: Sequence[SignedTransaction], idle_blocks: int
    ) -> Measured:
        async with AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(connect(self._node.ready["wsUrl"], max_size=None))
                for _ in range(CONNECTIONS + 1)
            ]
            link = NodeLink(lambda _: None)
            await link.connect(str(self._socket))
            stack.callback(link.close)
            listener = sockets.pop()
            await listener.send(_request("eth_subscribe", ["newHeads"]))
            await listener.recv()
            tasks = [asyncio.create_task(self._listen(listener)), asyncio.create_task(self._ping(link))]
            try:
                return await self._phases(sockets, filling, load, idle_blocks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _phases(
        self,
        sockets: Sequence[ClientConnection],
        filling: Sequence[SignedTransaction],
        load: Sequence[SignedTransaction],
        idle_blocks: int,
    ) -> Measured:
        await self._submit(sockets, filling)
        before = [await self._idle("without load, before", idle_blocks)]
        memory_before = _resident_bytes(self._node.process.pid)
        began = time.monotonic()
        admission = await self._submit(sockets, load)
        during = self._phase("while admitting", began, time.monotonic())
        memory_after = _resident_bytes(self._node.process.pid)
        after = [await self._idle("without load, after", idle_blocks)]
        return Measured([*before, during, *after], admission, self._block_transfers, (memory_before, memory_after))

    async def _idle(self, name: str, blocks: int) -> Phase:
        began = time.monotonic()
        start = len(self._heads)
        while len(self._heads) < start + blocks + 1:
            self._announced.clear()
            await self._announced.wait()
        return self._phase(name, began, time.monotonic())

    def _phase(self, name: str, began: float, ended: float) -> Phase:
        heads = [head for head in self._heads if began <= head[0] <= ended]
        pairs = [(one, two) for one, two in pairwise(heads) if one[2] and two[2]]
        if not pairs:
            raise LoadFailed(f"{name}: no two full blocks among {len(heads)}")
        commits = dict(_COMMITTED.findall(self._node.said()))
        intervals = [(two[0] - one[0]) * 1000 for one, two in pairs]
        return Phase(
            name=name,
            blocks=len(pairs),
            blocks_per_minute=round(60_000 * len(pairs) / sum(intervals), 2),
            interval_ms=[round(interval, 1) for interval in intervals],
            commit_ms=[int(commits[str(two[1])]) for _, two in pairs if str(two[1]) in commits],
            loop_ms=[round(took, 2) for at_s, took in self._pings if began <= at_s <= ended],
        )

    async def _submit(self, sockets: Sequence[ClientConnection], transfers: Sequence[SignedTransaction]) -> Admission:
        """All of them, in their order but for what the connections make of it."""
        batches = iter([transfers[start : start + BATCH] for start in range(0, len(transfers), BATCH)])
        admission, began = Admission(), time.monotonic()

        async def feed(socket: ClientConnection) -> None:
            for batch in batches:
                await socket.send(b"[" + b",".join(_submission(transfer.raw) for transfer in batch) + b"]", text=True)
                for reply in orjson.loads(await socket.recv()):
                    if "error" in reply:
                        admission.refused.append(reply["error"]["message"])
                    else:
                        admission.accepted += 1
                admission.most_pooled = max(admission.most_pooled, self._pooled)

        async with asyncio.TaskGroup() as group:
            for socket in sockets:
                group.create_task(feed(socket))
        admission.seconds = time.monotonic() - began
        return admission

    async def _listen(self, socket: ClientConnection) -> None:
        async for message in socket:
            now = time.monotonic()
            head: dict[str, Any] = orjson.loads(message)["params"]["result"]
            gas_used, gas_limit = int(head["gasUsed"], 16), int(head["gasLimit"], 16)
            self._block_transfers = max(self._block_transfers, gas_used // TX_BASE_GAS)
            self._heads.append((now, int(head["number"], 16), gas_used >= FULL * gas_limit))
            self._announced.set()

    async def _ping(self, link: NodeLink) -> None:
        while True:
            asked = time.monotonic()
            status = await link.ask(GetNodeStatus())
            if not isinstance(status, NodeStatus):
                raise LoadFailed(f"the node gave no status: {status}")
            answered = time.monotonic()
            self._pings.append((asked, (answered - asked) * 1000))
            self._pooled = status.pending_transactions + status.queued_transactions
            await asyncio.sleep(max(0.0, asked + PING_INTERVAL_S - answered))


def _submission(raw: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x%s"]}' % raw.hex().encode()


def _request(method: str, parameters: list[object]) -> str:
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).decode()


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LoadFailed("the node's memory is not told")
