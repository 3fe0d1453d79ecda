"""The chain's part of a data folder as it stands there: `genesis.json` and the database in `chain/`.

chain.new_folder makes one. What is here needs no EVM, so that a node which goes on with its chain loads none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from astralink_node.chain.errors import ChainInUse, NotInitialised
from astralink_node.errors import UserError
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.storage.store import DatabaseLocked, DatabaseMissing, Store
from genesis.fields import MAX_FILE_BYTES, GenesisError
from genesis.schema import GenesisFile, parse_unsealed_genesis

GENESIS_NAME: Final = "genesis.json"
DATABASE_NAME: Final = "chain"


def read_genesis_file(path: Path) -> bytes:
    """The bytes of a genesis file; a UserError names what is wrong with the path."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)  # one more than the parser takes, which then says so
    except OSError as error:
        raise UserError(f"genesis file {path}: {error.strerror}") from error


def load_genesis(data_dir: Path) -> GenesisFile:
    """The folder's own genesis file, parsed. Raises UserError, which names the file and the field.

    That its staking contracts are what they must be was checked when the folder was made; whether the file is still
    that of the database, `initialise.open_chain` checks at each start.
    """
    path = data_dir / GENESIS_NAME
    with errors_naming(path):
        return parse_unsealed_genesis(read_genesis_file(path))


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Say which file it is that a GenesisError inside is about."""
    try:
        yield
    except GenesisError as error:
        raise UserError(f"{path}: {error}") from error


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
