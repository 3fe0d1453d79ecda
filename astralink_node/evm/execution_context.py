"""What opcodes read of the block and of the transaction, under the names that py-evm uses."""

from __future__ import annotations

from typing import Protocol

from astralink_node.types import Address, Hash32


class BlockEnvironment(Protocol):
    """What opcodes read of the block."""

    @property
    def coinbase(self) -> Address: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def number(self) -> int: ...
    @property
    def gas_limit(self) -> int: ...
    @property
    def base_fee_per_gas(self) -> int: ...
    @property
    def prev_randao(self) -> Hash32: ...
    @property
    def excess_blob_gas(self) -> int: ...
    @property
    def blob_base_fee(self) -> int | None:
        """As a simulation wants it; None: what follows from the excess."""
        ...

    def ancestor_hash(self, number: int) -> bytes:
        """Hash of one of the last 256 blocks (the caller checks the range); empty if it is unknown."""
        ...


class ExecutionContext:
    """The block, under the names that py-evm's state uses."""

    __slots__ = (
        "base_fee_per_gas",
        "block_number",
        "chain_id",
        "coinbase",
        "difficulty",
        "excess_blob_gas",
        "gas_limit",
        "mix_hash",
        "timestamp",
    )

    def __init__(self, block: BlockEnvironment, chain_id: int) -> None:
        self.coinbase = block.coinbase
        self.timestamp = block.timestamp
        self.block_number = block.number
        self.difficulty = 0
        self.mix_hash = block.prev_randao
        self.gas_limit = block.gas_limit
        self.base_fee_per_gas = block.base_fee_per_gas
        self.excess_blob_gas = block.excess_blob_gas
        self.chain_id = chain_id


class TransactionContext:
    """What opcodes read of the transaction."""

    __slots__ = ("blob_versioned_hashes", "gas_price", "origin")

    def __init__(self, gas_price: int, origin: Address) -> None:
        self.gas_price = gas_price
        self.origin = origin
        self.blob_versioned_hashes: tuple[Hash32, ...] = ()
