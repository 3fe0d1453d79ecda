"""System calls around a block's transactions, and the requests that leave it."""

import hashlib

import pytest

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.block_errors import BlockRule, InvalidBlock
from astralink_node.evm.blocks import Log
from astralink_node.evm.fee_rules import MIN_GAS_TARGET, FeeBounds
from astralink_node.evm.fork_rules import OSAKA, astralink
from astralink_node.evm.system_calls import (
    BEACON_ROOTS_ADDRESS,
    CONSOLIDATION_REQUEST_ADDRESS,
    DEPOSIT_CONTRACT_ADDRESS,
    DEPOSIT_EVENT_TOPIC,
    HISTORY_STORAGE_ADDRESS,
    SYSTEM_ADDRESS,
    WITHDRAWAL_REQUEST_ADDRESS,
    call_system_contract,
    parse_deposits,
    requests_hash,
)
from astralink_node.evm.vm import ExecutionState
from astralink_node.types import Hash32
from genesis.system_contracts import BEACON_ROOTS_CODE, HISTORY_CODE
from tests.support.evm_worlds import CONTEXT, World, address

RETURN_ONE_BYTE = "60aa5f5360015ff3"
STOP = "00"
FAIL = "fe"
ROOT = Hash32(keccak256(b"root"))
PARENT = Hash32(keccak256(b"parent"))


def context(**changes: object) -> object:
    from dataclasses import replace

    return replace(CONTEXT, parent_hash=PARENT, parent_beacon_block_root=ROOT, **changes)


def test_a_block_starts_by_storing_the_consensus_root_and_the_parents_hash() -> None:
    codes = {BEACON_ROOTS_ADDRESS: BEACON_ROOTS_CODE.hex(), HISTORY_STORAGE_ADDRESS: HISTORY_CODE.hex()}
    world = World(codes, context=context())
    world.execution.apply_system_start()
    slot = CONTEXT.timestamp % 8_191
    assert world.overlay.get_storage(BEACON_ROOTS_ADDRESS, slot) == CONTEXT.timestamp
    assert world.overlay.get_storage(BEACON_ROOTS_ADDRESS, slot + 8_191) == int.from_bytes(ROOT, "big")
    assert world.overlay.get_storage(HISTORY_STORAGE_ADDRESS, CONTEXT.number - 1) == int.from_bytes(PARENT, "big")
    assert world.overlay.account(SYSTEM_ADDRESS) is None
    assert world.execution.gas_used == 0


@pytest.mark.parametrize("codes", [{}, {BEACON_ROOTS_ADDRESS: FAIL, HISTORY_STORAGE_ADDRESS: "5f5ffd"}])
def test_absent_or_failing_contracts_at_the_start_change_nothing(codes: dict[object, str]) -> None:
    world = World(codes, context=context())
    world.execution.apply_system_start()
    assert world.overlay.changes().accounts == {}


def test_a_system_call_comes_from_the_system_address_with_its_own_gas() -> None:
    # Stores the caller and checks that far more gas is there than the block's transactions could have.
    world = World({BEACON_ROOTS_ADDRESS: "335f55" + "5a600155"}, context=context(gas_limit=30_000))
    world.execution.apply_system_start()
    assert world.overlay.get_storage(BEACON_ROOTS_ADDRESS, 0) == int.from_bytes(SYSTEM_ADDRESS, "big")
    assert world.overlay.get_storage(BEACON_ROOTS_ADDRESS, 1) > 29_000_000


def test_requests_of_both_contracts_leave_the_block_in_order_of_their_types() -> None:
    world = World({WITHDRAWAL_REQUEST_ADDRESS: RETURN_ONE_BYTE, CONSOLIDATION_REQUEST_ADDRESS: RETURN_ONE_BYTE})
    executed = world.execution.finish()
    assert executed.requests == (b"\x01\xaa", b"\x02\xaa")
    inner = hashlib.sha256(b"\x01\xaa").digest() + hashlib.sha256(b"\x02\xaa").digest()
    assert executed.requests_hash == requests_hash(executed.requests) == hashlib.sha256(inner).digest()


def test_a_contract_without_requests_leaves_none() -> None:
    world = World({WITHDRAWAL_REQUEST_ADDRESS: STOP, CONSOLIDATION_REQUEST_ADDRESS: RETURN_ONE_BYTE})
    assert world.execution.finish().requests == (b"\x02\xaa",)


@pytest.mark.parametrize(
    ("codes", "rule"),
    [
        ({}, BlockRule.SYSTEM_CONTRACT_EMPTY),
        ({WITHDRAWAL_REQUEST_ADDRESS: STOP}, BlockRule.SYSTEM_CONTRACT_EMPTY),
        ({WITHDRAWAL_REQUEST_ADDRESS: FAIL, CONSOLIDATION_REQUEST_ADDRESS: STOP}, BlockRule.SYSTEM_CALL_FAILED),
        ({WITHDRAWAL_REQUEST_ADDRESS: STOP, CONSOLIDATION_REQUEST_ADDRESS: "5f5ffd"}, BlockRule.SYSTEM_CALL_FAILED),
    ],
)
def test_an_absent_or_failing_request_contract_makes_an_ethereum_block_invalid(
    codes: dict[object, str], rule: BlockRule
) -> None:
    with pytest.raises(InvalidBlock) as caught:
        World(codes).execution.finish()
    assert caught.value.rule is rule


def test_astralink_blocks_do_not_call_the_request_contracts() -> None:
    rules = astralink(1, FeeBounds(MIN_GAS_TARGET, MIN_GAS_TARGET, 0, 0, 0, 0))
    world = World({WITHDRAWAL_REQUEST_ADDRESS: FAIL}, rules=rules)
    assert world.execution.finish().requests == ()


# --- Deposits (EIP-6110) -------------------------------------------------------------------------------------------

FIELDS = (b"p" * 48, b"c" * 32, b"a" * 8, b"s" * 96, b"i" * 8)


def deposit_event(fields: tuple[bytes, ...] = FIELDS) -> bytes:
    """ABI encoding of five byte strings."""
    heads, tails = b"", b""
    for field in fields:
        heads += (160 + len(tails)).to_bytes(32, "big")
        tails += len(field).to_bytes(32, "big") + field.ljust(-(-len(field) // 32) * 32, b"\0")
    return heads + tails


def deposit_log(data: bytes, *, topic: bytes = DEPOSIT_EVENT_TOPIC) -> Log:
    return Log(DEPOSIT_CONTRACT_ADDRESS, (topic,), data)


def test_deposit_events_become_request_data() -> None:
    assert parse_deposits([deposit_log(deposit_event()), deposit_log(deposit_event())]) == b"".join(FIELDS) * 2


@pytest.mark.parametrize(
    "log",
    [
        Log(address(1), (DEPOSIT_EVENT_TOPIC,), b"not ours"),
        Log(DEPOSIT_CONTRACT_ADDRESS, (), b"no topic"),
        deposit_log(b"another event", topic=bytes(32)),
    ],
)
def test_other_logs_are_no_deposits(log: Log) -> None:
    assert parse_deposits([log]) == b""


def damaged(position: int) -> bytes:
    data = bytearray(deposit_event())
    data[position] ^= 1
    return bytes(data)


@pytest.mark.parametrize("word", [0, 1, 2, 3, 4, 5, 8, 10, 12, 16])
def test_a_deposit_event_of_another_layout_makes_the_block_invalid(word: int) -> None:
    with pytest.raises(InvalidBlock) as caught:
        parse_deposits([deposit_log(damaged(32 * word + 31))])
    assert caught.value.rule is BlockRule.DEPOSIT_EVENT


@pytest.mark.parametrize("data", [b"", deposit_event() + b"\0", deposit_event()[:-1]])
def test_a_deposit_event_of_another_length_makes_the_block_invalid(data: bytes) -> None:
    with pytest.raises(InvalidBlock):
        parse_deposits([deposit_log(data)])


def _state(code: str) -> ExecutionState:
    world = World({address(0x51): code})
    return ExecutionState(world.overlay, CONTEXT, 1, OSAKA, native_precompiles=True)


def test_a_system_call_gives_its_output_and_its_logs() -> None:
    # LOG1 with topic 7 and one byte of data, then the byte is returned.
    result = call_system_contract(_state("60aa5f53600760015fa160015ff3"), address(0x51), b"")
    assert result.succeeded
    assert result.output == b"\xaa"
    assert result.logs == (Log(address(0x51), ((7).to_bytes(32, "big"),), b"\xaa"),)


@pytest.mark.parametrize(
    ("code", "output", "failure"),
    [
        ("60aa5f5360075f5fa160015ffd", b"\xaa", "execution reverted"),
        ("5b5f56", b"", "out of gas"),
        ("", b"", "no contract"),
    ],
)
def test_a_failing_system_call_gives_the_reason_and_no_logs(code: str, output: bytes, failure: str) -> None:
    result = call_system_contract(_state(code), address(0x51), b"")
    assert not result.succeeded
    assert (result.output, result.logs, result.failure) == (output, (), failure)


def test_what_a_reverting_contract_says_is_part_of_the_reason() -> None:
    said = b"staking: no such validator"
    data = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big") + len(said).to_bytes(32, "big") + said.ljust(32, b"\0")
    # The revert data stands at the end of the code: CODECOPY it and REVERT.
    code = f"60{len(data):02x}600a5f3960{len(data):02x}5ffd"
    result = call_system_contract(_state(code + data.hex()), address(0x51), b"")
    assert result.failure == "execution reverted: staking: no such validator"
