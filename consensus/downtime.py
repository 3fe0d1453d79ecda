"""Who was absent, and whose absence in a window is an offence.

Pure; follows docs/staking.md, "What the protocol calls, and when", 3. A window is counted from its epoch's first
height, so that within it the set does not change; what is left at an epoch's end is no window, and neither it nor
height 0, for which nobody votes, counts against anyone.
"""

from collections.abc import Sequence

from consensus.epoch import epoch_of, first_height
from consensus.validator_set import Validator

BPS = 10_000


def is_in_window(height: int, epoch_length: int, window: int) -> bool:
    """Whether absence at `height` is counted: it lies in a full window of its epoch, and somebody votes at it."""
    _check_window(window)
    full_windows = epoch_length // window
    return height > 0 and _position(height, epoch_length) < full_windows * window


def window_that_ends(height: int, epoch_length: int, window: int) -> range | None:
    """The heights of the full window whose last is `height`; None if no full window ends there."""
    _check_window(window)
    position = _position(height, epoch_length)
    if (position + 1) % window:
        return None
    return range(height + 1 - window, height + 1)


def absentees(bitmap: int, count: int) -> tuple[int, ...]:
    """Indices of the members, of `count`, whose bit is not set. Higher bits say nothing."""
    if bitmap < 0 or count < 0:
        raise ValueError(f"expected a bitmap and a count of at least 0, found {bitmap} and {count}")
    return tuple(index for index in range(count) if not bitmap >> index & 1)


def offenders(
    members: Sequence[Validator], missed: Sequence[int], *, window: int, min_signed_bps: int, room: int
) -> tuple[Validator, ...]:
    """Who is to be punished for a window: whoever signed less than `min_signed_bps` of it, the worst first.

    `missed` is each member's count of missed heights, `room` how many the epoch may still jail. A validator that
    signed exactly the minimum is no offender.
    """
    _check_window(window)
    if room <= 0:
        return ()
    found = [
        (-count, member.voting_key, member)
        for member, count in zip(members, missed, strict=True)
        if count * BPS > window * (BPS - min_signed_bps)
    ]
    found.sort(key=lambda item: item[:2])
    return tuple(member for _, _, member in found[:room])


def _position(height: int, epoch_length: int) -> int:
    return height - first_height(epoch_of(height, epoch_length), epoch_length)


def _check_window(window: int) -> None:
    if window < 1:
        raise ValueError(f"window: expected at least 1, found {window}")
