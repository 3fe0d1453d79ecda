"""Making a data folder the home of a chain: block 0 and the genesis file.

The database is written first and the file last: a folder whose genesis.json exists has a chain.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astralink_node.chain.data_folder import DATABASE_NAME, GENESIS_NAME, errors_naming, read_genesis_file
from astralink_node.chain.errors import ChainInUse, OtherChain
from astralink_node.chain.initialise import initialise
from astralink_node.errors import EXIT_STORAGE, AstraLinkError
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.storage.store import DatabaseLocked
from genesis.builder import GenesisBlock, build_genesis
from genesis.schema import GenesisFile
from genesis.sealing import parse_genesis


class FolderUnwritable(AstraLinkError):
    """The disk refused to take what a data folder begins with."""

    exit_code = EXIT_STORAGE


def initialise_folder(data_dir: Path, genesis_file: bytes) -> GenesisBlock:
    """Make `data_dir` the folder of the chain that the file describes; doing it again changes nothing.

    Raises GenesisError for the file, OtherChain when the folder holds another chain, ChainInUse, and the store's
    errors.
    """
    parse_genesis(genesis_file)  # before anything is written
    path, database = data_dir / GENESIS_NAME, data_dir / DATABASE_NAME
    if path.exists():
        check_same_chain(genesis_file, path)
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _nothing_half_made(database):
            block = _initialise_database(database, genesis_file)
        if not path.exists():
            _write_durably(path, genesis_file)
    except DatabaseLocked as error:
        raise ChainInUse(data_dir) from error
    except OSError as error:
        raise FolderUnwritable(
            f"{data_dir} cannot be prepared: {error.strerror}; do it again when that is put right"
        ) from error
    return block


def _initialise_database(path: Path, genesis_file: bytes) -> GenesisBlock:
    store = open_leveldb(path, create=True)
    try:
        return initialise(store, genesis_file)
    finally:
        store.close()


@contextmanager
def _nothing_half_made(path: Path) -> Iterator[None]:
    """Remove a folder that was begun inside and could not be finished; one that was there before stays as it is."""
    if path.exists():
        yield
        return
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def check_same_chain(given: bytes, present: Path) -> None:
    """Two files may differ and be of one chain. Raises OtherChain, and GenesisError for either."""
    if given != read_genesis_file(present):
        expected, found = build_genesis(parse_genesis(given)).hash, build_genesis(parse_genesis_file(present)).hash
        if expected != found:
            raise OtherChain(expected, found)


def parse_genesis_file(path: Path) -> GenesisFile:
    """A genesis file, read and checked. Raises UserError, which names the file and the field."""
    with errors_naming(path):
        return parse_genesis(read_genesis_file(path))


def _write_durably(path: Path, data: bytes) -> None:
    """Whole or not at all, whatever happens in between."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
