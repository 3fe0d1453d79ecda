"""Which JUMPDESTs are real: against a plain walk through the code."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from astralink_node.evm.code import Code, JumpDestinations

JUMPDEST, PUSH1, PUSH32 = 0x5B, 0x60, 0x7F


def walked(code):
    """Yellow Paper, 9.4.3: step over every instruction and its data."""
    found, position = set(), 0
    while position < len(code):
        opcode = code[position]
        if opcode == JUMPDEST:
            found.add(position)
        position += opcode - PUSH1 + 2 if PUSH1 <= opcode <= PUSH32 else 1
    return found


CODES = st.lists(st.sampled_from([0x00, JUMPDEST, PUSH1, 0x61, 0x6F, PUSH32, 0xFF]) | st.integers(0, 255), max_size=900)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(CODES.map(bytes), st.randoms(use_true_random=False))
@example(bytes([PUSH32, JUMPDEST] * 400), None)
@example(bytes([JUMPDEST]) * 1000, None)
@example(bytes([PUSH1, JUMPDEST]) * 500, None)
def test_destinations_are_those_of_a_walk_whatever_the_order_of_the_questions(code, random):
    positions = list(range(len(code) + 40))
    if random is not None:
        random.shuffle(positions)
    destinations = JumpDestinations(code)
    for _ in range(2):
        assert {position for position in positions if position in destinations} == walked(code)


def test_a_destination_far_outside_the_code_is_none():
    assert 2**256 - 1 not in JumpDestinations(bytes([JUMPDEST]) * 10)
    assert 10 not in Code(bytes([JUMPDEST]) * 10).destinations


def test_data_of_a_push_that_the_end_cuts_short_is_no_destination():
    code = bytes([JUMPDEST, PUSH32, JUMPDEST, JUMPDEST])
    assert [position for position in range(40) if position in JumpDestinations(code)] == [0]


def test_more_destinations_than_are_kept_are_all_found_again():
    destinations = JumpDestinations(bytes([JUMPDEST]) * 24_576)
    for _ in range(2):
        assert all(position in destinations for position in range(0, 24_576, 7))
