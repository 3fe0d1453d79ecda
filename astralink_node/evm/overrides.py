"""What a simulated call may pretend: other accounts, other fields of the block, precompiles somewhere else.

Semantics and words are geth's (``internal/ethapi/override``). Nothing here changes the state underneath: accounts are
changed on an overlay, and precompiles in a copy of their table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from astralink_node.crypto.addresses import checksum_address
from astralink_node.errors import AstraLinkError
from astralink_node.evm.pipeline import BlockContext
from astralink_node.evm.vm import Precompiles
from astralink_node.state.accounts import EMPTY_ACCOUNT, Account
from astralink_node.state.overlay import Overlay
from astralink_node.types import EMPTY_CODE_HASH, Address, Hash32


class OverrideRefused(AstraLinkError):
    """Overrides that contradict each other or the chain; the message is geth's."""


@dataclass(frozen=True, slots=True)
class AccountOverride:
    """geth's state override for one account; None leaves a field as it is."""

    address: Address
    nonce: int | None = None
    balance: int | None = None
    code: bytes | None = None
    state: tuple[tuple[int, int], ...] | None = None
    """All of its storage."""
    state_diff: tuple[tuple[int, int], ...] = ()
    """Some of its storage."""
    move_precompile_to: Address | None = None
    """Where the precompile at this address answers instead."""


@dataclass(frozen=True, slots=True)
class BlockOverrides:
    """geth's block overrides; None leaves a field as it is. A difficulty has no meaning here: it is always zero."""

    number: int | None = None
    timestamp: int | None = None
    """Seconds."""
    gas_limit: int | None = None
    coinbase: Address | None = None
    prev_randao: Hash32 | None = None
    base_fee_per_gas: int | None = None
    blob_base_fee: int | None = None
    """No header has it: only BLOBBASEFEE shows it."""
    beacon_root: Hash32 | None = None
    """Of simulated blocks alone, which begin with EIP-4788's system call."""

    def applied_to(self, block: BlockContext) -> BlockContext:
        return replace(
            block,
            number=_or(self.number, block.number),
            timestamp=_or(self.timestamp, block.timestamp),
            gas_limit=_or(self.gas_limit, block.gas_limit),
            coinbase=block.coinbase if self.coinbase is None else self.coinbase,
            prev_randao=block.prev_randao if self.prev_randao is None else self.prev_randao,
            base_fee_per_gas=_or(self.base_fee_per_gas, block.base_fee_per_gas),
            blob_base_fee=block.blob_base_fee if self.blob_base_fee is None else self.blob_base_fee,
        )


NO_BLOCK_OVERRIDES = BlockOverrides()


def overridden_precompiles(precompiles: Precompiles, overrides: Sequence[AccountOverride]) -> Precompiles | None:
    """The table after the overrides, which leave no precompile where they name an account; None: as it was.

    Raises :class:`OverrideRefused`.
    """
    named = {override.address for override in overrides}
    if not any(override.move_precompile_to for override in overrides) and named.isdisjoint(precompiles):
        return None
    table = dict(precompiles)
    for override in overrides:
        address, target = override.address, override.move_precompile_to
        precompile = table.get(address)
        if target is not None:
            if precompile is None:
                raise OverrideRefused(f"account {checksum_address(address)} is not a precompile")
            if target in named:
                raise OverrideRefused(f"account {checksum_address(target)} is already overridden")
            table[target] = precompile
        table.pop(address, None)
    return table


def apply_account_overrides(overlay: Overlay, overrides: Iterable[AccountOverride]) -> None:
    """As if a transaction before the simulated ones had made them so."""
    for override in overrides:
        _apply(overlay, override)
    overlay.begin_transaction()


def _apply(overlay: Overlay, override: AccountOverride) -> None:
    address = override.address
    if override.nonce is not None or override.balance is not None or override.code is not None:
        nonce, balance, storage_root, code_hash = overlay.account(address) or EMPTY_ACCOUNT
        code_hash = code_hash if override.code is None else EMPTY_CODE_HASH
        overlay.put_account(
            address, Account(_or(override.nonce, nonce), _or(override.balance, balance), storage_root, code_hash)
        )
    if override.code:
        overlay.set_code(address, override.code)
    if override.state is not None:
        overlay.delete_storage(address)
    for slot, value in (*(override.state or ()), *override.state_diff):
        overlay.set_storage(address, slot, value)


def _or(wanted: int | None, present: int) -> int:
    return present if wanted is None else wanted
