"""Blocks in a file, for `export` and `import`: each as proposed, with the certificate that made it final.

Layout: 8 bytes of magic, the 32-byte genesis hash, then for each block, heights ascending by one: 4 bytes length,
and as many bytes of rlp([sealed block, certificate]). The whole may be compressed with gzip. A reader needs no more
memory than one block; a file that was cut short gives the blocks before the cut.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from astralink_node.errors import UserError
from astralink_node.evm import rlp
from astralink_node.evm.blocks import MAX_SEALED_BLOCK_BYTES
from consensus.certificate import MAX_CERTIFICATE_BYTES

MAGIC = b"ALNKBLK1"
MAX_RECORD_BYTES = MAX_SEALED_BLOCK_BYTES + MAX_CERTIFICATE_BYTES + 64
GZIP_MAGIC = b"\x1f\x8b"


class BlockFileError(UserError):
    """Not a file of blocks, or one that was damaged or cut short."""


@dataclass(frozen=True, slots=True)
class FileBlock:
    raw_block: bytes
    certificate: bytes


class BlockFileWriter:
    """Writes to `file`, which the caller opened and closes."""

    def __init__(self, file: IO[bytes], genesis_hash: bytes) -> None:
        self._file = file
        file.write(MAGIC + genesis_hash)

    def write(self, block: FileBlock) -> None:
        record = rlp.encode([block.raw_block, block.certificate])
        self._file.write(len(record).to_bytes(4, "big") + record)


class BlockFileReader:
    """Reads from `file`; `genesis_hash` is known at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        head = self._read(len(MAGIC) + 32)
        if len(head) != len(MAGIC) + 32 or head[: len(MAGIC)] != MAGIC:
            raise BlockFileError("not a file of blocks: it does not begin as `astralink-node export` begins one")
        self.genesis_hash = head[len(MAGIC) :]

    def blocks(self) -> Iterator[FileBlock]:
        number = 0
        while length_bytes := self._read(4):
            number += 1
            length = int.from_bytes(length_bytes, "big")
            if len(length_bytes) != 4 or length > MAX_RECORD_BYTES:
                raise BlockFileError(f"record {number}: expected at most {MAX_RECORD_BYTES} bytes, found {length}")
            record = self._read(length)
            if len(record) != length:
                raise BlockFileError(f"record {number}: the file ends after {len(record)} of {length} bytes")
            yield _decode_record(record, number)

    def _read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BlockFileError(f"the compressed file is damaged or cut short: {error}") from error


def open_for_reading(path: Path) -> IO[bytes]:
    """The file, decompressed if it is compressed."""
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return cast(IO[bytes], gzip.open(path, "rb")) if is_gzip else path.open("rb")


def open_for_writing(path: Path, *, compress: bool) -> IO[bytes]:
    """A new file: an existing one is not overwritten."""
    try:
        return cast(IO[bytes], gzip.open(path, "xb", compresslevel=6)) if compress else path.open("xb")
    except FileExistsError as error:
        raise BlockFileError(f"{path} exists already") from error


def _decode_record(record: bytes, number: int) -> FileBlock:
    try:
        fields = rlp.decode_list(record, max_depth=1)
    except rlp.MalformedRlp as error:
        raise BlockFileError(f"record {number}: {error}") from error
    match fields:
        case [bytes() as raw_block, bytes() as certificate]:
            return FileBlock(raw_block, certificate)
        case _:
            raise BlockFileError(f"record {number}: expected a block and its certificate, found something else")
