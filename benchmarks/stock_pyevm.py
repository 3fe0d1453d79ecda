"""Stock py-evm's side of the comparison: its own chain classes, unchanged, over LevelDB, in a process of its own.

Imports nothing of AstraLink, and keeps eth-hash's default backend. Importing takes the very blocks that our side
sealed and must reach the same hash. Sealing is ``MiningChain.mine_all`` in a second database; it leaves out the
system calls of EIP-4788 and EIP-2935, which only import runs, so its states differ there and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import plyvel
import rlp
from eth.abc import AtomicDatabaseAPI
from eth.chains.base import MiningChain
from eth.consensus import NoProofConsensus
from eth.constants import BLANK_ROOT_HASH
from eth.db.backends.base import BaseAtomicDB
from eth.db.batch import BatchDB
from eth.vm.chain_context import ChainContext
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.headers import PragueBlockHeader
from eth_hash.auto import keccak

from benchmarks.measuring import Stopwatch, forget_caches, serve


class LevelDatabase(BaseAtomicDB):
    """py-evm's database interface on LevelDB, with the cache sizes that our own store uses."""

    def __init__(self, folder: Path) -> None:
        self._database = plyvel.DB(
            str(folder),
            create_if_missing=True,
            write_buffer_size=32 << 20,
            lru_cache_size=64 << 20,
            bloom_filter_bits=10,
        )

    def __getitem__(self, key: bytes) -> bytes:
        value = self._database.get(key)
        if value is None:
            raise KeyError(key)
        return bytes(value)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._database.put(key, value)

    def __delitem__(self, key: bytes) -> None:
        self._database.delete(key)

    def _exists(self, key: bytes) -> bool:
        return self._database.get(key) is not None

    @contextmanager
    def atomic_batch(self) -> Iterator[BatchDB]:
        batch = BatchDB(self)
        yield batch
        difference = batch.diff()
        with self._database.write_batch(transaction=True) as writes:
            for key, value in difference.pending_items():
                writes.put(key, value)
            for key in difference.deleted_keys():
                writes.delete(key)

    def close(self) -> None:
        self._database.close()


class ProofOfStakeVM(PragueVM):
    """No seal to check: blocks come with a certificate, which stock py-evm knows nothing of."""

    consensus_class = NoProofConsensus


class Side:
    """The commands."""

    def __init__(self) -> None:
        self._folder = Path()
        self._chain_class: type[MiningChain] = MiningChain

    def open(self, folder: str, genesis: str, header: str) -> dict[str, Any]:
        """Write the genesis state and our genesis header into both databases."""
        self._folder = Path(folder)
        specification = json.loads(Path(genesis).read_text())
        self._chain_class = MiningChain.configure(
            "StockChain",
            vm_configuration=((0, ProofOfStakeVM),),
            chain_id=int(specification["config"]["chainId"]),
        )
        expected = rlp.decode(bytes.fromhex(header), sedes=PragueBlockHeader)
        for name in ("sealing", "importing"):
            database = LevelDatabase(self._folder / name)
            write_genesis_state(database, specification["alloc"], expected.state_root)
            self._chain_class.from_genesis_header(database, expected)
            database.close()
        return {"hash_backend": keccak.hasher.__module__.rpartition(".")[2]}

    def seal(self, transactions: list[str], timestamp: int) -> dict[str, Any]:
        with self._opened("sealing") as chain:
            head = chain.get_canonical_head()
            chain.header = chain.create_header_from_parent(head, timestamp=timestamp, gas_limit=head.gas_limit)
            raw_transactions = [bytes.fromhex(raw) for raw in transactions]
            forget_caches()
            with Stopwatch() as watch:
                decode = chain.get_vm().get_transaction_builder().decode
                _, receipts, _ = chain.mine_all([decode(raw) for raw in raw_transactions])
            if len(receipts) != len(transactions) or any(receipt.state_root != b"\x01" for receipt in receipts):
                raise RuntimeError("a transaction failed")
        return watch.times()

    def import_block(self, ethereum_block: str) -> dict[str, Any]:
        raw = bytes.fromhex(ethereum_block)
        with self._opened("importing") as chain:
            forget_caches()
            with Stopwatch() as watch:
                block = rlp.decode(raw, sedes=ProofOfStakeVM.get_block_class())
                imported = chain.import_block(block).imported_block
        return {**watch.times(), "hash": imported.hash.hex(), "gas_used": imported.header.gas_used}

    @contextmanager
    def _opened(self, name: str) -> Iterator[MiningChain]:
        database = LevelDatabase(self._folder / name)
        try:
            yield self._chain_class(database)
        finally:
            database.close()


def write_genesis_state(database: AtomicDatabaseAPI, alloc: dict[str, Any], expected_root: bytes) -> None:
    empty = PragueBlockHeader(difficulty=0, block_number=0, gas_limit=0, state_root=BLANK_ROOT_HASH)
    state = ProofOfStakeVM.build_state(database, empty, ChainContext(None))
    for address_text, account in alloc.items():
        address = bytes.fromhex(address_text[2:])
        state.set_balance(address, int(account["balance"], 16))
        state.set_nonce(address, int(account.get("nonce", "0x0"), 16))
        state.set_code(address, bytes.fromhex(account.get("code", "0x")[2:]))
        for slot, value in account.get("storage", {}).items():
            state.set_storage(address, int(slot, 16), int(value, 16))
    state.persist()
    if state.state_root != expected_root:
        raise RuntimeError(f"genesis state root: expected 0x{expected_root.hex()}, found 0x{state.state_root.hex()}")


if __name__ == "__main__":
    side = Side()
    serve({"open": side.open, "seal": side.seal, "import": side.import_block})
