"""Whose proposal is worth the whole propose timeout: that of a validator of whom anything was heard lately. Pure.

The propose timeout allows for building and executing a full block, which on a chain with large blocks is many seconds.
A validator that is away would cost all of them at each of its turns. How long one waits is each validator's own
affair and never a matter of safety; whoever comes back votes before its next turn, and is then waited for again.
"""

from collections.abc import Mapping
from typing import Final

from consensus.certificate import signer_indices
from consensus.height_machine import HeightState

SILENT_HEIGHTS: Final = 2
"""Decided here in sequence without a vote of the validator, late ones included."""


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
