"""Who votes in the next epoch: the candidates with the most stake, in powers that consensus can add up.

Pure; follows docs/staking.md, "What the protocol calls, and when", 5. The staking contract says who is a candidate.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from consensus.params import MAX_TOTAL_POWER, MAX_VALIDATORS
from consensus.validator_set import Validator, canonical_order

POWER_UNIT_WEI = 10**18
"""A unit of voting power is one whole BWT of stake."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A validator that may be elected, as the contract's view `candidates` gives it."""

    operator: bytes
    """20 bytes."""
    voting_key: bytes
    """48 bytes, compressed."""
    ml_dsa_key_hash: bytes
    """32 bytes."""
    tokens_wei: int


def elect(candidates: Iterable[Candidate], max_validators: int) -> tuple[Validator, ...]:
    """The members of the next set in canonical order. Empty if nobody has a unit of power: the current set stays.

    Order: tokens descending, then voting key ascending. If the powers add up to more than a set may have, all are
    halved (rounded down) until they do not, and whoever is left with none drops out.
    """
    if not 1 <= max_validators <= MAX_VALIDATORS:
        raise ValueError(f"max_validators: expected 1 to {MAX_VALIDATORS}, found {max_validators}")
    ordered = sorted(candidates, key=lambda candidate: (-candidate.tokens_wei, candidate.voting_key))
    seated = ordered[:max_validators]
    powers = _within_total([candidate.tokens_wei // POWER_UNIT_WEI for candidate in seated])
    return canonical_order(
        Validator(candidate.voting_key, candidate.ml_dsa_key_hash, power, candidate.operator)
        for candidate, power in zip(seated, powers, strict=True)
        if power
    )


def _within_total(powers: list[int]) -> list[int]:
    while sum(powers) > MAX_TOTAL_POWER:
        powers = [power >> 1 for power in powers]
    return powers
