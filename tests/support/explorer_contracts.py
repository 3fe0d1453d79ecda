"""Contracts that call, create and destroy as their call data says, and what a block's transactions do by a tracer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from astralink_node.chain.contexts import ChainRecords
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.replay import BlockReplay, committed_block
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.delegation import delegate_of
from astralink_node.evm.tracing.calls import frame_of
from astralink_node.evm.tracing.hooks import SilentTracer
from astralink_node.evm.vm import Computation
from astralink_node.storage.store import Reader
from astralink_node.types import Address
from genesis.schema import GenesisAccount
from genesis.sealing import parse_genesis
from tests.support.chains import CONTRACTS, LOGGER


def _at(byte: str) -> Address:
    return Address(bytes.fromhex(byte) * 20)


FORWARDER = _at("d0")
"""Calls the address in its first word with the rest of its data and all of its value."""
DELEGATOR = _at("d1")
"""As FORWARDER, by DELEGATECALL."""
STATIC_CALLER = _at("d2")
"""As FORWARDER, by STATICCALL."""
UNDOER = _at("d3")
"""As FORWARDER; then it reverts."""
MAKER = _at("d4")
"""CREATE with its data as creation code."""
MAKER_2 = _at("d5")
"""CREATE2 with its data as creation code and salt 0."""
DESTROYER = _at("d6")
"""SELFDESTRUCT in favour of the address in its first word."""
DELEGATING = _at("d7")
"""An account that runs LOGGER's code (EIP-7702)."""

_REST_TO_MEMORY = "602036038060205f375f5f825f"
EXPLORER_CONTRACTS: Mapping[Address, GenesisAccount] = {
    **CONTRACTS,
    **{
        address: GenesisAccount(10**18, 1, bytes.fromhex(code), ())
        for address, code in {
            FORWARDER: f"{_REST_TO_MEMORY}345f355af100",
            DELEGATOR: f"{_REST_TO_MEMORY}5f355af400",
            STATIC_CALLER: f"{_REST_TO_MEMORY}5f355afa00",
            UNDOER: f"{_REST_TO_MEMORY}345f355af15f5ffd",
            MAKER: "365f5f37365f5ff000",
            MAKER_2: "365f5f375f365f5ff500",
            DESTROYER: "5f35ff",
            DELEGATING: f"ef0100{LOGGER.hex()}",
        }.items()
    },
}

DEPLOYS = bytes.fromhex("60015ff3")
"""Creation code of a contract of one byte, STOP."""
FAILS = b"\xfe"
DIES = bytes.fromhex("5fff")
"""Destroys itself while it is created."""
DEPLOYS_TWO = bytes.fromhex("5f5f5ff060015ff3")
"""Creates a contract without code, then returns its own."""
CREATION_CODES = (DEPLOYS, FAILS, DIES, DEPLOYS_TWO, b"")


def word(address: bytes) -> bytes:
    return address.rjust(32, b"\x00")


@dataclass(slots=True)
class TracedTransaction:
    """What a call trace names, and what stood afterwards that had not before."""

    addresses: set[bytes] = field(default_factory=set)
    creations: dict[bytes, bytes] = field(default_factory=dict)


class CallNames(SilentTracer):
    """Writes down both ends of every call, whose code ran, and every beneficiary.

    Where code is borrowed from an account that delegates itself, only the one whose code ran is named.
    """

    def __init__(self) -> None:
        self.addresses: set[bytes] = set()
        self.creators: dict[bytes, bytes] = {}

    def enter(self, computation: Computation) -> None:
        frame = frame_of(computation)
        delegate = delegate_of(computation.state.overlay.get_code(frame.to))
        self.addresses |= {frame.sender, frame.code_address if delegate is None else delegate}
        if frame.kind not in ("DELEGATECALL", "CALLCODE") or delegate is None:
            self.addresses.add(frame.to)
        if frame.is_creation:
            self.creators[frame.to] = frame.sender

    def selfdestruct(self, computation: Computation, beneficiary: Address, balance: int) -> None:
        self.addresses.add(beneficiary)


def traced_block(reader: Reader, genesis: bytes, genesis_hash: bytes, height: int) -> list[TracedTransaction]:
    """A committed block, executed again under a tracer, one transaction at a time."""
    parsed = parse_genesis(genesis)
    records = ChainRecords(parsed, parsed.chain_rules(), genesis_hash, Ledger(reader))
    replay = BlockReplay(reader, records, committed_block(records.ledger, height))
    replay.start()
    overlay = replay.execution.overlay
    found = []
    for transaction, sender in zip(replay.transactions, replay.senders, strict=True):
        tracer = CallNames()
        replay.apply_next(tracer)
        target = transaction.to or contract_address(sender, transaction.nonce)
        standing = {
            address: creator
            for address, creator in tracer.creators.items()
            if overlay.get_nonce(Address(address)) or overlay.get_code(Address(address))
        }
        found.append(TracedTransaction({sender, target} | tracer.addresses, standing))
    return found
