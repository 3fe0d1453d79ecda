"""The explorer index: what commits write, rollbacks and pruning take away, and `db index` fills in."""

import time
from collections.abc import Mapping, Sequence

import pytest

from astralink_node.chain.check import check_database
from astralink_node.chain.commits import HistoryWindow, prune_history, rollback_head
from astralink_node.chain.consensus_messages import Decided
from astralink_node.chain.execution import Execution, ExecutionConfig
from astralink_node.chain.explorer_coverage import Stretch, load_coverage
from astralink_node.chain.index_building import build_index, missing_heights
from astralink_node.chain.index_messages import (
    AddressPage,
    AddressSearch,
    CreationAnswer,
    CreationQuestion,
    HeightRange,
    IndexIncomplete,
    NonceAnswer,
    NonceQuestion,
)
from astralink_node.chain.initialise import open_chain
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import (
    Answer,
    AtLatest,
    Commit,
    Committed,
    LimitExceeded,
    NotFound,
    Query,
    Question,
    Valid,
    Validate,
)
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import decode_header
from astralink_node.evm.created_addresses import contract_address
from astralink_node.storage import keys
from astralink_node.storage.memory import MemoryStore
from astralink_node.storage.store import DatabaseDamaged
from astralink_node.types import Address
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.schema import GenesisAccount
from tests.support.chains import LOGGER, LocalChain, candidate, genesis_text
from tests.support.explorer_contracts import (
    DELEGATING,
    DELEGATOR,
    DEPLOYS,
    DESTROYER,
    DIES,
    EXPLORER_CONTRACTS,
    FAILS,
    FORWARDER,
    MAKER,
    UNDOER,
    word,
)
from tests.support.faulty_store import Crashed, Disk, Fault, FaultyStore
from tests.support.snapshots import EPOCH, ServingChain, genesis_with, import_from, new_store

GENESIS = genesis_text(1, extra_alloc=EXPLORER_CONTRACTS)
ALICE, BOB = DEVNET_ACCOUNTS[0].address, DEVNET_ACCOUNTS[1].address
FRIEND = b"\x77".rjust(20, b"\x00")
TABLES = (keys.APPEARANCES, keys.CREATIONS, keys.SENDER_NONCES, keys.APPEARANCE_LISTS)


def chain_of(
    *, indexed: bool = True, store: MemoryStore | None = None, window: int | None = None, genesis: bytes = GENESIS
) -> LocalChain:
    return LocalChain(store, genesis=genesis, config=config_of(indexed=indexed, window=window))


def config_of(*, indexed: bool, window: int | None) -> ExecutionConfig:
    return ExecutionConfig(window=HistoryWindow(window), explorer_index=indexed)


def entries(chain: LocalChain) -> Mapping[bytes, bytes]:
    return {key: value for table in TABLES for key, value in chain.store.iterate(*keys.prefix_range(table))}


def ask(chain: LocalChain, question: Question) -> Answer:
    return chain.execution.query(Query(AtLatest(), question))


def page(chain: LocalChain, address: bytes, height: int = 0, *, forward: bool = False, size: int = 25) -> AddressPage:
    answer = ask(chain, AddressSearch(address, height, forward, size))
    assert isinstance(answer, AddressPage), answer
    return answer


def places(found: AddressPage) -> list[tuple[int, int]]:
    """(height, index) of each transaction of a page."""
    return [(decode_header(each.raw_header).number, each.index) for each in found.transactions]


def heights_of(chain: LocalChain, address: bytes) -> list[int]:
    return [height for height, _ in places(page(chain, address))]


def calling(nonce: int, to: bytes, *data: bytes, account: int = 0, value: int = 0) -> object:
    return candidate(account, nonce, to=to, gas=600_000, data=b"".join(data), value=value)


def grown(blocks: int, *, indexed: bool = True, window: int | None = None) -> LocalChain:
    return fill(chain_of(indexed=indexed, window=window), blocks)


def fill(chain: LocalChain, blocks: int) -> LocalChain:
    """Each block has a transfer, a call that goes through two contracts, and a creation by a contract."""
    for number in range(blocks):
        chain.produce(
            [
                candidate(1, number),
                calling(2 * number, FORWARDER, word(DELEGATOR), word(LOGGER), bytes(32)),
                calling(2 * number + 1, MAKER, DEPLOYS),
            ]
        )
    return chain


def built(chain: LocalChain) -> int:
    return build_index(chain.store, open_chain(chain.store), lambda *_: None)


# --- What takes part ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "data", "expected"),
    [
        (FRIEND, (), {FRIEND}),
        (FORWARDER, (word(DELEGATOR), word(LOGGER), bytes(32)), {FORWARDER, DELEGATOR, LOGGER}),
        (UNDOER, (word(LOGGER), bytes(32)), {UNDOER, LOGGER}),
        (DESTROYER, (word(FRIEND),), {DESTROYER, FRIEND}),
        (FORWARDER, (word(DESTROYER), word(BOB)), {FORWARDER, DESTROYER, BOB}),
        (FORWARDER, (word(b"\x04".rjust(20, b"\x00")), b"data"), {FORWARDER, b"\x04".rjust(20, b"\x00")}),
        (FORWARDER, (word(DELEGATING), bytes(32)), {FORWARDER, DELEGATING, LOGGER}),
        (DELEGATING, (bytes(32),), {DELEGATING, LOGGER}),
    ],
    ids=[
        "a transfer",
        "calls",
        "an undone call",
        "a beneficiary",
        "an inner beneficiary",
        "a precompile",
        "an inner call of a delegation",
        "a delegation",
    ],
)
def test_an_address_in_a_transaction_finds_it(to: bytes, data: Sequence[bytes], expected: set[bytes]) -> None:
    chain = chain_of()
    chain.produce([calling(0, to, *data)])
    assert all(heights_of(chain, address) == [1] for address in expected | {ALICE})
    indexed = {key[1:21] for key, _ in chain.store.iterate(*keys.prefix_range(keys.APPEARANCES))}
    assert indexed == expected | {ALICE}


def test_a_contract_that_a_transaction_deploys_names_transaction_and_sender() -> None:
    chain = chain_of()
    built_block = chain.produce([candidate(0, 0, to=b"", gas=100_000, data=DEPLOYS, value=0)])
    expected = CreationAnswer(keccak256(built_block.block.raw_transactions[0]), ALICE)
    assert ask(chain, CreationQuestion(contract_address(ALICE, 0))) == expected
    assert heights_of(chain, contract_address(ALICE, 0)) == [1]


def test_a_contract_that_a_contract_creates_names_that_contract_as_creator() -> None:
    chain = chain_of()
    block = chain.produce([calling(0, MAKER, DEPLOYS)]).block
    created = contract_address(MAKER, 1)
    assert ask(chain, CreationQuestion(created)) == CreationAnswer(keccak256(block.raw_transactions[0]), MAKER)
    assert heights_of(chain, created) == [1]


@pytest.mark.parametrize("code", [FAILS, DIES], ids=["fails", "destroys itself"])
def test_a_creation_that_leaves_nothing_has_no_creator_but_took_part(code: bytes) -> None:
    chain = chain_of()
    chain.produce([calling(0, MAKER, code)])
    created = contract_address(MAKER, 1)
    assert isinstance(ask(chain, CreationQuestion(created)), NotFound)
    assert heights_of(chain, created) == [1]


def test_a_creation_that_is_undone_has_no_creator() -> None:
    chain = chain_of()
    chain.produce([calling(0, UNDOER, word(MAKER), DEPLOYS)])
    assert isinstance(ask(chain, CreationQuestion(contract_address(MAKER, 1))), NotFound)


def test_contracts_of_genesis_and_accounts_without_code_have_no_creator() -> None:
    chain = grown(1)
    assert isinstance(ask(chain, CreationQuestion(FORWARDER)), NotFound)
    assert isinstance(ask(chain, CreationQuestion(BOB)), NotFound)


def test_a_nonce_finds_its_transaction_and_one_that_was_not_sent_none() -> None:
    chain = grown(2)
    committed = chain.produce([candidate(1, 2)])
    answer = ask(chain, NonceQuestion(BOB, 2))
    assert answer == NonceAnswer(keccak256(committed.block.raw_transactions[0]))
    assert isinstance(ask(chain, NonceQuestion(BOB, 3)), NotFound)
    assert isinstance(ask(chain, NonceQuestion(FRIEND, 0)), NotFound)


def test_a_block_that_was_validated_is_indexed_as_one_that_was_built() -> None:
    builder, follower = chain_of(), chain_of()
    for number in range(3):
        built_block = builder.build([calling(number, FORWARDER, word(MAKER), DEPLOYS)])
        certificate = builder.certificate(built_block.block_hash)
        builder.commit(built_block.block_hash)
        follower.follow(built_block, certificate)
    assert entries(builder) == entries(follower)
    assert load_coverage(builder.store) == load_coverage(follower.store) == (Stretch(1, 3, with_calls=True),)


def test_a_node_that_keeps_no_index_writes_none_of_it() -> None:
    chain = grown(2, indexed=False)
    assert entries(chain) == {}
    assert load_coverage(chain.store) == ()


# --- Pages -------------------------------------------------------------------------------------------------------


def test_pages_are_whole_blocks_and_follow_one_another_without_loss() -> None:
    chain = chain_of()
    counts = [3, 1, 4, 2, 5]
    for number, count in enumerate(counts):
        chain.produce([candidate(0, sum(counts[:number]) + index) for index in range(count)])
    every = [(height, index) for height in range(5, 0, -1) for index in reversed(range(counts[height - 1]))]
    for size in range(1, 16):
        found, height = [], 0
        for _ in range(20):
            one = page(chain, ALICE, height, size=size)
            found += places(one)
            assert len(one.transactions) >= size or not one.has_more
            if not one.has_more:
                break
            height = places(one)[-1][0]
        assert found == every


def test_pages_forward_give_the_nearest_transactions_newest_first() -> None:
    chain = chain_of()
    for number in range(6):
        chain.produce([candidate(0, 2 * number), candidate(0, 2 * number + 1)])
    first = page(chain, ALICE, forward=True, size=3)
    assert places(first) == [(2, 1), (2, 0), (1, 1), (1, 0)]
    assert first.has_more
    last = page(chain, ALICE, 4, forward=True, size=4)
    assert places(last) == [(6, 1), (6, 0), (5, 1), (5, 0)]
    assert not last.has_more
    assert places(page(chain, ALICE, 6, forward=True)) == []


def test_a_page_that_is_full_with_the_last_transaction_has_no_more() -> None:
    chain = chain_of()
    for number in range(3):
        chain.produce([candidate(0, number)])
    assert not page(chain, ALICE, size=3).has_more
    assert page(chain, ALICE, size=2).has_more
    assert not page(chain, ALICE, 1).has_more
    assert places(page(chain, ALICE, 1)) == []
    assert places(page(chain, ALICE, 100)) == [(3, 0), (2, 0), (1, 0)]


def test_a_page_of_more_than_the_limit_or_of_none_is_refused() -> None:
    chain = grown(1)
    for size in (0, 26):
        assert isinstance(ask(chain, AddressSearch(ALICE, 0, forward=False, page_size=size)), LimitExceeded)


# --- Gaps --------------------------------------------------------------------------------------------------------


def half_indexed() -> LocalChain:
    """Blocks 1 to 3 without the index, 4 to 6 with it."""
    chain = grown(3, indexed=False)
    assert isinstance(chain.store, MemoryStore)
    again = chain_of(store=chain.store)
    for number in range(3, 6):
        again.produce([candidate(1, number), calling(2 * number, MAKER, DEPLOYS), candidate(0, 2 * number + 1)])
    return again


def test_a_search_that_would_pass_a_gap_is_refused_and_one_that_need_not_is_answered() -> None:
    chain = half_indexed()
    refused = IndexIncomplete(HeightRange(1, 3), "unindexed")
    assert ask(chain, AddressSearch(BOB, 0, forward=False, page_size=25)) == refused
    assert ask(chain, AddressSearch(BOB, 0, forward=True, page_size=1)) == refused
    assert places(page(chain, BOB, 3, forward=True)) == [(6, 0), (5, 0), (4, 0)]
    full = page(chain, BOB, size=3)
    assert places(full) == [(6, 0), (5, 0), (4, 0)]
    assert full.has_more, "whether there are more, the gap does not say"


def test_what_may_be_in_a_gap_is_refused_and_what_cannot_be_there_is_not() -> None:
    chain = half_indexed()
    refused = IndexIncomplete(HeightRange(1, 3), "unindexed")
    assert ask(chain, CreationQuestion(contract_address(MAKER, 1))) == refused
    assert isinstance(ask(chain, CreationQuestion(contract_address(MAKER, 4))), CreationAnswer)
    assert isinstance(ask(chain, CreationQuestion(FRIEND)), NotFound)


def test_a_nonce_is_found_without_the_index_where_the_state_is_kept() -> None:
    chain = grown(6, indexed=False, window=3)
    for nonce in range(7):
        answer = ask(chain, NonceQuestion(BOB, nonce))
        if nonce < 3:
            assert answer == IndexIncomplete(HeightRange(1, 6), "unindexed")
        elif nonce < 6:
            raw_transactions, senders = Ledger(chain.store).body(nonce + 1)
            assert answer == NonceAnswer(keccak256(raw_transactions[senders.index(BOB)]))
        else:
            assert isinstance(answer, NotFound)


def test_nonces_that_genesis_gives_an_account_have_no_transaction() -> None:
    given = GenesisAccount(10**18, 2, b"", ())
    genesis = genesis_text(1, extra_alloc={**EXPLORER_CONTRACTS, BOB: given})
    for indexed in (False, True):
        chain = chain_of(indexed=indexed, genesis=genesis)
        raw = chain.produce([candidate(1, 2)]).block.raw_transactions[0]
        assert isinstance(ask(chain, NonceQuestion(BOB, 0)), NotFound)
        assert isinstance(ask(chain, NonceQuestion(BOB, 1)), NotFound)
        assert ask(chain, NonceQuestion(BOB, 2)) == NonceAnswer(keccak256(raw))


def test_a_node_that_stopped_indexing_leaves_a_gap_at_the_head() -> None:
    chain = grown(2)
    assert isinstance(chain.store, MemoryStore)
    without = chain_of(indexed=False, store=chain.store)
    without.produce([candidate(1, 2)])
    answer = ask(without, AddressSearch(BOB, 0, forward=False, page_size=1))
    assert answer == IndexIncomplete(HeightRange(3, 3), "unindexed")
    assert places(page(without, BOB, 3, size=1)) == [(2, 0)]


# --- Later -------------------------------------------------------------------------------------------------------


def test_an_index_built_later_is_the_one_that_commits_write() -> None:
    with_index, without = grown(5), grown(5, indexed=False)
    assert missing_heights(without.store) == 5
    assert built(without) == 5
    assert entries(without) == entries(with_index)
    assert load_coverage(without.store) == load_coverage(with_index.store)
    assert built(without) == 0


def test_blocks_whose_state_is_gone_are_indexed_by_bodies_and_receipts_and_named() -> None:
    chain = grown(6, indexed=False, window=2)
    assert built(chain) == 6
    assert load_coverage(chain.store) == (Stretch(1, 4, with_calls=False), Stretch(5, 6, with_calls=True))
    assert heights_of(chain, ALICE) == [6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert heights_of(chain, LOGGER) == [6, 5], "it was called by a contract, and emits for another"
    assert heights_of(chain, DELEGATOR) == [6, 5, 4, 3, 2, 1], "it emitted"
    found = page(chain, LOGGER)
    assert (found.without_calls, found.without_blocks) == ((HeightRange(1, 4),), ())
    assert page(chain, LOGGER, size=1).without_calls == ()
    created_below = ask(chain, CreationQuestion(contract_address(MAKER, 1)))
    assert created_below == IndexIncomplete(HeightRange(1, 4), "without_calls")
    assert isinstance(ask(chain, NonceQuestion(BOB, 0)), NonceAnswer)


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
def test_a_build_that_was_killed_at_any_write_goes_on_where_it_stood(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("astralink_node.chain.index_building.BATCH_HEIGHTS", 2)
    disk = Disk()
    fill(LocalChain(FaultyStore(disk), genesis=GENESIS, config=config_of(indexed=False, window=4)), 7)
    whole = FaultyStore(disk.after_process_end())
    assert build_index(whole, open_chain(whole), lambda *_: None) == 7
    writes = whole.writes
    assert writes == 4
    left = []
    for at_write in range(1, writes + 1):
        dying = FaultyStore(disk.after_process_end(), fault, at_write)
        with pytest.raises(Crashed):
            build_index(dying, open_chain(dying), lambda *_: None)
        again = FaultyStore(dying.disk.after_power_failure())
        left.append(missing_heights(again))
        build_index(again, open_chain(again), lambda *_: None)
        assert dict(again.iterate(b"", b"\xff")) == dict(whole.iterate(b"", b"\xff"))
    assert left == ([7, 5, 3, 1] if fault is Fault.CRASH_BEFORE else [5, 3, 1, 0])


# --- Rollback, pruning, snapshots, checks ------------------------------------------------------------------------


def test_a_rollback_takes_its_blocks_entries_and_nothing_else() -> None:
    chain = grown(4)
    before = [dict(entries(grown(height))) for height in range(4)]
    for height in (3, 2, 1, 0):
        chain.store.write(rollback_head(chain.store), sync=True)
        assert entries(chain) == before[height]
        expected = (Stretch(1, height, with_calls=True),) if height else ()
        assert load_coverage(chain.store) == expected


def test_a_rollback_of_blocks_indexed_later_leaves_nothing_of_them() -> None:
    chain = grown(3, indexed=False)
    built(chain)
    for _ in range(3):
        chain.store.write(rollback_head(chain.store), sync=True)
    assert entries(chain) == {}


def test_pruning_drops_the_lists_and_keeps_the_entries() -> None:
    chain = grown(6)
    everything = {key: value for key, value in entries(chain).items() if key[:1] != keys.APPEARANCE_LISTS}
    writes, _ = prune_history(chain.store, 4, 10)
    chain.store.write(writes, sync=True)
    kept = {key for key, _ in chain.store.iterate(*keys.prefix_range(keys.APPEARANCE_LISTS))}
    assert kept == {keys.appearance_list_key(5), keys.appearance_list_key(6)}
    assert {key: value for key, value in entries(chain).items() if key not in kept} == everything
    assert heights_of(chain, BOB) == [6, 5, 4, 3, 2, 1]


def test_a_window_prunes_the_lists_as_blocks_are_committed() -> None:
    chain = grown(6, window=2)
    kept = [key for key, _ in chain.store.iterate(*keys.prefix_range(keys.APPEARANCE_LISTS))]
    assert kept == [keys.appearance_list_key(5), keys.appearance_list_key(6)]


def test_the_check_finds_a_missing_entry_and_none_in_a_whole_index() -> None:
    chain = grown(2)
    assert check_database(chain.store, lambda *_: None).problems == []
    for key in (
        keys.appearance_key(BOB, 2),
        keys.sender_nonce_key(ALICE, 0),
        keys.appearance_key(Address(LOGGER), 1),
    ):
        value = chain.store.get(key)
        assert value is not None
        chain.store.write({key: None}, sync=True)
        problems = check_database(chain.store, lambda *_: None).problems
        assert any("explorer index" in problem for problem in problems)
        chain.store.write({key: value}, sync=True)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (keys.appearance_list_key(2), "the explorer index's list of block 2: 1"),
        (keys.creation_key(Address(LOGGER)), "the explorer index's entry of contract 0x"),
    ],
    ids=["list", "creation"],
)
def test_a_rollback_stops_at_an_entry_of_the_wrong_length(key: bytes, words: str) -> None:
    chain = grown(2)
    chain.store.write({key: (chain.store.get(key) or b"") + b"\x01"}, sync=True)
    with pytest.raises(DatabaseDamaged, match=words):
        rollback_head(chain.store)


def test_a_node_that_joined_with_a_snapshot_indexes_from_its_first_block_on_and_says_what_lies_below() -> None:
    source = ServingChain(genesis_with(0), config=config_of(indexed=False, window=None))
    source.advance(2 * EPOCH)
    oldest = source.heights()[-1]
    store = new_store(source.genesis)
    newcomer = Execution.open(store, config_of(indexed=True, window=None), now_ns=time.monotonic_ns)
    import_from(source, oldest, newcomer)
    assert load_coverage(store) == ()
    source.advance(2)
    for height in range(oldest + 1, source.execution.status().head_height + 1):
        decided = source.execution.decided(height)
        assert isinstance(decided, Decided)
        valid = newcomer.validate(Validate(decided.raw_block))
        assert isinstance(valid, Valid), valid
        assert isinstance(newcomer.commit(Commit(valid.block_hash, decided.certificate)), Committed)
    head = newcomer.status().head_height
    assert load_coverage(store) == (
        Stretch(oldest, oldest, with_calls=False),
        Stretch(oldest + 1, head, with_calls=True),
    )
    sender = DEVNET_ACCOUNTS[0].address
    found = newcomer.query(Query(AtLatest(), AddressSearch(sender, 0, forward=False, page_size=25)))
    assert isinstance(found, AddressPage)
    assert {height for height, _ in places(found)} == set(range(oldest, head + 1))
    assert not found.has_more
    assert found.without_blocks == (HeightRange(1, oldest - 1),)
    assert found.without_calls == (HeightRange(oldest, oldest),)
    first_nonce = newcomer.query(Query(AtLatest(), NonceQuestion(sender, 0)))
    assert first_nonce == IndexIncomplete(HeightRange(1, oldest - 1), "without_blocks")
    forward = newcomer.query(Query(AtLatest(), AddressSearch(sender, 0, forward=True, page_size=1)))
    assert isinstance(forward, AddressPage)
    assert forward.without_blocks == (HeightRange(1, oldest - 1),)
