"""Random blocks through our pipeline and through stock py-evm's block import: the same block hash, byte for byte.

The hash covers the state root, receipts, blooms and gas. Left out is what py-evm gets wrong (execution-spec-tests
cover that): a sender who is delegated and creates, creations onto storage, failing request contracts.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import rlp
from eth.chains.base import MiningChain
from eth.consensus import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.blocks import PragueBlock
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.secp256k1 import address_of
from astralink_node.evm.blocks import Block, Header, decode_header, empty_header, ethereum_block_rlp
from astralink_node.evm.fork_rules import PRAGUE, plain_ethereum
from astralink_node.evm.header_rules import child_base_fee, validate_header
from astralink_node.evm.pipeline import BlockContext, BlockExecution, execute_block
from astralink_node.evm.scratch_state import ScratchState
from astralink_node.evm.system_calls import (
    BEACON_ROOTS_ADDRESS,
    CONSOLIDATION_REQUEST_ADDRESS,
    HISTORY_STORAGE_ADDRESS,
    WITHDRAWAL_REQUEST_ADDRESS,
)
from astralink_node.evm.transaction_encoding import new_transaction, sign_authorization, sign_transaction
from astralink_node.evm.transactions import InvalidTransaction, Transaction
from astralink_node.types import Address, Hash32
from genesis.system_contracts import BEACON_ROOTS_CODE, HISTORY_CODE

CHAIN_ID = 7
STOP = b"\x00"
GWEI = 10**9
GENESIS_GAS_LIMIT = 60_000_000
KEYS = [keccak256(b"sender %d" % number) for number in range(3)]
AUTHORITIES = [keccak256(b"authority %d" % number) for number in range(2)]
SENDERS = [address_of(key) for key in KEYS]
CONTRACTS = [Address(bytes([0xC0 + number]) * 20) for number in range(3)]
TARGETS = [
    *CONTRACTS,
    SENDERS[0],
    address_of(AUTHORITIES[0]),
    Address(b"\xee" * 20),
    *(Address(number.to_bytes(20, "big")) for number in (1, 2, 3, 4)),
]
RULES = plain_ethereum(PRAGUE, CHAIN_ID)


# --- Random programs ---------------------------------------------------------------------------------------------

small = st.integers(0, 300)
words = st.one_of(small, st.integers(0, 2**256 - 1), st.sampled_from([2**255, 2**256 - 1, 31, 32, 256]))


def push(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes((0x5F + size,)) + value.to_bytes(size, "big")


def operation(opcode: int, *arguments: int) -> bytes:
    """Push the arguments, the first one last so that it ends on top, then the opcode."""
    return b"".join(push(argument) for argument in reversed(arguments)) + bytes((opcode,))


def call_snippet(opcode: int, target: Address, gas: int, value: int, size: int) -> bytes:
    address = int.from_bytes(target, "big")
    if opcode in (0xF1, 0xF2):
        return operation(opcode, gas, address, value, 0, size, 0, size)
    return operation(opcode, gas, address, 0, size, 0, size)


def create_snippet(opcode: int, value: int, initcode: bytes, salt: int) -> bytes:
    padded = initcode[:32].ljust(32, b"\0")
    store = operation(0x52, 0, int.from_bytes(padded, "big"))
    return store + (operation(0xF0, value, 0, 32) if opcode == 0xF0 else operation(0xF5, value, 0, 32, salt))


INITCODES = [
    b"",
    bytes.fromhex("60016000f3"),  # returns a byte of zero as code
    bytes.fromhex("5f5ffd"),  # reverts
    bytes.fromhex("60ef5f5360015ff3"),  # tries to deploy 0xef (EIP-3541)
    bytes.fromhex("30ff"),  # destroys itself
    bytes.fromhex("600160015560056001a05f5ff3"),  # stores, logs
    bytes.fromhex("fe"),
]

snippets = st.one_of(
    st.builds(
        operation,
        st.sampled_from([*range(0x01, 0x08), 0x0A, 0x0B, *range(0x10, 0x15), *range(0x16, 0x1E)]),
        words,
        words,
    ),
    st.builds(operation, st.sampled_from([0x08, 0x09]), words, words, words),
    st.builds(
        operation, st.sampled_from([0x15, 0x19, 0x31, 0x35, 0x3B, 0x3F, 0x40, 0x49, 0x50, 0x51, 0x54, 0x5C]), words
    ),
    st.builds(operation, st.sampled_from([0x52, 0x53, 0x55, 0x5D, 0x20, 0xA0]), small, small),
    st.builds(operation, st.sampled_from([0x37, 0x39, 0x5E, 0x3E, 0xA1]), small, small, small),
    st.builds(operation, st.sampled_from([0xA4]), small, small, words, words, words, words),
    st.builds(operation, st.just(0x55), st.integers(0, 3), st.integers(0, 2)),
    st.builds(
        operation,
        st.sampled_from([*range(0x30, 0x35), 0x36, 0x38, 0x3A, 0x3D, *range(0x41, 0x49), 0x4A, 0x58, 0x59, 0x5A, 0x5B]),
    ),
    st.builds(operation, st.sampled_from([0x80, 0x81, 0x8F, 0x90, 0x91, 0x9F])),
    st.builds(
        call_snippet,
        st.sampled_from([0xF1, 0xF2, 0xF4, 0xFA]),
        st.sampled_from(TARGETS),
        st.sampled_from([0, 2_300, 30_000, 200_000]),
        st.sampled_from([0, 0, 1, 10**30]),
        st.sampled_from([0, 32, 100]),
    ),
    st.builds(
        create_snippet,
        st.sampled_from([0xF0, 0xF5]),
        st.sampled_from([0, 0, 1]),
        st.sampled_from(INITCODES),
        st.integers(0, 2),
    ),
)
endings = st.sampled_from(
    [
        b"",
        b"\x00",
        operation(0xF3, 0, 64),
        operation(0xFD, 0, 32),
        b"\xfe",
        operation(0xFF, 0xEE),
        operation(0x56, 3),
        b"\x30\xff",
    ]
)
programs = st.builds(lambda parts, end: b"".join(parts) + end, st.lists(snippets, max_size=10), endings)
raw_programs = st.binary(max_size=60)
codes = st.one_of(programs, programs, programs, raw_programs)


# --- Random transactions -------------------------------------------------------------------------------------------


@st.composite
def transaction_plans(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(st.sampled_from(["transfer", "call", "call", "create", "delegate"]))
    return {
        "kind": kind,
        "sender": draw(st.integers(0, len(KEYS) - 1)),
        "tx_type": 4 if kind == "delegate" else draw(st.sampled_from([0, 1, 2])),
        "to": draw(st.sampled_from(TARGETS)) if kind == "transfer" else draw(st.sampled_from(CONTRACTS)),
        "value": draw(st.sampled_from([0, 1, 10**15])),
        "data": draw(codes) if kind == "create" else draw(st.binary(max_size=80)),
        "gas_limit": draw(st.sampled_from([60_000, 200_000, 1_500_000])),
        "tip": draw(st.sampled_from([0, GWEI])),
        "slots": draw(st.lists(st.integers(0, 3), max_size=3)),
        "authority": draw(st.integers(0, len(AUTHORITIES) - 1)),
        "delegate": draw(st.sampled_from([*CONTRACTS, Address(bytes(20)), Address(b"\0" * 19 + b"\x01")])),
        "authorization_nonce": draw(st.sampled_from([0, 0, 1, 2])),
        "authorization_chain": draw(st.sampled_from([0, CHAIN_ID, 99])),
    }


def build_transaction(plan: dict[str, object], nonce: int) -> Transaction:
    to = b"" if plan["kind"] == "create" else bytes(plan["to"])
    access_list = ((Address(plan["to"]), tuple(plan["slots"])),) if plan["slots"] and plan["tx_type"] else ()
    authorizations = ()
    if plan["kind"] == "delegate":
        to = address_of(AUTHORITIES[plan["authority"]]) if plan["value"] else bytes(plan["to"])
        authorizations = (
            sign_authorization(
                chain_id=plan["authorization_chain"],
                address=plan["delegate"],
                nonce=plan["authorization_nonce"],
                private_key=AUTHORITIES[plan["authority"]],
            ),
        )
    legacy_price = plan["tx_type"] in (0, 1)
    unsigned = new_transaction(
        plan["tx_type"],
        chain_id=CHAIN_ID,
        nonce=nonce,
        max_fee_per_gas=10 * GWEI,
        max_priority_fee_per_gas=None if legacy_price else plan["tip"],
        gas_limit=plan["gas_limit"],
        to=to,
        value=plan["value"],
        data=plan["data"],
        access_list=access_list,
        authorizations=authorizations,
    )
    return sign_transaction(unsigned, KEYS[plan["sender"]])


# --- The two chains ------------------------------------------------------------------------------------------------


class ProofOfStakeVM(PragueVM):
    consensus_class = NoProofConsensus


def genesis_alloc(contract_codes: list[bytes]) -> dict[Address, dict[str, object]]:
    accounts = {sender: {"balance": 10**24, "nonce": 0, "code": b"", "storage": {}} for sender in SENDERS}
    for address, code in zip(CONTRACTS, contract_codes, strict=True):
        accounts[address] = {"balance": 10**18, "nonce": 1, "code": code, "storage": {0: 5, 1: 7}}
    accounts[BEACON_ROOTS_ADDRESS] = {"balance": 0, "nonce": 1, "code": BEACON_ROOTS_CODE, "storage": {}}
    accounts[HISTORY_STORAGE_ADDRESS] = {"balance": 0, "nonce": 1, "code": HISTORY_CODE, "storage": {}}
    for address in (WITHDRAWAL_REQUEST_ADDRESS, CONSOLIDATION_REQUEST_ADDRESS):
        accounts[address] = {"balance": 0, "nonce": 1, "code": STOP, "storage": {}}
    return accounts


def stock_chain(accounts: dict[Address, dict[str, object]]) -> MiningChain:
    chain_class = MiningChain.configure("Stock", vm_configuration=((0, ProofOfStakeVM),), chain_id=CHAIN_ID)
    parameters = {
        "difficulty": 0,
        "gas_limit": GENESIS_GAS_LIMIT,
        "timestamp": 1_000,
        "base_fee_per_gas": GWEI,
        "nonce": bytes(8),
        "mix_hash": bytes(32),
        "extra_data": b"",
        "coinbase": bytes(20),
    }
    return chain_class.from_genesis(AtomicDB(), parameters, accounts)


def scratch_state(accounts: dict[Address, dict[str, object]]) -> ScratchState:
    return ScratchState(
        {
            "0x" + address.hex(): {
                "balance": account["balance"],
                "nonce": account["nonce"],
                "code": "0x" + account["code"].hex(),
                "storage": account["storage"],
            }
            for address, account in accounts.items()
        }
    )


class OurChain:
    def __init__(self, accounts: dict[Address, dict[str, object]], genesis_rlp: bytes) -> None:
        self.state = scratch_state(accounts)
        self.headers: list[Header] = [decode_header(genesis_rlp)]
        assert self.state.root == self.headers[0].state_root
        self.skipped = 0

    def ancestor_hash(self, number: int) -> bytes:
        return self.headers[number].hash

    def build(self, plans: list[dict[str, object]], nonces: dict[int, int], coinbase: Address) -> Block:
        parent = self.headers[-1]
        header = replace(
            empty_header(),
            parent_hash=parent.hash,
            number=parent.number + 1,
            timestamp=parent.timestamp + 12,
            gas_limit=parent.gas_limit,
            coinbase=coinbase,
            prev_randao=Hash32(keccak256(parent.hash)),
            base_fee_per_gas=child_base_fee(RULES, parent),
            parent_beacon_block_root=Hash32(keccak256(b"root" + parent.hash)),
        )
        overlay = self.state.overlay()
        execution = BlockExecution(RULES, BlockContext.of_header(header, self.ancestor_hash), overlay)
        execution.apply_system_start()
        included = []
        for plan in plans:
            sender = plan["sender"]
            transaction = build_transaction(plan, nonces.get(sender, 0))
            try:
                execution.apply_transaction(transaction, SENDERS[sender])
            except InvalidTransaction:
                self.skipped += 1
                continue
            nonces[sender] = nonces.get(sender, 0) + 1
            included.append(transaction.raw)
        executed = execution.finish()
        header = replace(
            header,
            state_root=self.state.root_after(overlay),
            transactions_root=executed.transactions_root,
            receipts_root=executed.receipts_root,
            logs_bloom=executed.logs_bloom,
            gas_used=executed.gas_used,
            requests_hash=executed.requests_hash,
        )
        return Block(header, tuple(included))

    def import_block(self, block: Block) -> None:
        """What was built is valid, and executing it again, senders recovered, gives the same."""
        validate_header(RULES, block.header, self.headers[-1])
        overlay = self.state.overlay()
        execute_block(RULES, block, overlay, ancestor_hash=self.ancestor_hash)
        assert self.state.commit(overlay) == block.header.state_root
        self.headers.append(block.header)


@pytest.mark.filterwarnings("ignore:SELFDESTRUCT opcode present in computation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The recursion limit will not be reset")
@settings(max_examples=25)
@given(
    contract_codes=st.tuples(codes, codes, codes).map(list),
    blocks=st.lists(st.lists(transaction_plans(), min_size=1, max_size=6), min_size=1, max_size=3),
    coinbase=st.sampled_from([Address(b"\xfe" * 20), SENDERS[1], CONTRACTS[0]]),
)
def test_stock_py_evm_imports_our_random_blocks_unchanged(
    contract_codes: list[bytes], blocks: list[list[dict[str, object]]], coinbase: Address
) -> None:
    accounts = genesis_alloc(contract_codes)
    stock = stock_chain(accounts)
    ours = OurChain(accounts, rlp.encode(stock.get_canonical_head()))
    nonces: dict[int, int] = {}
    for plans in blocks:
        block = ours.build(plans, nonces, coinbase)
        ours.import_block(block)
        imported = stock.import_block(rlp.decode(ethereum_block_rlp(block), sedes=PragueBlock))
        assert imported.imported_block.hash == block.header.hash
