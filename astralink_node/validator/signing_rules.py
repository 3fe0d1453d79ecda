"""What a validator may sign, given what it signed before: pure, and the last line against slashing.

Steps are ordered by (height, round, proposal < prevote < precommit). Other bytes for a recorded step are refused,
anything not above the highest step is refused, and so is a non-nil prevote whose validRound is below the round of
the last non-nil precommit at its height (amnesia); identical bytes return the stored signature. Reveals stand
beside the rounds of their height, checkpoints in an order of their own by epoch. State is kept per genesis hash:
what was signed on one network says nothing about another.
"""

from dataclasses import dataclass, replace

from consensus.messages import (
    NIL,
    NO_ROUND,
    CheckpointMessage,
    ProposalMessage,
    RevealMessage,
    SignedMessage,
    VoteMessage,
    VoteType,
)

_BEFORE_ALL_ROUNDS = (-1, -1)


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that left, or may have left, this validator."""

    message: SignedMessage
    signature: bytes


@dataclass(frozen=True, slots=True)
class ChainHistory:
    """All that the rules need of one chain; what lies below its height is forgotten, because it is refused."""

    floor: int | None
    """The lowest height that may be signed; None while it is unknown: then nothing may be."""
    height: int = 0
    """The highest height of anything signed but checkpoints."""
    step: tuple[int, int] = _BEFORE_ALL_ROUNDS
    """(round, step) of the highest proposal or vote at `height`."""
    locked_round: int = NO_ROUND
    """The round of the last non-nil precommit at `height`."""
    signed: tuple[Signed, ...] = ()
    """Everything signed at `height`, in order."""
    checkpoint: Signed | None = None
    """The latest checkpoint signed."""


@dataclass(frozen=True, slots=True)
class SignNew:
    """Nothing speaks against it: sign, record, sync, then release."""


@dataclass(frozen=True, slots=True)
class ReturnStored:
    """The same bytes were signed before."""

    signature: bytes


@dataclass(frozen=True, slots=True)
class Refuse:
    reason: str


Decision = SignNew | ReturnStored | Refuse


@dataclass(frozen=True, slots=True)
class HistoryState:
    """What a consensus driver needs to know of one chain's history."""

    floor: int | None
    """As in `ChainHistory`."""
    height: int
    """As in `ChainHistory`; 0 when nothing was signed."""

    @property
    def is_intact(self) -> bool:
        """Whether all that the key signed on the chain is remembered, or is below the floor.

        False for a key that was restored or whose history was lost, until the floor is recorded. The driver then
        waits for doppelgangers first and records the floor last: what is recorded lets the next start skip the wait.
        """
        return self.floor is not None


def decide(history: ChainHistory, message: SignedMessage) -> Decision:
    """Whether `message` may be signed after `history`."""
    earlier = _same_slot(history, message)
    if earlier is not None:
        if earlier.message == message:
            return ReturnStored(earlier.signature)
        return Refuse(f"{describe(message)}: other bytes were signed for this step")
    if history.floor is None:
        return Refuse(f"{describe(message)}: the signing history is new and no certified head was seen yet")
    if message.height < history.floor:
        return Refuse(f"{describe(message)}: below height {history.floor}, the first that may be signed")
    if isinstance(message, CheckpointMessage):
        return _decide_checkpoint(history, message)
    if message.height < history.height:
        return Refuse(f"{describe(message)}: below height {history.height}, where something was signed")
    if isinstance(message, RevealMessage) or message.height > history.height:
        return SignNew()
    if _step_of(message) <= history.step:
        return Refuse(f"{describe(message)}: not above {_name_step(history.step)}, which was signed at this height")
    return _decide_amnesia(history, message)


def record(history: ChainHistory, signed: Signed) -> ChainHistory:
    """The history after a signature that `decide` allowed."""
    message = signed.message
    if isinstance(message, CheckpointMessage):
        return replace(history, checkpoint=signed)
    if message.height > history.height:
        history = ChainHistory(floor=history.floor, height=message.height, checkpoint=history.checkpoint)
    history = replace(history, signed=(*history.signed, signed))
    if isinstance(message, RevealMessage):
        return history
    history = replace(history, step=_step_of(message))
    is_lock = isinstance(message, VoteMessage) and message.vote_type is VoteType.PRECOMMIT and message.block_hash != NIL
    return replace(history, locked_round=message.round_) if is_lock else history


def raise_floor(history: ChainHistory, floor: int) -> ChainHistory:
    """The history with nothing below `floor` to be signed; a floor never sinks."""
    return replace(history, floor=max(floor, history.floor or 0))


def floor_after_lost_history(certified_head: int, *, alone: bool) -> int:
    """The first height to be signed again after a history was lost (facts: signer rules).

    `certified_head` is the height of the newest certified block that the node knows when it has caught up with its
    peers and the doppelganger wait is over; a block met while catching up is too low. At the next height the key may
    have voted before the loss, so others must certify that one first. Raises ValueError where there is no such head:
    genesis carries no certificate.

    `alone` says that the key is its set's only member: nobody else can certify the next height, so the chain would
    never go on, and none of the set can be split. It asks two things of the caller: a database that was not put back
    to an older state, and no signature that left the node before the commit it led to. A key that is a quorum among
    several members is not alone: its votes leave before a commit, and a peer may hold the block that they certify.
    """
    if alone:
        return certified_head + 1
    if certified_head < 1:
        raise ValueError(f"certified_head: expected a certified block, at height 1 or above, found {certified_head}")
    return certified_head + 2


def is_foreign(history: ChainHistory, message: ProposalMessage | VoteMessage) -> bool:
    """Whether a message that our key validly signed was signed elsewhere: a second node runs with the key.

    At the height of the history and above, it is foreign unless exactly these bytes are recorded. Lower heights are
    forgotten, and below a floor the history that was lost may have signed: there nobody can tell, and it is not.
    Where the history is lost and no floor known, everything is foreign; the caller asks only about the height it
    works on and above. (An own vote that is gossiped back is recorded, because its record came before its release.)
    """
    if message.height < max(history.height, history.floor or 0):
        return False
    return all(signed.message != message for signed in history.signed)


def describe(message: SignedMessage) -> str:
    """For people: what it is and where it stands."""
    match message:
        case ProposalMessage():
            return f"proposal at height {message.height} round {message.round_}"
        case VoteMessage():
            return f"{message.vote_type.name.lower()} at height {message.height} round {message.round_}"
        case RevealMessage():
            return f"randomness reveal at height {message.height}"
        case CheckpointMessage():
            return f"checkpoint of epoch {message.epoch}"


def _decide_checkpoint(history: ChainHistory, message: CheckpointMessage) -> Decision:
    latest = history.checkpoint
    if latest is None or not isinstance(latest.message, CheckpointMessage):
        return SignNew()
    if message.epoch < latest.message.epoch or message.height <= latest.message.height:
        return Refuse(f"{describe(message)}: not above the {describe(latest.message)}, which was signed")
    return SignNew()


def _decide_amnesia(history: ChainHistory, message: ProposalMessage | VoteMessage) -> Decision:
    """No lock is given up for a polka older than it: evidence E2 is exactly this."""
    is_prevote = isinstance(message, VoteMessage) and message.vote_type is VoteType.PREVOTE
    if is_prevote and message.block_hash != NIL and message.valid_round < history.locked_round:
        return Refuse(
            f"{describe(message)}: locked in round {history.locked_round}, "
            f"but the prevote rests on round {message.valid_round}"
        )
    return SignNew()


def _same_slot(history: ChainHistory, message: SignedMessage) -> Signed | None:
    if isinstance(message, CheckpointMessage):
        latest = history.checkpoint
        is_same = latest is not None and _slot(latest.message) == _slot(message)
        return latest if is_same else None
    if message.height != history.height:
        return None
    slot = _slot(message)
    return next((signed for signed in history.signed if _slot(signed.message) == slot), None)


def _slot(message: SignedMessage) -> tuple[int, ...]:
    """What may be signed once. The first number tells the kinds apart."""
    match message:
        case ProposalMessage() | VoteMessage():
            return (0, message.height, *_step_of(message))
        case RevealMessage():
            return (1, message.height)
        case CheckpointMessage():
            return (2, message.epoch)


def _step_of(message: ProposalMessage | VoteMessage) -> tuple[int, int]:
    return (message.round_, 0 if isinstance(message, ProposalMessage) else int(message.vote_type))


def _name_step(step: tuple[int, int]) -> str:
    return f"round {step[0]} {('proposal', 'prevote', 'precommit')[step[1]]}"
