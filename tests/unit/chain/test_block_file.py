"""Files of blocks: what is written is read back, and a file that is cut or damaged says where."""

import gzip
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.chain.block_file import (
    MAX_RECORD_BYTES,
    BlockFileError,
    BlockFileReader,
    BlockFileWriter,
    FileBlock,
    open_for_reading,
    open_for_writing,
)

BLOCKS = st.lists(st.builds(FileBlock, st.binary(max_size=60), st.binary(max_size=30)), max_size=5)
GENESIS_HASH = b"\x07" * 32


def written(blocks: list[FileBlock]) -> bytes:
    file = BytesIO()
    writer = BlockFileWriter(file, GENESIS_HASH)
    for block in blocks:
        writer.write(block)
    return file.getvalue()


@given(blocks=BLOCKS)
def test_blocks_are_read_back_in_order(blocks: list[FileBlock]) -> None:
    reader = BlockFileReader(BytesIO(written(blocks)))
    assert reader.genesis_hash == GENESIS_HASH
    assert list(reader.blocks()) == blocks


@given(blocks=BLOCKS, cut=st.integers(0))
def test_a_file_that_was_cut_gives_whole_blocks_only(blocks: list[FileBlock], cut: int) -> None:
    data = written(blocks)
    found: list[FileBlock] = []
    try:
        for block in BlockFileReader(BytesIO(data[: cut % len(data)])).blocks():
            found.append(block)
    except BlockFileError:
        pass
    assert found == blocks[: len(found)]
    assert len(found) < len(blocks) or not blocks


@given(garbage=st.binary(max_size=100))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(BlockFileError):
        list(BlockFileReader(BytesIO(garbage)).blocks())
    with pytest.raises(BlockFileError):
        list(BlockFileReader(BytesIO(written([]) + b"\xff" + garbage)).blocks())


def test_a_record_beyond_the_bound_is_refused_before_it_is_read() -> None:
    data = written([]) + (MAX_RECORD_BYTES + 1).to_bytes(4, "big")
    with pytest.raises(BlockFileError, match=f"at most {MAX_RECORD_BYTES}"):
        list(BlockFileReader(BytesIO(data)).blocks())


@pytest.mark.parametrize("compress", [True, False])
def test_compression_is_recognised_and_an_existing_file_is_kept(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "blocks"
    blocks = [FileBlock(b"block" * 100, b"certificate")]
    with open_for_writing(path, compress=compress) as file:
        writer = BlockFileWriter(file, GENESIS_HASH)
        writer.write(blocks[0])
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == compress
    with open_for_reading(path) as file:
        assert list(BlockFileReader(file).blocks()) == blocks
    with pytest.raises(BlockFileError, match="exists already"):
        open_for_writing(path, compress=compress)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:30] + b"\xff" + data[31:]])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "blocks.gz"
    data = gzip.compress(written([FileBlock(bytes(range(200)), b"")]))
    path.write_bytes(damage(data))  # type: ignore[operator]
    with open_for_reading(path) as file, pytest.raises(BlockFileError):
        list(BlockFileReader(file).blocks())
