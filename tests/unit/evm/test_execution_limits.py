"""Deep, long and greedy transactions end in gas, not in a crash; an interrupt ends them sooner."""

import resource
import threading
from collections.abc import Callable

import pytest

from astralink_node.evm.fork_rules import PRAGUE
from astralink_node.evm.machine import BULK_BYTES
from astralink_node.evm.transfer_tracer import TransferTracer
from astralink_node.evm.vm import OPCODES_PER_CHECK, RECURSION_LIMIT, allow_deep_calls
from tests.support.evm_worlds import SENDER, World, address

CONTRACT = address(1)
COUNT = "60015f54015f55"
"""storage[0] += 1"""
DEEP_GAS = 10**14
"""What 1,024 calls need, each of which may hand on 63 of 64 parts of its gas (EIP-150)."""
DEPTHS = {
    "CALL": (COUNT + "5f5f5f5f5f305af1" + "00", 1_025),
    "CALLCODE": (COUNT + "5f5f5f5f5f305af2" + "00", 1_025),
    "DELEGATECALL": (COUNT + "5f5f5f5f305af4" + "00", 1_025),
    "STATICCALL": ("5f5f5f5f305afa" + "00", None),
    "CREATE": ("385f5f39" + "385f5ff0" + "00", None),
    "CREATE2": ("385f5f39" + "5f54385f5ff5" + "00", None),
}


def run_deep(code: str) -> World:
    world = World({CONTRACT: code}, fork=PRAGUE, gas_limit=10**15, sender_balance=10**40)
    assert world.send(CONTRACT, gas_limit=DEEP_GAS)
    return world


@pytest.mark.parametrize("opcode", DEPTHS)
def test_calls_of_every_kind_go_1024_deep(opcode: str) -> None:
    code, calls = DEPTHS[opcode]
    world = run_deep(code)
    if calls is not None:
        assert world.overlay.get_storage(CONTRACT, 0) == calls


@pytest.mark.parametrize("opcode", ["CALL", "CREATE2"])
def test_depth_needs_no_c_stack_even_in_a_thread_with_a_small_one(opcode: str) -> None:
    worlds: list[World] = []
    previous = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: worlds.append(run_deep(DEPTHS[opcode][0])))
        thread.start()
    finally:
        threading.stack_size(previous)
    thread.join()
    assert len(worlds) == 1


def test_depth_survives_a_recursion_limit_that_somebody_lowered() -> None:
    import sys

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(2_000)
    try:
        run_deep(DEPTHS["CREATE2"][0])
        assert sys.getrecursionlimit() >= RECURSION_LIMIT
    finally:
        sys.setrecursionlimit(before)


def test_a_recursion_limit_that_suffices_is_left_alone() -> None:
    import sys

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(RECURSION_LIMIT + 5)
    try:
        allow_deep_calls()
        assert sys.getrecursionlimit() == RECURSION_LIMIT + 5
    finally:
        sys.setrecursionlimit(before)


def test_a_failure_at_the_bottom_of_deep_calls_unwinds_them_all() -> None:
    # Every call burns all it got when the innermost runs out: the state is as it was.
    world = World({CONTRACT: COUNT + "5f5f5f5f5f305af1" + "fe"}, fork=PRAGUE, gas_limit=10**15, sender_balance=10**40)
    assert not world.send(CONTRACT, gas_limit=10**10)
    assert world.overlay.get_storage(CONTRACT, 0) == 0
    assert world.gas_used == 10**10


@pytest.mark.parametrize(
    "code",
    [
        "5f6201869f52" + "5f5f5f5f5f305af1" + "00",  # 100 KB of memory at each depth
        "5b5f5f5f5f5f61dead5af1505f56",  # calls without end, none of which may be kept
        "5b5f5f620fffff5f60045afa505f56",  # a megabyte through the identity precompile
        "5b61ffff5fa05f56",  # logs
        "5b600160015d5a5f5d5f56",  # transient storage
        "5b385f5f39385f5ff0505f56",  # creations
    ],
)
def test_4_million_gas_buy_no_more_than_100_megabytes(code: str) -> None:
    world = World({CONTRACT: code})
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    world.send(CONTRACT, gas_limit=4_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


class Enough(Exception):
    """What an impatient caller raises."""


def counting_interrupt(limit: int) -> tuple[Callable[[], None], list[int]]:
    calls: list[int] = []

    def interrupt() -> None:
        calls.append(1)
        if len(calls) >= limit:
            raise Enough

    return interrupt, calls


@pytest.mark.parametrize(
    "code",
    ["5b5f56", "5b5f5f5f5f5f61dead5af1505f56", "5b5f5f5f5f5f305af1505f56", "5b385f5f39385f5ff0505f56"],
    ids=["loop", "calls", "recursion", "creations"],
)
def test_an_interrupt_ends_a_long_transaction_and_leaves_the_state_as_it_was(code: str) -> None:
    world = World({CONTRACT: code})
    interrupt, calls = counting_interrupt(5)
    world.execution.set_interrupt(interrupt)
    with pytest.raises(Enough):
        world.send(CONTRACT, gas_limit=4_000_000)
    assert len(calls) == 5
    assert world.overlay.get_nonce(SENDER) == 0
    assert world.overlay.changes().accounts == {}
    world.execution.set_interrupt(None)
    assert world.send(address(2), value=1)
    assert world.execution.gas_used == 21_000


def test_an_interrupt_is_asked_every_so_many_opcodes() -> None:
    world = World({CONTRACT: "5b5f56"})
    interrupt, calls = counting_interrupt(10**9)
    world.execution.set_interrupt(interrupt)
    assert not world.send(CONTRACT, gas_limit=21_000 + 11 * 100_000)
    opcodes = 3 * 100_000
    assert abs(len(calls) - opcodes // OPCODES_PER_CHECK) <= 1


BULK = "61" + BULK_BYTES.to_bytes(2, "big").hex()
LITTLE_LESS = "61" + (BULK_BYTES - 1).to_bytes(2, "big").hex()
ON_MEMORY = {
    "KECCAK256": "{size}5f20",
    "CALLDATACOPY": "{size}5f5f37",
    "CODECOPY": "{size}5f5f39",
    "EXTCODECOPY": "{size}5f5f303c",
    "MCOPY": "{size}5f60205e",
    "LOG0": "{size}5fa0",
    "CALL": "5f5f{size}5f5f60045af1",
    "RETURN": "{size}5ff3",
    "REVERT": "{size}5ffd",
}


@pytest.mark.parametrize("opcode", ON_MEMORY)
@pytest.mark.parametrize("traced", [False, True])
def test_an_opcode_that_works_on_much_memory_looks_at_the_interrupt(opcode: str, *, traced: bool) -> None:
    """However few opcodes have run."""
    looks: dict[str, int] = {}
    for size in (BULK, LITTLE_LESS):
        world = World({CONTRACT: ON_MEMORY[opcode].format(size=size) + "00"})
        interrupt, calls = counting_interrupt(100)
        world.execution.set_interrupt(interrupt)
        world.execution.set_tracer(TransferTracer() if traced else None)
        world.send(CONTRACT, gas_limit=1_000_000)
        looks[size] = len(calls)
    assert looks[LITTLE_LESS] == 1, "the beginning of the call"
    assert looks[BULK] >= 2
