"""What a registered validator is, and would be if an election ran now. Pure; the rules are docs/staking.md's."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from astralink_node.gateway.reading.staking import ValidatorView
from consensus.election import Candidate, elect


class Standing(StrEnum):
    """The first that fits, in this order."""

    TOMBSTONED = "tombstoned"
    """Signed twice: out for ever."""
    JAILED = "jailed"
    """Until its operator unjails it, which it may from ``jailedUntil`` on."""
    ACTIVE = "active"
    """Votes and earns."""
    BELOW_MINIMUM = "belowMinimum"
    """Its stake is less than ``minStakeWei``."""
    WAITING = "waiting"
    """For the next election, or for a seat."""


def standing_of(validator: ValidatorView, min_stake_wei: int) -> Standing:
    if validator.is_tombstoned:
        return Standing.TOMBSTONED
    if validator.is_jailed:
        return Standing.JAILED
    if validator.is_active:
        return Standing.ACTIVE
    return Standing.BELOW_MINIMUM if validator.tokens_wei < min_stake_wei else Standing.WAITING


def powers_if_elected(validators: Sequence[ValidatorView], min_stake_wei: int, max_validators: int) -> dict[bytes, int]:
    """Operator -> power, of those whom an election on this state would seat."""
    candidates = [
        Candidate(each.operator, each.voting_key, each.checkpoint_key_hash, each.tokens_wei)
        for each in validators
        if not each.is_jailed and not each.is_tombstoned and each.tokens_wei >= min_stake_wei
    ]
    return {member.operator: member.power for member in elect(candidates, max_validators)}
