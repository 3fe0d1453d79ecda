"""Where to cut LevelDB's log after a power failure that left zeros in place of what was not yet synced.

A file system may record a file's new length before its new content. LevelDB reads zeros behind whole records as the
end; but where they begin within a record, its checksum fails, and paranoid checks refuse the log. Such a record was
never acknowledged: a synced one is on the disk with its content, and nothing synced can stand behind it. The layout
is LevelDB's doc/log_format.md. Checksums are left to LevelDB, which reads the log again when it was cut.
"""

import struct
from typing import Final

BLOCK_BYTES: Final = 32_768
_HEADER: Final = struct.Struct("<IHB")
"""Checksum, length of the data behind the header, type."""
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4

SECTOR_BYTES: Final = 512
"""A disk writes no less: what was not written are whole sectors, or all that the file has of its last one."""
MIN_ZEROS: Final = 64
"""Fewer from a sector's start to the end of the file may be content, and the damage something else."""


def unwritten_record(log: bytes) -> int | None:
    """Offset of the last record of `log`, if zeros reach from a sector's start within it to the end of the file.

    None for any other log, whether it is whole or damaged.
    """
    zeros_from = -(-len(log.rstrip(b"\x00")) // SECTOR_BYTES) * SECTOR_BYTES
    record: int | None = None
    end: int | None = None
    position = 0
    while position + _HEADER.size <= len(log):
        left_in_block = BLOCK_BYTES - position % BLOCK_BYTES
        if left_in_block < _HEADER.size:
            position += left_in_block  # a header never crosses a block: the rest is filled with zeros
            continue
        _, length, kind = _HEADER.unpack_from(log, position)
        if kind in (_FULL, _FIRST):
            record = position
        elif kind not in (_MIDDLE, _LAST):
            break
        position += _HEADER.size + length
        end = None if kind in (_FIRST, _MIDDLE) else position
    if record is None or len(log) - zeros_from < MIN_ZEROS:
        return None
    is_within = end is None or zeros_from < end
    return record if is_within and record < zeros_from else None
