"""A state imported into an empty database: whole, from a chain that moves on, whatever ends the process on the way."""

from dataclasses import replace

import pytest

from astralink_node.chain.check import check_database
from astralink_node.chain.commits import HistoryWindow
from astralink_node.chain.errors import StateIncomplete
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import (
    AccountsQuestion,
    AtHeight,
    AtLatest,
    BlockAnswer,
    BlockQuestion,
    Build,
    Commit,
    Committed,
    HistoryUnavailable,
    LogsQuestion,
    NotFound,
    Query,
    ReceiptsAnswer,
    ReceiptsQuestion,
    Valid,
    Validate,
)
from astralink_node.chain.snapshot_manifest import Manifest, decode_manifest, encode_manifest
from astralink_node.chain.state_import import SEGMENTS
from astralink_node.chain.sync_messages import (
    GetImport,
    ImportAbandon,
    ImportBegin,
    ImportChunk,
    ImportFinish,
    ImportProgress,
    ImportRefused,
    SnapshotManifestQuestion,
)
from astralink_node.state.snapshot_chunks import decode_chunk, encode_chunk
from astralink_node.storage import keys
from astralink_node.storage.memory import MemoryStore
from consensus.checkpoint import encode_checkpoint
from tests.support.chains import COUNTER, LocalChain
from tests.support.snapshots import (
    EPOCH,
    Killed,
    MortalStore,
    ServingChain,
    genesis_with,
    import_from,
    new_store,
    opened,
    table_entries,
)

STATE = (keys.ACCOUNTS, keys.STORAGE, keys.ACCOUNT_NODES, keys.STORAGE_NODES)


def content(store: MemoryStore) -> dict[bytes, bytes]:
    return dict(store.iterate(b"", b"\xff" * 9))


@pytest.fixture
def source() -> ServingChain:
    chain = ServingChain(genesis_with(40))
    chain.advance(2 * EPOCH + 2)
    return chain


def state_at(source: ServingChain, height: int) -> dict[bytes, bytes]:
    """The state tables of a chain that stopped at that height."""
    copy = LocalChain(genesis=source.genesis)
    for at in range(1, height + 1):
        decided = source.execution.decided(at)
        assert not isinstance(decided, NotFound)
        valid = copy.execution.validate(Validate(decided.raw_block))
        assert isinstance(valid, Valid)
        copy.execution.commit(Commit(valid.block_hash, decided.certificate))
    assert isinstance(copy.store, MemoryStore)
    return dict(table_entries(copy.store, *STATE))


def follow(source: ServingChain, execution: object, first: int, last: int) -> None:
    for height in range(first, last + 1):
        decided = source.execution.decided(height)
        assert not isinstance(decided, NotFound)
        valid = execution.validate(Validate(decided.raw_block))  # type: ignore[attr-defined]
        assert isinstance(valid, Valid), valid
        committed = execution.commit(Commit(valid.block_hash, decided.certificate))  # type: ignore[attr-defined]
        assert isinstance(committed, Committed)


def test_latest_two_epochs_are_offered(source: ServingChain) -> None:
    assert source.heights() == (EPOCH - 1, 2 * EPOCH - 1)
    source.advance(EPOCH - 3)
    assert source.heights() == (2 * EPOCH - 1, 3 * EPOCH - 1)


def test_only_heights_within_the_history_window_are_offered() -> None:
    chain = ServingChain(genesis_with(0), config=ExecutionConfig(window=HistoryWindow(4)))
    assert chain.heights() == ()
    chain.advance(EPOCH - 1)
    assert chain.heights() == (EPOCH - 1,)
    chain.advance(2 * EPOCH - 1)
    head = 3 * EPOCH - 2
    assert chain.heights() == ()
    assert chain.execution.query(Query(AtLatest(), SnapshotManifestQuestion(2 * EPOCH - 1))) == NotFound(
        f"a snapshot of height {2 * EPOCH - 1}"
    )
    assert head - 4 > 2 * EPOCH - 1 - 1


def test_state_arrives_whole_while_the_chain_advances(source: ServingChain) -> None:
    height = 2 * EPOCH - 1
    expected = state_at(source, height)
    store = new_store(source.genesis)
    execution = opened(store)
    status = import_from(source, height, execution, between=lambda: source.advance(int(source.heights()[-1] == height)))
    assert source.execution.status().head_height > 2 * EPOCH + 1
    assert dict(table_entries(store, *STATE)) == expected
    assert (status.head_height, status.head_hash) == (height, Ledger(source.store).header(height).hash)
    assert check_database(store, lambda *_: None).problems == []
    follow(source, execution, height + 1, source.execution.status().head_height)
    assert execution.status() == source.execution.status()
    assert check_database(store, lambda *_: None).problems == []


def test_imported_node_serves_the_same_snapshots_later(source: ServingChain) -> None:
    store = new_store(source.genesis)
    execution = opened(store)
    import_from(source, 2 * EPOCH - 1, execution)
    follow(source, execution, 2 * EPOCH, 2 * EPOCH + 2)
    imported = ServingChain(source.genesis)
    imported.execution, imported.store = execution, store
    assert imported.heights() == (2 * EPOCH - 1,)
    assert imported.manifest(2 * EPOCH - 1) == source.manifest(2 * EPOCH - 1)
    second = opened(new_store(source.genesis))
    assert import_from(imported, 2 * EPOCH - 1, second).head_height == 2 * EPOCH - 1


def test_what_lies_below_the_snapshot_is_unavailable_and_no_damage(source: ServingChain) -> None:
    height = 2 * EPOCH - 1
    execution = opened(new_store(source.genesis))
    import_from(source, height, execution)
    unavailable = HistoryUnavailable(3, height)
    assert execution.query(Query(AtHeight(3), BlockQuestion())) == unavailable
    assert execution.query(Query(AtHeight(3), AccountsQuestion((COUNTER,)))) == unavailable
    assert execution.query(Query(AtLatest(), LogsQuestion(3, height, (), ()))) == unavailable
    assert isinstance(execution.decided(3), NotFound)
    assert isinstance(execution.query(Query(AtHeight(0), BlockQuestion())), BlockAnswer)
    for question in (BlockQuestion(), ReceiptsQuestion()):
        answer = execution.query(Query(AtLatest(), question))
        assert isinstance(answer, BlockAnswer | ReceiptsAnswer)
        assert answer == source.execution.query(Query(AtHeight(height), question))


def test_block_work_is_refused_while_a_state_is_imported(source: ServingChain) -> None:
    execution = opened(new_store(source.genesis))
    execution.import_state(ImportBegin(source.manifest(EPOCH - 1)))
    with pytest.raises(StateIncomplete):
        execution.validate(Validate(b""))
    with pytest.raises(StateIncomplete):
        execution.commit(Commit(bytes(32), b""))
    with pytest.raises(StateIncomplete):
        execution.build(Build(b"", source.build_request().attributes, (), 0))
    assert execution.status().head_height == 0
    assert execution.query(Query(AtHeight(0), AccountsQuestion((COUNTER,)))) == HistoryUnavailable(0, EPOCH - 1)


def test_killed_at_any_write_it_goes_on_where_it_was(source: ServingChain) -> None:
    height = 2 * EPOCH - 1
    whole = new_store(source.genesis)
    import_from(source, height, opened(whole))
    expected, writes = content(whole), whole.writes
    assert writes > SEGMENTS
    for at in range(1, writes + 1):
        for after in (False, True):
            store: MortalStore = new_store(source.genesis)
            store.at, store.after = at, after
            with pytest.raises(Killed):
                import_from(source, height, opened(store))
            store.at = None
            reopened = opened(store)
            if reopened.status().head_height == 0:
                before = reopened.import_state(GetImport())
                assert isinstance(before, ImportProgress)
                store.writes = 0
                import_from(source, height, reopened)
                done = SEGMENTS - len(before.missing) if before.height else 0
                assert store.writes <= writes - done + 1, "what was there is not asked for again"
            assert content(store) == expected


def test_killed_at_any_write_it_can_be_abandoned(source: ServingChain) -> None:
    height = 2 * EPOCH - 1
    pristine = content(new_store(source.genesis))
    for at in range(1, 60, 3):
        store = new_store(source.genesis)
        store.at = at
        try:
            import_from(source, height, opened(store))
        except Killed:
            pass
        else:
            break
        store.at = None
        execution = opened(store)
        assert execution.import_state(ImportAbandon()) == ImportProgress(0)
        left = {key: value for key, value in content(store).items() if key[:1] != keys.CODES}
        assert left == {key: value for key, value in pristine.items() if key[:1] != keys.CODES}
        follow(source, opened(store), 1, 3)


def test_another_manifest_begins_anew(source: ServingChain) -> None:
    store = new_store(source.genesis)
    execution = opened(store)
    progress = execution.import_state(ImportBegin(source.manifest(EPOCH - 1)))
    assert isinstance(progress, ImportProgress)
    execution.import_state(ImportChunk(0, source.chunk(EPOCH - 1, progress.missing[0])))
    status = import_from(source, 2 * EPOCH - 1, execution)
    assert status.head_height == 2 * EPOCH - 1
    expected = state_at(source, 2 * EPOCH - 1)
    assert dict(table_entries(store, *STATE)) == expected


def test_no_state_is_imported_over_a_chain(source: ServingChain) -> None:
    other = ServingChain(source.genesis)
    other.advance(1)
    answer = other.execution.import_state(ImportBegin(source.manifest(EPOCH - 1)))
    assert answer == ImportRefused("head", "a database that holds genesis alone", "block 1")


def test_a_wrong_chunk_changes_nothing(source: ServingChain) -> None:
    height = 2 * EPOCH - 1
    store = new_store(source.genesis)
    execution = opened(store)
    progress = execution.import_state(ImportBegin(source.manifest(height)))
    assert isinstance(progress, ImportProgress)
    at = progress.missing[3]
    honest = decode_chunk(source.chunk(height, at))
    before = content(store)
    lies = {
        "subtrie": encode_chunk(replace(honest, accounts=honest.accounts[1:])),
        "encoding": encode_chunk(honest)[:-1],
        "order": source.chunk(height, progress.missing[4]),
    }
    for rule, raw_chunk in lies.items():
        refused = execution.import_state(ImportChunk(at.segment, raw_chunk))
        assert isinstance(refused, ImportRefused)
        assert refused.rule == rule
    assert content(store) == before
    assert isinstance(execution.import_state(ImportChunk(99, b"")), ImportRefused)
    unfinished = execution.import_state(ImportFinish())
    assert isinstance(unfinished, ImportRefused)
    assert unfinished.rule == "segment"


FOREIGN = bytes(31) + b"\x01"


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("encoding", lambda good: replace(good, raw_block=good.raw_block[:-1])),
        ("certificate", lambda good: replace(good, certificate=good.certificate[:-1] + b"\x00")),
        ("certificate", lambda good: replace(good, certificate=b"")),
        ("body", lambda good: replace(good, raw_receipts=good.raw_receipts[1:])),
        ("receipts", lambda good: replace(good, raw_receipts=good.raw_receipts[::-1])),
        ("headers", lambda good: replace(good, raw_headers=good.raw_headers * 100)),
        ("headers", lambda good: replace(good, raw_headers=good.raw_headers[1:])),
        ("headers", lambda good: replace(good, raw_headers=(*good.raw_headers[:-1], good.raw_headers[0]))),
        ("encoding", lambda good: replace(good, voting_set=good.voting_set[:-1])),
        ("voting_set", lambda good: replace(good, voting_set=good.voting_set[:-1] + b"\x09")),
        ("next_set", lambda good: replace(good, next_set=good.next_set[:-1] + b"\x09")),
        ("priorities", lambda good: replace(good, priorities=good.priorities[:-1] + b"\x09")),
        ("checkpoint", lambda good: replace(good, checkpoint=FOREIGN)),
    ],
)
def test_manifest_whose_parts_do_not_belong_together_is_refused(
    source: ServingChain, rule: str, change: object
) -> None:
    store = new_store(source.genesis)
    good = decode_manifest(source.manifest(2 * EPOCH - 1))
    assert isinstance(good, Manifest)
    before = content(store)
    answer = opened(store).import_state(ImportBegin(encode_manifest(change(good))))  # type: ignore[operator]
    assert isinstance(answer, ImportRefused)
    assert answer.rule == rule
    assert content(store) == before


def test_carried_checkpoint_comes_along() -> None:
    source = ServingChain(genesis_with(0))
    source.advance(EPOCH)
    source.produce(checkpoint=encode(source, 0))
    source.advance(2 * EPOCH - 2)
    height = 3 * EPOCH - 1
    source.advance(height + 1 - source.execution.status().head_height)
    execution = opened(store := new_store(source.genesis))
    status = import_from(source, height, execution)
    assert status.checkpoint_epoch == 0
    assert check_database(store, lambda *_: None).problems == []
    # Epoch 1's has not come yet: whoever began with the snapshot can judge it when it does.
    source.produce(checkpoint=encode(source, 1))
    follow(source, execution, height + 1, source.execution.status().head_height)
    assert execution.status() == source.execution.status()
    assert execution.status().checkpoint_epoch == 1


def encode(source: ServingChain, epoch: int) -> bytes:
    return encode_checkpoint(source.checkpoint(epoch))
