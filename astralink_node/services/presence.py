"""Which validators are there: whose proposal is worth the whole propose timeout, and who voted last when. Pure.

The propose timeout allows for building and executing a full block, which on a chain with large blocks is many seconds.
A validator that is away would cost all of them at each of its turns. How long one waits is each validator's own
affair and never a matter of safety; whoever comes back votes before its next turn, and is then waited for again.
What people are shown is `LastVotes`: a measure that lasts, whatever step consensus is in when they look.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from consensus.certificate import Certificate, signer_indices
from consensus.height_machine import HeightState
from consensus.params import LATE_CREDIT_HEIGHTS
from consensus.round_machine import Step
from consensus.validator_set import ValidatorSet

SILENT_HEIGHTS: Final = 2
"""Decided here in sequence without a vote of the validator, late ones included."""
OVERDUE_MS: Final = 10_000
"""Of one voting step: who is there has voted by then."""
OVERDUE_ROUND: Final = 2
"""Likewise, whatever the step: a whole round has passed for whoever came to it late."""


def is_silent(voting_key: bytes, decided: Mapping[int, HeightState], present: HeightState) -> bool:
    """Whether no vote of that member came at the last heights decided, nor at the present one."""
    newest = sorted(decided)[-SILENT_HEIGHTS:]
    if len(newest) < SILENT_HEIGHTS:
        return False
    return not any(_was_heard(voting_key, state) for state in (*(decided[height] for height in newest), present))


def _was_heard(voting_key: bytes, state: HeightState) -> bool:
    """Also where it is no member, so that nothing is held against it."""
    index = state.context.validator_set.index_of(voting_key)
    if index is None or any(state.tally.votes_of(index)):
        return True
    certificates = (
        certificate
        for pair in state.tally.rounds.values()
        for ballots in pair
        for certificate in ballots.certificates.values()
    )
    return any(index in signer_indices(certificate.signers) for certificate in certificates)


# --- For people --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attendance:
    """Of one member of the voting set, as far as this node has seen since it started."""

    last_height: int | None
    """The highest at which it voted; None: it has not been heard of."""
    is_away: bool


class LastVotes:
    """The height at which each member voted last. Blocks that others decided count by their certificates."""

    def __init__(self) -> None:
        self._decided = -1
        self._sets: dict[int, ValidatorSet] = {}
        """Those of the heights whose late votes may still come."""
        self._member_since: dict[bytes, int] = {}
        """By voting key: the first height that was decided with it before this node's eyes."""
        self._last: dict[bytes, int] = {}

    def decided(self, height: int, voters: ValidatorSet, heard: Iterable[int]) -> None:
        """A height is final; `heard` are the members whose votes came, heights ascend by one."""
        self._decided = height
        self._sets[height] = voters
        self._sets.pop(height - LATE_CREDIT_HEIGHTS, None)
        keys = [member.voting_key for member in voters.validators]
        self._member_since = {key: self._member_since.get(key, height) for key in keys}
        self._last = {key: self._last[key] for key in keys if key in self._last}
        self.voted(height, heard)

    def voted(self, height: int, indices: Iterable[int]) -> None:
        """Late votes for a height that is decided; nothing where it was decided long ago, or before the start."""
        voters = self._sets.get(height)
        if voters is None:
            return
        for index in indices:
            key = voters.validators[index].voting_key
            if key in self._member_since:
                self._last[key] = max(height, self._last.get(key, height))

    def credited(self, certificate: Certificate) -> None:
        """A block says who voted for one before it."""
        self.voted(certificate.height, signer_indices(certificate.signers))

    def attendance(self, present: HeightState, *, votes_are_overdue: bool) -> list[Attendance]:
        """In the order of the present height's set."""
        heard, height = voters_of(present), present.context.height
        oldest, found = self._decided - SILENT_HEIGHTS + 1, []
        for index, member in enumerate(present.context.validator_set.validators):
            last = height if index in heard else self._last.get(member.voting_key)
            was_member = self._member_since.get(member.voting_key, height) <= oldest
            was_missed = was_member and (last is None or last < oldest)
            found.append(Attendance(last, index not in heard and (was_missed or votes_are_overdue)))
        return found


def voters_of(state: HeightState) -> set[int]:
    """Members of whom a vote came at that height, alone or in a certificate."""
    found: set[int] = set()
    for pair in state.tally.rounds.values():
        for ballots in pair:
            found |= ballots.votes.keys()
            for certificate in ballots.certificates.values():
                found.update(signer_indices(certificate.signers))
    return found


def votes_are_overdue(state: HeightState, step_ms: int) -> bool:
    """Whether everybody who is there has voted at that height, which has been in its step for so long.

    Nobody votes before the proposal or its timeout: however long the wait for it, it says nothing of the others.
    """
    rounds = state.rounds
    is_voting = rounds.step in (Step.PREVOTE, Step.PRECOMMIT)
    return rounds.round_ >= OVERDUE_ROUND or (is_voting and step_ms >= OVERDUE_MS)
