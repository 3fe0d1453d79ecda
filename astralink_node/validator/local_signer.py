"""Signs for a validator in this process: every signature passes the signing history before it is released.

What consensus asks for are block hashes and rounds; the bytes are `consensus.messages`' alone. A refusal is
`RefusedToSign`: the caller goes on without that signature and never retries with other bytes.
"""

from typing import Protocol

from astralink_node.crypto import bls, ml_dsa
from astralink_node.validator.keys import PublicKeys, ValidatorKeys
from astralink_node.validator.signing_history import RefusedToSign, SigningHistory
from consensus.messages import (
    CheckpointMessage,
    ProposalMessage,
    RevealMessage,
    SignedMessage,
    VoteMessage,
    VoteType,
    signing_root,
)

__all__ = ["LocalSigner", "RefusedToSign", "Signer"]


class Signer(Protocol):
    """What a consensus driver needs of a signer, local or remote. Every method may raise `RefusedToSign`."""

    @property
    def public(self) -> PublicKeys: ...

    def sign_proposal(self, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes: ...

    def sign_vote(
        self, vote_type: VoteType, height: int, round_: int, block_hash: bytes, valid_round: int
    ) -> bytes: ...

    def sign_reveal(self, height: int) -> bytes: ...

    def sign_checkpoint(self, epoch: int, height: int, block_hash: bytes, next_set_hash: bytes) -> bytes: ...


class LocalSigner:
    """One validator on one chain. Blocks for the disk's sync; safe to call from several threads."""

    def __init__(self, keys: ValidatorKeys, history: SigningHistory, genesis_hash: bytes) -> None:
        self._keys = keys
        self._history = history
        self._genesis_hash = genesis_hash

    @property
    def public(self) -> PublicKeys:
        return self._keys.public

    def sign_proposal(self, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes:
        """96 bytes. `valid_round` is -1 for a fresh value."""
        return self._sign_bls(ProposalMessage(self._genesis_hash, height, round_, block_hash, valid_round))

    def sign_vote(self, vote_type: VoteType, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes:
        """96 bytes. `block_hash` is consensus.messages.NIL for no block; `valid_round` is -1 in a precommit."""
        return self._sign_bls(VoteMessage(self._genesis_hash, height, round_, vote_type, block_hash, valid_round))

    def sign_reveal(self, height: int) -> bytes:
        """96 bytes: the randomness reveal. Moves the history to `height`: nothing below is signed afterwards."""
        return self._sign_bls(RevealMessage(self._genesis_hash, height))

    def sign_checkpoint(self, epoch: int, height: int, block_hash: bytes, next_set_hash: bytes) -> bytes:
        """3,309 bytes of ML-DSA-65."""
        message = CheckpointMessage(self._genesis_hash, epoch, height, block_hash, next_set_hash)
        seed = self._keys.checkpoint_seed
        return self._history.sign(message, lambda sign_bytes: ml_dsa.sign(seed, signing_root(sign_bytes)))

    def _sign_bls(self, message: SignedMessage) -> bytes:
        secret = self._keys.voting_secret
        return self._history.sign(message, lambda sign_bytes: bls.sign(secret, signing_root(sign_bytes)))
