"""A new node joins real execution processes: a snapshot, its importer killed on the way, then ranges of blocks."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from astralink_node.chain.client import ExecutionGone, ExecutionLink
from astralink_node.chain.data_folder import DATABASE_NAME
from astralink_node.chain.messages import Candidate, Committed, Status
from astralink_node.chain.new_folder import initialise_folder
from astralink_node.chain.state_import import SEGMENTS
from astralink_node.chain.sync_messages import GetImport, ImportAnswer, ImportChunk, ImportProgress, ImportWork
from astralink_node.config import BlocksConfig
from astralink_node.evm.blocks import decode_header
from astralink_node.services.block_sync import BlockSync
from astralink_node.services.consensus_driver import ChainSettings, ConsensusDriver
from astralink_node.services.consensus_log import ConsensusLog
from astralink_node.services.offload import in_thread
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.proposer import Proposer
from astralink_node.services.snapshot_sync import SnapshotSync
from astralink_node.services.snapshot_trust import JoiningRules
from astralink_node.services.sync_server import SyncServer
from astralink_node.storage.leveldb import open_leveldb
from consensus.params import ConsensusParams
from p2p.memory_requests import MemoryRequester, MemoryRequests
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from tests.support.chains import GENESIS_TIMESTAMP
from tests.support.execution_processes import ExecutionProcess, execution_process
from tests.support.lying_peers import Reports
from tests.support.snapshots import ServingChain, genesis_with

EPOCH = 20
SNAPSHOT = 2 * EPOCH - 1
LENGTH = 2 * EPOCH + 15
GENESIS = genesis_with(2_000, validators=4, epoch_length=EPOCH)
PATIENCE_S = 100
SERVER, NEWCOMER = PeerId(b"server"), PeerId(b"newcomer")


def now_ms() -> int:
    return 1000 * GENESIS_TIMESTAMP + 3_600_000


class NoTransactions:
    """A follower proposes nothing."""

    def candidates(self, *, long_run: bool) -> tuple[Candidate, ...]:
        return ()

    def known_senders(self, raw_transactions: Sequence[bytes]) -> tuple[bytes, ...]:
        return (b"",) * len(raw_transactions)

    async def wait_for_payable(self) -> None:
        await trio.sleep_forever()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A long chain's, and that of a node that has genesis alone."""
    served, new = tmp_path / "s", tmp_path / "n"
    for folder in (served, new):
        initialise_folder(folder, GENESIS)
    store = open_leveldb(served / DATABASE_NAME, create=False)
    ServingChain(GENESIS, validators=4, store=store).advance(LENGTH)
    store.close()
    return served, new


class DyingImporter:
    """Execution that takes chunks one by one, and is killed when it has taken `chunks`."""

    def __init__(self, newcomer: ExecutionProcess, chunks: int) -> None:
        self._newcomer = newcomer
        self._left = chunks
        self._one_by_one = trio.Lock()
        self.status = newcomer.client.status

    async def import_state(self, request: ImportWork) -> ImportAnswer | Status:
        async with self._one_by_one:
            answer = await self._newcomer.client.import_state(request)
            if isinstance(request, ImportChunk):
                self._left -= 1
                if self._left == 0:
                    self._newcomer.process.kill()
                    await self._newcomer.process.wait()
            return answer


def snapshot_sync(execution: ExecutionLink, requester: MemoryRequester, heads: PeerHeads) -> SnapshotSync:
    rules = JoiningRules(ConsensusParams(), EPOCH)
    return SnapshotSync(requester, execution, heads, rules, Reports(), now_ms, in_thread)


async def join(folders: tuple[Path, Path]) -> None:
    served, new = folders
    network, heads, reports = MemoryRequests(), PeerHeads(), Reports()
    async with execution_process(served) as server:
        helper = network.join(SERVER)
        SyncServer(server.queries, helper)
        heads.note(SERVER, LENGTH)
        requester = network.join(NEWCOMER)
        missing = SEGMENTS
        for chunks in (1, 3, 6):
            async with execution_process(new) as newcomer:
                assert await segments_missing(newcomer) == missing, "what was there is still there"
                dying = DyingImporter(newcomer, chunks)
                with pytest.RaisesGroup(ExecutionGone, flatten_subgroups=True, allow_unwrapped=True):
                    await snapshot_sync(dying, requester, heads).run()  # type: ignore[arg-type]
                missing -= chunks  # each segment is one chunk
        async with execution_process(new) as newcomer:
            assert await segments_missing(newcomer) == missing
            status = await snapshot_sync(newcomer.client, requester, heads).run()
            assert status.head_height == SNAPSHOT
            await follow(newcomer, new, status, requester, heads, reports)
            assert await newcomer.client.status() == await server.client.status()
    assert reports.noted == []


async def segments_missing(newcomer: ExecutionProcess) -> int:
    """All of them before an import began."""
    progress = await newcomer.client.import_state(GetImport())
    assert isinstance(progress, ImportProgress)
    return len(progress.missing) if progress.height else SEGMENTS


async def follow(
    newcomer: ExecutionProcess,
    folder: Path,
    status: Status,
    requester: MemoryRequester,
    heads: PeerHeads,
    reports: Reports,
) -> None:
    """The driver begins where the snapshot ends, and is given the blocks since."""
    params, arrived = ConsensusParams(), trio.Event()

    def on_committed(committed: Committed) -> None:
        if decode_header(committed.block.raw_header).number == LENGTH:
            arrived.set()

    log = ConsensusLog(folder / "consensus")
    driver = ConsensusDriver(
        newcomer.client,
        ChainSettings(status.genesis_hash, params, EPOCH),
        None,
        Proposer(newcomer.client, NoTransactions(), params, BlocksConfig(), now_ms, in_thread),  # type: ignore[arg-type]
        log,
        MemoryNetwork().join(NEWCOMER),
        now_ms,
        on_committed,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(driver.run)
        rules = JoiningRules(params, EPOCH)
        sync = BlockSync(
            requester,
            newcomer.client,
            driver.commit_decided,
            heads,
            rules,
            reports,
            now_ms,
            in_thread,
            driver.look_into,
        )
        nursery.start_soon(sync.run)
        await arrived.wait()
        nursery.cancel_scope.cancel()
    log.close()


def test_a_new_node_joins_although_its_importer_is_killed_again_and_again(folders: tuple[Path, Path]) -> None:
    async def bounded() -> None:
        with trio.fail_after(PATIENCE_S):
            await join(folders)

    trio.run(bounded)
