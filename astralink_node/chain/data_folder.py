"""The chain's part of a data folder: `genesis.json` and the database in `chain/`.

The database is written first and the file last: a folder whose genesis.json exists has a chain.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from astralink_node.chain.errors import ChainInUse, NotInitialised, OtherChain
from astralink_node.chain.initialise import initialise
from astralink_node.errors import UserError
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.storage.store import DatabaseLocked, DatabaseMissing, Store
from genesis.builder import GenesisBlock, build_genesis
from genesis.schema import parse_genesis

GENESIS_NAME = "genesis.json"
DATABASE_NAME = "chain"


def initialise_folder(data_dir: Path, genesis_file: bytes) -> GenesisBlock:
    """Make `data_dir` the folder of the chain that the file describes; doing it again changes nothing.

    Raises GenesisError for the file, OtherChain when the folder holds another chain, ChainInUse, and the store's
    errors.
    """
    parse_genesis(genesis_file)  # before anything is written
    path = data_dir / GENESIS_NAME
    if path.exists():
        _check_same_chain(genesis_file, read_genesis_file(path))
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        store = open_leveldb(data_dir / DATABASE_NAME, create=True)
    except DatabaseLocked as error:
        raise ChainInUse(data_dir) from error
    try:
        block = initialise(store, genesis_file)
    finally:
        store.close()
    if not path.exists():
        _write_durably(path, genesis_file)
    return block


def _check_same_chain(given: bytes, present: bytes) -> None:
    if given != present:
        expected, found = build_genesis(parse_genesis(given)).hash, build_genesis(parse_genesis(present)).hash
        if expected != found:
            raise OtherChain(expected, found)


def read_genesis_file(path: Path) -> bytes:
    """The bytes of a genesis file; a UserError names what is wrong with the path."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"genesis file {path}: {error.strerror}") from error


@contextmanager
def open_database(data_dir: Path) -> Iterator[Store]:
    """The folder's database, for a command that works on it while no node runs.

    Raises NotInitialised where there is none, ChainInUse while a node has it.
    """
    try:
        store = open_leveldb(data_dir / DATABASE_NAME, create=False)
    except DatabaseMissing as error:
        raise NotInitialised from error
    except DatabaseLocked as error:
        raise ChainInUse(data_dir) from error
    try:
        yield store
    finally:
        store.close()


def _write_durably(path: Path, data: bytes) -> None:
    """Whole or not at all, whatever happens in between."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with temporary.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
