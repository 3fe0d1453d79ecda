"""Accounts and slots by hash, at any height and before any transaction: against a model that keeps plain dicts."""

from __future__ import annotations

import random
from typing import TypeVar

import pytest

from astralink_node.chain.call_messages import CallFailed
from astralink_node.chain.codec import decode, encode
from astralink_node.chain.commits import HistoryWindow
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import (
    Answer,
    AtHash,
    AtHeight,
    AtLatest,
    BlockSelector,
    Candidate,
    HistoryUnavailable,
    LimitExceeded,
    NotFound,
    Query,
    Question,
)
from astralink_node.chain.preimages import LOW_SLOTS, slot_hash
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.chain.replay_messages import (
    AccountRange,
    AccountRangeQuestion,
    IntermediateRoots,
    IntermediateRootsQuestion,
    ListedAccount,
    ModifiedAccounts,
    ModifiedAccountsQuestion,
    StorageRange,
    StorageRangeQuestion,
)
from astralink_node.chain.trace_messages import StreamEnd, TracePart
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import decode_block
from astralink_node.state.accounts import decode_account
from astralink_node.storage.keys import ACCOUNTS, prefix_range
from astralink_node.types import Address
from consensus.epoch import is_election
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.schema import GenesisAccount
from tests.support.chains import CONTRACTS, COUNTER, REVERTER, LocalChain, candidate, genesis_text
from tests.support.staking_chains import eventful_chain

KEEPER = Address(bytes.fromhex("5e" * 20))
"""Stores the second word of its input in the slot that the first names."""
GIVEN = {1: 11, 2**200: 5, 2**201: 6}
"""Its storage at genesis."""
ALICE = DEVNET_ACCOUNTS[0].address
Part = TypeVar("Part")


def new_chain(config: ExecutionConfig | None = None) -> LocalChain:
    keeper = GenesisAccount(0, 1, bytes.fromhex("6020355f355500"), tuple(GIVEN.items()))
    return LocalChain(genesis=genesis_text(extra_alloc={**CONTRACTS, KEEPER: keeper}), config=config)


def written(nonce: int, slot: int, value: int) -> Candidate:
    return candidate(
        0, nonce, to=KEEPER, value=0, gas=100_000, data=slot.to_bytes(32, "big") + value.to_bytes(32, "big")
    )


def ask(chain: LocalChain, question: Question, at: BlockSelector) -> Answer:
    return chain.execution.query(Query(at, question))


def replayed(chain: LocalChain, question: Question, at: BlockSelector, expected: type[Part]) -> Part:
    """The only part of the answer, as it arrives."""
    parts: list[TracePart] = []
    query: Query = decode(Query, encode(Query(at, question)))
    assert chain.execution.query(query, emit=parts.append) == StreamEnd()
    (part,) = parts
    assert isinstance(part, expected)
    assert decode(expected, encode(part)) == part
    return part


def refusal(chain: LocalChain, question: Question, at: BlockSelector) -> Answer:
    parts: list[TracePart] = []
    ending = chain.execution.query(Query(at, question), emit=parts.append)
    assert not parts
    return ending


# --- Storage before a transaction ------------------------------------------------------------------------------


def storage(
    chain: LocalChain, height: int, index: int, start: bytes = b"", count: int = 100, address: bytes = KEEPER
) -> StorageRange:
    return replayed(chain, StorageRangeQuestion(index, address, start, count), AtHeight(height), StorageRange)


def test_storage_before_every_transaction_is_what_a_plain_dict_holds() -> None:
    chance = random.Random(20)
    chain = new_chain()
    model = dict(GIVEN)
    before: list[list[dict[int, int]]] = []
    nonce = 0
    for _ in range(6):
        moments, candidates = [dict(model)], []
        for _ in range(chance.randrange(5)):
            slot, value = (
                chance.choice([1, 2, 3, 2**200, 2**255, *range(300, 306)]),
                chance.choice([0, 0, 7, 2**256 - 1]),
            )
            candidates.append(written(nonce, slot, value))
            nonce += 1
            model[slot] = value
            moments.append(dict(model))
        before.append(moments)
        chain.produce(candidates)
    for height, moments in enumerate(before, start=1):
        for index, moment in enumerate(moments[:-1] or moments):
            expected = sorted((slot_hash(slot), value) for slot, value in moment.items() if value)
            found = storage(chain, height, index)
            assert [(each.slot_hash, each.value) for each in found.slots] == expected, (height, index)
            assert all(each.slot is None or slot_hash(each.slot) == each.slot_hash for each in found.slots)
            assert not found.next_hash
            _check_pages(chain, height, index, expected)


def _check_pages(chain: LocalChain, height: int, index: int, expected: list[tuple[bytes, int]]) -> None:
    """The whole in pages of two; each begins at the hash that the one before named."""
    start, collected = b"", []
    while True:
        page = storage(chain, height, index, start, 2)
        collected += [(each.slot_hash, each.value) for each in page.slots]
        if not page.next_hash:
            break
        assert len(page.slots) == 2
        start = page.next_hash
    assert collected == expected
    if expected:
        prefix = expected[len(expected) // 2][0][:1]
        found = storage(chain, height, index, prefix)
        assert [each.slot_hash for each in found.slots] == [key for key, _ in expected if key >= prefix]


def test_slots_are_named_if_they_are_low_or_in_genesis_or_written_in_the_block() -> None:
    chain = new_chain()
    unnamed = LOW_SLOTS + 1
    chain.produce([written(0, 2, 1), written(1, unnamed, 1), written(2, 2, 0)])
    chain.produce([written(3, 4, 1), written(4, 2**200, 8)])
    names = {each.slot_hash: each.slot for each in storage(chain, 1, 2).slots}
    assert names == {slot_hash(slot): slot for slot in (1, 2, unnamed, 2**200, 2**201)}
    names = {each.slot_hash: each.slot for each in storage(chain, 2, 1).slots}
    assert names[slot_hash(unnamed)] is None
    assert {slot for slot in names.values() if slot is not None} == {1, 4, 2**200, 2**201}


def test_accounts_without_storage_and_strangers_have_an_empty_range() -> None:
    chain = new_chain()
    chain.produce([candidate(0, 0)])
    for address in (ALICE, bytes(19) + b"\x99"):
        assert storage(chain, 1, 0, address=address) == StorageRange((), b"")


def test_storage_that_went_with_its_account_is_gone_also_when_the_account_is_back() -> None:
    """An empty account that genesis gave storage goes when it is touched (EIP-161)."""
    ghost = Address(bytes(19) + b"\x66")
    chain = LocalChain(genesis=genesis_text(extra_alloc={ghost: GenesisAccount(0, 0, b"", ((1, 1),))}))
    chain.produce([candidate(0, nonce, to=ghost, value=value) for nonce, value in enumerate((0, 1, 0))])
    chain.produce([candidate(0, 3)])
    assert [each.slot for each in storage(chain, 1, 0, address=ghost).slots] == [1]
    for height, index in ((1, 1), (1, 2), (2, 0)):
        assert storage(chain, height, index, address=ghost) == StorageRange((), b""), (height, index)
    assert len(roots(chain, 1)) == 3
    assert roots(chain, 1)[-1] == Ledger(chain.store).header(1).state_root


def test_no_slots_may_be_asked_for_and_more_than_the_bound_are_left_for_the_next_page() -> None:
    chain = new_chain(ExecutionConfig(query_limits=QueryLimits(max_range_slots=2)))
    chain.produce([candidate(0, 0)])
    hashes = sorted(slot_hash(slot) for slot in GIVEN)
    assert storage(chain, 1, 0, count=0) == StorageRange((), hashes[0])
    page = storage(chain, 1, 0)
    assert ([each.slot_hash for each in page.slots], page.next_hash) == (hashes[:2], hashes[2])


@pytest.mark.parametrize(
    ("height", "question", "words"),
    [
        (0, StorageRangeQuestion(0, KEEPER, b"", 1), "no transaction in genesis"),
        (1, StorageRangeQuestion(1, KEEPER, b"", 1), "transaction index 1 out of range for block 0x"),
        (2, StorageRangeQuestion(1, KEEPER, b"", 1), "transaction index 1 out of range for block 0x"),
        (1, StorageRangeQuestion(-1, KEEPER, b"", 1), "not below 0"),
        (1, StorageRangeQuestion(0, KEEPER, b"", -1), "not below 0"),
        (1, StorageRangeQuestion(0, b"\1", b"", 1), "expected an address"),
        (1, StorageRangeQuestion(0, KEEPER, bytes(33), 1), "expected an address"),
        (0, IntermediateRootsQuestion(), "genesis is not traceable"),
        (1, ModifiedAccountsQuestion(1), "in their order"),
        (1, ModifiedAccountsQuestion(-1), "in their order"),
    ],
)
def test_what_cannot_be_is_refused(height: int, question: Question, words: str) -> None:
    chain = new_chain()
    chain.produce([candidate(0, 0)])
    chain.produce([])
    answer = refusal(chain, question, AtHeight(height))
    assert isinstance(answer, CallFailed)
    assert words in answer.message


def test_outside_the_window_and_beyond_the_head_nothing_is_answered() -> None:
    chain = new_chain(ExecutionConfig(window=HistoryWindow(2)))
    for nonce in range(6):
        chain.produce([written(nonce, 1, nonce + 1)])
    gone = HistoryUnavailable(3, 4)
    assert refusal(chain, StorageRangeQuestion(0, KEEPER, b"", 1), AtHeight(4)) == gone
    assert refusal(chain, IntermediateRootsQuestion(), AtHeight(4)) == gone
    assert refusal(chain, ModifiedAccountsQuestion(3), AtHeight(6)) == gone
    assert ask(chain, AccountRangeQuestion(b"", 1, True, True, True), AtHeight(3)) == gone
    found = storage(chain, 5, 0)
    assert {each.slot: each.value for each in found.slots} == {**GIVEN, 1: 4}
    for question in (StorageRangeQuestion(0, KEEPER, b"", 1), IntermediateRootsQuestion(), ModifiedAccountsQuestion(4)):
        for at in (AtHeight(7), AtHash(b"\x01" * 32)):
            assert isinstance(refusal(chain, question, at), NotFound)


# --- Roots and changes -------------------------------------------------------------------------------------------


def roots(chain: LocalChain, height: int) -> list[bytes]:
    return list(replayed(chain, IntermediateRootsQuestion(), AtHeight(height), IntermediateRoots).roots)


def test_each_root_is_that_of_a_block_which_ends_with_the_transaction() -> None:
    chain = new_chain()
    chain.produce([written(0, 9, 9)])
    candidates = [
        written(1, 9, 0),
        candidate(1, 0, to=COUNTER, value=0, gas=100_000),
        candidate(0, 2, to=REVERTER, value=0, gas=100_000),
        candidate(2, 0, to=b"", value=0, gas=200_000, data=bytes.fromhex("6001600055600160015560016000f3")),
        written(3, 9, 1),
    ]
    expected = [
        decode_block(chain.build(candidates[:count]).raw_block).block.header.state_root
        for count in range(1, len(candidates) + 1)
    ]
    chain.produce(candidates)
    chain.produce([written(4, 9, 2)])
    assert roots(chain, 2) == expected
    assert len(set(expected)) == len(expected)


def test_with_staking_the_last_root_is_the_blocks_unless_an_election_follows() -> None:
    chain = eventful_chain()
    ledger = Ledger(chain.store)
    compared = 0
    for height in range(1, chain.head_height + 1):
        found = roots(chain, height)
        assert len(found) == len(ledger.receipts(height))
        if found and not is_election(height, chain.execution.context.genesis.epoch_length):
            assert found[-1] == ledger.header(height).state_root
            compared += 1
    assert compared


def test_modified_accounts_are_those_in_which_two_states_differ() -> None:
    chain = new_chain()
    nonce = 0
    for number in range(5):
        transactions = [candidate(0, nonce, to=bytes(19) + bytes([0x80 + number])), written(nonce + 1, 3, number % 2)]
        nonce += 2
        chain.produce(transactions if number != 2 else [])
        nonce = nonce if number != 2 else nonce - 2
    states = [{each.address_hash: each for each in listed(chain, height)} for height in range(6)]
    for since in range(5):
        for height in range(since + 1, 6):
            question = ModifiedAccountsQuestion(since)
            found = replayed(chain, question, AtHeight(height), ModifiedAccounts).addresses
            differ = [key for key, account in states[height].items() if states[since].get(key) != account]
            assert [keccak256(address) for address in found] == sorted(differ)
    empty = replayed(chain, ModifiedAccountsQuestion(2), AtHeight(3), ModifiedAccounts).addresses
    assert ALICE not in empty
    assert empty, "system calls store hashes in every block"


def test_blocks_that_are_executed_again_for_one_question_are_bounded() -> None:
    chain = new_chain(ExecutionConfig(query_limits=QueryLimits(max_replayed_heights=2)))
    for nonce in range(3):
        chain.produce([candidate(0, nonce)])
    assert refusal(chain, ModifiedAccountsQuestion(0), AtHeight(3)) == LimitExceeded(
        "at most 2 blocks may be executed again, asked for 3"
    )
    assert ALICE in replayed(chain, ModifiedAccountsQuestion(1), AtHeight(3), ModifiedAccounts).addresses


# --- Accounts ----------------------------------------------------------------------------------------------------


def page_of(chain: LocalChain, at: BlockSelector, start: bytes = b"", count: int = 256, **chosen: bool) -> AccountRange:
    wanted = {"with_code": True, "with_storage": True, "with_unknown": True, **chosen}
    answer = ask(chain, AccountRangeQuestion(start, count, **wanted), at)
    assert isinstance(answer, AccountRange)
    return answer


def listed(chain: LocalChain, height: int, count: int = 256) -> list[ListedAccount]:
    """All accounts, page by page."""
    start = b""
    accounts: list[ListedAccount] = []
    while True:
        page = page_of(chain, AtHeight(height), start, count)
        accounts += page.accounts
        if not page.next_hash:
            return accounts
        start = page.next_hash


def test_accounts_of_every_height_are_those_that_stood_in_the_tables_then() -> None:
    chain = new_chain()
    then = [listed(chain, 0)]
    for number in range(4):
        chain.produce(
            [
                candidate(0, 2 * number, to=bytes(19) + bytes([0x80 + number])),
                written(2 * number + 1, number, 1 - number % 2),
            ]
        )
        then.append(listed(chain, number + 1))
        flat = {key[1:]: value for key, value in chain.store.iterate(*prefix_range(ACCOUNTS))}
        assert [each.address_hash for each in then[-1]] == sorted(flat)
        for each in then[-1]:
            found = (each.nonce, each.balance_wei, each.storage_root, each.code_hash)
            assert found == decode_account(flat[each.address_hash])
    for height, accounts in enumerate(then):
        assert listed(chain, height) == accounts
        assert listed(chain, height, count=3) == accounts
    keeper = next(each for each in then[4] if each.address == KEEPER)
    assert {each.slot: each.value for each in keeper.slots} == {0: 1, 2: 1, 2**200: 5, 2**201: 6}
    assert keccak256(keeper.code) == keeper.code_hash
    newcomers = [each for each in then[4] if not each.address]
    assert keccak256(bytes(19) + b"\x80") in {each.address_hash for each in newcomers}


def test_accounts_whose_address_is_not_known_are_left_out_unless_asked_for() -> None:
    chain = new_chain()
    chain.produce([candidate(0, 0, to=bytes(19) + b"\x80")])
    everybody = page_of(chain, AtLatest())
    known = page_of(chain, AtLatest(), with_unknown=False)
    assert known.accounts == tuple(each for each in everybody.accounts if each.address)
    assert {each.address for each in known.accounts} >= {ALICE, KEEPER}
    first = page_of(chain, AtLatest(), count=1, with_unknown=False)
    assert (first.accounts, first.next_hash) == (known.accounts[:1], known.accounts[1].address_hash)
    rest = page_of(chain, AtLatest(), first.next_hash, with_unknown=False)
    assert rest.accounts == known.accounts[1:]


def test_code_and_storage_are_left_out_where_they_are_not_wanted() -> None:
    chain = new_chain()
    bare = page_of(chain, AtLatest(), with_code=False, with_storage=False)
    assert not any(each.code or each.slots for each in bare.accounts)
    whole = page_of(chain, AtLatest())
    assert [each.storage_root for each in bare.accounts] == [each.storage_root for each in whole.accounts]


def test_a_page_ends_where_its_storage_has_become_large_and_one_account_may_be_too_large() -> None:
    stored = sum(len(each.slots) for each in listed(new_chain(), 0))
    largest = max(len(each.slots) for each in listed(new_chain(), 0))
    chain = new_chain(ExecutionConfig(query_limits=QueryLimits(max_range_slots=largest)))
    assert stored > largest
    assert page_of(chain, AtLatest()).next_hash
    assert listed(chain, 0) == listed(new_chain(), 0)
    chain = new_chain(ExecutionConfig(query_limits=QueryLimits(max_range_slots=largest - 1)))
    start = b""
    while isinstance(
        answer := ask(chain, AccountRangeQuestion(start, 256, True, True, True), AtLatest()), AccountRange
    ):
        start = answer.next_hash
        assert start, "some account is too large"
    assert isinstance(answer, LimitExceeded)
    assert f"more than {largest - 1} slots" in answer.message


def test_a_page_that_takes_too_long_is_refused() -> None:
    chain = LocalChain(now_ns=iter(range(0, 10**15, 10**9)).__next__)
    chain.produce([candidate(0, 0)])
    for _ in range(70):
        chain.produce([])
    answer = ask(chain, AccountRangeQuestion(b"", 256, True, True, True), AtHeight(1))
    assert answer == LimitExceeded("the answer takes longer than 5000 ms")


@pytest.mark.parametrize(
    "question", [AccountRangeQuestion(bytes(33), 1, True, True, True), AccountRangeQuestion(b"", 0, True, True, True)]
)
def test_a_page_that_cannot_be_is_refused(question: AccountRangeQuestion) -> None:
    assert isinstance(ask(new_chain(), question, AtLatest()), CallFailed)
