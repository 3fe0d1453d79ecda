"""Weighted round-robin: who proposes at each height and round, in proportion to power.

Follows CometBFT's `spec/consensus/proposer-selection.md`: every step rescales the spread to at most twice the
total power, centres the mean on zero, adds each member's power and takes the total from the winner. One
difference: here rescaling and centring belong to every single step, so that `advance` by a then by b is
`advance` by a + b. Priorities are integers in the order of the set's members.
"""

from collections.abc import Sequence

from consensus.hashing import keccak256
from consensus.params import MAX_ROUND, MAX_VALIDATORS
from consensus.validator_set import ValidatorSet
from consensus.wire import WireReader, encode_signed

PRIORITIES_TAG = b"ALNK:priority/v1"

Priorities = tuple[int, ...]


def initial_priorities(validator_set: ValidatorSet) -> Priorities:
    """Before height 1: nobody is ahead."""
    return (0,) * len(validator_set)


def advance(priorities: Priorities, validator_set: ValidatorSet, times: int = 1) -> Priorities:
    """Priorities after `times` steps. Height h + 1 starts from height h's advanced once, whatever its round was."""
    _check(priorities, validator_set)
    for _ in range(times):
        priorities, _winner = _step(priorities, validator_set)
    return priorities


def proposer(priorities: Priorities, validator_set: ValidatorSet, round_: int) -> int:
    """Index of the proposer of `round_`, from the priorities before the height: the winner of step round + 1."""
    if not 0 <= round_ <= MAX_ROUND:
        raise ValueError(f"round: expected 0 to {MAX_ROUND}, found {round_}")
    _check(priorities, validator_set)
    winner = 0
    for _ in range(round_ + 1):
        priorities, winner = _step(priorities, validator_set)
    return winner


class ProposerRotation:
    """The proposers of one height's rounds, each step computed once: `at(r)` is `proposer(priorities, set, r)`."""

    __slots__ = ("_priorities", "_validator_set", "_winners")

    def __init__(self, priorities: Priorities, validator_set: ValidatorSet) -> None:
        _check(priorities, validator_set)
        self._priorities = priorities
        self._validator_set = validator_set
        self._winners: list[int] = []

    def at(self, round_: int) -> int:
        if not 0 <= round_ <= MAX_ROUND:
            raise ValueError(f"round: expected 0 to {MAX_ROUND}, found {round_}")
        while len(self._winners) <= round_:
            self._priorities, winner = _step(self._priorities, self._validator_set)
            self._winners.append(winner)
        return self._winners[round_]


def succeed(priorities: Priorities, voting_set: ValidatorSet, next_set: ValidatorSet) -> Priorities:
    """Priorities before the height after this one, which `voting_set` decides: one step, and where another set votes
    then, its members' own."""
    advanced = advance(priorities, voting_set)
    return advanced if next_set.hash == voting_set.hash else carry_over(advanced, voting_set, next_set)


def carry_over(priorities: Priorities, old_set: ValidatorSet, new_set: ValidatorSet) -> Priorities:
    """Priorities when `new_set` takes over: members keep theirs by voting key, joiners start at -1.125 P.

    P is the new set's total power, P / 8 rounded down. Joiners start behind so that leaving and joining again
    never pays. The spread is rescaled and the mean centred.
    """
    _check(priorities, old_set)
    total = new_set.total_power
    carried = []
    for validator in new_set.validators:
        old_index = old_set.index_of(validator.voting_key)
        carried.append(-(total + (total >> 3)) if old_index is None else priorities[old_index])
    return _centre(_rescale(tuple(carried), total))


def priorities_hash(priorities: Priorities) -> bytes:
    """keccak256 of tag 16, count 4, and each priority as 8 signed bytes."""
    return keccak256(PRIORITIES_TAG + encode_priorities(priorities))


def encode_priorities(priorities: Priorities) -> bytes:
    """Count 4, then each priority as 8 signed bytes."""
    return len(priorities).to_bytes(4, "big") + b"".join(encode_signed(value, 8, "priority") for value in priorities)


def decode_priorities(data: bytes) -> Priorities:
    """The inverse of `encode_priorities`; `DecodeError` for anything else."""
    reader = WireReader(data)
    count = reader.unsigned(4, "count", maximum=MAX_VALIDATORS)
    priorities = tuple(reader.signed(8, "priority") for _ in range(count))
    reader.finish()
    return priorities


def _check(priorities: Sequence[int], validator_set: ValidatorSet) -> None:
    if len(priorities) != len(validator_set):
        raise ValueError(f"expected {len(validator_set)} priorities, found {len(priorities)}")


def _step(priorities: Priorities, validator_set: ValidatorSet) -> tuple[Priorities, int]:
    total = validator_set.total_power
    centred = _centre(_rescale(priorities, total))
    raised = [value + member.power for value, member in zip(centred, validator_set.validators, strict=True)]
    # A tie goes to the lower index: the member with the lower voting key.
    winner = raised.index(max(raised))
    raised[winner] -= total
    return tuple(raised), winner


def _rescale(priorities: Priorities, total_power: int) -> Priorities:
    window = 2 * total_power
    spread = max(priorities) - min(priorities)
    if spread <= window:
        return priorities
    ratio = -(-spread // window)  # rounded up
    return tuple(value // ratio if value >= 0 else -(-value // ratio) for value in priorities)  # toward zero


def _centre(priorities: Priorities) -> Priorities:
    mean = sum(priorities) // len(priorities)  # toward minus infinity
    return tuple(value - mean for value in priorities) if mean else priorities
