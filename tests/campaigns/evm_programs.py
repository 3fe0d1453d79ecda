"""Random EVM programs that lean towards the rules' edges: gas, bounds, calls, creations, deletions, precompiles.

Everything follows from the random source that it is given. A program leaves what it found out in storage, so that
a wrong answer shows in the state root.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from astralink_node.crypto.keccak import keccak256
from tests.campaigns.evm_assembler import (
    ADDRESS,
    CALL,
    CALLCODE,
    CALLDATASIZE,
    CODECOPY,
    CODESIZE,
    CREATE,
    CREATE2,
    DELEGATECALL,
    DUP1,
    GAS,
    INVALID,
    JUMP,
    JUMPDEST,
    JUMPI,
    KECCAK,
    MCOPY,
    MLOAD,
    MSTORE,
    MSTORE8,
    POP,
    RETURN,
    RETURNDATACOPY,
    RETURNDATASIZE,
    REVERT,
    SELFDESTRUCT,
    SLOAD,
    SSTORE,
    STATICCALL,
    STOP,
    TLOAD,
    TSTORE,
    WORD_MAX,
    Program,
    Surroundings,
    memory_range,
    memory_size,
    push_address,
    word,
)
from tests.campaigns.evm_precompile_inputs import PRECOMPILES, precompile_input

MAX_NESTED_PROGRAMS: Final = 2
MAX_CODE_BYTES: Final = 24_576
MAX_INITCODE_BYTES: Final = 49_152

# ADDRESS to SELFBALANCE, BASEFEE, BLOBBASEFEE, PC, MSIZE, GAS: those that take nothing.
_ENVIRONMENT_OPCODES: Final = (
    0x30,
    0x32,
    0x33,
    0x34,
    0x36,
    0x38,
    0x3A,
    0x3D,
    *range(0x41, 0x49),
    0x4A,
    0x58,
    0x59,
    0x5A,
)


def random_program(
    random: Random, world: Surroundings, address: bytes, *, nesting: int = 0, length: int | None = None
) -> bytes:
    program = Program(random, world, address, nesting=nesting)
    # Some programs go deep into a few things.
    favourites = random.sample(range(len(_SNIPPETS)), random.randint(1, 3)) if random.random() < 0.4 else ()
    weights = [weight * (12 if position in favourites else 1) for position, weight in enumerate(_WEIGHTS)]
    for _ in range(random.randint(3, 25) if length is None else length):
        random.choices(_SNIPPETS, weights)[0](program)
    _end(program)
    return bytes(program.code)


PRECOMPILE_CALLER: Final = bytes.fromhex("602036038060205f375f5f825f5f355afa3d5f5f3e5a3d5fa200")
"""Calls the address in the first word of its data with the rest, and logs success, gas left and what came back."""


def deep_program(random: Random) -> bytes:
    """Calls itself, or creates a copy of itself, as deep as the EVM lets it, and then marks how it went."""
    code = bytearray()
    kind = random.choice((CALL, CALLCODE, DELEGATECALL, STATICCALL, CREATE, CREATE2))
    if kind in (CREATE, CREATE2):
        code += bytes((CODESIZE, 0x5F, 0x5F, CODECOPY, CODESIZE, 0x5F, 0x5F))
        if kind == CREATE2:
            code = bytearray((CODESIZE, 0x5F, 0x5F, CODECOPY, 0x5F, CODESIZE, 0x5F, 0x5F))
    else:
        if kind != STATICCALL:
            code += bytes((0x5F, SLOAD, 0x60, 1, 0x01, 0x5F, SSTORE))
        code += bytes((0x5F,) * (5 if kind in (CALL, CALLCODE) else 4))
        code += bytes((ADDRESS, GAS))
    code.append(kind)
    if kind == STATICCALL:
        code += bytes((0x5F, MSTORE, RETURNDATASIZE, 0x60, 32, MSTORE, 0x60, 64, 0x5F, RETURN))
    else:
        code += bytes((0x60, 1, SSTORE, GAS, 0x60, 2, SSTORE))
    return bytes(code)


# --- Snippets --------------------------------------------------------------------------------------------------------


def _arithmetic(program: Program) -> None:
    """Several operations whose results are mixed into one."""
    random = program.random
    program.push(word(random))
    for _ in range(random.randint(1, 8)):
        program.push(word(random), word(random))
        if random.random() < 0.5:
            # Small amounts for shifts, BYTE, SIGNEXTEND and EXP.
            program.push(random.randrange(260))
        program.op(random.choice((*range(0x01, 0x0C), *range(0x10, 0x1E))))
        program.op(0x01)
    if random.random() < 0.3:
        program.op(0x1E)
    program.keep()


def _environment(program: Program) -> None:
    random = program.random
    for _ in range(random.randint(1, 4)):
        program.op(random.choice(_ENVIRONMENT_OPCODES))
        program.keep_or_drop()
    if random.random() < 0.2:
        program.push(random.choice((0, 1, 31, word(random))))
        program.op(random.choice((0x35, 0x49)))
        program.keep()


def _block_hash(program: Program) -> None:
    random = program.random
    if random.random() < 0.7:
        program.push(random.choice((0, 1, 2, 255, 256, 257, 258, random.randrange(300))))
        program.op(0x43, 0x03)
    else:
        program.push(word(random))
    program.op(0x40)
    program.keep()


def _account_reads(program: Program) -> None:
    push_address(program)
    program.op(program.random.choice((0x31, 0x3B, 0x3F)))
    program.keep()


def _storage(program: Program) -> None:
    random = program.random
    opcode_pair = (SSTORE, SLOAD) if random.random() < 0.75 else (TSTORE, TLOAD)
    slot = random.choice((0, 1, 2, 3, 50, word(random)))
    for _ in range(random.randint(1, 4)):
        if random.random() < 0.75:
            program.push(random.choice((0, 0, 1, 2, 3, word(random))), slot)
            program.op(opcode_pair[0])
        else:
            program.push(slot)
            program.op(opcode_pair[1])
            program.keep_or_drop()


def _memory(program: Program) -> None:
    random = program.random
    offset, size = memory_range(random)
    match random.randrange(5):
        case 0:
            program.push(word(random), offset)
            program.op(MSTORE)
        case 1:
            program.push(word(random), offset)
            program.op(MSTORE8)
        case 2:
            program.push(offset)
            program.op(MLOAD)
            program.keep()
        case 3:
            program.push(size, memory_range(random)[0] if random.random() < 0.3 else random.randrange(200), offset)
            program.op(MCOPY)
        case _:
            program.push(size, offset)
            program.op(KECCAK)
            program.keep()


def _copies(program: Program) -> None:
    random = program.random
    offset, size = memory_range(random)
    source = random.choice((0, 1, 32, random.randrange(100), word(random)))
    program.push(size, source, offset)
    match random.choices(range(5), (4, 4, 4, 4, 1))[0]:
        case 0:
            program.op(0x37)
        case 1:
            program.op(CODECOPY)
        case 2 | 3:
            push_address(program)
            program.op(0x3C)
        case _:
            program.op(RETURNDATACOPY)
    if random.random() < 0.3:
        program.push(offset if offset < 2**16 else 0)
        program.op(MLOAD)
        program.keep()


def _log(program: Program) -> None:
    random = program.random
    topics = random.randrange(5)
    for _ in range(topics):
        program.push(word(random))
    offset, size = memory_range(random)
    program.push(size, offset)
    program.op(0xA0 + topics)


def _call(program: Program, target: Callable[[Program], None] = push_address) -> None:
    random = program.random
    kind = random.choices((CALL, CALLCODE, DELEGATECALL, STATICCALL), (5, 1, 3, 3))[0]
    output_start, output_size = memory_range(random)
    input_start, input_size = memory_range(random)
    program.push(output_size, output_start, input_size, input_start)
    if kind in (CALL, CALLCODE):
        program.push(random.choice((0, 0, 0, 1, 1, 7, 10**15, 10**30, WORD_MAX)))
    target(program)
    _push_gas(program)
    program.op(kind)
    program.keep_or_drop()
    _after_call(program)


def _push_gas(program: Program) -> None:
    random = program.random
    if random.random() < 0.5:
        program.op(GAS)
    else:
        program.push(random.choice((0, 1, 700, 2300, 5000, random.randrange(100_000), 10**9, WORD_MAX)))


def _after_call(program: Program) -> None:
    random = program.random
    kind = random.random()
    if kind < 0.3:
        program.op(RETURNDATASIZE)
        program.keep()
    elif kind < 0.6:
        program.op(RETURNDATASIZE)
        program.push(0, 64)
        program.op(RETURNDATACOPY)
        program.push(64)
        program.op(MLOAD)
        program.keep()
    elif kind < 0.61:
        # One byte beyond the end.
        program.push(1)
        program.op(RETURNDATASIZE)
        program.push(0)
        program.op(RETURNDATACOPY)


def _call_precompile(program: Program) -> None:
    random = program.random
    number = random.choices(PRECOMPILES, [1 if number in (8, 0x0F, 0x10, 0x11) else 6 for number in PRECOMPILES])[0]
    data, gas = precompile_input(random, number)
    program.put_in_memory(data)
    size = len(data)
    kind = random.choices((CALL, CALLCODE, DELEGATECALL, STATICCALL), (3, 1, 1, 3))[0]
    program.push(memory_size(random), random.randrange(100), size, 0)
    if kind in (CALL, CALLCODE):
        program.push(random.choice((0, 0, 1)))
    program.push(number)
    if random.random() < 0.6:
        program.op(GAS)
    else:
        program.push(max(gas + random.choice((-1, 0, 0, 1, 10, 1000)), 0))
    program.op(kind)
    program.keep()
    _after_call(program)
    if random.random() < 0.5:
        # Measured: what the call cost.
        program.op(GAS)
        program.keep()


def _create(program: Program) -> None:
    random = program.random
    if program.nesting >= MAX_NESTED_PROGRAMS:
        return
    initcode = random_initcode(random, program.world, program.address, nesting=program.nesting + 1)
    opcode = random.choice((CREATE, CREATE2))
    size = len(initcode)
    if size <= 2_000:
        program.put_in_memory(initcode)
    if random.random() < 0.06:
        size = random.choice((0, MAX_INITCODE_BYTES, MAX_INITCODE_BYTES + 1, WORD_MAX, 2**32))
    salt = random.choice((0, 0, 1, WORD_MAX))
    if opcode == CREATE2:
        created = keccak256(b"\xff" + program.address + salt.to_bytes(32, "big") + keccak256(initcode))[12:]
        program.world.addresses.append(created)
        if random.random() < 0.12:
            program.world.extra_accounts[created] = account_in_the_way(random)
        program.push(salt)
    program.push(size, 0, random.choice((0, 0, 0, 1, 10**6, 10**30)))
    program.op(opcode)
    program.keep()


def account_in_the_way(random: Random) -> dict[str, object]:
    kind = random.randrange(4)
    return {
        "nonce": 1 if kind == 0 else 0,
        "balance": random.choice((0, 5)) if kind < 2 else 5,
        "code": "00" if kind == 1 else "",
        "storage": {"1": 1} if kind == 2 else {},
    }


def _create_and_use(program: Program) -> None:
    """Create a contract, keep its address in memory, call it, read it, at times twice."""
    random = program.random
    if program.nesting >= MAX_NESTED_PROGRAMS:
        return
    initcode = random_initcode(random, program.world, program.address, nesting=program.nesting + 1)[:2_000]
    program.put_in_memory(initcode)
    place = 4_096
    if random.random() < 0.5:
        program.push(random.choice((0, 1)), len(initcode), 0, random.choice((0, 0, 3)))
        program.op(CREATE2)
    else:
        program.push(len(initcode), 0, random.choice((0, 0, 3)))
        program.op(CREATE)
    program.push(place)
    program.op(MSTORE)

    def push_created(inner: Program) -> None:
        inner.push(place)
        inner.op(MLOAD)

    for _ in range(random.randint(1, 3)):
        if random.random() < 0.75:
            _call(program, push_created)
        else:
            push_created(program)
            program.op(random.choice((0x31, 0x3B, 0x3F)))
            program.keep()


def _recurse(program: Program) -> None:
    """Call this very contract again while there is gas: sixty-three parts of sixty-four each time."""
    random = program.random
    limit = random.choice((5_000, 40_000, 100_000))
    program.push(limit)
    program.op(GAS, 0x11)
    _skip_unless(program, lambda inner: _call_self(inner, random.choice((CALL, DELEGATECALL, STATICCALL))))


def _call_self(program: Program, kind: int) -> None:
    program.push(0, 0, 0, 0)
    if kind == CALL:
        program.push(program.random.choice((0, 0, 1)))
    program.op(ADDRESS)
    if program.random.random() < 0.5:
        program.op(GAS)
    else:
        program.push(program.random.randrange(60_000))
    program.op(kind)
    program.keep_or_drop()


def _skip_unless(program: Program, body: Callable[[Program], None]) -> None:
    """Run the body if the topmost item is not zero."""
    program.op(0x15, 0x61, 0, 0)
    hole = len(program.code) - 2
    program.op(JUMPI)
    body(program)
    program.code[hole : hole + 2] = len(program.code).to_bytes(2, "big")
    program.op(JUMPDEST)


def _jumps(program: Program) -> None:
    random = program.random
    match random.randrange(5):
        case 0:
            program.push(random.randrange(2))
            _skip_unless(program, random.choices(_SNIPPETS[:8], _WEIGHTS[:8])[0])
        case 1:
            # Into a PUSH's data, where a JUMPDEST is none; not always taken.
            target = len(program.code) + 7
            program.push(int(random.random() < 0.1))
            program.op(0x61, *(target).to_bytes(2, "big"), JUMPI)
            program.op(0x61, JUMPDEST, JUMPDEST, POP)
        case 2:
            program.push(int(random.random() < 0.05), random.choice((0, word(random), len(program.code))))
            program.op(JUMPI)
        case 3:
            # A loop of a few rounds.
            program.push(random.randint(1, 20))
            start = len(program.code)
            program.op(JUMPDEST)
            program.push(1)
            program.op(0x90, 0x03, DUP1, 0x61, *start.to_bytes(2, "big"), JUMPI, POP)
        case _:
            target = len(program.code) + 4
            program.op(0x61, *target.to_bytes(2, "big"), JUMP, JUMPDEST if random.random() < 0.97 else 0x60)


def _stack(program: Program) -> None:
    random = program.random
    match random.choices(range(5), (8, 8, 1, 1, 2))[0]:
        case 0:
            depth = random.randint(1, 16)
            for value in range(depth + random.choices((-1, 0, 1), (1, 20, 20))[0]):
                program.push(value)
            program.op(0x7F + depth)
            program.keep()
        case 1:
            depth = random.randint(1, 16)
            for value in range(depth + random.choices((0, 1, 2), (1, 20, 10))[0]):
                program.push(value)
            program.op(0x8F + depth)
            program.keep()
        case 2:
            # Up to the stack's limit or one beyond, in a loop.
            count = random.choice((900, 1020, 1024, 1030))
            program.push(count)
            start = len(program.code)
            program.op(JUMPDEST, DUP1, 0x60, 1, 0x90, 0x03, DUP1, 0x61, *start.to_bytes(2, "big"), JUMPI)
        case 3:
            program.op(random.choice((*range(0x01, 0x20), *range(0x50, 0x58), 0x80, 0x90, 0xA0, 0xF1, 0xFF)))
        case _:
            program.push(*(word(random) for _ in range(random.randint(1, 4))))


def _self_destruct(program: Program) -> None:
    program.push(program.random.choice((0, 0, 0, 1)))

    def destroy(inner: Program) -> None:
        push_address(inner)
        inner.op(SELFDESTRUCT)

    _skip_unless(program, destroy)


def _garbage(program: Program) -> None:
    random = program.random
    if random.random() < 0.2:
        program.code += random.randbytes(random.randint(1, 12))
    else:
        program.op(random.choice((0x0C, 0x1E, 0x1F, 0x21, 0x4B, 0xA5, 0xB0, 0xD0, 0xE0, 0xEF, 0xF6, 0xFB, 0xFE, 0xFC)))


_TABLE: Final[tuple[tuple[Callable[[Program], None], float], ...]] = (
    (_arithmetic, 6),
    (_environment, 6),
    (_block_hash, 1.5),
    (_account_reads, 4),
    (_storage, 6),
    (_memory, 6),
    (_copies, 4),
    (_log, 3),
    (_call, 9),
    (_call_precompile, 6),
    (_create, 2),
    (_create_and_use, 4),
    (_recurse, 0.4),
    (_jumps, 2),
    (_stack, 2),
    (_self_destruct, 2),
    (_garbage, 0.15),
)
_SNIPPETS: Final = [snippet for snippet, _ in _TABLE]
_WEIGHTS: Final = [weight for _, weight in _TABLE]


def _end(program: Program) -> None:
    random = program.random
    match random.randrange(12):
        case 0 | 1:
            program.op(STOP)
        case 2 | 3:
            pass
        case 4 | 5:
            offset, size = memory_range(random)
            program.push(size, offset)
            program.op(RETURN)
        case 6:
            offset, size = memory_range(random)
            program.push(size, offset)
            program.op(REVERT)
        case 7:
            push_address(program)
            program.op(SELFDESTRUCT)
        case 8:
            program.op(0x5F + random.randint(1, 32))
            program.code += random.randbytes(random.randrange(4))
        case 9:
            program.op(random.choice((INVALID, INVALID, 0x0C, JUMP)))
        case _:
            program.op(CALLDATASIZE)
            program.keep()


# --- Initcode --------------------------------------------------------------------------------------------------------


def random_initcode(random: Random, world: Surroundings, creator: bytes, *, nesting: int = 0) -> bytes:
    """Deploys something, or fails to in one of many ways."""
    # Its own address is known only where it matters little; the creator's does for salted addresses.
    program = Program(random, world, creator, nesting=max(nesting, 1))
    for _ in range(random.choice((0, 0, 1, 2))):
        random.choices(_SNIPPETS, _WEIGHTS)[0](program)
    match random.randrange(14):
        case 0:
            program.op(STOP)
        case 1:
            push_address(program)
            program.op(SELFDESTRUCT)
        case 2:
            offset, size = memory_range(random)
            program.push(size, offset)
            program.op(random.choice((RETURN, REVERT)))
        case 3:
            program.push(0xEF, 0)
            program.op(MSTORE8)
            program.push(random.choice((1, 23, 32)), 0)
            program.op(RETURN)
        case 4:
            program.push(random.choice((MAX_CODE_BYTES - 1, MAX_CODE_BYTES, MAX_CODE_BYTES + 1)), 0)
            program.op(RETURN)
        case 5:
            program.op(INVALID)
        case 6:
            return random_program(random, world, creator, nesting=max(nesting, 1), length=3)
        case 7:
            # Costs more than there is: the code deposit fails.
            program.push(random.randrange(500, 20_000), 0)
            program.op(RETURN)
        case _:
            _deploy(program, _deployed_code(random, world, creator, nesting))
    return bytes(program.code)


def _deployed_code(random: Random, world: Surroundings, creator: bytes, nesting: int) -> bytes:
    match random.randrange(5):
        case 0:
            return b"\x33\xff"
        case 1:
            return bytes((ADDRESS, SELFDESTRUCT))
        case 2:
            return b"\x73" + random.choice(world.addresses) + b"\xff"
        case _:
            return random_program(random, world, creator, nesting=max(nesting, 1) + 1, length=random.randint(1, 3))


def _deploy(program: Program, code: bytes) -> None:
    program.put_in_memory(code)
    program.push(len(code), 0)
    program.op(RETURN)
