"""How long correct validators may take to commit after stabilisation, computed from the parameters.

Let R be the repeat interval, d the longest delay after stabilisation, w the longest wait of a proposer for its clock
to pass the parent's time and the interval (2 * precision, once for a byzantine proposer's time in the future and once
for the difference of clocks, plus the interval), b and c the time to build and to check a block. `docs/adr/0012` has
the argument; in short:

1. Whoever stands in one step for 2R has repeated all it knows of its round, so after 2R + d everybody has it. So a
   height that others have decided is learnt within 2R + 2d after stabilisation, and each further one 2d + c later (a
   request that was answered in vain is answered again after another R).
2. In a round whose precommit timeout is at least 2R + d, what made the first correct validator wait to leave it makes
   all others wait to leave it at most 2R + d later: they start the next round within 2R + d of each other.
3. In such a round a lock of one correct validator is known to all, with its polka, before any of them leaves it.
4. So in the rounds after the first one, r*, in which the timeouts of prevote and precommit are at least 2R + 3d + c
   and that of propose is at least 2R + 3d + w + b + c, the first correct proposer decides: its validRound is at least
   as high as everybody's lockedRound, and everybody's timeouts wait for everybody.
5. A round lasts, for the last correct validator that leaves it, at most its three timeouts plus 2R + 3d of being late.

The bound is therefore the catching up plus the rounds from the one that was reached at stabilisation up to the first
of a correct proposer after r*. It is linear in the number of missing heights, and quadratic in rounds because timeouts
grow linearly. Typical runs take one or two rounds; the bound is for the worst adversary.
"""

from collections.abc import Collection

from consensus.params import ConsensusParams
from consensus.proposer_selection import ProposerRotation
from tests.simulation.node import REPEAT_INTERVAL_MS, Habits


def known_to_all_ms(delay_ms: int) -> int:
    """2R + d."""
    return 2 * REPEAT_INTERVAL_MS + delay_ms


def first_long_round(params: ConsensusParams, delay_ms: int, slowest: Habits) -> int:
    """r* of the module's description."""
    vote_ms = known_to_all_ms(delay_ms) + 2 * delay_ms + slowest.check_ms
    propose_ms = vote_ms + 2 * params.precision_ms + params.min_block_interval_ms + slowest.build_ms
    round_ = 0
    while (
        min(params.prevote_timeout_at(round_), params.precommit_timeout_at(round_)) < vote_ms
        or params.propose_timeout_at(round_) < propose_ms
    ):
        round_ += 1
    return round_


def round_ms(params: ConsensusParams, round_: int, delay_ms: int) -> int:
    """The longest that a correct validator is behind the end of a round that began when everybody was in it."""
    timeouts = (
        params.propose_timeout_at(round_) + params.prevote_timeout_at(round_) + params.precommit_timeout_at(round_)
    )
    return timeouts + known_to_all_ms(delay_ms) + 2 * delay_ms


def deciding_round(
    params: ConsensusParams,
    rotation: ProposerRotation,
    byzantine: Collection[int],
    reached_round: int,
    delay_ms: int,
    slowest: Habits,
) -> int:
    """The first round of a correct proposer in which nothing hinders a decision any more."""
    round_ = max(reached_round, first_long_round(params, delay_ms, slowest)) + 1
    while rotation.at(round_) in byzantine:
        round_ += 1
    return round_


def commit_bound_ms(
    params: ConsensusParams,
    rotation: ProposerRotation,
    byzantine: Collection[int],
    reached_round: int,
    missing_heights: int,
    delay_ms: int,
    slowest: Habits,
) -> int:
    """From stabilisation, where correct validators had reached that round of a height, until all have decided it.

    `missing_heights` is how far the last one lagged behind that height.
    """
    last = deciding_round(params, rotation, byzantine, reached_round, delay_ms, slowest)
    rounds_ms = sum(round_ms(params, round_, delay_ms) for round_ in range(reached_round, last + 1))
    catching_up_ms = 3 * REPEAT_INTERVAL_MS + 2 * delay_ms + missing_heights * (2 * delay_ms + slowest.check_ms)
    return catching_up_ms + rounds_ms
