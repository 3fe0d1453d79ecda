"""Whole validators in one process: real execution, keys and histories on disk, an in-memory network between them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.messages import BlockRecord, Candidate, Committed
from astralink_node.config import BlocksConfig
from astralink_node.crypto import bls
from astralink_node.crypto.ml_dsa import Seed
from astralink_node.evm.blocks import decode_header
from astralink_node.services.consensus_driver import ChainSettings, ConsensusDriver
from astralink_node.services.consensus_log import ConsensusLog
from astralink_node.services.offload import Offload, inline
from astralink_node.services.own_validator import OwnValidator
from astralink_node.services.proposer import Proposer
from astralink_node.storage.memory import MemoryStore
from astralink_node.storage.store import Store
from astralink_node.types import Address
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import ValidatorKeys, keys_of
from astralink_node.validator.local_signer import LocalSigner, Signer
from astralink_node.validator.signing_history import create_history, history_path, open_history
from consensus.params import ConsensusParams
from p2p.memory_transport import MemoryNetwork
from p2p.transport import PeerId
from tests.support.chains import LocalChain, voting_secret

START_MS = 1_700_000_100_000


def virtual_now_ms() -> int:
    """The wall clock of all nodes: trio's, so that a mock clock moves both."""
    return START_MS + int(trio.current_time() * 1000)


class Transfers:
    """A mempool of a fixed number of transfers for each block."""

    def __init__(self, node: "MemoryNode", make: Callable[[int], tuple[Candidate, ...]]) -> None:
        self._node = node
        self._make = make

    def candidates(self, *, long_run: bool) -> tuple[Candidate, ...]:
        return self._make(self._node.height)

    def drop(self, transaction_hash: bytes, reason: str) -> None:
        raise AssertionError(f"nothing here is to be dropped: {reason}")

    async def wait_for_payable(self) -> None:
        await trio.sleep_forever()


def no_transactions(height: int) -> tuple[Candidate, ...]:
    return ()


@dataclass
class MemoryNode:
    """One validator: its disk survives its lives."""

    number: int
    folder: Path
    network: MemoryNetwork
    genesis: bytes
    params: ConsensusParams
    epoch_length: int = 100
    interval_ms: int = 500
    offload: Offload = inline
    make_store: Callable[[], Store] = MemoryStore
    make_transactions: Callable[[int], tuple[Candidate, ...]] = no_transactions
    """The head's height -> what waits in the mempool."""
    now_ms: Callable[[], int] = virtual_now_ms
    blocks: dict[int, BlockRecord] = field(default_factory=dict)
    """Everything that it ever committed, by height."""
    committed_at_s: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys: ValidatorKeys = keys_of(voting_secret(self.number), Seed(bytes([self.number + 1]) * 32), None)
        self.peer_id = PeerId(b"node-%d" % self.number)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not history_path(self.signing, self.keys.public.voting_key).exists():
            storage = HistoryFile(history_path(self.signing, self.keys.public.voting_key))
            create_history(storage, self.keys.public.voting_key, key_is_new=True)
            storage.close()
        self.store = self.make_store()
        self.chain = LocalChain(self.store, genesis=self.genesis)
        self.driver: ConsensusDriver | None = None
        self._scope: trio.CancelScope | None = None
        self.progress = trio.Event()

    @property
    def signing(self) -> Path:
        return self.folder / "signing"

    @property
    def voting_key(self) -> bytes:
        return bls.public_key(voting_secret(self.number))

    @property
    def height(self) -> int:
        return self.chain.execution.status().head_height

    def wipe(self) -> None:
        """Lose all chain data; the signing history has a folder of its own."""
        self.store = self.make_store()
        self.chain = LocalChain(self.store, genesis=self.genesis)
        (self.folder / "consensus" / "wal").unlink(missing_ok=True)

    @contextmanager
    def signer(self) -> Iterator[Signer]:
        with open_history(self.signing, self.keys.public.voting_key) as history:
            yield LocalSigner(self.keys, history, self.chain.execution.status().genesis_hash)

    async def live(self) -> None:
        """One life of the process: recover and run, until it is killed."""
        self.chain = LocalChain(self.store, genesis=self.genesis)
        status = self.chain.execution.status()
        execution = InProcessExecution(self.chain.execution)
        log = ConsensusLog(self.folder / "consensus")
        try:
            with self.signer() as signer, trio.CancelScope() as self._scope:
                blocks = BlocksConfig(interval_ms=self.interval_ms)
                pool = Transfers(self, self.make_transactions)
                self.driver = ConsensusDriver(
                    execution,
                    ChainSettings(status.genesis_hash, self.params, self.epoch_length),
                    OwnValidator(signer, Address(bytes(19) + bytes([self.number])), self.offload),
                    Proposer(execution, pool, self.params, blocks, self.now_ms, self.offload),  # type: ignore[arg-type]
                    log,
                    self.network.join(self.peer_id),
                    self.now_ms,
                    self._on_committed,
                    self.offload,
                )
                await self.driver.run()
        finally:
            self.network.leave(self.peer_id)
            log.close()

    def kill(self) -> None:
        """At the next moment at which it waits for anything."""
        assert self._scope is not None, "it has not lived yet"
        self._scope.cancel()

    async def reach(self, height: int) -> None:
        while self.height < height:
            await self.progress.wait()

    def _on_committed(self, committed: Committed) -> None:
        height = decode_header(committed.block.raw_header).number
        self.blocks[height] = committed.block
        self.committed_at_s[height] = trio.current_time()
        self.progress.set()
        self.progress = trio.Event()
