"""Which address or slot a hash of the state belongs to, where that is known.

The state is keyed by hashes, and nothing records what they are of. Known are what the genesis file names and the low
slots in which compilers keep a contract's variables; who executes a block knows what that block wrote, besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.types import Address
from genesis.schema import GenesisFile

LOW_SLOTS: Final = 256


class Preimages:
    def __init__(self, genesis: GenesisFile) -> None:
        self._genesis = genesis

    @cached_property
    def addresses(self) -> Mapping[bytes, Address]:
        """By hash, hashes rising: the genesis file's accounts."""
        return dict(sorted((keccak256(address), address) for address in self._genesis.alloc))

    def slots(self, address: bytes | None, written: Iterable[int] = ()) -> Mapping[bytes, int]:
        """By hash: slots of an account that may be in its storage. `written` are such that the caller knows."""
        account = None if address is None else self._genesis.alloc.get(Address(address))
        given = () if account is None else (slot for slot, _ in account.storage)
        return {**_low_slots(), **{slot_hash(slot): slot for slot in (*given, *written)}}


def slot_hash(slot: int) -> bytes:
    return keccak256(slot.to_bytes(32, "big"))


@lru_cache(maxsize=1)
def _low_slots() -> Mapping[bytes, int]:
    return {slot_hash(slot): slot for slot in range(LOW_SLOTS)}
