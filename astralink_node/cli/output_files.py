"""Files that a command writes for the operator: whole, or not there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def removed_unless_whole(file: Path) -> Iterator[None]:
    """Around writing a file that was just created: a failed one must not look like one, nor be in the next one's way.

    Enter it before the file itself, so that an error of closing (the disk is full) counts too.
    """
    try:
        yield
    except BaseException:
        file.unlink(missing_ok=True)
        raise
