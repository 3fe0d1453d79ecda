"""Whole validators in one process: real execution, keys and histories on disk, an in-memory network between them."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import trio

from astralink_node.chain.client import ExecutionLink, InProcessExecution
from astralink_node.chain.execution import Execution
from astralink_node.chain.messages import (
    BlockRecord,
    Build,
    Built,
    Candidate,
    CannotBuild,
    Commit,
    Committed,
    Invalid,
    NeedBlock,
    Valid,
    Validate,
)
from astralink_node.config import BlocksConfig
from astralink_node.crypto import bls
from astralink_node.crypto.ml_dsa import Seed
from astralink_node.evm.blocks import decode_header
from astralink_node.services.consensus_driver import ChainSettings, ConsensusDriver
from astralink_node.services.consensus_log import WAL_FILE
from astralink_node.services.height_run import ConsensusHalted
from astralink_node.services.offload import Offload, T, Ts, in_thread, inline
from astralink_node.services.own_validator import OwnValidator
from astralink_node.services.proposer import Proposer
from astralink_node.storage.memory import MemoryStore
from astralink_node.storage.store import Store
from astralink_node.types import Address
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import PublicKeys, ValidatorKeys, keys_of
from astralink_node.validator.local_signer import HistoryState, LocalSigner, Signer
from astralink_node.validator.signing_history import create_history, history_path, open_history
from consensus.messages import CheckpointMessage, ProposalMessage, SignedMessage, VoteMessage, VoteType
from consensus.params import ConsensusParams
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from tests.support.chains import LocalChain, voting_secret
from tests.support.kill_points import Killed, KillPoint, WatchedLog, execution_with, log_with, signer_with, tear

START_MS = 1_700_000_100_000


def virtual_now_ms() -> int:
    """The wall clock of all nodes: trio's, so that a mock clock moves both."""
    return START_MS + int(trio.current_time() * 1000)


def after(latency_s: Callable[[], float]) -> Offload:
    """Like `inline`, but an answer takes its time on both ways, as with a worker thread."""

    async def offload(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        await trio.sleep(latency_s())
        result = work(*arguments)
        await trio.sleep(latency_s())
        return result

    return offload


class ThreadedExecution:
    """Execution that works beside its node, one call after the other, as its process does: for real time."""

    def __init__(self, inner: InProcessExecution, execution: Execution) -> None:
        self._inner = inner
        self._execution = execution
        self._turn = trio.Lock()

    async def validate(self, request: Validate) -> Valid | Invalid:
        async with self._turn:
            return await trio.to_thread.run_sync(self._execution.validate, request)

    async def build(self, request: Build) -> Built | CannotBuild:
        async with self._turn:
            return await trio.to_thread.run_sync(self._execution.build, request)

    async def commit(self, request: Commit) -> Committed | NeedBlock:
        async with self._turn:
            return await trio.to_thread.run_sync(self._execution.commit, request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class SlowExecution:
    """Every call takes its time before the work and after it, as over a socket; calls may overlap."""

    def __init__(self, inner: ExecutionLink, latency_s: Callable[[], float]) -> None:
        self._inner = inner
        self._latency_s = latency_s

    def __getattr__(self, name: str) -> Callable[[Any], Awaitable[Any]]:
        method = getattr(self._inner, name)

        async def call(*arguments: Any) -> Any:
            await trio.sleep(self._latency_s())
            answer = await method(*arguments)
            await trio.sleep(self._latency_s())
            return answer

        return call


class Transfers:
    """A mempool of a fixed number of transfers for each block."""

    def __init__(self, node: "MemoryNode", make: Callable[[int], tuple[Candidate, ...]]) -> None:
        self._node = node
        self._make = make

    def candidates(self, *, long_run: bool) -> tuple[Candidate, ...]:
        return self._make(self._node.height)

    def drop(self, transaction_hash: bytes, reason: str) -> None:
        raise AssertionError(f"nothing here is to be dropped: {reason}")

    def known_senders(self, raw_transactions: Sequence[bytes]) -> tuple[bytes, ...]:
        return (b"",) * len(raw_transactions)

    async def wait_for_payable(self) -> None:
        await trio.sleep_forever()


def no_transactions(height: int) -> tuple[Candidate, ...]:
    return ()


class RecordingSigner:
    """Notes every signature that leaves the signer, for a judge who knows nothing of the signing rules."""

    def __init__(self, signer: Signer, genesis_hash: bytes, released: dict[SignedMessage, bytes]) -> None:
        self._signer = signer
        self._genesis_hash = genesis_hash
        self._released = released
        self.history_state: Callable[[], HistoryState] = signer.history_state
        self.set_floor: Callable[[int], None] = signer.set_floor
        self.is_foreign: Callable[[ProposalMessage | VoteMessage], bool] = signer.is_foreign
        self.sign_reveal: Callable[[int], bytes] = signer.sign_reveal

    @property
    def public(self) -> PublicKeys:
        return self._signer.public

    def sign_proposal(self, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes:
        signature = self._signer.sign_proposal(height, round_, block_hash, valid_round)
        self._released[ProposalMessage(self._genesis_hash, height, round_, block_hash, valid_round)] = signature
        return signature

    def sign_vote(self, vote_type: VoteType, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes:
        signature = self._signer.sign_vote(vote_type, height, round_, block_hash, valid_round)
        self._released[VoteMessage(self._genesis_hash, height, round_, vote_type, block_hash, valid_round)] = signature
        return signature

    def sign_checkpoint(self, epoch: int, height: int, block_hash: bytes, next_set_hash: bytes) -> bytes:
        signature = self._signer.sign_checkpoint(epoch, height, block_hash, next_set_hash)
        self._released[CheckpointMessage(self._genesis_hash, epoch, height, block_hash, next_set_hash)] = signature
        return signature


def keys_of_number(number: int) -> ValidatorKeys:
    return keys_of(voting_secret(number), Seed(bytes([number + 1]) * 32), None)


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of a node's chain-data folder: its database and its consensus log, never its signing history."""

    store: dict[bytes, bytes]
    log: bytes


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
    execution_latency_s: Callable[[], float] | None = None
    """What a call of execution takes on each way, in virtual time."""
    name: str = ""
    """Among peers; `node-<number>` if not given. The number says whose keys it has."""
    next_number: int | None = None
    """Whose keys it has as well, to go on with when its operator has rotated to them."""
    shared_signer: Signer | None = None
    """Instead of one with a history of its own."""
    released: dict[SignedMessage, bytes] = field(default_factory=dict)
    """Everything that left its signer, in all its lives."""
    blocks: dict[int, BlockRecord] = field(default_factory=dict)
    """Everything that it ever committed, by height."""
    committed_at_s: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys: ValidatorKeys = keys_of_number(self.number)
        self.name = self.name or f"node-{self.number}"
        self.peer_id = PeerId(self.name.encode())
        self.folder.mkdir(parents=True, exist_ok=True)
        self.next_keys = None if self.next_number is None else keys_of_number(self.next_number)
        for keys in (self.keys, self.next_keys):
            if keys is not None and not history_path(self.signing, keys.public.voting_key).exists():
                storage = HistoryFile(history_path(self.signing, keys.public.voting_key))
                create_history(storage, keys.public.voting_key, key_is_new=True)
                storage.close()
        self._use(self.make_store())
        self.driver: ConsensusDriver | None = None
        self.halted: ConsensusHalted | None = None
        """Why its last life ended by itself."""
        self.kill_point = KillPoint()
        """Of the next life."""
        self.log: WatchedLog | None = None
        self._scope: trio.CancelScope | None = None
        self.progress = trio.Event()
        self.ended = trio.Event()
        """Not alive: killed, or halted."""
        self.ended.set()

    @property
    def signing(self) -> Path:
        return self.folder / "signing"

    @property
    def wal_path(self) -> Path:
        return self.folder / "consensus" / WAL_FILE

    @property
    def voting_key(self) -> bytes:
        return bls.public_key(voting_secret(self.number))

    @property
    def height(self) -> int:
        return self.chain.execution.status().head_height

    def wipe(self) -> None:
        """Lose all chain data; the signing history has a folder of its own."""
        self._use(self.make_store())
        self.wal_path.unlink(missing_ok=True)

    def lose_history(self) -> None:
        """The signing folder is gone, and its operator starts with --new-signing-history."""
        path = history_path(self.signing, self.keys.public.voting_key)
        path.unlink()
        storage = HistoryFile(path)
        create_history(storage, self.keys.public.voting_key, key_is_new=False)
        storage.close()

    def _use(self, store: Store) -> None:
        self.store = store
        self.chain = LocalChain(store, genesis=self.genesis)
        self._is_open = True

    def back_up(self) -> Backup:
        """Only while it is not alive, as an operator would."""
        return Backup(dict(self.store.iterate(b"", b"\xff" * 64)), self.wal_path.read_bytes())

    def put_back(self, backup: Backup, *, with_log: bool = True) -> None:
        """The chain data as it was; without its log, only the database is the old one."""
        store = self.make_store()
        store.write(backup.store, sync=True)
        self._use(store)
        if with_log:
            self.wal_path.write_bytes(backup.log)

    def tear_log(self, chance: Random) -> int:
        """The power failed: see `kill_points.tear`."""
        assert self.log is not None, "it has not lived yet"
        return tear(self.wal_path, self.log.synced_bytes, chance)

    @contextmanager
    def signer(self) -> Iterator[Signer]:
        if self.shared_signer is not None:
            yield self.shared_signer
            return
        with open_history(self.signing, self.keys.public.voting_key) as history:
            yield LocalSigner(self.keys, history, self.chain.execution.status().genesis_hash)

    @contextmanager
    def next_signer(self) -> Iterator[Signer | None]:
        if self.next_keys is None:
            yield None
            return
        with open_history(self.signing, self.next_keys.public.voting_key) as history:
            yield LocalSigner(self.next_keys, history, self.chain.execution.status().genesis_hash)

    async def live(self) -> None:
        """One life of the process: recover and run, until it is killed or halts."""
        if not self._is_open:
            self._use(self.store)
        self._is_open = False
        self.halted = None
        if self.ended.is_set():
            self.ended = trio.Event()
        self.log = WatchedLog(self.folder / "consensus")
        try:
            with self.signer() as signer, self.next_signer() as following, trio.CancelScope() as self._scope:
                self.driver = self._new_driver(signer, following, self.log)
                await self.driver.run()
        except* Killed:
            assert self.kill_point.is_passed, "killed by nobody"
        except* ConsensusHalted as group:
            self.halted = only_cause(group)
        finally:
            self.kill_point = KillPoint()
            self.network.leave(self.peer_id)
            self.log.close()
            self.ended.set()
            self._tell_progress()

    def _new_driver(self, signer: Signer, following: Signer | None, log: WatchedLog) -> ConsensusDriver:
        genesis_hash = self.chain.execution.status().genesis_hash
        execution: ExecutionLink = InProcessExecution(self.chain.execution)
        if self.offload is in_thread:
            execution = ThreadedExecution(execution, self.chain.execution)  # type: ignore[assignment, arg-type]
        if self.execution_latency_s is not None:
            execution = SlowExecution(execution, self.execution_latency_s)  # type: ignore[assignment]
        execution = execution_with(self.kill_point, execution)
        # The signature has left when the recorder has seen it; a kill after that takes nothing back.
        recipient = Address(bytes(19) + bytes([self.number]))
        own, next_own = (
            OwnValidator(
                signer_with(self.kill_point, RecordingSigner(one, genesis_hash, self.released)), recipient, self.offload
            )
            if one is not None
            else None
            for one in (signer, following)
        )
        blocks = BlocksConfig(interval_ms=self.interval_ms)
        pool = Transfers(self, self.make_transactions)
        return ConsensusDriver(
            execution,
            ChainSettings(genesis_hash, self.params, self.epoch_length),
            own,
            Proposer(execution, pool, self.params, blocks, self.now_ms, self.offload),  # type: ignore[arg-type]
            log_with(self.kill_point, log),
            self.network.join(self.peer_id),
            self.now_ms,
            self._on_committed,
            self.offload,
            next_own=next_own,
        )

    def kill(self) -> None:
        """At the next moment at which it waits for anything."""
        assert self._scope is not None, "it has not lived yet"
        self._scope.cancel()

    async def reach(self, height: int) -> None:
        while self.height < height:
            assert self.halted is None, self.halted
            await self.progress.wait()

    def _on_committed(self, committed: Committed) -> None:
        height = decode_header(committed.block.raw_header).number
        self.blocks[height] = committed.block
        self.committed_at_s[height] = trio.current_time()
        self._tell_progress()

    def _tell_progress(self) -> None:
        self.progress.set()
        self.progress = trio.Event()


def only_cause(group: BaseExceptionGroup[ConsensusHalted]) -> ConsensusHalted:
    """What ended the driver's tasks; there is one reason."""
    (cause,) = group.exceptions
    return only_cause(cause) if isinstance(cause, BaseExceptionGroup) else cause
