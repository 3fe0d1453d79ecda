"""Uncommitted blocks leave the roots and the state that committing the same blocks would leave, and no trace."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.state.commitment import commit_changes
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.state.uncommitted import READS_PER_CHECK, UncommittedState
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import EMPTY_TRIE_ROOT, Address, Hash32

ADDRESSES = [Address(bytes([number]) * 20) for number in range(1, 5)]
SLOTS = range(4)

ACTIONS = st.one_of(
    st.tuples(st.just("balance"), st.sampled_from(ADDRESSES), st.integers(0, 3)),
    st.tuples(st.just("slot"), st.sampled_from(ADDRESSES), st.tuples(st.sampled_from(SLOTS), st.integers(0, 2))),
    st.tuples(st.just("code"), st.sampled_from(ADDRESSES), st.binary(max_size=3)),
    st.tuples(st.just("drop"), st.sampled_from(ADDRESSES), st.none()),
    st.tuples(st.just("delete"), st.sampled_from(ADDRESSES), st.none()),
)
BLOCKS = st.lists(st.lists(ACTIONS, max_size=8), min_size=1, max_size=6)


def apply(overlay: Overlay, actions: list[tuple[str, Address, object]]) -> None:
    for name, address, value in actions:
        match name, value:
            case "balance", int(balance):
                overlay.set_balance(address, balance)
            case "slot", (int(slot), int(word)):
                overlay.set_storage(address, slot, word)
            case "code", bytes(code):
                overlay.set_code(address, code)
            case "drop", _:
                overlay.delete_storage(address)
            case "delete", _:
                overlay.delete_account(address)
    overlay.begin_transaction()


class Committed:
    """The same on a store that is written to."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.root: Hash32 = EMPTY_TRIE_ROOT

    def add(self, actions: list[tuple[str, Address, object]]) -> None:
        overlay = Overlay(HeadState(self.store))
        apply(overlay, actions)
        update = commit_changes(self.store, self.root, overlay.changes())
        self.store.write(update.writes, sync=False)
        self.root = update.state_root


@settings(max_examples=120)
@given(base=st.lists(ACTIONS, max_size=12), blocks=BLOCKS)
def test_uncommitted_blocks_are_as_committed_ones(base: list, blocks: list[list]) -> None:  # type: ignore[type-arg]
    committed, untouched = Committed(), Committed()
    committed.add(base)
    untouched.add(base)
    before = list(untouched.store.iterate(b"\x00", b"\xff"))
    state = UncommittedState(untouched.store, untouched.root)
    for actions in blocks:
        committed.add(actions)
        overlay = Overlay(HeadState(state))
        apply(overlay, actions)
        assert state.add(overlay.changes()) == committed.root == state.state_root
        for address in ADDRESSES:
            ours, theirs = HeadState(state), HeadState(committed.store)
            assert ours.account(address) == theirs.account(address)
            assert [ours.storage(address, slot) for slot in SLOTS] == [theirs.storage(address, slot) for slot in SLOTS]
    assert list(untouched.store.iterate(b"\x00", b"\xff")) == before


@pytest.mark.parametrize("accounts", [1, 100])
def test_computing_a_root_looks_at_the_interrupt_all_along(accounts: int) -> None:
    looks: list[None] = []
    state = UncommittedState(MemoryStore(), EMPTY_TRIE_ROOT, lambda: looks.append(None))
    overlay = Overlay(HeadState(state))
    slots = 20 * READS_PER_CHECK // accounts
    for number in range(accounts):
        address = Address(number.to_bytes(20, "big"))
        overlay.set_balance(address, 1)
        for slot in range(slots):
            overlay.set_storage(address, slot, 1)
    overlay.begin_transaction()
    changes = overlay.changes()
    looks.clear()
    state.add(changes)
    assert len(looks) >= accounts * slots // READS_PER_CHECK
