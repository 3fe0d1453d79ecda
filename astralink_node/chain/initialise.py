"""Writing block 0 into an empty database, and checking at each start that the database is whole and the right one."""

from dataclasses import dataclass

from astralink_node.chain.errors import FormatTooNew, NotInitialised, OtherChain
from astralink_node.chain.ledger import Head, Ledger
from astralink_node.chain.records import damaged, encode_body, encode_head, encode_receipts
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.blocks import encode_header
from astralink_node.storage import keys
from astralink_node.storage.store import Reader, Store
from astralink_node.types import EMPTY_TRIE_ROOT
from consensus.proposer_selection import encode_priorities
from consensus.validator_set import encode_validator_set
from genesis.builder import GenesisBlock, build_genesis
from genesis.fields import GenesisError
from genesis.schema import GenesisFile
from genesis.sealing import parse_genesis

FIRST_HEIGHT = 1


@dataclass(frozen=True, slots=True)
class OpenedChain:
    genesis: GenesisFile
    genesis_hash: bytes
    head: Head


def initialise(store: Store, genesis_file: bytes) -> GenesisBlock:
    """Write the genesis that a file describes, in one synced batch. Doing it again changes nothing.

    Raises GenesisError for the file, OtherChain if the database holds another chain's.
    """
    block = build_genesis(parse_genesis(genesis_file))
    if store.get(keys.FORMAT_KEY) is not None:
        _check_format(store)
        _check_genesis_hash(store, block.hash)
        return block
    store.write(_genesis_writes(block, genesis_file), sync=True)
    return block


def _genesis_writes(block: GenesisBlock, genesis_file: bytes) -> dict[bytes, bytes | None]:
    encoded_set = encode_validator_set(block.validator_set)
    return {
        **block.state.writes,
        keys.FORMAT_KEY: keys.FORMAT_VERSION.to_bytes(4, "big"),
        keys.GENESIS_HASH_KEY: block.hash,
        keys.GENESIS_FILE_KEY: genesis_file,
        keys.header_key(0): encode_header(block.header),
        keys.height_key(block.hash): keys.encode_height(0),
        keys.body_key(0): encode_body((), ()),
        keys.payload_key(0): block.sealed.raw_payload,
        keys.receipts_key(0): encode_receipts(()),
        keys.validator_set_key(0): encoded_set,
        keys.priorities_key(FIRST_HEIGHT): encode_priorities(block.priorities),
        keys.HEAD_KEY: encode_head(0, block.hash),
    }


def open_chain(store: Reader, expected_genesis_file: bytes | None = None) -> OpenedChain:
    """The chain in a database, after the boot check: format, genesis, head header, state root at the head.

    While a snapshot is being imported (keys.IMPORT_KEY) the head is genesis, and its state is not there.

    `expected_genesis_file` is the data folder's genesis.json, which must describe the same chain. Raises
    NotInitialised, FormatTooNew, OtherChain, GenesisError (for that file), or DatabaseDamaged.
    """
    _check_format(store)
    genesis_hash = _existing(store, keys.GENESIS_HASH_KEY, "the genesis hash")
    genesis_file = _existing(store, keys.GENESIS_FILE_KEY, "the stored genesis file")
    if expected_genesis_file is not None and expected_genesis_file != genesis_file:
        # The bytes differ; whether the chain does, only the hash says.
        _check_genesis_hash(store, build_genesis(parse_genesis(expected_genesis_file)).hash)
    try:
        genesis = parse_genesis(genesis_file)
    except GenesisError as error:
        raise damaged("the stored genesis file", str(error)) from error
    ledger = Ledger(store)
    if ledger.header(0).hash != genesis_hash:
        raise damaged("block 0", "its hash is not the genesis hash")
    head = ledger.head()
    if store.get(keys.IMPORT_KEY) is None:
        check_head(store, head)
    return OpenedChain(genesis, genesis_hash, head)


def check_head(reader: Reader, head: Head) -> None:
    """The head's header is there and hashes to the head, and the stored state's root node is the header's."""
    header = Ledger(reader).header(head.height)
    if header.hash != head.block_hash:
        raise damaged(f"header of block {head.height}", "its hash is not the head's")
    root_node = reader.get(keys.ACCOUNT_NODES)
    found = EMPTY_TRIE_ROOT if root_node is None else keccak256(root_node)
    if found != header.state_root:
        raise damaged(
            f"the state at height {head.height}",
            f"expected root 0x{header.state_root.hex()}, found 0x{found.hex()}",
        )


def _check_format(reader: Reader) -> None:
    raw = reader.get(keys.FORMAT_KEY)
    if raw is None:
        raise NotInitialised
    found = int.from_bytes(raw, "big")
    if found != keys.FORMAT_VERSION:
        raise FormatTooNew(keys.FORMAT_VERSION, found)


def _check_genesis_hash(reader: Reader, expected: bytes) -> None:
    found = _existing(reader, keys.GENESIS_HASH_KEY, "the genesis hash")
    if found != expected:
        raise OtherChain(expected, found)


def _existing(reader: Reader, key: bytes, what: str) -> bytes:
    value = reader.get(key)
    if value is None:
        raise damaged(what, "missing")
    return value
