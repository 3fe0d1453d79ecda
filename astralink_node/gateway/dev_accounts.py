"""A devnet's accounts: the node signs for them, since everybody knows their keys (genesis.dev_accounts).

Nothing secret is configured or held: a gateway that is told to unlock them takes the keys from the source. The node
tells it so only on a devnet (node.run_node), and never for another account.
"""

from __future__ import annotations

import asyncio

from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.secp256k1 import sign
from astralink_node.evm.transaction_encoding import sign_transaction
from astralink_node.evm.transactions import Transaction
from astralink_node.gateway.rpc_errors import RpcError, server_error
from genesis.dev_accounts import DEVNET_ACCOUNTS

_PERSONAL_MESSAGE = b"\x19Ethereum Signed Message:\n"
"""EIP-191, version 0x45."""


class DevAccounts:
    """One turn an account orders its nonces. How many may wait for it, the requests in flight bound."""

    def __init__(self, faucet_turn: int = 0) -> None:
        """`faucet_turn`: which validator of the devnet this is."""
        self._keys = {bytes(account.address): account.private_key for account in DEVNET_ACCOUNTS}
        self._turns = {address: asyncio.Lock() for address in self._keys}

        payers = self.addresses[::-1]
        first = faucet_turn % len(payers)
        self.payers = payers[first:] + payers[:first]
        """In the order in which the faucet asks them: the last one first, since developers begin with the first ones.

        Nodes of one network do not know of each other's turns and would choose the same nonces. So each begins with
        another account; only a network of more validators than accounts has two that share one.
        """

    @property
    def addresses(self) -> tuple[bytes, ...]:
        return tuple(self._keys)

    def turn(self, address: bytes) -> asyncio.Lock:
        """Held from choosing a nonce until the mempool has it. Raises RpcError for an account that is not ours."""
        turn = self._turns.get(address)
        if turn is None:
            raise _unknown_account()
        return turn

    def sign_transaction(self, sender: bytes, transaction: Transaction) -> Transaction:
        return sign_transaction(transaction, self._key(sender))

    def sign_message(self, signer: bytes, message: bytes) -> bytes:
        """EIP-191: 65 bytes, v of 27 or 28 last."""
        return self.sign_digest(signer, keccak256(_PERSONAL_MESSAGE + str(len(message)).encode() + message))

    def sign_digest(self, signer: bytes, digest: bytes) -> bytes:
        r, s, y_parity = sign(self._key(signer), digest)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes((27 + y_parity,))

    def _key(self, address: bytes) -> bytes:
        key = self._keys.get(address)
        if key is None:
            raise _unknown_account()
        return key


def _unknown_account() -> RpcError:
    """geth's words."""
    return server_error("unknown account")
