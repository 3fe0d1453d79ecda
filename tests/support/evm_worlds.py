"""A small world for EVM tests: accounts with code, one funded sender, and a block in the making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from astralink_node.crypto.secp256k1 import address_of
from astralink_node.evm.fork_rules import OSAKA, ChainRules, ForkRules, plain_ethereum
from astralink_node.evm.pipeline import BlockContext, BlockExecution
from astralink_node.evm.scratch_state import ScratchState
from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import Transaction
from astralink_node.state.overlay import Overlay
from astralink_node.types import ZERO_HASH, Address

KEY = b"\x01" * 32
SENDER = address_of(KEY)
BALANCE = 10**24
COINBASE = Address(b"\xfe" * 20)
BASE_FEE = 7
CONTEXT = BlockContext(
    number=5,
    timestamp=1_000,
    coinbase=COINBASE,
    gas_limit=100_000_000,
    base_fee_per_gas=BASE_FEE,
    prev_randao=ZERO_HASH,
)


def address(number: int) -> Address:
    """Not a precompile's."""
    return Address(b"\xaa" * 16 + number.to_bytes(4, "big"))


class World:
    """State, overlay and block execution, with the sender's nonces kept."""

    def __init__(
        self,
        codes: Mapping[Address, str] | None = None,
        *,
        fork: ForkRules = OSAKA,
        rules: ChainRules | None = None,
        alloc: Mapping[str, Mapping[str, object]] | None = None,
        gas_limit: int = CONTEXT.gas_limit,
        sender_balance: int = BALANCE,
        context: BlockContext = CONTEXT,
    ) -> None:
        accounts: dict[str, Mapping[str, object]] = {"0x" + SENDER.hex(): {"balance": sender_balance}}
        for target, code in (codes or {}).items():
            accounts["0x" + target.hex()] = {"code": "0x" + code, "nonce": 1, "balance": 0}
        self.state = ScratchState(accounts | dict(alloc or {}))
        self.overlay: Overlay = self.state.overlay()
        self.rules = rules or plain_ethereum(fork)
        self.execution = BlockExecution(self.rules, replace(context, gas_limit=gas_limit), self.overlay)
        self.nonce = 0

    def transaction(self, to: bytes = b"", **fields: object) -> Transaction:
        """Signed by the sender, with its next nonce unless one is given."""
        values: dict[str, object] = {
            "chain_id": self.rules.chain_id,
            "nonce": self.nonce,
            "max_fee_per_gas": 10 * BASE_FEE,
            "max_priority_fee_per_gas": 1,
            "gas_limit": 1_000_000,
        }
        tx_type = int(str(fields.pop("tx_type", 2)))
        return sign_transaction(new_transaction(tx_type, to=to, **(values | fields)), KEY)

    def send(self, to: bytes = b"", **fields: object) -> bool:
        """Whether it succeeded; :class:`InvalidTransaction` if it may not be in the block."""
        receipt = self.execution.apply_transaction(self.transaction(to, **fields), SENDER)
        self.nonce += 1
        return receipt.succeeded

    @property
    def gas_used(self) -> int:
        """Of the last transaction."""
        outcome = self.execution.last_outcome
        return 0 if outcome is None else outcome.gas_used

    @property
    def output(self) -> bytes:
        outcome = self.execution.last_outcome
        return b"" if outcome is None else outcome.output
