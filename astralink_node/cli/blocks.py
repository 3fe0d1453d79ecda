"""`export` and `import`: blocks with their certificates, to a file and from one.

An import runs every block through the same validation and commit as a running node, and goes on where an earlier
one stopped. No node may run on the folder meanwhile; the database's lock sees to that.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

from astralink_node.chain.block_file import (
    BlockFileError,
    BlockFileReader,
    BlockFileWriter,
    FileBlock,
    open_for_reading,
    open_for_writing,
)
from astralink_node.chain.commits import HistoryWindow
from astralink_node.chain.data_folder import open_database
from astralink_node.chain.errors import InvalidCertificate
from astralink_node.chain.execution import Execution, ExecutionConfig
from astralink_node.chain.initialise import open_chain
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import Commit, Invalid, Validate
from astralink_node.chain.process_config import DEFAULT_HISTORY_HEIGHTS
from astralink_node.cli.options import data_dir_option, json_option
from astralink_node.cli.output_files import removed_unless_whole
from astralink_node.cli.progress import Progress
from astralink_node.errors import UserError
from astralink_node.evm.blocks import MalformedBlock, decode_block, encode_block
from astralink_node.storage.store import StorageError


class ImportFailed(UserError):
    """A block of the file is not one that may follow; what came before it is committed."""


@dataclass(slots=True)
class _Imported:
    committed: int = 0
    skipped: int = 0
    head_height: int = 0
    last_read: int | None = None

    @property
    def where(self) -> str:
        """Where in the file something stands that cannot be read as a block."""
        return "at its first block" if self.last_read is None else f"at what should be block {self.last_read + 1}"

    @property
    def outcome(self) -> str:
        return f"{self.committed} blocks were imported, the head is {self.head_height}"


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@data_dir_option()
@click.option("--from", "first", type=click.IntRange(1), default=1, show_default=True, help="First height.")
@click.option("--to", "last", type=click.IntRange(1), help="Last height.  [default: the head]")
@click.option("--gzip/--no-gzip", "compress", default=None, help="Compress.  [default: if FILE ends in .gz]")
@json_option()
def export_blocks(
    file: Path, data_dir: Path, first: int, last: int | None, compress: bool | None, as_json: bool
) -> None:
    """Write blocks and the certificates that made them final to FILE, a new file."""
    progress = Progress()
    with open_database(data_dir) as store:
        chain = open_chain(store)
        ledger = Ledger(store)
        end = chain.head.height if last is None else last
        if end > chain.head.height:
            raise UserError(f"--to: the head is at height {chain.head.height}, asked for {end}")
        if first < ledger.oldest_block_height():
            oldest = ledger.oldest_block_height()
            raise UserError(f"--from: this node began with a snapshot, its oldest block is {oldest}; asked for {first}")
        if first > end:
            raise UserError(f"nothing to export: --from {first} is above {end}")
        try:
            opened = open_for_writing(file, compress=file.suffix == ".gz" if compress is None else compress)
            with removed_unless_whole(file), opened:
                _write_blocks(ledger, chain.genesis_hash, opened, first, end, progress)
        except OSError as error:
            raise UserError(f"{file}: {error.strerror}") from error
    count = end - first + 1
    progress.finish(f"exported {count:,} blocks, heights {first} to {end}, in {progress.elapsed_s:.1f} s")
    if as_json:
        click.echo(json.dumps({"file": str(file), "first": first, "last": end, "blocks": count}, indent=2))


def _write_blocks(
    ledger: Ledger, genesis_hash: bytes, file: IO[bytes], first: int, last: int, progress: Progress
) -> None:
    writer = BlockFileWriter(file, genesis_hash)
    for height in range(first, last + 1):
        writer.write(FileBlock(encode_block(ledger.sealed_block(height)), ledger.certificate(height)))
        progress.update("exported blocks", height - first + 1, last - first + 1)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_dir_option()
@click.option("--archive", is_flag=True, help="Keep the state of every height.")
@click.option("--explorer-index", is_flag=True, help="Keep the index that block explorers ask.")
@json_option()
def import_blocks(file: Path, data_dir: Path, archive: bool, explorer_index: bool, as_json: bool) -> None:
    """Validate and commit the blocks in FILE. Blocks that are committed already are passed over."""
    progress = Progress()
    window = HistoryWindow(None if archive else DEFAULT_HISTORY_HEIGHTS)
    with open_database(data_dir) as store, open_for_reading(file) as opened:
        config = ExecutionConfig(window=window, explorer_index=explorer_index)
        execution = Execution.open(store, config, now_ns=time.monotonic_ns)
        reader = BlockFileReader(opened)
        if reader.genesis_hash != execution.context.genesis_hash:
            raise UserError(
                f"{file} holds blocks of another chain: its genesis hash is 0x{reader.genesis_hash.hex()}, the data "
                f"folder's 0x{execution.context.genesis_hash.hex()}"
            )
        imported = _Imported(head_height=execution.status().head_height)
        try:
            for block in reader.blocks():
                _import_block(execution, Ledger(store), block, imported)
                progress.update("imported blocks", imported.committed + imported.skipped)
        except BlockFileError as error:
            raise ImportFailed(f"{file}, {imported.where}: {error}; {imported.outcome}") from error
        except ImportFailed as error:
            raise ImportFailed(f"{file}: {error}; {imported.outcome}") from error
        except StorageError as error:
            raise type(error)(f"{error}; {imported.outcome}") from error
    progress.finish(
        f"imported {imported.committed:,} blocks ({imported.skipped:,} were there) in {progress.elapsed_s:.1f} s; "
        f"the head is at height {imported.head_height}"
    )
    if as_json:
        report = {"imported": imported.committed, "skipped": imported.skipped, "head": imported.head_height}
        click.echo(json.dumps(report, indent=2))


def _import_block(execution: Execution, ledger: Ledger, block: FileBlock, imported: _Imported) -> None:
    try:
        header = decode_block(block.raw_block).block.header
    except MalformedBlock as error:
        raise BlockFileError(str(error)) from error
    imported.last_read = header.number
    if header.number <= imported.head_height:
        committed = ledger.header(header.number).hash
        if committed != header.hash:
            raise ImportFailed(
                f"block {header.number} of the file is 0x{header.hash.hex()}, but 0x{committed.hex()} is final here"
            )
        imported.skipped += 1
        return
    if header.number != imported.head_height + 1:
        raise ImportFailed(
            f"the file goes on with block {header.number}, but the head is {imported.head_height}: import the blocks "
            "between first"
        )
    answer = execution.validate(Validate(block.raw_block))
    if isinstance(answer, Invalid):
        raise ImportFailed(
            f"block {header.number} is not valid: {answer.rule}: expected {answer.expected}, found {answer.found}"
        )
    try:
        execution.commit(Commit(header.hash, block.certificate))
    except InvalidCertificate as error:
        raise ImportFailed(f"block {header.number}: {error}") from error
    imported.committed += 1
    imported.head_height = header.number
