"""How long correct validators may take to commit after stabilisation, computed from the parameters.

R is the repeat interval, d the longest delay after stabilisation, w the longest wait of a proposer for its clock to
pass the parent's time and the interval (2 * precision, once for a byzantine proposer's time in the future and once for
the difference of clocks, plus the interval), b and c the times to build and to check a block. The argument, which is
also in docs/adr/0012:

1. Each tick, every R, a validator that has been in its step for R says again what it holds of its round, the precommits
   of the round before and the polka of its validRound. A round has three steps, so whatever it learns it has told
   everybody after 4R + d; a lock, which no step of that round follows, after 2R + d.
2. So when one correct validator waits to leave a round (line 47), all others do so at most s = 4R + d later, and enter
   the next round at most s after it.
3. Let r* be the first round in which the timeouts of prevote and precommit are at least s + 2R + 3d + c, and that of
   propose at least s + w + b + c + d; in later rounds they are longer. In a round k > r* of a correct proposer all
   correct validators have prevoted at most s + c + 2d after the first f+1 of them, so their prevote timeouts end at
   most that long apart, and whoever locks has told all before anybody's precommit timeout ends. What was locked before
   round k is told by then as well.
4. So if the proposer of round k + 1 is correct too, its validRound is at least everybody's lockedRound, all have the
   polka, nobody times out before everybody's prevote is there: all precommit its block, and it is decided. Less than a
   third of the turns are byzantine, so two correct ones in a row come up in every rotation.
5. From the first correct validator that enters a round to the last that leaves it at most its three timeouts, s and 2d
   pass.

The bound is the catching up of whoever lags, plus the rounds from the one before the highest that was reached at
stabilisation (others may still be in it) up to k + 1. Typical runs take one or two rounds; it is for the worst
adversary.
"""

from collections.abc import Collection

from consensus.params import ConsensusParams
from consensus.proposer_selection import ProposerRotation
from tests.simulation.node import REPEAT_INTERVAL_MS, Habits


def spread_ms(delay_ms: int) -> int:
    """s: how far apart correct validators enter a round."""
    return 4 * REPEAT_INTERVAL_MS + delay_ms


def first_long_round(params: ConsensusParams, delay_ms: int, slowest: Habits) -> int:
    """r*."""
    vote_ms = spread_ms(delay_ms) + 2 * REPEAT_INTERVAL_MS + 3 * delay_ms + slowest.check_ms
    wait_ms = 2 * params.precision_ms + params.min_block_interval_ms
    propose_ms = spread_ms(delay_ms) + wait_ms + slowest.build_ms + slowest.check_ms + delay_ms
    round_ = 0
    while (
        min(params.prevote_timeout_at(round_), params.precommit_timeout_at(round_)) < vote_ms
        or params.propose_timeout_at(round_) < propose_ms
    ):
        round_ += 1
    return round_


def round_ms(params: ConsensusParams, round_: int, delay_ms: int) -> int:
    """From the first correct validator that enters it to the last that leaves it."""
    timeouts_ms = (
        params.propose_timeout_at(round_) + params.prevote_timeout_at(round_) + params.precommit_timeout_at(round_)
    )
    return timeouts_ms + spread_ms(delay_ms) + 2 * delay_ms


def deciding_round(
    params: ConsensusParams,
    rotation: ProposerRotation,
    byzantine: Collection[int],
    reached_round: int,
    delay_ms: int,
    slowest: Habits,
) -> int:
    """k + 1: the second of the first two correct proposers in a row after r* and after the round reached."""
    round_ = max(reached_round, first_long_round(params, delay_ms, slowest)) + 1
    while rotation.at(round_) in byzantine or rotation.at(round_ + 1) in byzantine:
        round_ += 1
    return round_ + 1


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

    `missing_heights` is how far the last one lagged behind that height: it asks once in vain, because it was answered
    just before, then once for each height.
    """
    last = deciding_round(params, rotation, byzantine, reached_round, delay_ms, slowest)
    rounds_ms = sum(round_ms(params, round_, delay_ms) for round_ in range(max(0, reached_round - 1), last + 1))
    catching_up_ms = 2 * spread_ms(delay_ms) + missing_heights * (2 * delay_ms + slowest.check_ms)
    return catching_up_ms + rounds_ms
