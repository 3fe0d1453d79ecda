"""A whole state in memory, made from a genesis allocation in geth's JSON form: for test fixtures and tools.

It runs the same overlay, trie and key layout as a node does over LevelDB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from astralink_node.errors import AstraLinkError
from astralink_node.state.commitment import commit_changes
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import EMPTY_TRIE_ROOT, Address, Hash32


class MalformedAlloc(AstraLinkError):
    """An allocation with a field that is no number, address or byte string."""


class ScratchState:
    """A committed state, and overlays on it."""

    def __init__(self, alloc: Mapping[str, Mapping[str, Any]]) -> None:
        self._store = MemoryStore()
        self.root = EMPTY_TRIE_ROOT
        overlay = self.overlay()
        for raw_address, fields in alloc.items():
            _set_account(overlay, Address(parse_bytes(raw_address, length=20)), fields)
        self.commit(overlay)

    def head(self) -> HeadState:
        return HeadState(self._store)

    def overlay(self) -> Overlay:
        return Overlay(self.head())

    def root_after(self, overlay: Overlay) -> Hash32:
        """The state root with the overlay's changes, without keeping them."""
        return commit_changes(self._store, self.root, overlay.changes()).state_root

    def commit(self, overlay: Overlay) -> Hash32:
        """Fold the overlay's changes in; the overlay is of no further use."""
        update = commit_changes(self._store, self.root, overlay.changes())
        self._store.write(update.writes, sync=False)
        self.root = update.state_root
        return self.root


def _set_account(overlay: Overlay, address: Address, fields: Mapping[str, Any]) -> None:
    overlay.set_balance(address, parse_integer(fields.get("balance", 0)))
    overlay.set_nonce(address, parse_integer(fields.get("nonce", 0)))
    code = parse_bytes(fields.get("code", "0x"))
    if code:
        overlay.set_code(address, code)
    for slot, value in fields.get("storage", {}).items():
        overlay.set_storage(address, parse_integer(slot), parse_integer(value))


def parse_integer(value: object) -> int:
    """A JSON number, or a string: hexadecimal with 0x, otherwise decimal."""
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        try:
            return int(value, 16) if value[:2].lower() == "0x" else int(value or "0", 10)
        except ValueError:
            pass
    raise MalformedAlloc(f"expected a number, found {value!r}")


def parse_bytes(value: object, *, length: int | None = None) -> bytes:
    if isinstance(value, str):
        try:
            parsed = bytes.fromhex(value[2:] if value[:2].lower() == "0x" else value)
        except ValueError:
            parsed = None
        if parsed is not None and length in (None, len(parsed)):
            return parsed
    wanted = "bytes" if length is None else f"{length} bytes"
    raise MalformedAlloc(f"expected {wanted} in hexadecimal, found {value!r}")
