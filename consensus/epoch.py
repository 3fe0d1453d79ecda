"""Epochs: the stretches of heights within which the voting set is constant.

Epoch e holds the heights from e * length to (e + 1) * length - 1; genesis is height 0. The election runs in the
last-but-one block, so that the last one's payload and checkpoint already name the set that votes after it: a
chain of checkpoints never skips a set.
"""

from consensus.params import MIN_EPOCH_LENGTH


def epoch_of(height: int, epoch_length: int) -> int:
    _check(epoch_length)
    if height < 0:
        raise ValueError(f"height: expected at least 0, found {height}")
    return height // epoch_length


def first_height(epoch: int, epoch_length: int) -> int:
    _check(epoch_length)
    return epoch * epoch_length


def last_height(epoch: int, epoch_length: int) -> int:
    """The height whose block the epoch's quantum-safe checkpoint names."""
    return first_height(epoch, epoch_length) + epoch_length - 1


def is_last(height: int, epoch_length: int) -> bool:
    return height == last_height(epoch_of(height, epoch_length), epoch_length)


def is_election(height: int, epoch_length: int) -> bool:
    """Whether this block elects the set that votes from the next epoch's first height."""
    return is_last(height + 1, epoch_length)


def next_election(height: int, epoch_length: int) -> int:
    """The first height above `height` whose block elects."""
    epoch = epoch_of(height + 1, epoch_length)
    election = last_height(epoch, epoch_length) - 1
    return election if election > height else last_height(epoch + 1, epoch_length) - 1


def _check(epoch_length: int) -> None:
    if epoch_length < MIN_EPOCH_LENGTH:
        raise ValueError(f"epoch_length: expected at least {MIN_EPOCH_LENGTH}, found {epoch_length}")
