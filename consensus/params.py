"""The numbers that a chain fixes in its genesis for consensus, and the bounds that hold on every chain.

Times are whole milliseconds. Timeouts grow linearly with the round: exponential growth strands a network for
hours after its quorum is back (Besu QBFT, Polygon Edge).
"""

from dataclasses import dataclass, fields

MAX_VALIDATORS = 512
"""Bounds the bitmap of a certificate, and with the ML-DSA signatures of a checkpoint, the size of a block body."""

MAX_ROUND = 65_535
"""No honest network comes near it: with the default timeouts, round 11,000 is a year of failing rounds."""

MAX_HEIGHT = 2**63 - 1

MAX_TOTAL_POWER = 2**60 - 1
"""Keeps proposer priorities (within twice the total power of zero) inside 64 signed bits."""

MAX_TIME_MS = 2**53 - 1
"""Exact in JSON; the year 287,396."""

MIN_EPOCH_LENGTH = 3
"""The election runs in an epoch's last-but-one block, and block 0 executes nothing."""

LATE_CREDIT_HEIGHTS = 8
"""A precommit missing from a certificate may still be credited up to this many heights after its block."""

_MAX_MESSAGE_DELAY_MS = 3_600_000
_DAY_MS = 86_400_000


class ParamsError(ValueError):
    """A consensus parameter out of its bounds. `field` is the attribute's name."""

    def __init__(self, field: str, expected: str, found: int) -> None:
        super().__init__(f"{field}: expected {expected}, found {found}")
        self.field = field
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class ConsensusParams:
    """Consensus timing and ages, as genesis lists them. Raises `ParamsError` for values out of bounds."""

    propose_timeout_ms: int = 3_000
    """How long round 0 waits for the proposal before it prevotes nil."""
    propose_timeout_delta_ms: int = 500
    """Added to the above for each later round; likewise below."""
    prevote_timeout_ms: int = 1_000
    """How long a round waits, after more than 2/3 prevotes for anything, for a value to gain more than 2/3."""
    prevote_timeout_delta_ms: int = 500
    precommit_timeout_ms: int = 1_000
    """As above, for precommits."""
    precommit_timeout_delta_ms: int = 500
    min_block_interval_ms: int = 200
    """A block's time is at least its parent's plus this."""
    precision_ms: int = 500
    """Largest difference between two correct validators' clocks (PBTS, PRECISION)."""
    message_delay_ms: int = 2_000
    """Longest way of a proposal from its timestamp to a correct validator (PBTS, MSGDELAY): build and transport."""
    evidence_max_age_blocks: int = 100_000
    """Evidence expires only when both this and the next limit have passed."""
    evidence_max_age_ms: int = 2 * _DAY_MS
    unbonding_ms: int = 21 * _DAY_MS
    """How long leaving stake stays punishable; longer than evidence lives."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 1 <= value <= MAX_TIME_MS:
                raise ParamsError(field.name, f"1 to {MAX_TIME_MS}", value)
        # Below 10 ms the growth by x * 11 // 10 stands still.
        if not 10 <= self.message_delay_ms <= _MAX_MESSAGE_DELAY_MS:
            raise ParamsError("message_delay_ms", f"10 to {_MAX_MESSAGE_DELAY_MS}", self.message_delay_ms)
        if self.unbonding_ms <= self.evidence_max_age_ms:
            raise ParamsError(
                "unbonding_ms", f"more than evidence_max_age_ms ({self.evidence_max_age_ms})", self.unbonding_ms
            )

    def propose_timeout_at(self, round_: int) -> int:
        return self.propose_timeout_ms + round_ * self.propose_timeout_delta_ms

    def prevote_timeout_at(self, round_: int) -> int:
        return self.prevote_timeout_ms + round_ * self.prevote_timeout_delta_ms

    def precommit_timeout_at(self, round_: int) -> int:
        return self.precommit_timeout_ms + round_ * self.precommit_timeout_delta_ms

    def message_delay_at(self, round_: int) -> int:
        """PBTS: grows by a tenth a round, rounded down, to at most an hour, so that a wrong guess heals itself."""
        delay = self.message_delay_ms
        for _ in range(round_):
            if delay >= _MAX_MESSAGE_DELAY_MS:
                return _MAX_MESSAGE_DELAY_MS
            delay = delay * 11 // 10
        return min(delay, _MAX_MESSAGE_DELAY_MS)
