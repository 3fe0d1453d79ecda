"""Block 0 in a database, and the boot check that stands between a damaged or foreign folder and a running node."""

import json
import time
from pathlib import Path

import pytest

from astralink_node.chain.data_folder import open_database
from astralink_node.chain.errors import ChainInUse, FormatTooNew, NotInitialised, OtherChain
from astralink_node.chain.execution import Execution
from astralink_node.chain.initialise import initialise, open_chain
from astralink_node.chain.new_folder import initialise_folder
from astralink_node.chain.records import encode_head
from astralink_node.crypto.keccak import keccak256
from astralink_node.storage import keys
from astralink_node.storage.memory import MemoryStore
from astralink_node.storage.store import DatabaseDamaged
from genesis.fields import GenesisError
from tests.support.chains import LocalChain, candidate, genesis_text


def test_initialising_twice_changes_nothing() -> None:
    store = MemoryStore()
    first = initialise(store, genesis_text())
    before = dict(store.iterate(b"", b"\xff"))
    assert initialise(store, genesis_text()).hash == first.hash
    assert dict(store.iterate(b"", b"\xff")) == before


def test_another_chains_database_is_refused_with_both_hashes() -> None:
    store = MemoryStore()
    first = initialise(store, genesis_text(1))
    with pytest.raises(OtherChain) as caught:
        initialise(store, genesis_text(2))
    assert caught.value.found == first.hash
    assert first.hash.hex() in str(caught.value)
    assert caught.value.expected.hex() in str(caught.value)
    with pytest.raises(OtherChain):
        open_chain(store, genesis_text(2))


def test_the_same_chain_in_another_spelling_is_accepted() -> None:
    store = MemoryStore()
    initialise(store, genesis_text())
    respelled = json.dumps(dict(reversed(json.loads(genesis_text()).items()))).encode()
    assert open_chain(store, respelled).head.height == 0


def test_a_broken_genesis_file_beside_a_good_database_is_named() -> None:
    store = MemoryStore()
    initialise(store, genesis_text())
    with pytest.raises(GenesisError):
        open_chain(store, b"{}")


def test_an_empty_database_is_not_a_chain() -> None:
    with pytest.raises(NotInitialised):
        open_chain(MemoryStore())


def test_a_database_of_another_format_is_left_alone() -> None:
    store = MemoryStore()
    initialise(store, genesis_text())
    store.write({keys.FORMAT_KEY: (keys.FORMAT_VERSION + 1).to_bytes(4, "big")}, sync=True)
    for attempt in (lambda: open_chain(store), lambda: initialise(store, genesis_text())):
        with pytest.raises(FormatTooNew, match=f"format {keys.FORMAT_VERSION + 1}"):
            attempt()


def damaged_chain(writes: dict[bytes, bytes | None]) -> LocalChain:
    chain = LocalChain()
    chain.produce([candidate(0, 0)])
    chain.store.write(writes, sync=True)
    return chain


@pytest.mark.parametrize(
    ("writes", "what"),
    [
        ({keys.HEAD_KEY: None}, "head pointer"),
        ({keys.HEAD_KEY: b"\x01"}, "head pointer"),
        ({keys.HEAD_KEY: encode_head(2, bytes(32))}, "header of block 2"),
        ({keys.HEAD_KEY: encode_head(1, bytes(32))}, "header of block 1"),
        ({keys.header_key(1): None}, "header of block 1"),
        ({keys.header_key(1): b"\xc0"}, "header of block 1"),
        ({keys.header_key(0): None}, "header of block 0"),
        ({keys.ACCOUNT_NODES: b"\xc0"}, "state at height 1"),
        ({keys.ACCOUNT_NODES: None}, "state at height 1"),
        ({keys.GENESIS_FILE_KEY: b"{}"}, "stored genesis file"),
        ({keys.GENESIS_FILE_KEY: None}, "stored genesis file"),
        ({keys.GENESIS_HASH_KEY: None}, "genesis hash"),
        ({keys.GENESIS_HASH_KEY: bytes(32)}, "block 0"),
        ({keys.validator_set_key(0): None}, "validator set"),
        ({keys.validator_set_key(0): b"\x00"}, "validator set"),
        ({keys.priorities_key(2): None}, "priorities"),
        ({keys.payload_key(1): b"\x00"}, "payload of block 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_at_the_head_is_found_at_the_start_and_names_the_way_out(
    writes: dict[bytes, bytes | None], what: str
) -> None:
    chain = damaged_chain(writes)
    with pytest.raises(DatabaseDamaged) as caught:
        Execution.open(chain.store, chain.config, now_ns=time.monotonic_ns)
    assert what in str(caught.value)
    assert "db check" in str(caught.value)


def test_the_genesis_hash_says_everything_that_the_file_says() -> None:
    """A golden hash: that of the file beside this test, as this version and every later one must find it."""
    store = MemoryStore()
    golden = Path(__file__).parent.parent / "genesis" / "golden_genesis.json"
    block = initialise(store, golden.read_bytes())
    assert keccak256(golden.read_bytes()).hex() == GOLDEN_FILE
    assert block.hash.hex() == GOLDEN_HASH
    assert block.header.state_root.hex() == GOLDEN_STATE_ROOT
    assert block.payload.version.hex() == GOLDEN_CONFIGURATION


GOLDEN_FILE = "1c63dffe6ce9cadf123e7829389bb2a3f20f901956f78224b0293e86b3a8c908"
GOLDEN_HASH = "dde52a9e06995998ea4e0a3fb990813b668270a35fa41da4efc976b40b0b76e7"
GOLDEN_STATE_ROOT = "896697275745f68bb87dfa2fb212e18a3b129836b739ee86e8288c4da2761b88"
GOLDEN_CONFIGURATION = "a68c2ac5ea0496e7f2dce61248ee19d235b8002cd9ae5d20b2aa761ee25b6df2"


def test_a_data_folder_is_made_once_and_belongs_to_one_chain(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = initialise_folder(folder, genesis_text())
    assert initialise_folder(folder, genesis_text()).hash == first.hash
    assert (folder / "genesis.json").read_bytes() == genesis_text()
    with pytest.raises(OtherChain):
        initialise_folder(folder, genesis_text(2))
    assert (folder / "genesis.json").read_bytes() == genesis_text()


def test_a_genesis_file_left_without_its_database_is_not_silently_replaced(tmp_path: Path) -> None:
    (tmp_path / "genesis.json").write_bytes(genesis_text(2))
    with pytest.raises(OtherChain):
        initialise_folder(tmp_path, genesis_text(1))
    assert not (tmp_path / "chain").exists()
    initialise_folder(tmp_path, genesis_text(2))


def test_a_broken_genesis_file_leaves_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(GenesisError):
        initialise_folder(tmp_path / "data", b"{}")
    assert not (tmp_path / "data").exists()
    with pytest.raises(NotInitialised), open_database(tmp_path / "data"):
        pass


def test_a_database_in_use_is_said_to_be_locked(tmp_path: Path) -> None:
    initialise_folder(tmp_path, genesis_text())
    with open_database(tmp_path), pytest.raises(ChainInUse, match="locked"), open_database(tmp_path):
        pass
