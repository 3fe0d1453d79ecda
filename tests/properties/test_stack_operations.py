"""Every stack operation of ours against py-evm's own function for the opcode: same stack, same failures."""

from types import SimpleNamespace

import pytest
from eth.exceptions import FullStack, InsufficientStack, VMError
from eth.vm.forks.prague.opcodes import PRAGUE_OPCODES
from eth.vm.stack import Stack
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.evm import stack_operations
from astralink_node.evm.fork_rules import OSAKA, PRAGUE
from astralink_node.evm.opcodes import ON_STACK, dispatch_table

EDGES = [0, 1, 2, 31, 32, 255, 256, 257, 2**255 - 1, 2**255, 2**255 + 1, 2**256 - 2, 2**256 - 1]
words = st.one_of(
    st.sampled_from(EDGES),
    st.integers(0, 300),
    st.integers(0, 2**256 - 1),
    st.integers(0, 255).map(lambda bit: 1 << bit),
)


def by_py_evm(opcode: int, words_before: list[int]) -> list[int] | type[VMError]:
    stack = Stack()
    for word in words_before:
        stack.push_int(word)
    names = ("pop_ints", "pop_bytes", "pop_any", "pop1_int", "pop1_bytes", "pop1_any", "push_int", "push_bytes")
    computation = SimpleNamespace(
        **{f"stack_{name}": getattr(stack, name) for name in names},
        stack_dup=stack.dup,
        stack_swap=stack.swap,
        code=SimpleNamespace(read=bytes),
    )
    try:
        PRAGUE_OPCODES[opcode].logic_fn(computation)
    except VMError as error:
        return type(error)
    return [value if isinstance(value, int) else int.from_bytes(value, "big") for value in stack.values]


def by_us(operation: stack_operations.StackOperation, words_before: list[int]) -> list[int] | type[VMError]:
    values = list(words_before)
    try:
        operation(values)
    except IndexError:
        return InsufficientStack
    except VMError as error:
        return type(error)
    return values


@pytest.mark.parametrize("opcode", sorted(stack_operations.PRAGUE), ids=hex)
@settings(max_examples=40)
@given(words_before=st.lists(words, max_size=4))
def test_an_operation_does_to_the_stack_what_py_evms_does(opcode: int, words_before: list[int]) -> None:
    if 0x80 <= opcode <= 0x9F:
        words_before = words_before * 4 + words_before[:1]
    assert by_us(stack_operations.PRAGUE[opcode], words_before) == by_py_evm(opcode, words_before)


@pytest.mark.parametrize("opcode", [0x5F, 0x80, 0x8F], ids=hex)
def test_pushing_and_duplicating_respect_the_stacks_limit(opcode: int) -> None:
    assert by_us(stack_operations.PRAGUE[opcode], [7] * 1_024) is FullStack
    assert by_us(stack_operations.PRAGUE[opcode], [7] * 1_023) == by_py_evm(opcode, [7] * 1_023)


@given(words)
def test_clz_counts_the_zeros_before_the_first_one(word: int) -> None:
    bits = f"{word:0256b}"
    assert by_us(stack_operations.count_leading_zeros, [word]) == [len(bits) - len(bits.lstrip("0"))]


@pytest.mark.parametrize("fork", [PRAGUE, OSAKA])
def test_the_table_keeps_py_evms_gas_and_mnemonics(fork: object) -> None:
    table = dispatch_table(fork)
    for opcode, known in PRAGUE_OPCODES.items():
        known = getattr(known, "__wrapped__", known)
        gas, mnemonic, _, _ = table[opcode]
        assert mnemonic == known.mnemonic
        assert gas == (known.gas_cost if hasattr(known, "logic_fn") else 0)


def test_clz_is_in_osakas_table_alone() -> None:
    assert dispatch_table(OSAKA)[0x1E][:3] == (5, "CLZ", ON_STACK)
    assert dispatch_table(PRAGUE)[0x1E][1] == "INVALID"
