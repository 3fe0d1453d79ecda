"""Which addresses take part in a transaction, and which contracts it leaves behind: what an explorer's index holds.

A collector is shown every finished call and creation. It is no tracer: opcodes still run in the fast loop, and a
block that nobody indexes has none. Calls that fail, or that a caller undoes, count as well: a
call trace names them, too. The protocol's own calls belong to no transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from astralink_node.evm.delegation import delegate_of
from astralink_node.types import Address

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation
    from astralink_node.state.overlay import Overlay


@dataclass(frozen=True, slots=True)
class Creation:
    """A contract that stands when its transaction has ended."""

    address: Address
    creator: Address
    """The sender, or the contract that ran CREATE or CREATE2."""


@dataclass(frozen=True, slots=True)
class Appearances:
    """Of one transaction."""

    addresses: tuple[Address, ...]
    """Each once, rising: sender, recipient or created contract, both ends of every call, beneficiaries."""
    creations: tuple[Creation, ...]
    """By address, rising."""


class AddressCollector:
    """Of one transaction at a time."""

    __slots__ = ("_addresses", "_creators")

    def __init__(self) -> None:
        self._addresses: set[bytes] = set()
        self._creators: dict[Address, Address] = {}

    def begin(self) -> None:
        """Forget what was seen: a transaction starts."""
        self._addresses.clear()
        self._creators.clear()

    def on_frame(self, computation: Computation) -> None:
        """A call or creation has ended. The caller is seen as its own caller's callee, or is the sender.

        Of an account that delegates (EIP-7702) both it and the account whose code it runs are seen; where a
        DELEGATECALL borrows that code, the latter alone.
        """
        message = computation.msg
        self._addresses.update(computation.beneficiaries)
        self._addresses.add(message.storage_address)
        if message.is_create:
            self._creators[message.storage_address] = message.sender
        else:
            self._addresses.add(message.code_address)
        if message.is_delegation and not message.depth:  # the root call names the account alone
            delegate = delegate_of(computation.state.overlay.get_code(message.storage_address))
            self._addresses.update(() if delegate is None else (delegate,))

    def finish(self, sender: Address, target: Address, overlay: Overlay) -> Appearances:
        """After the transaction. `target` is its recipient, or what it deploys."""
        addresses = {sender, target, *map(Address, self._addresses)}
        if not self._creators:
            return Appearances(tuple(sorted(addresses)), ())
        # A creation that failed, was undone or destroyed itself leaves no nonce (EIP-161, EIP-6780).
        standing = (address for address in sorted(self._creators) if overlay.get_nonce(address))
        creations = tuple(Creation(address, self._creators[address]) for address in standing)
        return Appearances(tuple(sorted(addresses)), creations)
