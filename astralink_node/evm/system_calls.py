"""What the protocol itself calls in a block: EIP-4788 and 2935 before its transactions, requests after them.

A system call comes from 0xff..fe with 30 million gas that no one pays for and that the block does not count.
EIP-6110, 7002 and 7251 run only under a plain Ethereum configuration; there, a missing or failing request
contract makes the block invalid. Encodings of requests follow EIP-7685.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from eth.exceptions import VMError

from astralink_node.evm.block_errors import BlockRule, InvalidBlock
from astralink_node.evm.blocks import Log
from astralink_node.evm.execution_context import TransactionContext
from astralink_node.evm.machine import Message
from astralink_node.evm.system_places import (
    BEACON_ROOTS_ADDRESS,
    CONSOLIDATION_REQUEST_ADDRESS,
    DEPOSIT_CONTRACT_ADDRESS,
    HISTORY_SLOTS,
    HISTORY_STORAGE_ADDRESS,
    SYSTEM_ADDRESS,
    WITHDRAWAL_REQUEST_ADDRESS,
)
from astralink_node.evm.tracing.failure_words import describe
from astralink_node.evm.transaction_execution import log_of, run_root_call
from astralink_node.evm.vm import ExecutionState
from astralink_node.types import Address, Hash32

SYSTEM_CALL_GAS: Final = 30_000_000

DEPOSIT_REQUEST_TYPE: Final = b"\x00"
WITHDRAWAL_REQUEST_TYPE: Final = b"\x01"
CONSOLIDATION_REQUEST_TYPE: Final = b"\x02"

_ERROR_SELECTOR: Final = bytes.fromhex("08c379a0")
DEPOSIT_EVENT_TOPIC: Final = bytes.fromhex("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5")
DEPOSIT_EVENT_BYTES: Final = 576
# (offset of the field's length word, the field's length): pubkey, credentials, amount, signature, index.
_DEPOSIT_FIELDS: Final = ((160, 48), (256, 32), (320, 8), (384, 96), (512, 8))


def apply_block_start(state: ExecutionState, *, parent_hash: Hash32, parent_beacon_block_root: Hash32) -> None:
    """EIP-4788 and EIP-2935: store the consensus root and the parent's hash. Absent contracts are skipped."""
    call_system_contract(state, BEACON_ROOTS_ADDRESS, parent_beacon_block_root)
    call_system_contract(state, HISTORY_STORAGE_ADDRESS, parent_hash)


def recorded_block_hash(read_slot: Callable[[Address, int], int], number: int) -> bytes:
    """What the state holds in the place of that block's hash (EIP-2935): another block's if it is not one of the last
    8,191, zeros where nothing is recorded. Read as storage: a call by the protocol would write."""
    return read_slot(HISTORY_STORAGE_ADDRESS, number % HISTORY_SLOTS).to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class SystemCallResult:
    """What came of a system call. A failing one has left no trace, and the caller decides what that means."""

    output: bytes
    """What it returned; the revert data of a failing one."""
    logs: tuple[Log, ...]
    """In order; none of a failing one."""
    failure: str
    """Why it failed; empty if it succeeded."""

    @property
    def succeeded(self) -> bool:
        return not self.failure


NO_CONTRACT: Final = "no contract"


def call_system_contract(state: ExecutionState, address: Address, data: bytes) -> SystemCallResult:
    """Call a contract as the protocol; what it does stands at once, or not at all."""
    overlay = state.overlay
    overlay.begin_transaction()
    code = overlay.get_code(address)
    if not code:
        return SystemCallResult(b"", (), NO_CONTRACT)
    message = Message(gas=SYSTEM_CALL_GAS, to=address, sender=SYSTEM_ADDRESS, value=0, data=data, code=code)
    _, error, output = run_root_call(state, message, TransactionContext(0, SYSTEM_ADDRESS))
    if error is not None:
        overlay.begin_transaction()
        return SystemCallResult(output, (), _reason(error, output))
    for doomed in state.accounts_to_delete:
        overlay.delete_account(doomed)
    overlay.clear_empty_accounts()
    return SystemCallResult(output, tuple(log_of(raw) for raw in state.logs), "")


def _reason(error: VMError, output: bytes) -> str:
    """The kind of failure, and what a reverting contract says of it (Solidity's `Error(string)`)."""
    kind = describe(error)
    length = int.from_bytes(output[36:68], "big")
    is_text = output[:4] == _ERROR_SELECTOR and len(output) >= 68 and length <= len(output) - 68
    return f"{kind}: {output[68 : 68 + length].decode(errors='replace')}" if is_text else kind


def collect_requests(state: ExecutionState, logs: Iterable[Log]) -> tuple[bytes, ...]:
    """The requests of a plain Ethereum block in the order of their types; types without data are left out."""
    requests = (
        DEPOSIT_REQUEST_TYPE + parse_deposits(logs),
        WITHDRAWAL_REQUEST_TYPE + _dequeue(state, WITHDRAWAL_REQUEST_ADDRESS),
        CONSOLIDATION_REQUEST_TYPE + _dequeue(state, CONSOLIDATION_REQUEST_ADDRESS),
    )
    return tuple(request for request in requests if len(request) > 1)


def requests_hash(requests: Sequence[bytes]) -> Hash32:
    """EIP-7685: sha256 of the concatenated sha256 of each request, types without data left out."""
    return Hash32(hashlib.sha256(b"".join(hashlib.sha256(request).digest() for request in requests)).digest())


def parse_deposits(logs: Iterable[Log]) -> bytes:
    """EIP-6110: the deposit contract's events, concatenated as request data."""
    return b"".join(
        _parse_deposit(log.data)
        for log in logs
        if log.address == DEPOSIT_CONTRACT_ADDRESS and log.topics and log.topics[0] == DEPOSIT_EVENT_TOPIC
    )


def _parse_deposit(data: bytes) -> bytes:
    """The event's five fields; any other ABI layout makes the block invalid."""
    if len(data) != DEPOSIT_EVENT_BYTES:
        raise InvalidBlock(BlockRule.DEPOSIT_EVENT, f"{DEPOSIT_EVENT_BYTES} bytes", f"{len(data)} bytes")
    fields = []
    for position, (offset, length) in enumerate(_DEPOSIT_FIELDS):
        found_offset = int.from_bytes(data[32 * position : 32 * position + 32], "big")
        found_length = int.from_bytes(data[offset : offset + 32], "big")
        if found_offset != offset or found_length != length:
            raise InvalidBlock(
                BlockRule.DEPOSIT_EVENT,
                f"field {position} of {length} bytes at {offset}",
                f"{found_length} bytes at {found_offset}",
            )
        fields.append(data[offset + 32 : offset + 32 + length])
    return b"".join(fields)


def _dequeue(state: ExecutionState, address: Address) -> bytes:
    """EIP-7002 and 7251: ask the contract for this block's requests."""
    if not state.overlay.get_code(address):
        raise InvalidBlock(BlockRule.SYSTEM_CONTRACT_EMPTY, f"code at 0x{address.hex()}", "none")
    result = call_system_contract(state, address, b"")
    if not result.succeeded:
        raise InvalidBlock(BlockRule.SYSTEM_CALL_FAILED, f"0x{address.hex()} to succeed", result.failure)
    return result.output
