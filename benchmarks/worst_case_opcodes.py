"""Programs that make the interpreter and the state work hardest for their gas.

Each is a loop of one body, unrolled so that the loop itself hardly counts, which stops by itself just before its
gas is gone: so the state changes survive and their cost in the trie counts too. The loop keeps a counter on the
stack, below whatever the body uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_CODE_BYTES = 24_576
MAX_INITCODE_BYTES = 49_152
SLOTS = 10_000
"""The program's account has this many storage slots, 0 to SLOTS - 1, none of them zero."""
PLAIN_ACCOUNTS = 10_000
"""Accounts with a balance, at the addresses from PLAIN_BASE on."""
CONTRACTS = 200
"""Contracts of the greatest size, all different, at the addresses from CONTRACT_BASE on: they jump, then stop."""
PLAIN_BASE = 0x1000_0000
CONTRACT_BASE = 0x2000_0000
STOPPER = 0x3000_0000
"""A contract that stops at once."""
REVERTER = 0x3000_0002
"""A contract that reverts at once."""
DESTRUCTOR = 0x3000_0001
"""A contract that destroys itself in favour of its caller."""

ADD, MUL, SDIV, SMOD, MULMOD, EXP, SIGNEXTEND = 0x01, 0x02, 0x05, 0x07, 0x09, 0x0A, 0x0B
SLT, BYTE, SAR, KECCAK256, ADDRESS = 0x12, 0x1A, 0x1D, 0x20, 0x30
BALANCE, CALLDATALOAD, CALLDATASIZE, CALLDATACOPY, CODECOPY = 0x31, 0x35, 0x36, 0x37, 0x39
EXTCODESIZE, EXTCODECOPY, RETURNDATACOPY, EXTCODEHASH, BLOCKHASH, SELFBALANCE = 0x3B, 0x3C, 0x3E, 0x3F, 0x40, 0x47
POP, MLOAD, MSTORE, MSTORE8, SLOAD, SSTORE = 0x50, 0x51, 0x52, 0x53, 0x54, 0x55
JUMP, JUMPI, PC, MSIZE, GAS, JUMPDEST, TLOAD, TSTORE, MCOPY = 0x56, 0x57, 0x58, 0x59, 0x5A, 0x5B, 0x5C, 0x5D, 0x5E
DUP1, DUP2, SWAP1, LOG0, LOG4 = 0x80, 0x81, 0x90, 0xA0, 0xA4
CREATE, CALL, DELEGATECALL, CREATE2, STATICCALL, SELFDESTRUCT = 0xF0, 0xF1, 0xF4, 0xF5, 0xFA, 0xFF
STOP, GT, CLZ, CALLER, REVERT = 0x00, 0x11, 0x1E, 0x33, 0xFD


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    code: bytes
    data: bytes = b""


def push(number: int, width: int = 0) -> bytes:
    width = width or (number.bit_length() + 7) // 8
    return bytes([0x5F + width]) + number.to_bytes(width, "big")


def ops(*parts: int | bytes) -> bytes:
    return b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)


NEXT = ops(push(1), ADD)
"""Advance the counter."""
WIDE = push(2**256 - 3)


def loop(
    name: str, body: bytes, *, before: bytes = b"", unroll: int = 32, reserve: int = 60_000, data: bytes = b""
) -> Program:
    """`before`, then the counter, then the body as often as the gas less `reserve` lasts."""
    start = before + push(0)
    again = ops(JUMPDEST, body * unroll, push(reserve, 4), GAS, GT, push(len(start), 2), JUMPI, STOP)
    code = start + again
    if len(code) > MAX_CODE_BYTES:
        raise ValueError(f"{name}: {len(code)} bytes of code")
    return Program(name, code, data)


def programs() -> Iterator[Program]:
    yield from _computing()
    yield from _memory()
    yield from _state()
    yield from _calls()
    yield from _creations()


def precompile_call(name: str, number: int, data: bytes) -> Program:
    """Calls of one precompile, with the input copied to memory beforehand."""
    before = ops(CALLDATASIZE, push(0), push(0), CALLDATACOPY)
    body = ops(push(0), push(0), CALLDATASIZE, push(0), push(number), GAS, STATICCALL, POP)
    return loop(f"STATICCALL {name}", body, before=before, data=data)


def _computing() -> Iterator[Program]:
    yield loop("JUMPDEST", ops(JUMPDEST), unroll=4000)
    yield loop("PC POP", ops(PC, POP), unroll=1000)
    yield loop("PUSH0 POP", ops(push(0), POP), unroll=1000)
    yield loop("PUSH32 POP", ops(push(2**256 - 1), POP), unroll=500)
    yield loop("JUMP", b"", unroll=1)
    yield _jump_chain()
    yield loop("DUP1 SWAP1 POP", ops(DUP1, SWAP1, POP), unroll=1000)
    for name, opcode in (("ADD", ADD), ("SLT", SLT), ("BYTE", BYTE), ("SAR", SAR), ("MUL", MUL), ("SDIV", SDIV)):
        yield loop(f"{name} on wide words", ops(WIDE, DUP1, opcode, POP), unroll=200)
    yield loop("SMOD on wide words", ops(push(2**254 + 1), WIDE, SMOD, POP), unroll=200)
    yield loop("SIGNEXTEND", ops(WIDE, push(30), SIGNEXTEND, POP), unroll=200)
    yield loop("CLZ", ops(WIDE, CLZ, POP), unroll=200)
    yield loop("MULMOD", ops(WIDE, DUP1, DUP1, MULMOD, POP), unroll=200)
    yield loop("EXP, exponent of a byte", ops(push(255), WIDE, EXP, POP), unroll=200)
    yield loop("EXP, exponent of a word", ops(WIDE, DUP1, EXP, POP), unroll=200)
    yield loop("BLOCKHASH", ops(push(1), BLOCKHASH, POP), unroll=200)
    yield loop("SELFBALANCE", ops(SELFBALANCE, POP), unroll=1000)


def _jump_chain() -> Program:
    """Jumps from one destination to the next through a whole contract."""
    links = b""
    while len(links) < 20_000:
        links += ops(push(1 + len(links) + 5, 2), JUMP, STOP, JUMPDEST)
    return Program("JUMP chain", ops(JUMPDEST, links, push(60_000, 4), GAS, GT, push(0, 1), JUMPI, STOP))


def _memory() -> Iterator[Program]:
    yield loop("MLOAD", ops(push(0, 1), MLOAD, POP), unroll=500)
    yield loop("MSTORE", ops(WIDE, push(0, 1), MSTORE), unroll=200)
    yield loop("MSTORE8", ops(push(1), push(0, 1), MSTORE8), unroll=500)
    yield loop("MSIZE", ops(MSIZE, POP), unroll=500)
    for size in (0, 32, 32_768):
        spread = push(size, 3)
        yield loop(f"KECCAK256 of {size} B", ops(spread, push(0, 1), KECCAK256, POP), unroll=200)
        yield loop(f"MCOPY of {size} B", ops(spread, push(0, 1), push(1), MCOPY), unroll=200)
        yield loop(f"CALLDATACOPY of {size} B", ops(spread, push(0, 1), push(0, 1), CALLDATACOPY), unroll=200)
        yield loop(f"CODECOPY of {size} B", ops(spread, push(0, 1), push(0, 1), CODECOPY), unroll=200)
        yield loop(f"LOG0 of {size} B", ops(spread, push(0, 1), LOG0), unroll=1, reserve=400_000)
    yield loop("LOG4 of 0 B", ops(WIDE * 4, push(0, 1), push(0, 1), LOG4), unroll=100, reserve=300_000)
    yield loop("CALLDATALOAD", ops(push(0, 1), CALLDATALOAD, POP), unroll=500)
    yield loop("TLOAD", ops(DUP1, TLOAD, POP, NEXT), unroll=200)
    yield loop("TSTORE", ops(DUP1, DUP1, TSTORE, NEXT), unroll=200)


def _state() -> Iterator[Program]:
    yield loop("SLOAD cold", ops(DUP1, SLOAD, POP, NEXT), unroll=20)
    yield loop("SLOAD cold, absent", ops(DUP1, push(1 << 64), ADD, SLOAD, POP, NEXT), unroll=20)
    yield loop("SLOAD warm", ops(push(0, 1), SLOAD, POP), unroll=500)
    yield loop("SSTORE of a new slot", ops(DUP1, DUP1, push(1 << 64), ADD, SSTORE, NEXT), unroll=4, reserve=120_000)
    yield loop("SSTORE of an old slot", ops(DUP1, push(7), ADD, DUP2, SSTORE, NEXT), unroll=8)
    yield loop("SSTORE that clears a slot", ops(push(0, 1), DUP2, SSTORE, NEXT), unroll=8)
    yield loop("SSTORE warm, changing", ops(DUP1, push(0, 1), SSTORE, NEXT), unroll=100)
    yield loop(
        "SSTORE warm, unchanged", ops(push(5), push(0, 1), SSTORE), unroll=100, before=ops(push(5), push(0, 1), SSTORE)
    )
    plain = ops(DUP1, push(PLAIN_BASE), ADD)
    contract = ops(DUP1, push(CONTRACT_BASE), ADD)
    yield loop("BALANCE cold", ops(plain, BALANCE, POP, NEXT), unroll=20)
    yield loop("BALANCE warm", ops(push(PLAIN_BASE), BALANCE, POP), unroll=500)
    yield loop("EXTCODEHASH cold", ops(plain, EXTCODEHASH, POP, NEXT), unroll=20)
    yield loop("EXTCODESIZE cold, 24 KiB each", ops(contract, EXTCODESIZE, POP, NEXT), unroll=20)
    yield loop(
        "EXTCODECOPY cold, 24 KiB each",
        ops(push(MAX_CODE_BYTES), push(0, 1), push(0, 1), DUP1 + 3, push(CONTRACT_BASE), ADD, EXTCODECOPY, NEXT),
        unroll=10,
    )


def _call(opcode: int, target: bytes, *, value: bytes = b"") -> bytes:
    middle = value if opcode == CALL else b""
    return ops(push(0, 1) * 4, middle, target, GAS, opcode, POP)


def _calls() -> Iterator[Program]:
    zero = push(0, 1)
    for name, opcode in (("CALL", CALL), ("DELEGATECALL", DELEGATECALL), ("STATICCALL", STATICCALL)):
        yield loop(f"{name} warm, STOP", _call(opcode, push(STOPPER), value=zero), unroll=100)
    # The counter lies below the four zeros and, for CALL, the value.
    plain = ops(DUP1 + 5, push(PLAIN_BASE), ADD)
    contract = ops(DUP1 + 5, push(CONTRACT_BASE), ADD)
    nobody = ops(DUP1 + 5, push(1 << 100), ADD)
    yield loop("CALL cold, plain account", ops(_call(CALL, plain, value=zero), NEXT), unroll=20)
    yield loop("CALL cold, 24 KiB each", ops(_call(CALL, contract, value=zero), NEXT), unroll=10)
    yield loop(
        "CALL with value to an account", ops(_call(CALL, plain, value=push(1)), NEXT), unroll=10, reserve=200_000
    )
    yield loop("CALL with value, new account", ops(_call(CALL, nobody, value=push(1)), NEXT), unroll=2, reserve=150_000)
    yield loop("CALL warm, SELFDESTRUCT", _call(CALL, push(DESTRUCTOR), value=zero), unroll=20, reserve=200_000)
    yield loop("CALL warm, REVERT", _call(CALL, push(REVERTER), value=zero), unroll=100)
    failing = ops(zero * 4, push(9), zero, STATICCALL, POP)
    yield loop("STATICCALL of a precompile that fails", failing, unroll=100)
    yield Program("CALL itself, 1024 deep", ops(JUMPDEST, _call(CALL, ops(ADDRESS), value=zero), zero, JUMP))
    yield loop("RETURNDATACOPY of 0 B", ops(zero, zero, zero, RETURNDATACOPY), unroll=200)


def _creations() -> Iterator[Program]:
    zero = push(0, 1)
    yield loop("CREATE, empty", ops(zero, zero, zero, CREATE, POP), unroll=2, reserve=200_000)
    yield loop("CREATE2, empty", ops(DUP1, zero, zero, zero, CREATE2, POP, NEXT), unroll=2, reserve=200_000)
    # Initcode of JUMPDESTs, different each time, that jumps: all of it must be analysed.
    fill = ops(push(int.from_bytes(b"\x5b" * 32, "big")), zero, MSTORE)
    size = 32
    while size < MAX_INITCODE_BYTES:
        step = min(size, MAX_INITCODE_BYTES - size)
        fill += ops(push(step), zero, push(size), MCOPY)
        size += step
    head = ops(push(MAX_INITCODE_BYTES - 1, 2), JUMP)
    for index, byte in enumerate(head):
        fill += ops(push(byte), push(index, 1), MSTORE8)
    vary = ops(DUP1, push(32), MSTORE)
    yield loop(
        "CREATE, 48 KiB to analyse",
        ops(vary, push(MAX_INITCODE_BYTES), zero, zero, CREATE, POP, NEXT),
        before=fill,
        unroll=2,
        reserve=200_000,
    )
    yield loop(
        "CREATE2, 48 KiB to analyse",
        ops(vary, DUP1, push(MAX_INITCODE_BYTES), zero, zero, CREATE2, POP, NEXT),
        before=fill,
        unroll=2,
        reserve=200_000,
    )


def contract_code(index: int) -> bytes:
    """The greatest contract: jumps to its last byte, over data that hides JUMPDESTs. No two are equal."""
    head = ops(push(MAX_CODE_BYTES - 1, 2), JUMP, push(index, 4))
    hidden = push(JUMPDEST, 1) * ((MAX_CODE_BYTES - len(head)) // 2)
    return (head + hidden)[: MAX_CODE_BYTES - 2].ljust(MAX_CODE_BYTES - 1, b"\0") + bytes([JUMPDEST])
