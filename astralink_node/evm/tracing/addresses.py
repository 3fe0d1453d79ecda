"""Which addresses appear in a transaction's calls, and which contracts it created: for an index over blocks.

Made for normal execution: set as ``frame_watcher`` it is called once a call, and no opcode is watched. A plain transfer
makes no call and a creation whose address is taken none either, so the caller adds sender and recipient by itself.
Gas bounds what is collected: an address costs 2,600 when it is first met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from astralink_node.types import Address

if TYPE_CHECKING:
    from astralink_node.evm.vm import Computation


@dataclass(frozen=True, slots=True)
class Creation:
    address: Address
    creator: Address
    """Who executed the CREATE, or sent the transaction."""


@dataclass(frozen=True, slots=True)
class FrameAddresses:
    addresses: tuple[Address, ...]
    """Senders, recipients, accounts whose code ran, created addresses and beneficiaries, in ascending order; of
    reverted calls too."""
    creations: tuple[Creation, ...]
    """Those that stand, in the order in which they ended; also if the contract destroyed itself later."""


class AddressCollector:
    """Call :meth:`take` after each transaction."""

    def __init__(self) -> None:
        self._addresses: set[Address] = set()
        self._creations: list[tuple[int, Creation]] = []
        """With the depth of the outermost finished call that they are part of."""

    def take(self) -> FrameAddresses:
        """What the transaction touched; the collector is empty again."""
        taken = FrameAddresses(tuple(sorted(self._addresses)), tuple(creation for _, creation in self._creations))
        self._addresses.clear()
        self._creations.clear()
        return taken

    def __call__(self, computation: Computation) -> None:
        """A call has ended; those within it have before."""
        message = computation.msg
        addresses, creations, depth = self._addresses, self._creations, message.depth
        addresses.add(message.sender)
        addresses.add(message.storage_address)
        if not message.is_create and message.code_address != message.storage_address:
            addresses.add(Address(message.code_address))
        addresses.update(computation.beneficiaries)
        within = len(creations)
        while within and creations[within - 1][0] > depth:
            within -= 1
        if computation.failure is not None:
            del creations[within:]
            return
        for position in range(within, len(creations)):
            creations[position] = (depth, creations[position][1])
        if message.is_create:
            creations.append((depth, Creation(message.storage_address, message.sender)))
