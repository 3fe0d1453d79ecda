"""What convicts a validator's key, told from the signatures that left its signer and from nothing else.

It knows nothing of steps, floors or watermarks: two different sign bytes for one slot are evidence E1, and a non-nil
precommit with a later non-nil prevote that rests on an older round is E2, in whatever order they left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from consensus.messages import (
    NIL,
    CheckpointMessage,
    ProposalMessage,
    RevealMessage,
    SignedMessage,
    VoteMessage,
    VoteType,
)


class Ledger:
    """All that left the signer, in the order in which it left first."""

    def __init__(self) -> None:
        self.released: dict[SignedMessage, bytes] = {}

    def add(self, message: SignedMessage, signature: bytes) -> None:
        for other in self.released:
            complaint = conflict(other, message)
            assert complaint is None, f"{complaint}: {other} and {message}"
        # A second signature over the same bytes would be harmless in BLS; the history promises the very same one.
        assert self.released.setdefault(message, signature) == signature, f"two signatures on {message}"


def conflict(one: SignedMessage, other: SignedMessage) -> str | None:
    """Whether a pair is evidence. Symmetric: order of release says nothing."""
    if one == other or one.genesis_hash != other.genesis_hash:
        return None
    match one, other:
        case ProposalMessage(), ProposalMessage():
            return "E1" if (one.height, one.round_) == (other.height, other.round_) else None
        case VoteMessage(), VoteMessage() if one.vote_type == other.vote_type:
            return "E1" if (one.height, one.round_) == (other.height, other.round_) else None
        case VoteMessage(), VoteMessage():
            precommit, prevote = (one, other) if one.vote_type is VoteType.PRECOMMIT else (other, one)
            is_amnesia = (
                precommit.height == prevote.height
                and precommit.block_hash != NIL
                and prevote.block_hash != NIL
                and prevote.round_ > precommit.round_
                and prevote.valid_round < precommit.round_
            )
            return "E2" if is_amnesia else None
        case RevealMessage(), RevealMessage():
            return None  # one value a height: equal heights are equal messages
        case CheckpointMessage(), CheckpointMessage():
            return "two checkpoints of an epoch" if one.epoch == other.epoch else None
        case _:
            return None


def rivals(message: SignedMessage, hashes: Sequence[bytes]) -> Iterator[SignedMessage]:
    """What an amnesiac or a double signer would ask for beside `message`."""
    if not isinstance(message, VoteMessage):
        return
    for block_hash in (*hashes, NIL):
        yield VoteMessage(message.genesis_hash, message.height, message.round_, message.vote_type, block_hash, -1)
    for round_ in (message.round_ + 1, max(0, message.round_ - 1)):
        for valid_round in sorted({-1, round_ - 1}):
            yield VoteMessage(message.genesis_hash, message.height, round_, VoteType.PREVOTE, hashes[0], valid_round)
        yield VoteMessage(message.genesis_hash, message.height, round_, VoteType.PRECOMMIT, hashes[1], -1)
