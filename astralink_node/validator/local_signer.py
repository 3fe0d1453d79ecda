"""Signs for a validator in this process: every signature passes the signing history before it is released.

What consensus asks for are block hashes and rounds; the bytes are `consensus.messages`' alone. A refusal is
`RefusedToSign`: the caller goes on without that signature and never retries with other bytes.
"""

from typing import Protocol

from astralink_node.crypto import bls, ml_dsa
from astralink_node.errors import AstraLinkError
from astralink_node.validator.keys import PublicKeys, ValidatorKeys
from astralink_node.validator.signing_history import RefusedToSign, SigningHistory
from astralink_node.validator.signing_rules import HistoryState
from consensus.messages import (
    CheckpointMessage,
    ProposalMessage,
    RevealMessage,
    SignedMessage,
    VoteMessage,
    VoteType,
    signing_root,
)

__all__ = ["HistoryState", "LocalSigner", "RefusedToSign", "Signer", "SignerUnavailable"]


class SignerUnavailable(AstraLinkError):
    """A remote signer did not answer in time. Asking again for the same is safe: its history knows what it signed."""


class Signer(Protocol):
    """What a consensus driver needs of one validator's signer on one chain. Its methods block.

    Those that sign, and `set_floor`, may raise `RefusedToSign`. A remote signer may raise `SignerUnavailable` from
    any of them.
    """

    @property
    def public(self) -> PublicKeys: ...

    def sign_proposal(self, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes: ...

    def sign_vote(
        self, vote_type: VoteType, height: int, round_: int, block_hash: bytes, valid_round: int
    ) -> bytes: ...

    def sign_reveal(self, height: int) -> bytes: ...

    def sign_checkpoint(self, epoch: int, height: int, block_hash: bytes, next_set_hash: bytes) -> bytes: ...

    def history_state(self) -> HistoryState: ...

    def set_floor(self, height: int) -> None: ...

    def is_foreign(self, message: ProposalMessage | VoteMessage) -> bool: ...


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
        return self._sign(ProposalMessage(self._genesis_hash, height, round_, block_hash, valid_round))

    def sign_vote(self, vote_type: VoteType, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes:
        """96 bytes. `block_hash` is consensus.messages.NIL for no block; `valid_round` is -1 in a precommit."""
        return self._sign(VoteMessage(self._genesis_hash, height, round_, vote_type, block_hash, valid_round))

    def sign_reveal(self, height: int) -> bytes:
        """96 bytes: the randomness reveal. Moves the history to `height`: nothing below is signed afterwards."""
        return self._sign(RevealMessage(self._genesis_hash, height))

    def sign_checkpoint(self, epoch: int, height: int, block_hash: bytes, next_set_hash: bytes) -> bytes:
        """3,309 bytes of ML-DSA-65."""
        return self._sign(CheckpointMessage(self._genesis_hash, epoch, height, block_hash, next_set_hash))

    def history_state(self) -> HistoryState:
        """Whether the history of this chain is intact, and where it stands."""
        return self._history.state(self._genesis_hash)

    def set_floor(self, height: int) -> None:
        """Allow `height` and above after a history was lost; see signing_rules.floor_after_lost_history."""
        self._history.set_floor(self._genesis_hash, height)

    def is_foreign(self, message: ProposalMessage | VoteMessage) -> bool:
        """Whether `message`, whose signature by our key was verified, was signed by another node with the key."""
        return self._history.is_foreign(message)

    def _sign(self, message: SignedMessage) -> bytes:
        return sign_message(self._keys, self._history, message)


def sign_message(keys: ValidatorKeys, history: SigningHistory, message: SignedMessage) -> bytes:
    """The signature on `message` by the key that its kind asks for, if the history allows it."""

    def make_signature(sign_bytes: bytes) -> bytes:
        root = signing_root(sign_bytes)
        if isinstance(message, CheckpointMessage):
            return ml_dsa.sign(keys.checkpoint_seed, root)
        return bls.sign(keys.voting_secret, root)

    return history.sign(message, make_signature)
