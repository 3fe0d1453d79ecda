"""Chains with snapshots to serve, and whoever imports them, without a network between."""

from collections.abc import Callable, Iterator, Mapping

from astralink_node.chain.execution import Execution, ExecutionConfig
from astralink_node.chain.import_segments import last_account
from astralink_node.chain.initialise import initialise
from astralink_node.chain.messages import AtLatest, Query, Status
from astralink_node.chain.sync_messages import (
    ImportBegin,
    ImportChunk,
    ImportFinish,
    ImportProgress,
    SegmentPosition,
    SnapshotChunk,
    SnapshotChunkQuestion,
    SnapshotHeights,
    SnapshotHeightsQuestion,
    SnapshotManifest,
    SnapshotManifestQuestion,
)
from astralink_node.storage.memory import MemoryStore
from astralink_node.storage.store import Store
from astralink_node.types import Address
from genesis.schema import GenesisAccount
from tests.support.chains import CONTRACTS, COUNTER, LOGGER, LocalChain, candidate, genesis_text

EPOCH = 5


def genesis_with(accounts: int, *, validators: int = 1, epoch_length: int = EPOCH) -> bytes:
    """The test contracts, `accounts` further accounts, and one contract of fifty slots."""
    alloc: dict[Address, GenesisAccount] = {
        Address(number.to_bytes(20, "big")): GenesisAccount(number, 0, b"", ())
        for number in range(1000, 1000 + accounts)
    }
    alloc[Address(b"\xd0" * 20)] = GenesisAccount(1, 1, b"\x00", tuple((slot, slot + 1) for slot in range(50)))
    return genesis_text(validators, extra_alloc={**CONTRACTS, **alloc}, epoch_length=epoch_length)


class ServingChain(LocalChain):
    """Makes blocks that change old and new accounts, slots and logs."""

    def __init__(
        self,
        genesis: bytes,
        *,
        validators: int = 1,
        config: ExecutionConfig | None = None,
        store: Store | None = None,
    ) -> None:
        super().__init__(store, genesis=genesis, validators=validators, config=config)
        self._nonce = 0

    def advance(self, blocks: int) -> None:
        for _ in range(blocks):
            nonce, self._nonce = self._nonce, self._nonce + 3
            self.produce(
                [
                    candidate(0, nonce, to=bytes(18) + nonce.to_bytes(2, "big"), value=5),
                    candidate(0, nonce + 1, to=COUNTER, gas=100_000),
                    candidate(0, nonce + 2, to=LOGGER, gas=100_000, data=b"\x01" * 32),
                ]
            )

    def heights(self) -> tuple[int, ...]:
        answer = self.execution.query(Query(AtLatest(), SnapshotHeightsQuestion()))
        assert isinstance(answer, SnapshotHeights)
        return answer.heights

    def manifest(self, height: int) -> bytes:
        answer = self.execution.query(Query(AtLatest(), SnapshotManifestQuestion(height)))
        assert isinstance(answer, SnapshotManifest), answer
        return answer.raw_manifest

    def chunk(self, height: int, at: SegmentPosition) -> bytes:
        question = SnapshotChunkQuestion(height, at.account, at.slot, last_account(at.segment))
        answer = self.execution.query(Query(AtLatest(), question))
        assert isinstance(answer, SnapshotChunk), answer
        return answer.raw_chunk


class Killed(BaseException):
    """The process has ended."""


class MortalStore(MemoryStore):
    """Ends the process right before, or right after, write number `at`."""

    def __init__(self) -> None:
        super().__init__()
        self.at: int | None = None
        self.after = False
        self.writes = 0

    def write(self, batch: Mapping[bytes, bytes | None], *, sync: bool) -> None:
        self.writes += 1
        if self.writes == self.at and not self.after:
            raise Killed
        super().write(batch, sync=sync)
        if self.writes == self.at:
            raise Killed


def new_store(genesis: bytes) -> MortalStore:
    store = MortalStore()
    initialise(store, genesis)
    store.writes = 0
    return store


def opened(store: MemoryStore) -> Execution:
    return Execution.open(store, ExecutionConfig(), now_ns=lambda: 0)


def import_from(
    source: ServingChain, height: int, execution: Execution, between: Callable[[], None] = lambda: None
) -> Status:
    """Everything, chunk after chunk; `between` runs after each."""
    progress = execution.import_state(ImportBegin(source.manifest(height)))
    assert isinstance(progress, ImportProgress), progress
    while progress.missing:
        at = progress.missing[0]
        answer = execution.import_state(ImportChunk(at.segment, source.chunk(height, at)))
        assert isinstance(answer, ImportProgress), answer
        progress = answer
        between()
    status = execution.import_state(ImportFinish())
    assert isinstance(status, Status), status
    return status


def table_entries(store: MemoryStore, *tables: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((key, value) for key, value in store.iterate(b"", b"\xff" * 9) if key[:1] in tables)
