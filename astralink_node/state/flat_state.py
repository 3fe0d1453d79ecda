"""Reading the state by account and slot: one database read each, no trie.

:class:`HeadState` reads the present. Over a reader of the past it would read the past, and that is all that
``reverse_diffs.HistoricalState`` is.
"""

from typing import Protocol

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.accounts import Account, decode_account
from astralink_node.state.errors import StateDamaged
from astralink_node.storage.keys import ACCOUNTS, STORAGE, code_key
from astralink_node.storage.store import PointReader
from astralink_node.types import EMPTY_CODE_HASH, Address, Hash32


class StateReader(Protocol):
    """The state at one height."""

    def account(self, address: Address) -> Account | None: ...

    def storage(self, address: Address, slot: int) -> int:
        """The value of a slot; 0 if it was never set, or if there is no such account."""
        ...

    def code(self, code_hash: Hash32) -> bytes:
        """The code with this hash, which some account has. Raises StateDamaged if it is not there."""
        ...


class HeadState:
    """The state that the flat tables hold."""

    __slots__ = ("_get", "reader")

    def __init__(self, reader: PointReader) -> None:
        self.reader = reader
        self._get = reader.get

    def account(self, address: Address) -> Account | None:
        raw_account = self._get(ACCOUNTS + keccak256(address))
        return None if raw_account is None else decode_account(raw_account)

    def storage(self, address: Address, slot: int) -> int:
        raw_value = self._get(STORAGE + keccak256(address) + keccak256(slot.to_bytes(32, "big")))
        return 0 if raw_value is None else int.from_bytes(raw_value, "big")

    def code(self, code_hash: Hash32) -> bytes:
        if code_hash == EMPTY_CODE_HASH:
            return b""
        code = self._get(code_key(code_hash))
        if code is None:
            raise StateDamaged(f"code {code_hash.hex()}", "its bytes", "nothing")
        return code
