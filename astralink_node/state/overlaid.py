"""The state as an overlay has it now, to be read by another overlay that stands on it."""

from __future__ import annotations

from astralink_node.state.accounts import Account
from astralink_node.state.overlay import Overlay
from astralink_node.types import Address, Hash32


class OverlaidState:
    """A StateReader. The overlay below must not change while this is in use."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._owners: dict[Hash32, Address] = {}
        """Somebody with that code, of all accounts that were asked for."""

    def account(self, address: Address) -> Account | None:
        account = self._overlay.account(address)
        if account is not None:
            self._owners[account.code_hash] = address
        return account

    def storage(self, address: Address, slot: int) -> int:
        return self._overlay.get_storage(address, slot)

    def code(self, code_hash: Hash32) -> bytes:
        """Of an account that was asked for before."""
        return self._overlay.get_code(self._owners[code_hash])
