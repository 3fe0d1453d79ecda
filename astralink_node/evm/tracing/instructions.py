"""The instruction set as tracers show it: numbers, geth's names, and how many stack items each opcode takes and leaves.

DUPn and SWAPn count every item that they reach, as in Parity's traces: DUP2 takes two and leaves three.
"""

from __future__ import annotations

from typing import Final

EXP: Final = 0x0A
KECCAK256: Final = 0x20
BALANCE: Final = 0x31
CALLDATACOPY: Final = 0x37
CODECOPY: Final = 0x39
EXTCODESIZE: Final = 0x3B
EXTCODECOPY: Final = 0x3C
RETURNDATACOPY: Final = 0x3E
EXTCODEHASH: Final = 0x3F
MLOAD: Final = 0x51
MSTORE: Final = 0x52
MSTORE8: Final = 0x53
SLOAD: Final = 0x54
SSTORE: Final = 0x55
MCOPY: Final = 0x5E
CREATE: Final = 0xF0
CALL: Final = 0xF1
CALLCODE: Final = 0xF2
RETURN: Final = 0xF3
DELEGATECALL: Final = 0xF4
CREATE2: Final = 0xF5
STATICCALL: Final = 0xFA
REVERT: Final = 0xFD
SELFDESTRUCT: Final = 0xFF

CALLS: Final = frozenset({CALL, CALLCODE, DELEGATECALL, STATICCALL})
CREATIONS: Final = frozenset({CREATE, CREATE2})
LOGS: Final = frozenset(range(0xA0, 0xA5))
ACCOUNT_READS: Final = frozenset({BALANCE, EXTCODESIZE, EXTCODECOPY, EXTCODEHASH})
SLOT_OPCODES: Final = frozenset({SLOAD, SSTORE})
ALL_OPCODES: Final = frozenset(range(256))
NO_OPCODES: Final[frozenset[int]] = frozenset()

FRAME_KINDS: Final = {
    CREATE: "CREATE",
    CALL: "CALL",
    CALLCODE: "CALLCODE",
    DELEGATECALL: "DELEGATECALL",
    CREATE2: "CREATE2",
    STATICCALL: "STATICCALL",
    SELFDESTRUCT: "SELFDESTRUCT",
}

_TABLE: Final = """
00 STOP 0 0
01 ADD 2 1
02 MUL 2 1
03 SUB 2 1
04 DIV 2 1
05 SDIV 2 1
06 MOD 2 1
07 SMOD 2 1
08 ADDMOD 3 1
09 MULMOD 3 1
0a EXP 2 1
0b SIGNEXTEND 2 1
10 LT 2 1
11 GT 2 1
12 SLT 2 1
13 SGT 2 1
14 EQ 2 1
15 ISZERO 1 1
16 AND 2 1
17 OR 2 1
18 XOR 2 1
19 NOT 1 1
1a BYTE 2 1
1b SHL 2 1
1c SHR 2 1
1d SAR 2 1
1e CLZ 1 1
20 KECCAK256 2 1
30 ADDRESS 0 1
31 BALANCE 1 1
32 ORIGIN 0 1
33 CALLER 0 1
34 CALLVALUE 0 1
35 CALLDATALOAD 1 1
36 CALLDATASIZE 0 1
37 CALLDATACOPY 3 0
38 CODESIZE 0 1
39 CODECOPY 3 0
3a GASPRICE 0 1
3b EXTCODESIZE 1 1
3c EXTCODECOPY 4 0
3d RETURNDATASIZE 0 1
3e RETURNDATACOPY 3 0
3f EXTCODEHASH 1 1
40 BLOCKHASH 1 1
41 COINBASE 0 1
42 TIMESTAMP 0 1
43 NUMBER 0 1
44 PREVRANDAO 0 1
45 GASLIMIT 0 1
46 CHAINID 0 1
47 SELFBALANCE 0 1
48 BASEFEE 0 1
49 BLOBHASH 1 1
4a BLOBBASEFEE 0 1
50 POP 1 0
51 MLOAD 1 1
52 MSTORE 2 0
53 MSTORE8 2 0
54 SLOAD 1 1
55 SSTORE 2 0
56 JUMP 1 0
57 JUMPI 2 0
58 PC 0 1
59 MSIZE 0 1
5a GAS 0 1
5b JUMPDEST 0 0
5c TLOAD 1 1
5d TSTORE 2 0
5e MCOPY 3 0
5f PUSH0 0 1
f0 CREATE 3 1
f1 CALL 7 1
f2 CALLCODE 7 1
f3 RETURN 2 0
f4 DELEGATECALL 6 1
f5 CREATE2 4 1
fa STATICCALL 6 1
fd REVERT 2 0
fe INVALID 0 0
ff SELFDESTRUCT 1 0
"""


def _instructions() -> dict[int, tuple[str, int, int]]:
    table: dict[int, tuple[str, int, int]] = {}
    for line in _TABLE.strip().splitlines():
        opcode, name, taken, left = line.split()
        table[int(opcode, 16)] = (name, int(taken), int(left))
    for size in range(1, 33):
        table[0x5F + size] = (f"PUSH{size}", 0, 1)
    for depth in range(1, 17):
        table[0x7F + depth] = (f"DUP{depth}", depth, depth + 1)
        table[0x8F + depth] = (f"SWAP{depth}", depth + 1, depth + 1)
    for topics in range(5):
        table[0xA0 + topics] = (f"LOG{topics}", topics + 2, 0)
    return table


_INSTRUCTIONS: Final = _instructions()

OPCODE_NAMES: Final = tuple(
    _INSTRUCTIONS[opcode][0] if opcode in _INSTRUCTIONS else f"opcode {opcode:#x} not defined" for opcode in range(256)
)
"""As geth prints them, for undefined ones too."""
STACK_TAKEN: Final = tuple(_INSTRUCTIONS.get(opcode, ("", 0, 0))[1] for opcode in range(256))
STACK_LEFT: Final = tuple(_INSTRUCTIONS.get(opcode, ("", 0, 0))[2] for opcode in range(256))
