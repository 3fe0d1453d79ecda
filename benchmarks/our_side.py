"""AstraLink's side of the comparison, in a process of its own: seals blocks in one database, imports in another.

Driven by run.py through measuring.serve. Sealing is Build and Commit with senders known, since the mempool
recovered them at admission; importing is Validate and Commit of bytes never seen, so it recovers every sender.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from astralink_node.chain.execution import Execution, ExecutionConfig
from astralink_node.chain.initialise import initialise
from astralink_node.chain.messages import Build, BuildAttributes, Built, Candidate, Commit, Committed, Valid, Validate
from astralink_node.evm.blocks import decode_block, encode_header, ethereum_block_rlp
from astralink_node.storage.leveldb import open_leveldb
from benchmarks.measuring import Stopwatch, forget_caches, serve
from tests.support.chains import commit_certificate, reveal, voting_secret

SECRET = voting_secret(0)
BUILD_BUDGET_MS = 600_000
FEE_RECIPIENT = bytes([0xFE]) * 20


class Chain:
    """One database, opened anew for every block."""

    def __init__(self, folder: Path, genesis_file: bytes) -> None:
        self._folder = folder
        self._certificate = b""
        store = open_leveldb(folder, create=True)
        try:
            genesis = initialise(store, genesis_file)
        finally:
            store.close()
        self._genesis_hash = genesis.hash
        self.genesis_header = encode_header(genesis.header)

    def seal(self, candidates: tuple[Candidate, ...]) -> tuple[Built, Stopwatch]:
        store = open_leveldb(self._folder, create=False)
        watch = Stopwatch()
        try:
            execution = Execution.open(store, ExecutionConfig(), now_ns=time.monotonic_ns)
            status = execution.status()
            height = status.head_height + 1
            attributes = BuildAttributes(
                time_ms=status.head_time_ms + 1_000,
                fee_recipient=FEE_RECIPIENT,
                round_=0,
                proposer_index=0,
                reveal=reveal(SECRET, self._genesis_hash, height),
                parent_certificate=self._certificate,
            )
            request = Build(status.head_hash, attributes, candidates, BUILD_BUDGET_MS)
            forget_caches()
            with watch:
                built = execution.build(request)
            if not isinstance(built, Built) or built.included != len(candidates):
                raise RuntimeError(f"expected a block of {len(candidates)} transactions, found {built}")
            self._commit(execution, height, built.block_hash, watch)
        finally:
            store.close()
        return built, watch

    def import_block(self, raw_block: bytes) -> Stopwatch:
        store = open_leveldb(self._folder, create=False)
        watch = Stopwatch()
        try:
            execution = Execution.open(store, ExecutionConfig(), now_ns=time.monotonic_ns)
            height = execution.status().head_height + 1
            forget_caches()
            with watch:
                answer = execution.validate(Validate(raw_block))
            if not isinstance(answer, Valid):
                raise TypeError(f"expected a valid block, found {answer}")
            self._commit(execution, height, answer.block_hash, watch)
        finally:
            store.close()
        return watch

    def _commit(self, execution: Execution, height: int, block_hash: bytes, watch: Stopwatch) -> None:
        self._certificate = commit_certificate([SECRET], self._genesis_hash, height, block_hash)
        with watch:
            committed = execution.commit(Commit(block_hash, self._certificate))
        if not isinstance(committed, Committed):
            raise TypeError(f"expected a commit, found {committed}")
        failed = sum(1 for receipt in committed.receipts if not _succeeded(receipt.raw_receipt))
        if failed:
            raise RuntimeError(f"{failed} transactions of block {height} failed")


def _succeeded(raw_receipt: bytes) -> bool:
    """The status is the first item of the list behind the type byte; every list here has a two-byte length."""
    return raw_receipt[4] == 1


class Side:
    """The commands."""

    def __init__(self) -> None:
        self._sealing: Chain | None = None
        self._importing: Chain | None = None

    def open(self, folder: str, genesis: str) -> dict[str, Any]:
        genesis_file = Path(genesis).read_bytes()
        self._sealing = Chain(Path(folder) / "sealing", genesis_file)
        self._importing = Chain(Path(folder) / "importing", genesis_file)
        return {"header": self._sealing.genesis_header.hex()}

    def seal(self, transactions: list[str], senders: list[str]) -> dict[str, Any]:
        if self._sealing is None:
            raise RuntimeError("open comes first")
        pairs = zip(transactions, senders, strict=True)
        built, watch = self._sealing.seal(tuple(Candidate(bytes.fromhex(t), bytes.fromhex(s)) for t, s in pairs))
        block = decode_block(built.raw_block).block
        return {
            **watch.times(),
            "block": built.raw_block.hex(),
            "ethereum_block": ethereum_block_rlp(block).hex(),
            "hash": built.block_hash.hex(),
            "gas_used": block.header.gas_used,
            "timestamp": block.header.timestamp,
        }

    def import_block(self, block: str) -> dict[str, Any]:
        if self._importing is None:
            raise RuntimeError("open comes first")
        return self._importing.import_block(bytes.fromhex(block)).times()


if __name__ == "__main__":
    side = Side()
    serve({"open": side.open, "seal": side.seal, "import": side.import_block})
