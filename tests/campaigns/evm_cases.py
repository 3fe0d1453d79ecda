"""Random cases for block execution: a state, a block's environment, transactions valid and invalid, withdrawals.

A case is plain JSON (integers, and bytes in hexadecimal without 0x) and follows from a seed and an index alone.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.secp256k1 import ORDER, address_of, sign
from astralink_node.evm import rlp
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.delegation import DELEGATION_PREFIX
from astralink_node.evm.system_calls import (
    BEACON_ROOTS_ADDRESS,
    CONSOLIDATION_REQUEST_ADDRESS,
    DEPOSIT_CONTRACT_ADDRESS,
    DEPOSIT_EVENT_TOPIC,
    HISTORY_STORAGE_ADDRESS,
    SYSTEM_ADDRESS,
    WITHDRAWAL_REQUEST_ADDRESS,
)
from astralink_node.types import Address
from genesis.system_contracts import BEACON_ROOTS_CODE, HISTORY_CODE
from tests.campaigns.evm_assembler import Surroundings, word
from tests.campaigns.evm_precompile_inputs import PRECOMPILES, precompile_input
from tests.campaigns.evm_programs import (
    MAX_INITCODE_BYTES,
    PRECOMPILE_CALLER,
    account_in_the_way,
    deep_program,
    random_initcode,
    random_program,
)

Case = dict[str, Any]

CHAIN_ID: Final = 1
FORKS: Final = ("Prague", "Osaka")
U64_MAX: Final = 2**64 - 1
PRECOMPILE_CALLS: Final = 10
MISSHAPEN: Final = 0.02
"""Share of the transactions that are none."""
SENDER_KEYS: Final = tuple((0x5E00 + number).to_bytes(32, "big") for number in range(5))
AUTHORITY_KEYS: Final = tuple((0xA000 + number).to_bytes(32, "big") for number in range(4))
SENDERS: Final = tuple(map(address_of, SENDER_KEYS))
AUTHORITIES: Final = tuple(map(address_of, AUTHORITY_KEYS))
CONTRACTS: Final = tuple((0xC0DE00 + number).to_bytes(20, "big") for number in range(6))
EMPTY_ADDRESSES: Final = tuple((0xE0000000 + number).to_bytes(20, "big") for number in range(3))
COINBASE: Final = bytes.fromhex("c0b00000000000000000000000000000000000ba")
PRECOMPILE_ADDRESSES: Final = tuple(number.to_bytes(20, "big") for number in (*range(1, 0x13), 0x100))

WITHDRAWAL_REQUEST_CODE: Final = (
    "3373fffffffffffffffffffffffffffffffffffffffe1460cb5760115f54807fffffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffff146101f457600182026001905f5b5f82111560685781019083028483029004916001019190604d565b90939004"
    "9250505036603814608857366101f457346101f4575f5260205ff35b34106101f457600154600101600155600354806003026004013381"
    "556001015f35815560010160203590553360601b5f5260385f601437604c5fa0600101600355005b6003546002548082038060101160"
    "df575060105b5f5b8181146101835782810160030260040181604c02815460601b8152601401816001015481526020019060020154807f"
    "ffffffffffffffffffffffffffffffff00000000000000000000000000000000168252906010019060401c908160381c81600701538160"
    "301c81600601538160281c81600501538160201c81600401538160181c81600301538160101c81600201538160081c8160010153536001"
    "0160e1565b910180921461019557906002556101a0565b90505f6002555f6003555b5f54807fffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffffffffffffff14156101cd57505f5b6001546002828201116101e25750505f6101e8565b01600290035b5f555f60"
    "0155604c025ff35b5f5ffd"
)
CONSOLIDATION_REQUEST_CODE: Final = (
    "3373fffffffffffffffffffffffffffffffffffffffe1460d35760115f54807fffffffffffffffffffffffffffffffffffffffffffff"
    "ffffffffffffffffffff1461019a57600182026001905f5b5f82111560685781019083028483029004916001019190604d565b90939004"
    "9250505036606014608857366101"
    "9a573461019a575f5260205ff35b341061019a57600154600101600155600354806004026004013381556001015f358155600101602035"
    "815560010160403590553360601b5f5260605f60143760745fa0600101600355005b6003546002548082038060021160e7575060025b5f"
    "5b8181146101295782810160040260040181607402815460601b815260140181600101548152602001816002015481526020019060030154"
    "905260010160e9565b910180921461013b5790600255610146565b90505f6002555f6003555b5f54807fffffffffffffffffffffffffffff"
    "ffffffffffffffffffffffffffffffffffff141561017357505f5b6001546001828201116101885750505f61018e565b01600190035b5f"
    "555f6001556074025ff35b5f5ffd"
)


def make_case(seed: int, position: int) -> Case:
    random = Random(f"{seed}/{position}")
    return _CaseMaker(random).make(f"{seed}-{position}")


class _CaseMaker:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.fork = random.choice(FORKS)
        self.coinbase = random.choices((COINBASE, CONTRACTS[0], SENDERS[0], AUTHORITIES[0], EMPTY_ADDRESSES[0],
                                        bytes(20), PRECOMPILE_ADDRESSES[3]), (8, 2, 1, 1, 1, 1, 1))[0]  # fmt: skip
        self.base_fee = random.choice((0, 7, 7, 7, 10**9))
        self.gas_limit = random.choice((30_000_000, 30_000_000, 30_000_000, 30_000_000, 2_000_000))
        self.alloc: dict[bytes, dict[str, object]] = {}
        self.nonces: dict[bytes, int] = {}
        created = [contract_address(Address(address), nonce) for address in CONTRACTS[:3] for nonce in (1, 2)]
        self.world = Surroundings(
            addresses=[
                *CONTRACTS * 4,
                *SENDERS,
                *AUTHORITIES * 3,
                *EMPTY_ADDRESSES * 2,
                *PRECOMPILE_ADDRESSES,
                *created,
                self.coinbase,
                BEACON_ROOTS_ADDRESS,
                HISTORY_STORAGE_ADDRESS,
                WITHDRAWAL_REQUEST_ADDRESS,
                CONSOLIDATION_REQUEST_ADDRESS,
                DEPOSIT_CONTRACT_ADDRESS,
                SYSTEM_ADDRESS,
            ]
        )

    def make(self, name: str) -> Case:
        self._allocate_senders()
        kind = self.random.choices(("deep", "precompiles", "any"), (1, 8, 91))[0]
        if kind == "deep":
            self._allocate_deep_contracts()
        elif kind == "precompiles":
            self.gas_limit = 30_000_000
            self._put(CONTRACTS[0], nonce=1, code=PRECOMPILE_CALLER)
        else:
            self._allocate_contracts()
            self._allocate_authorities()
        self._allocate_system_contracts()
        if kind == "deep":
            transactions = [self._plain_transaction(2**36, self.random.choice(CONTRACTS), b"")]
        elif kind == "precompiles":
            transactions = [self._precompile_transaction() for _ in range(PRECOMPILE_CALLS)]
        else:
            count = self.random.choices((1, 2, 3, 4, 6), (4, 4, 3, 2, 1))[0]
            transactions = [self._transaction() for _ in range(count)]
        for address, fields in self.world.extra_accounts.items():
            self.alloc.setdefault(address, fields)
        return {
            "name": name,
            "fork": self.fork,
            "chain_id": CHAIN_ID,
            "environment": self._environment(),
            "alloc": {address.hex(): fields for address, fields in self.alloc.items()},
            "transactions": [raw.hex() for raw in transactions],
            "withdrawals": self._withdrawals(),
        }

    def _environment(self) -> dict[str, Any]:
        random = self.random
        number = random.choice((1, 2, 100, 256, 257, 300, 10_000))
        return {
            "number": number,
            "timestamp": random.choice((1, 1_000, 2**40)),
            "coinbase": self.coinbase.hex(),
            "gas_limit": self.gas_limit,
            "base_fee": self.base_fee,
            "prev_randao": random.randbytes(32).hex(),
            "excess_blob_gas": random.choice((0, 0, 393_216, 40_000_000)),
            "parent_beacon_block_root": random.randbytes(32).hex(),
            "block_hashes": {
                str(height): keccak256(str(height).encode()).hex() for height in range(max(number - 256, 0), number)
            },
        }

    # --- State -----------------------------------------------------------------------------------------------------

    def _put(self, address: bytes, *, nonce: int = 0, balance: int = 0, code: bytes = b"", slots: int = 0) -> None:
        storage = {str(slot): self.random.randint(1, 3) for slot in range(slots)}
        self.alloc[address] = {"nonce": nonce, "balance": balance, "code": code.hex(), "storage": storage}
        self.nonces[address] = nonce

    def _allocate_senders(self) -> None:
        random = self.random
        for position, address in enumerate(SENDERS):
            nonce = random.choices((0, 1, 5, U64_MAX - 1, U64_MAX), (8, 4, 4, 0.1, 0.1))[0]
            balance = 10**24 if random.random() < 0.98 else random.choice((0, 21_000 * self.base_fee, 10**14))
            code = b""
            if position == 3 and random.random() < 0.1:
                code = random.choice((b"\0", DELEGATION_PREFIX, DELEGATION_PREFIX + bytes(21)))
            elif random.random() < 0.15:
                code = DELEGATION_PREFIX + random.choice(self.world.addresses)
            if code:
                # Setting a delegation raises the nonce.
                nonce = max(nonce, 1)
            if nonce or balance:
                self._put(address, nonce=nonce, balance=balance, code=code)

    def _allocate_contracts(self) -> None:
        random = self.random
        for address in CONTRACTS:
            self._put(
                address,
                nonce=random.choices((1, 0, U64_MAX - 1, U64_MAX), (10, 1, 0.3, 0.3))[0],
                balance=random.choice((0, 0, 3, 10**18)),
                code=random_program(random, self.world, address),
                slots=random.randrange(5),
            )

    def _allocate_deep_contracts(self) -> None:
        """With gas enough for the call depth to be what ends them; no fork from Osaka on allows that."""
        self.fork = "Prague"
        self.gas_limit = 2**40
        for address in CONTRACTS:
            self._put(address, nonce=1, code=deep_program(self.random))

    def _allocate_authorities(self) -> None:
        random = self.random
        for address in AUTHORITIES:
            kind = random.randrange(6)
            if kind < 2:
                continue
            code = b""
            if kind == 2:
                code = random_program(random, self.world, address, length=1)
            elif kind == 3:
                code = DELEGATION_PREFIX + random.choice((*CONTRACTS, *AUTHORITIES, *PRECOMPILE_ADDRESSES))
            nonce = random.choices((0, 1, 7, U64_MAX - 1, U64_MAX), (4, 4, 2, 0.3, 0.3))[0]
            balance = random.choice((0, 1, 10**21))
            if code:
                nonce = max(nonce, 1)
            if nonce or balance:
                self._put(address, nonce=nonce, balance=balance, code=code, slots=random.choice((0, 2)) if code else 0)

    def _allocate_system_contracts(self) -> None:
        random = self.random
        for address, code in (
            (BEACON_ROOTS_ADDRESS, BEACON_ROOTS_CODE),
            (HISTORY_STORAGE_ADDRESS, HISTORY_CODE),
            (WITHDRAWAL_REQUEST_ADDRESS, bytes.fromhex(WITHDRAWAL_REQUEST_CODE)),
            (CONSOLIDATION_REQUEST_ADDRESS, bytes.fromhex(CONSOLIDATION_REQUEST_CODE)),
        ):
            kind = random.random()
            if kind < 0.005:
                continue
            if kind < 0.015:
                # Not selfdestructing what it created: the specification leaves such accounts behind.
                code = random.choice(
                    (b"\xfe", b"\x5f\x5f\xfd", b"\x00", b"\x60\x4c\x5f\xf3", b"\x5f\x64\xff\xff\xff\xff\xff\x52")
                )
            self._put(address, nonce=1, code=code)
        if random.random() < 0.5:
            self._put(DEPOSIT_CONTRACT_ADDRESS, nonce=1, code=self._deposit_code())

    def _deposit_code(self) -> bytes:
        """Logs a deposit event, at times spoiled."""
        random = self.random
        words: list[int] = [160, 256, 320, 384, 512]
        body = b""
        for size in (48, 32, 8, 96, 8):
            body += size.to_bytes(32, "big") + random.randbytes(size).ljust((size + 31) // 32 * 32, b"\0")
        if random.random() < 0.15:
            words[random.randrange(5)] += random.choice((1, 32, 2**255))
        data = bytearray(b"".join(value.to_bytes(32, "big") for value in words) + body)
        if random.random() < 0.15:
            data[random.choice((191, 287, 351, 415, 543, 160, 300))] ^= 1 << random.randrange(8)
        code = bytearray()
        for start in range(0, len(data), 32):
            code += b"\x7f" + data[start : start + 32] + b"\x61" + start.to_bytes(2, "big") + b"\x52"
        size = random.choices((576, 575, 577, 0), (20, 1, 1, 1))[0]
        topic = DEPOSIT_EVENT_TOPIC if random.random() < 0.9 else random.randbytes(32)
        if random.random() < 0.1:
            return bytes(code + b"\x61" + size.to_bytes(2, "big") + b"\x5f\xa0")
        return bytes(code + b"\x7f" + topic + b"\x61" + size.to_bytes(2, "big") + b"\x5f\xa1")

    def _withdrawals(self) -> list[dict[str, Any]]:
        random = self.random
        return [
            {
                "index": index,
                "validator_index": random.choice((0, U64_MAX)),
                "address": random.choice(self.world.addresses).hex(),
                "amount": random.choice((0, 1, 32 * 10**9, U64_MAX)),
            }
            for index in range(random.choice((0, 0, 0, 1, 3)))
        ]

    # --- Transactions ----------------------------------------------------------------------------------------------

    def _transaction(self) -> bytes:
        random = self.random
        key = random.choice(SENDER_KEYS if random.random() < 0.93 else AUTHORITY_KEYS)
        sender = address_of(key)
        tx_type = random.choices((0, 1, 2, 4), (3, 2, 3, 4))[0]
        authorizations = self._authorizations(sender) if tx_type == 4 else []
        create = random.random() < (0.01 if tx_type == 4 else 0.25)
        nonce = self._nonce(sender)
        if create:
            to = b""
            data = random_initcode(random, self.world, contract_address(sender, nonce))
            if random.random() < 0.04:
                data = bytes(random.choice((MAX_INITCODE_BYTES, MAX_INITCODE_BYTES + 1)))
            if random.random() < 0.1:
                self.world.extra_accounts[contract_address(sender, nonce)] = account_in_the_way(random)
        else:
            to = random.choice((*CONTRACTS * 3, *AUTHORITIES, random.choice(self.world.addresses)))
            if random.random() < 0.02:
                to = random.choice((to[:19], to + b"\0"))
            data = self._calldata(to)
        access_list = self._access_list() if tx_type else []
        gas = self._gas(data, create, access_list, len(authorizations))
        price, priority = self._price()
        value = random.choices((0, 1, 10**15, 10**22), (6, 2, 2, 0.1))[0]
        chain_id = CHAIN_ID
        fields: list[rlp.Encodable] = []
        if tx_type:
            fields.append(rlp.big_endian(chain_id))
        fields.append(rlp.big_endian(nonce))
        if tx_type in (2, 4):
            fields.append(rlp.big_endian(priority))
        fields += [rlp.big_endian(price), rlp.big_endian(gas), to, rlp.big_endian(value), data]
        if tx_type:
            fields.append(access_list)
        if tx_type == 4:
            fields.append(authorizations)
        return self._signed(tx_type, fields, key)

    def _precompile_transaction(self) -> bytes:
        number = self.random.choice(PRECOMPILES)
        data, gas = precompile_input(self.random, number)
        gas += 21_000 + 40 * (len(data) + 32) + self.random.choice((2_600, 3_000, 20_000, 300_000, 1_500_000))
        return self._plain_transaction(gas, CONTRACTS[0], number.to_bytes(32, "big") + data)

    def _plain_transaction(self, gas: int, to: bytes, data: bytes) -> bytes:
        nonce = self.nonces.get(SENDERS[1], 0)
        self.nonces[SENDERS[1]] = nonce + 1
        fields: list[rlp.Encodable] = [rlp.big_endian(value) for value in (nonce, self.base_fee, gas)]
        return self._signed(0, [*fields, to, b"", data], SENDER_KEYS[1])

    def _nonce(self, sender: bytes) -> int:
        """What is right if earlier transactions went as their makers thought; at times next to it."""
        nonce = self.nonces.get(sender, 0)
        if self.random.random() < 0.04:
            return max(nonce + self.random.choice((-1, 1)), 0)
        self.nonces[sender] = nonce + 1
        return nonce

    def _calldata(self, to: bytes) -> bytes:
        random = self.random
        if to == WITHDRAWAL_REQUEST_ADDRESS and random.random() < 0.8:
            return random.randbytes(56)
        if to == CONSOLIDATION_REQUEST_ADDRESS and random.random() < 0.8:
            return random.randbytes(96)
        kind = random.random()
        if kind < 0.4:
            return b""
        if kind < 0.5:
            # The floor of EIP-7623 is above what is used.
            return random.randbytes(random.randrange(4_000))
        if kind < 0.6:
            return bytes(random.randrange(3_000))
        return word(random).to_bytes(32, "big") + random.randbytes(random.randrange(64))

    def _access_list(self) -> list[rlp.Encodable]:
        random = self.random
        return [
            [
                random.choice(self.world.addresses),
                [random.choice((0, 1, 2, word(random))).to_bytes(32, "big") for _ in range(random.randrange(4))],
            ]
            for _ in range(random.choice((0, 0, 1, 2)))
        ]

    def _gas(self, data: bytes, create: bool, access_list: list[Any], authorizations: int) -> int:
        random = self.random
        tokens = data.count(0) + 4 * (len(data) - data.count(0))
        intrinsic = 21_000 + 4 * tokens + 25_000 * authorizations
        intrinsic += sum(2_400 + 1_900 * len(slots) for _, slots in access_list)
        if create:
            intrinsic += 32_000 + 2 * ((len(data) + 31) // 32)
        floor = 21_000 + 10 * tokens
        kind = random.random()
        if kind < 0.04:
            return random.choice((intrinsic, floor)) + random.choice((-1, 0))
        if kind < 0.06:
            return random.choice((2**24, 2**24 + 1, U64_MAX, self.gas_limit, self.gas_limit + 1))
        needed = max(intrinsic, floor)
        return (
            needed
            + random.choices(
                (0, 1, 2_300, random.randrange(40_000), 300_000, 1_000_000, 4_000_000), (1, 1, 1, 3, 6, 9, 3)
            )[0]
        )

    def _price(self) -> tuple[int, int]:
        random = self.random
        price = self.base_fee + random.choice((0, 0, 1, 10**9))
        priority = random.choice((0, 1, 10**9, price))
        if random.random() < 0.9:
            priority = min(priority, price)
        if random.random() < 0.02:
            price = random.choice((max(self.base_fee - 1, 0), 2**256 - 1))
        return price, priority

    def _authorizations(self, sender: bytes) -> list[rlp.Encodable]:
        random = self.random
        nonces = dict(self.nonces)
        # The sender's nonce is raised before the authorizations are looked at.
        nonces[sender] = nonces.get(sender, 0) + 1
        authorizations: list[rlp.Encodable] = []
        for _ in range(random.choices((0, 1, 2, 3), (0.1, 5, 3, 1))[0]):
            key = random.choice((*AUTHORITY_KEYS, *AUTHORITY_KEYS, random.choice(SENDER_KEYS)))
            authority = address_of(key)
            nonce = nonces.get(authority, 0)
            if random.random() < 0.12:
                nonce = random.choices((nonce + 1, max(nonce - 1, 0), U64_MAX, 2**64), (4, 4, 2, 0.3))[0]
            else:
                nonces[authority] = nonce + 1
            delegate = random.choice((*CONTRACTS, *CONTRACTS, *AUTHORITIES, bytes(20), bytes(20),
                                      *random.sample(PRECOMPILE_ADDRESSES, 2), *EMPTY_ADDRESSES))  # fmt: skip
            chain_id = random.choices((CHAIN_ID, 0, 2, 2**64, 2**256 - 1), (8, 4, 1, 0.2, 0.2))[0]
            authorizations.append(self._authorization(key, chain_id, delegate, nonce))
        nonces[sender] -= 1
        self.nonces.update(nonces)
        return authorizations

    def _authorization(self, key: bytes, chain_id: int, delegate: bytes, nonce: int) -> list[rlp.Encodable]:
        random = self.random
        signed: list[rlp.Encodable] = [rlp.big_endian(chain_id), delegate, rlp.big_endian(nonce)]
        r, s, y_parity = sign(key, keccak256(b"\x05" + rlp.encode(signed)))
        if random.random() < 0.12:
            r, s, y_parity = random.choice(
                (
                    (r, ORDER - s, 1 - y_parity),
                    (r, s, 1 - y_parity),
                    (r, s, y_parity + 27),
                    (r, s, 256),
                    (0, s, y_parity),
                    (r, 0, y_parity),
                    (ORDER, s, y_parity),
                    (r, 2**256 - 1, y_parity),
                    (2**256, s, y_parity),
                    (5, s, y_parity),
                )
            )
        return [*signed, rlp.big_endian(y_parity), rlp.big_endian(r), rlp.big_endian(s)]

    def _signed(self, tx_type: int, fields: list[rlp.Encodable], key: bytes) -> bytes:
        random = self.random
        if random.random() < MISSHAPEN:
            # Signed as it is: the sender can pay, so only the shape can be what is wrong.
            fields = self._misshapen(fields)
        prefix = bytes((tx_type,)) if tx_type else b""
        protected = not tx_type and random.random() < 0.7
        suffix: list[rlp.Encodable] = [rlp.big_endian(CHAIN_ID), b"", b""] if protected else []
        r, s, v = sign(key, keccak256(prefix + rlp.encode([*fields, *suffix])))
        if random.random() < 0.02:
            r, s, v = random.choice(
                ((r, ORDER - s, 1 - v), (r, s, v + 2), (0, s, v), (r, 0, v), (ORDER, s, v), (2**256, s, v), (r, s, 27))
            )
        if not tx_type:
            v += 35 + 2 * CHAIN_ID if protected else 27
        signature: list[rlp.Encodable] = [rlp.big_endian(value) for value in (v, r, s)]
        if random.random() < MISSHAPEN / 2:
            signature = self._misshapen(signature)
        raw = prefix + rlp.encode([*fields, *signature])
        if random.random() < MISSHAPEN / 4:
            raw += b"\0"
        return raw

    def _misshapen(self, fields: list[rlp.Encodable]) -> list[rlp.Encodable]:
        """A field missing, too many, of another kind or length, or with leading zeros; or an inner one so."""
        random = self.random
        position = random.randrange(len(fields))
        chosen = fields[position]
        before, after = fields[:position], fields[position + 1 :]
        if not isinstance(chosen, bytes):
            chosen = list(chosen)
            if chosen and random.random() < 0.7:
                return [*before, self._misshapen(chosen), *after]
            return [*before, random.choice((b"", b"\1", [b""], [[]], [*chosen, []])), *after]
        return [
            *before,
            *random.choice(((), (b"", chosen), (b"\0" + chosen,), (chosen[1:],), (b"\1" * 33,), ([],), ([chosen],))),
            *after,
        ]
