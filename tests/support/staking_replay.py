"""The reference ledger led through a stopped node's database: what the chain's blocks say must give what its contract
holds, to the wei. Blocks, transactions, receipts and evidence are all that is read."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from astralink_node.chain.data_folder import DATABASE_NAME
from astralink_node.chain.execution import Execution, ExecutionConfig
from astralink_node.chain.ledger import Ledger
from astralink_node.crypto.keccak import keccak256
from astralink_node.economics.ledger import StakingLedger
from astralink_node.evm.blocks import decode_receipt
from astralink_node.evm.transactions import decode_transaction
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.types import Address
from consensus.block_evidence import decode_carried
from consensus.epoch import epoch_of
from consensus.evidence import accused
from consensus.payload import ConsensusPayload
from contracts.artifacts import decode_call, load
from contracts.places import STAKING
from tests.support.staking_chains import Reference, StakingChain

Apply = Callable[[StakingLedger, Address, int, tuple[Any, ...], int, int], object]
"""(ledger, sender, value, arguments, height, timestamp)"""

VERBS: dict[str, Apply] = {
    "create_validator": lambda ledger, sender, value, given, height, timestamp: ledger.create_validator(
        sender, value, _compressed(given[0]), keccak256(given[2]), given[4], given[5], timestamp=timestamp
    ),
    "delegate": lambda ledger, sender, value, given, height, timestamp: ledger.delegate(
        sender, value, _address(given[0]), timestamp=timestamp
    ),
    "undelegate": lambda ledger, sender, value, given, height, timestamp: ledger.undelegate(
        sender, _address(given[0]), given[1], timestamp=timestamp
    ),
    "claim": lambda ledger, sender, value, given, height, timestamp: ledger.claim(
        sender, _address(given[0]), timestamp=timestamp
    ),
    "withdraw_commission": lambda ledger, sender, value, given, height, timestamp: ledger.withdraw_commission(sender),
    "unjail": lambda ledger, sender, value, given, height, timestamp: ledger.unjail(sender, timestamp=timestamp),
}


class StoredChain:
    """A node that does not run. `execution` answers questions about its head."""

    view = StakingChain.view
    balance = StakingChain.balance

    def __init__(self, folder: Path) -> None:
        self.store = open_leveldb(folder / DATABASE_NAME, create=False)
        self.execution = Execution.open(self.store, ExecutionConfig(), now_ns=time.monotonic_ns)
        self.ledger = Ledger(self.store)

    def close(self) -> None:
        self.store.close()


def replay(genesis: bytes, chain: StoredChain) -> Reference:
    """From genesis to the head."""
    reference = Reference(genesis)
    for height in range(1, chain.ledger.head().height + 1):
        committed: Any = SimpleNamespace(block=chain.ledger.block_record(height))
        payload = chain.ledger.payload(height)
        reference.before_transactions(committed, _convicted(reference, payload, chain))
        raw_transactions, senders = chain.ledger.body(height)
        receipts = chain.ledger.receipts(height)
        for raw, sender, receipt in zip(raw_transactions, senders, receipts, strict=True):
            transaction = decode_transaction(raw)
            if transaction.to == STAKING and decode_receipt(receipt.raw_receipt).succeeded:
                called = decode_call(load("Staking"), transaction.data)
                assert called is not None, "a call that succeeds is one of the contract's"
                name, arguments = called
                VERBS[name](
                    reference.ledger, Address(sender), transaction.value, arguments, height, reference.timestamp
                )
        reference.after_transactions(committed)
    return reference


def _convicted(reference: Reference, payload: ConsensusPayload, chain: StoredChain) -> dict[Address, tuple[int, int]]:
    """Operator -> (power, epoch) of those whom the block's evidence newly convicts."""
    found: dict[Address, tuple[int, int]] = {}
    for encoded in payload.evidence:
        item = decode_carried(encoded)
        epoch = epoch_of(item.evidence.height, chain.execution.context.genesis.epoch_length)
        for index in accused(item.evidence):
            member = item.validator_set.validators[index]
            operator = Address(member.operator)
            if not reference.ledger.validator(operator).tombstoned:
                found.setdefault(operator, (member.power, epoch))
    return found


def _address(text: str | bytes) -> Address:
    return Address(bytes.fromhex(text[2:]) if isinstance(text, str) else text)


def _compressed(point: bytes) -> bytes:
    """An EIP-2537 G1 point as the 48 bytes of a voting key."""
    modulus = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
    x, y = point[16:64], int.from_bytes(point[64:], "big")
    return bytes((x[0] | 0x80 | (0x20 if y > (modulus - 1) // 2 else 0),)) + x[1:]
