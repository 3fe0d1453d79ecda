"""A state that nobody commits is computed with looks at the clock, whatever takes long in it."""

from __future__ import annotations

import pytest

from astralink_node.state.accounts import EMPTY_ACCOUNT
from astralink_node.state.overlay import StateChanges
from astralink_node.state.uncommitted import READS_PER_CHECK, UncommittedState
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import EMPTY_TRIE_ROOT, Address

NEW_SLOTS = 4096


class Over(Exception):
    pass


class Clock:
    def __init__(self, looks: int) -> None:
        self.looks_left = looks

    def look(self) -> None:
        self.looks_left -= 1
        if not self.looks_left:
            raise Over


def many_new_slots() -> StateChanges:
    address = Address(b"\x01" * 20)
    slots = {address: dict.fromkeys(range(NEW_SLOTS), 1)}
    return StateChanges(accounts={address: EMPTY_ACCOUNT}, storage=slots, wiped=frozenset(), codes={}, touched=())


def test_the_trie_of_many_new_slots_is_interruptible() -> None:
    """Looking the slots up is a look at the clock every so often; the trie, for which nothing is read, many more."""
    clock = Clock(looks=NEW_SLOTS // READS_PER_CHECK + 200)
    state = UncommittedState(MemoryStore().snapshot(), EMPTY_TRIE_ROOT, clock.look)
    with pytest.raises(Over):
        state.add(many_new_slots())
    undisturbed = UncommittedState(MemoryStore().snapshot(), EMPTY_TRIE_ROOT)
    patient = UncommittedState(MemoryStore().snapshot(), EMPTY_TRIE_ROOT, Clock(looks=0).look)
    assert patient.add(many_new_slots()) == undisturbed.add(many_new_slots())
