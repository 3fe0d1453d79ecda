"""Random blocks: every height can be read and proved from the present, and undone to the byte."""

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.check import check_state
from astralink_node.state.commitment import commit_changes
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.state.proofs import account_proof
from astralink_node.state.reverse_diffs import (
    HistoricalReader,
    HistoricalState,
    prune_writes,
    reverse_diff,
    rollback_writes,
)
from astralink_node.storage.keys import DIFF_LISTS, DIFFS, prefix_range
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import EMPTY_TRIE_ROOT, Address, Hash32
from tests.support.reference_tries import reference_state_root

ADDRESSES = [Address(bytes([number]) * 20) for number in range(6)]
SLOTS = [0, 1, 7]

SLOT_WRITE = st.tuples(st.sampled_from(ADDRESSES), st.sampled_from(SLOTS), st.integers(0, 3))
BALANCE_WRITE = st.tuples(st.sampled_from(ADDRESSES), st.none(), st.integers(0, 3))
DELETION = st.tuples(st.sampled_from(ADDRESSES), st.just(-1), st.just(0))
CODE_WRITE = st.tuples(st.sampled_from(ADDRESSES), st.just(-2), st.integers(0, 3))
BLOCK = st.lists(st.one_of(SLOT_WRITE, BALANCE_WRITE, DELETION, CODE_WRITE), max_size=8)
BLOCKS = st.lists(BLOCK, min_size=1, max_size=8)

State = dict[Address, tuple[int, bytes, dict[int, int]]]
"""Balance, code, slots."""


def _apply(overlay: Overlay, state: State, block: list[tuple[Address, int | None, int]]) -> None:
    for address, what, value in block:
        balance, code, slots = state.get(address, (0, b"", {}))
        if what is None:
            overlay.set_balance(address, value)
            state[address] = (value, code, slots)
        elif what == -1:
            overlay.delete_account(address)
            state.pop(address, None)
        elif what == -2:
            overlay.set_code(address, bytes(value))
            state[address] = (balance, bytes(value), slots)
        elif slots.get(what, 0) != value:
            overlay.set_storage(address, what, value)
            state[address] = (balance, code, {**slots, what: value})


def _content(store: MemoryStore) -> dict[bytes, bytes]:
    return dict(store.iterate(b"", b"\xff" * 8))


def _state_root(state: State) -> bytes:
    accounts = {address: (0, balance, code) for address, (balance, code, _) in state.items()}
    return reference_state_root(accounts, {address: slots for address, (_, _, slots) in state.items()})


class _History:
    """The store after all blocks, and what it and the state were after each."""

    def __init__(self, blocks: list[list[tuple[Address, int | None, int]]]) -> None:
        self.store = MemoryStore()
        self.roots: list[Hash32] = [EMPTY_TRIE_ROOT]
        self.states: list[State] = [{}]
        self.contents = [_content(self.store)]
        for height, block in enumerate(blocks, start=1):
            overlay = Overlay(HeadState(self.store))
            state = dict(self.states[-1])
            _apply(overlay, state, block)
            update = commit_changes(self.store, self.roots[-1], overlay.changes())
            self.store.write({**update.writes, **reverse_diff(update.previous, height)}, sync=True)
            self.roots.append(update.state_root)
            self.states.append(state)
            self.contents.append(_content(self.store))


@settings(deadline=None, max_examples=60)
@given(blocks=BLOCKS)
def test_every_height_reads_as_it_was_left(blocks: list[list[tuple[Address, int | None, int]]]) -> None:
    history = _History(blocks)
    for height, expected in enumerate(history.states):
        state = HistoricalState(history.store, height)
        assert history.roots[height] == _state_root(expected)
        for address in ADDRESSES:
            account = state.account(address)
            assert (account is not None) == (address in expected)
            balance, code, slots = expected.get(address, (0, b"", {}))
            assert {slot: state.storage(address, slot) for slot in SLOTS} == {
                slot: slots.get(slot, 0) for slot in SLOTS
            }
            if account is not None:
                assert account.balance == balance
                assert account.code_hash == keccak256(code)
                assert state.code(account.code_hash) == code


@settings(deadline=None, max_examples=40)
@given(blocks=BLOCKS)
def test_every_height_is_proved_against_its_own_root(blocks: list[list[tuple[Address, int | None, int]]]) -> None:
    history = _History(blocks)
    for height, expected in enumerate(history.states):
        reader = HistoricalReader(history.store, height)
        for address in ADDRESSES:
            proof = account_proof(reader, history.roots[height], address, SLOTS)
            _balance, _code, slots = expected.get(address, (0, b"", {}))
            assert (proof.account is not None) == (address in expected)
            assert [slot.value for slot in proof.storage] == [slots.get(slot, 0) for slot in SLOTS]


@settings(deadline=None, max_examples=60)
@given(blocks=BLOCKS)
def test_rolling_back_leaves_the_very_database_of_before(blocks: list[list[tuple[Address, int | None, int]]]) -> None:
    history = _History(blocks)
    for height in range(len(blocks), 0, -1):
        history.store.write(rollback_writes(history.store, height), sync=True)
        assert _content(history.store) == history.contents[height - 1]
        check_state(history.store, history.roots[height - 1], lambda totals: None)


@settings(deadline=None, max_examples=40)
@given(blocks=BLOCKS, pruned=st.integers(0, 8))
def test_pruning_keeps_the_heights_above_it(blocks: list[list[tuple[Address, int | None, int]]], pruned: int) -> None:
    history = _History(blocks)
    oldest = min(pruned, len(blocks))
    for height in range(1, oldest + 1):
        history.store.write(prune_writes(history.store, height), sync=True)
        assert prune_writes(history.store, height) == {}
    for height in range(oldest, len(blocks) + 1):
        state = HistoricalState(history.store, height)
        balances = {address: state.account(address) for address in ADDRESSES}
        assert {address: account.balance for address, account in balances.items() if account is not None} == {
            address: balance for address, (balance, _, _) in history.states[height].items()
        }
    if oldest == len(blocks):
        assert not _entries(history.store, DIFFS)
        assert not _entries(history.store, DIFF_LISTS)


def _entries(store: MemoryStore, prefix: bytes) -> Mapping[bytes, bytes]:
    return dict(store.iterate(*prefix_range(prefix)))
