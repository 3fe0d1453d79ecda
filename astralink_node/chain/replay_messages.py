"""Questions that need blocks executed again for what their state was in between, and how the state may be listed.

Part of :mod:`astralink_node.chain.messages`, which takes these into its unions. State is keyed by hashes, as Ethereum's
tries are, so ranges go by hash; of which address or slot a hash is, is known of some alone (chain.preimages).
"""

from __future__ import annotations

from dataclasses import dataclass

# --- Blocks executed again ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StorageRangeQuestion:
    """An account's slots as they stood before a transaction of the selected block, from a hash on."""

    transaction_index: int
    """0 also names the only state there is within a block without transactions."""
    address: bytes
    start: bytes
    """At most 32 bytes; fewer stand for the lowest hash that begins so."""
    max_slots: int
    """No more than QueryLimits.max_range_slots are given."""


@dataclass(frozen=True, slots=True)
class IntermediateRootsQuestion:
    """The state root after each transaction of the selected block."""


@dataclass(frozen=True, slots=True)
class ModifiedAccountsQuestion:
    """Accounts of the selected block's state that an earlier block's state does not have, or has otherwise."""

    since_height: int


ReplayQuestion = StorageRangeQuestion | IntermediateRootsQuestion | ModifiedAccountsQuestion


@dataclass(frozen=True, slots=True)
class StoredSlot:
    slot_hash: bytes
    slot: int | None
    """None where it is not known."""
    value: int


@dataclass(frozen=True, slots=True)
class StorageRange:
    slots: tuple[StoredSlot, ...]
    """Hashes rising."""
    next_hash: bytes
    """Of the first slot that is left out; empty if none is."""


@dataclass(frozen=True, slots=True)
class IntermediateRoots:
    roots: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ModifiedAccounts:
    addresses: tuple[bytes, ...]
    """Their hashes rising."""


ReplayAnswer = StorageRange | IntermediateRoots | ModifiedAccounts

# --- Accounts of a state -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountRangeQuestion:
    """Accounts after the selected block, from a hash on."""

    start: bytes
    """As :class:`StorageRangeQuestion`'s."""
    max_accounts: int
    """No more than QueryLimits.max_range_accounts are given."""
    with_code: bool
    with_storage: bool
    with_unknown: bool
    """Also those whose address is not known."""


@dataclass(frozen=True, slots=True)
class ListedAccount:
    address_hash: bytes
    address: bytes
    """Empty where it is not known."""
    nonce: int
    balance_wei: int
    storage_root: bytes
    code_hash: bytes
    code: bytes
    """Empty unless asked for, and likewise ``slots``."""
    slots: tuple[StoredSlot, ...]


@dataclass(frozen=True, slots=True)
class AccountRange:
    accounts: tuple[ListedAccount, ...]
    """Hashes rising. A page ends earlier than asked where its storage has become large."""
    next_hash: bytes
    """Of the first account that is left out; empty if none is."""
