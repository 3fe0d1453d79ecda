"""Random blocks of transactions that are worth asking a node about: calls in calls, creations, failures of each kind.

Everything follows from the random source. Code that asks for what two nodes cannot share (block hashes, PREVRANDAO) is
left out, and BASEFEE, which geth and anvil do not agree on in calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from astralink_node.crypto.secp256k1 import address_of
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.transaction_encoding import new_transaction, sign_authorization, sign_transaction
from astralink_node.evm.transactions import (
    ACCESS_LIST_TYPE,
    DYNAMIC_FEE_TYPE,
    LEGACY_TYPE,
    SET_CODE_TYPE,
    Authorization,
    Transaction,
)
from astralink_node.types import Address
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.campaigns.evm_assembler import (
    CALL,
    CALLCODE,
    CODECOPY,
    CREATE,
    CREATE2,
    DELEGATECALL,
    GAS,
    INVALID,
    JUMP,
    JUMPDEST,
    MCOPY,
    MLOAD,
    MSTORE,
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
    Program,
    Surroundings,
)
from tests.campaigns.evm_precompile_inputs import precompile_input

SENDERS: Final = DEVNET_ACCOUNTS[:4]
AUTHORITY_KEYS: Final = tuple((0xA07000 + number).to_bytes(32, "big") for number in range(3))
AUTHORITIES: Final = tuple(map(address_of, AUTHORITY_KEYS))
STRANGERS: Final = tuple(Address((0x57A26E0000 + number).to_bytes(20, "big")) for number in range(3))
"""Accounts that do not exist until somebody pays them."""
GAS_PRICE_WEI: Final = 20 * 10**9
"""Far above the base fee, and all of it is paid: what a transaction costs does not depend on the base fee."""
MAX_TRANSACTIONS_A_BLOCK: Final = 3

_REST_TO_MEMORY: Final = "602036038060205f375f5f825f"
FIXED_CONTRACTS: Final = {
    # Calls the address in the first word with the rest of the data: each kind of call, then one that undoes it.
    "forwarder": f"{_REST_TO_MEMORY}345f355af13d5f5f3e3d5ff3",
    "delegator": f"{_REST_TO_MEMORY}5f355af43d5f5f3e3d5ff3",
    "static_caller": f"{_REST_TO_MEMORY}5f355afa3d5f5f3e3d5ff3",
    "undoer": f"{_REST_TO_MEMORY}345f355af15f5ffd",
    "reverter": "365f5f37365ffd",
    "echo": "365f5f37365ff3",
    "maker": "365f5f37365f34f05f5260205ff3",
    "maker2": "365f5f375f365f34f55f5260205ff3",
    "destroyer": "5f35ff",
    # SSTORE of its second word at its first; TSTORE; LOG0 to LOG4.
    "storer": "6020355f3555",
    "transient": "6020355f355d5f355c5f5260205ff3",
    "logger": "365f5fa060015f5fa1600260015fa06003600260015f5fa3600460036002600160205fa4",
    # Repeats EXP with a long exponent, which is dear, until its gas is gone.
    "looper": "5b5f19800a505f56",
    "invalid": "fe",
    # As many zeros as its first word says.
    "bomb": "5f355ff3",
}


@dataclass(slots=True)
class World:
    """What the transactions so far have made, as both nodes should have it."""

    nonces: dict[bytes, int] = field(default_factory=dict)
    contracts: list[Address] = field(default_factory=list)

    def next_nonce(self, sender: bytes) -> int:
        nonce = self.nonces.get(sender, 0)
        self.nonces[sender] = nonce + 1
        return nonce

    def addresses(self) -> list[bytes]:
        accounts = [account.address for account in SENDERS]
        return [*self.contracts * 4, *accounts, *STRANGERS, *AUTHORITIES, *map(_precompile, (1, 2, 4, 6, 9, 0x100))]


def _precompile(number: int) -> bytes:
    return number.to_bytes(20, "big")


def deployments(chain_id: int, world: World) -> Iterator[list[Transaction]]:
    """The fixed contracts with some coin each, one a block.

    Before them EIP-7702's signers come into being: to anvil every account exists, so that it refunds what an
    authorization by a new one costs.
    """
    for authority in AUTHORITIES:
        yield [_first_payment(chain_id, world, to=authority, gas_limit=21_000)]
    for code in FIXED_CONTRACTS.values():
        world.contracts.append(contract_address(SENDERS[0].address, world.nonces[SENDERS[0].address]))
        yield [_first_payment(chain_id, world, data=_returning(bytes.fromhex(code)), gas_limit=1_000_000)]


def blocks(random: Random, chain_id: int, world: World, count: int) -> Iterator[list[Transaction]]:
    """Each block's transactions are of one sender, so that they keep their order on any node."""
    for _ in range(count):
        size = random.choice((1, 1, 1, 2, MAX_TRANSACTIONS_A_BLOCK))
        sender = random.randrange(len(SENDERS))
        yield [_transaction(random, chain_id, world, sender) for _ in range(size)]


def _first_payment(chain_id: int, world: World, *, to: bytes = b"", data: bytes = b"", gas_limit: int) -> Transaction:
    unsigned = new_transaction(
        DYNAMIC_FEE_TYPE,
        chain_id=chain_id,
        nonce=world.next_nonce(SENDERS[0].address),
        max_fee_per_gas=GAS_PRICE_WEI,
        gas_limit=gas_limit,
        to=to,
        value=10**15,
        data=data,
    )
    return sign_transaction(unsigned, SENDERS[0].private_key)


def _transaction(random: Random, chain_id: int, world: World, sender: int) -> Transaction:
    account = SENDERS[sender]
    nonce = world.next_nonce(account.address)
    kind = random.choices((LEGACY_TYPE, ACCESS_LIST_TYPE, DYNAMIC_FEE_TYPE, SET_CODE_TYPE), (3, 2, 6, 2))[0]
    is_creation = kind != SET_CODE_TYPE and random.random() < 0.35
    target = b"" if is_creation else random.choice(world.addresses())
    data = initcode(random, world, depth=0) if is_creation else call_data(random, world)
    if is_creation:
        world.contracts.append(contract_address(account.address, nonce))
        del world.contracts[: -len(FIXED_CONTRACTS) - 12]
    unsigned = new_transaction(
        kind,
        chain_id=chain_id,
        nonce=nonce,
        max_fee_per_gas=GAS_PRICE_WEI,
        gas_limit=random.choice((600_000, 600_000, 2_000_000, 150_000, 25_000 * len(data) // 300 + 160_000)),
        to=target,
        value=random.choice((0, 0, 0, 1, 10**15)),
        data=data,
        access_list=_access_list(random, world) if kind != LEGACY_TYPE and random.random() < 0.6 else (),
        authorizations=_authorizations(random, chain_id, world) if kind == SET_CODE_TYPE else (),
    )
    return sign_transaction(unsigned, account.private_key)


def _access_list(random: Random, world: World) -> tuple[tuple[Address, tuple[int, ...]], ...]:
    return tuple(
        (Address(random.choice(world.addresses())), tuple(random.randrange(4) for _ in range(random.randrange(3))))
        for _ in range(random.randint(1, 3))
    )


def _authorizations(random: Random, chain_id: int, world: World) -> tuple[Authorization, ...]:
    """Valid ones, and such as are skipped: of another chain, or with a nonce that is not the account's."""
    given = []
    for _ in range(random.randint(1, 3)):
        who = random.randrange(len(AUTHORITIES))
        chain = random.choice((chain_id, chain_id, 0, chain_id + 1))
        nonce = world.nonces.get(AUTHORITIES[who], 0) + random.choice((0, 0, 0, 1))
        to = Address(random.choice((*world.contracts, bytes(20), AUTHORITIES[0])))
        if chain in (0, chain_id) and nonce == world.nonces.get(AUTHORITIES[who], 0):
            world.nonces[AUTHORITIES[who]] = nonce + 1
        given.append(sign_authorization(chain_id=chain, address=to, nonce=nonce, private_key=AUTHORITY_KEYS[who]))
    return tuple(given)


def call_data(random: Random, world: World) -> bytes:
    """Of a fixed contract: an address with data for it, two words, or any bytes."""
    match random.randrange(5):
        case 0:
            return b""
        case 1:
            return random.randbytes(random.choice((1, 4, 36, 70)))
        case 2:
            return _word(random.randrange(6)) + _word(random.choice((0, 0, 1, random.getrandbits(256))))
        case 3:
            return revert_data(random)
        case _:
            inner = call_data(random, world) if random.random() < 0.7 else initcode(random, world, depth=2)
            return _word(random.choice(world.addresses())) + inner


def revert_data(random: Random) -> bytes:
    """Error(string), Panic(uint256), a custom error, a damaged Error(string), an empty one."""
    text = random.choice((b"no", b"", b"module: reason", "ungültig".encode(), b"x" * 40, b"\xff\xfe"))
    encoded = _word(32) + _word(len(text)) + text.ljust((len(text) + 31) // 32 * 32, b"\0")
    return random.choice(
        (
            bytes.fromhex("08c379a0") + encoded,
            bytes.fromhex("4e487b71") + _word(random.choice((0, 1, 0x11, 0x12, 0x21, 0x32, 0x41, 0x51, 0x99))),
            bytes.fromhex("cf479181") + _word(7) + _word(9),
            bytes.fromhex("08c379a0") + _word(32) + _word(2**64),
            bytes.fromhex("08c379a0"),
            b"",
        )
    )


def _word(value: int | bytes) -> bytes:
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big")


# --- Code ------------------------------------------------------------------------------------------------------------


def initcode(random: Random, world: World, *, depth: int) -> bytes:
    """Does things, then leaves a contract, nothing, or what no contract may be."""
    program = _program(random, world)
    _body(program, world, depth)
    kind = random.random()
    if kind < 0.5:
        runtime = _program(random, world)
        _body(runtime, world, depth + 1)
        _end(runtime)
        return bytes(program.code) + _returning(bytes(runtime.code))
    if kind < 0.6:
        program.push(random.choice((0, 1, 0x6001)), 0)
        program.op(RETURN)
    elif kind < 0.65:
        program.push(0xEF, 0)
        program.op(0x53)
        program.push(1, 0)
        program.op(RETURN)
    else:
        _end(program)
    return bytes(program.code)


def _returning(runtime: bytes) -> bytes:
    """Creation code that can stand at the end of other code: the contract's is the last of it."""
    size = len(runtime).to_bytes(2, "big")
    # PUSH2 size, DUP1, DUP1, CODESIZE, SUB, PUSH0, CODECOPY, PUSH0, RETURN
    return b"\x61" + size + bytes((0x80, 0x80, 0x38, 0x03, 0x5F, CODECOPY, 0x5F, RETURN)) + runtime


def _program(random: Random, world: World) -> Program:
    return Program(random, Surroundings(world.addresses()), b"")


def _body(program: Program, world: World, depth: int) -> None:
    for _ in range(program.random.randint(1, 6)):
        program.random.choices(_ACTIONS, _WEIGHTS)[0](program, world, depth)


def _storage(program: Program, _: World, __: int) -> None:
    random = program.random
    load, store = random.choice(((SLOAD, SSTORE), (SLOAD, SSTORE), (TLOAD, TSTORE)))
    slot = random.choice((0, 1, 2, random.getrandbits(256)))
    if random.random() < 0.7:
        program.push(random.choice((0, 0, 1, random.getrandbits(256))), slot)
        program.op(store)
    else:
        program.push(slot)
        program.op(load, POP)


def _memory(program: Program, _: World, __: int) -> None:
    random = program.random
    program.push(random.getrandbits(256), random.randrange(100))
    program.op(MSTORE)
    program.push(random.randrange(70), random.randrange(70), random.randrange(70))
    program.op(random.choice((0x37, CODECOPY, MCOPY)))
    program.push(random.randrange(64))
    program.op(MLOAD)
    program.push(64, 0)
    program.op(0x20, 0x01, POP)


def _environment(program: Program, _: World, __: int) -> None:
    """ORIGIN, CALLER, CALLVALUE, GASPRICE, COINBASE, TIMESTAMP, NUMBER, GASLIMIT, CHAINID, SELFBALANCE, GAS."""
    random = program.random
    program.op(random.choice((0x32, 0x33, 0x34, 0x3A, 0x41, 0x42, 0x43, 0x45, 0x46, 0x47, GAS)))
    program.push(random.randrange(8))
    program.op(SSTORE)
    program.push(random.choice(program.world.addresses))
    program.op(random.choice((0x31, 0x3B, 0x3F)), POP)


def _log(program: Program, _: World, __: int) -> None:
    random = program.random
    topics = random.randrange(5)
    program.push(*(random.getrandbits(256) for _ in range(topics)), random.randrange(70), random.randrange(70))
    program.op(0xA0 + topics)


def _call(program: Program, world: World, _: int) -> None:
    random = program.random
    kind = random.choices((CALL, CALLCODE, DELEGATECALL, STATICCALL), (5, 1, 3, 3))[0]
    data = call_data(random, world)[:200]
    program.put_in_memory(data)
    program.push(random.choice((0, 0, 32, 64)), 0, len(data), 0)
    if kind in (CALL, CALLCODE):
        program.push(random.choice((0, 0, 0, 1, 7, 10**30)))
    program.push(random.choice(program.world.addresses))
    _push_gas(program)
    program.op(kind)
    _after_call(program)


def _push_gas(program: Program) -> None:
    if program.random.random() < 0.6:
        program.op(GAS)
    else:
        program.push(program.random.choice((0, 100, 2300, 30_000, 2**64)))


def _after_call(program: Program) -> None:
    random = program.random
    if random.random() < 0.4:
        program.push(random.randrange(8))
        program.op(SSTORE)
    else:
        program.op(POP)
    if random.random() < 0.4:
        program.op(RETURNDATASIZE, 0x5F, 0x5F, RETURNDATACOPY)


def _precompile_call(program: Program, _: World, __: int) -> None:
    random = program.random
    number = random.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 0x100))
    data = precompile_input(random, number)[0][:600]
    program.put_in_memory(data)
    program.push(64, 0, len(data), 0)
    kind = random.choice((CALL, STATICCALL, DELEGATECALL))
    if kind == CALL:
        program.push(random.choice((0, 0, 1)))
    program.push(number)
    _push_gas(program)
    program.op(kind)
    _after_call(program)


def _creation(program: Program, world: World, depth: int) -> None:
    if depth >= 2:
        return
    random = program.random
    code = initcode(random, world, depth=depth + 1)[:1200]
    program.put_in_memory(code)
    kind = random.choice((CREATE, CREATE2))
    if kind == CREATE2:
        program.push(random.randrange(3))
    program.push(len(code), 0, random.choice((0, 0, 1, 10**30)))
    program.op(kind)
    _after_call(program)


_ACTIONS: Final = (_storage, _memory, _environment, _log, _call, _precompile_call, _creation)
_WEIGHTS: Final = (4, 2, 2, 3, 6, 2, 3)


def _end(program: Program) -> None:
    random = program.random
    match random.choices(range(9), (4, 8, 3, 1, 2, 1, 2, 2, 4))[0]:
        case 0:
            program.op(STOP)
        case 1:
            _end_with(program, random.randbytes(random.choice((0, 1, 32, 40))), RETURN)
        case 2:
            _end_with(program, revert_data(random), REVERT)
        case 3:
            program.op(INVALID)
        case 4:
            # Undefined, or without its operands.
            program.op(random.choice((0x0C, 0x21, 0xEF, 0x01, POP, CALL)))
        case 5:
            program.op(0x5F, JUMP)
        case 6:
            program.op(0x60, random.choice((0, 9)), 0x5F, 0x5F, RETURNDATACOPY)
        case 7:
            _loop(program)
        case _:
            program.push(random.choice(program.world.addresses))
            program.op(SELFDESTRUCT)


def _end_with(program: Program, data: bytes, opcode: int) -> None:
    program.put_in_memory(data)
    program.push(len(data), 0)
    program.op(opcode)


def _loop(program: Program) -> None:
    """Out of gas after few opcodes."""
    start = len(program.code)
    program.op(JUMPDEST)
    program.op(0x5F, 0x19, 0x80, 0x0A, POP)
    program.push(start)
    program.op(JUMP)
