"""What both sides of the comparison execute: one genesis, one set-up, and blocks of one kind of transaction each.

Everything follows from the seed. Transactions are type 2; each of SENDERS accounts sends at most one a block, to
another account chosen at random, so that a block touches as many accounts as it can.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from astralink_node.crypto import secp256k1
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm import rlp
from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE
from astralink_node.types import Address
from genesis.devnet_terms import DEVNET_CHAIN_ID as CHAIN_ID
from genesis.schema import GenesisAccount
from tests.support.chains import genesis_text

DATA: Final = Path(__file__).parent / "data"
GWEI: Final = 10**9
MAX_FEE_WEI: Final = 100 * GWEI
BALANCE_WEI: Final = 10**24
TOKENS_EACH: Final = 10**24
SENDERS: Final = 500
MAX_BLOCK_TOKEN_TRANSFERS: Final = 250
"""First transfers of the set-up create a storage slot each; this many fit a block's gas."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table."""

    name: str
    transactions: int
    required_ratio: float
    """How many times faster than stock py-evm we must be, sealing and importing."""


KINDS: Final = (
    Kind("transfer", 500, 8.0),
    Kind("erc20-transfer", 400, 2.5),
    Kind("erc721-mint", 250, 2.5),
)


@dataclass(frozen=True, slots=True)
class Account:
    private_key: bytes
    address: Address

    @classmethod
    def numbered(cls, number: int) -> Account:
        private_key = keccak256(b"benchmark account %d" % number)
        return cls(private_key, secp256k1.address_of(private_key))


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    raw: bytes
    sender: Address


@dataclass(slots=True)
class Workload:
    """Makes blocks of transactions one after another; nonces go on from block to block."""

    accounts: int
    seed: int
    owner: Account = field(default_factory=lambda: Account.numbered(0))
    senders: list[Account] = field(default_factory=lambda: [Account.numbered(1 + n) for n in range(SENDERS)])
    nonces: dict[Address, int] = field(default_factory=dict)

    def genesis(self) -> bytes:
        """The genesis file: `accounts` funded accounts, the senders and the owner among them."""
        addresses = [self.owner.address, *(sender.address for sender in self.senders)]
        fillers = self.accounts - len(addresses)
        addresses += [Address(keccak256(b"benchmark filler %d" % number)[12:]) for number in range(fillers)]
        return genesis_text(
            chain_id=CHAIN_ID,
            extra_alloc={address: GenesisAccount(BALANCE_WEI, 0, b"", ()) for address in addresses[: self.accounts]},
        )

    @property
    def token(self) -> Address:
        return _created_address(self.owner.address, 0)

    @property
    def item(self) -> Address:
        return _created_address(self.owner.address, 1)

    def setup_blocks(self) -> Iterator[list[SignedTransaction]]:
        """Deploy both contracts, then give every sender tokens."""
        yield [
            self._sign(self.owner, b"", _bytecode("TestToken") + _word(10**30), 6_000_000),
            self._sign(self.owner, b"", _bytecode("TestItem"), 6_000_000),
        ]
        for start in range(0, SENDERS, MAX_BLOCK_TOKEN_TRANSFERS):
            yield [
                self._sign(self.owner, self.token, _transfer_call(sender.address, TOKENS_EACH), 100_000)
                for sender in self.senders[start : start + MAX_BLOCK_TOKEN_TRANSFERS]
            ]

    def block(self, kind: Kind, number: int) -> list[SignedTransaction]:
        """The `number`-th block of a kind."""
        chooser = random.Random(f"{self.seed} {kind.name} {number}")
        made = []
        for index in range(kind.transactions):
            sender = self.senders[index]
            receiver = self.senders[(index + 1 + chooser.randrange(SENDERS - 1)) % SENDERS].address
            amount = 1 + chooser.randrange(10**12)
            match kind.name:
                case "transfer":
                    made.append(self._sign(sender, receiver, b"", 21_000, amount))
                case "erc20-transfer":
                    made.append(self._sign(sender, self.token, _transfer_call(receiver, amount), 70_000))
                case "erc721-mint":
                    data = keccak256(b"mint(address)")[:4] + _word(receiver)
                    made.append(self._sign(sender, self.item, data, 110_000))
                case _:
                    raise ValueError(f"no such kind of block: {kind.name}")
        return made

    def _sign(self, sender: Account, to: bytes, data: bytes, gas: int, value: int = 0) -> SignedTransaction:
        nonce = self.nonces.get(sender.address, 0)
        self.nonces[sender.address] = nonce + 1
        transaction = new_transaction(
            DYNAMIC_FEE_TYPE,
            chain_id=CHAIN_ID,
            nonce=nonce,
            max_priority_fee_per_gas=GWEI,
            max_fee_per_gas=MAX_FEE_WEI,
            gas_limit=gas,
            to=to,
            value=value,
            data=data,
        )
        return SignedTransaction(sign_transaction(transaction, sender.private_key).raw, sender.address)


def _bytecode(contract: str) -> bytes:
    return bytes.fromhex(json.loads((DATA / f"{contract}.json").read_text())["bytecode"][2:])


def _created_address(creator: Address, nonce: int) -> Address:
    return Address(keccak256(rlp.encode([creator, rlp.big_endian(nonce)]))[12:])


def _transfer_call(to: Address, amount: int) -> bytes:
    return keccak256(b"transfer(address,uint256)")[:4] + _word(to) + _word(amount)


def _word(value: bytes | int) -> bytes:
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big")
