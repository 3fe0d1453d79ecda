"""The accounts of the staking contracts at genesis: what `initialise` makes of an empty state, in our own EVM.

So a genesis file needs no trusted tool: whoever makes one and whoever loads it run the same code, and what stands in
`alloc` must be what comes out. docs/staking.md, "Places".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from astralink_node.crypto.keccak import keccak256
from astralink_node.errors import AstraLinkError
from astralink_node.evm.execution_context import TransactionContext
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.machine import Message
from astralink_node.evm.pipeline import BlockContext
from astralink_node.evm.system_places import SYSTEM_ADDRESS
from astralink_node.evm.tracing.failure_words import describe
from astralink_node.evm.transaction_execution import run_root_call
from astralink_node.evm.vm import ExecutionState
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import ZERO_ADDRESS, ZERO_HASH, Address
from consensus.staking_params import StakingParams
from contracts.artifacts import encode_call, load
from contracts.places import CONTRACTS, STAKING
from genesis.schema import GenesisAccount, GenesisFile

STAKING_PLACES: Final = frozenset(Address(place) for place in CONTRACTS.values())
INITIALISE_GAS: Final = 2**40
"""Nobody pays for it and no block holds it; 128 validators take about 50 million."""


class InitialisationFailed(AstraLinkError):
    """The contract refused values that genesis had checked: the two do not go together."""


class InitialStake(NamedTuple):
    """A validator of the first set."""

    operator: bytes
    voting_key: bytes
    checkpoint_key_hash: bytes
    stake_wei: int


@dataclass(frozen=True, slots=True)
class InitialStaking:
    """All that the contracts' first state follows from."""

    rules: ChainRules
    timestamp: int
    epoch_length: int
    params: StakingParams
    stakes: tuple[InitialStake, ...]
    """In the order of the set."""
    set_hash: bytes
    others_wei: int
    """What all other accounts hold."""


def staking_alloc(genesis: GenesisFile) -> Mapping[Address, GenesisAccount]:
    """What `alloc` must hold of the staking contracts; nothing without staking. Raises InitialisationFailed."""
    if genesis.staking is None:
        return {}
    initial = InitialStaking(
        rules=genesis.chain_rules(),
        timestamp=genesis.timestamp,
        epoch_length=genesis.epoch_length,
        params=genesis.staking,
        stakes=tuple(
            InitialStake(entry.operator, entry.voting_key, keccak256(entry.checkpoint_key), entry.stake_wei)
            for entry in genesis.validators
        ),
        set_hash=genesis.validator_set().hash,
        others_wei=sum(
            account.balance_wei for address, account in genesis.alloc.items() if address not in STAKING_PLACES
        ),
    )
    return _staking_accounts(initial)


@lru_cache(maxsize=16)
def _staking_accounts(initial: InitialStaking) -> Mapping[Address, GenesisAccount]:
    """Code, storage and balance of the staking contracts before height 1. Raises InitialisationFailed."""
    overlay = Overlay(HeadState(MemoryStore()))
    codes = {Address(place): load(name).runtime_code for name, place in CONTRACTS.items()}
    for address, code in codes.items():
        overlay.set_nonce(address, 1)
        overlay.set_code(address, code)
    stake_wei = sum(stake.stake_wei for stake in initial.stakes)
    overlay.set_balance(Address(STAKING), stake_wei)
    overlay.begin_transaction()
    block = BlockContext(
        number=0,
        timestamp=initial.timestamp,
        coinbase=ZERO_ADDRESS,
        gas_limit=INITIALISE_GAS,
        base_fee_per_gas=0,
        prev_randao=ZERO_HASH,
    )
    state = ExecutionState(overlay, block, initial.rules.chain_id, initial.rules.fork_at(0), native_precompiles=True)
    message = Message(
        gas=INITIALISE_GAS,
        to=Address(STAKING),
        sender=SYSTEM_ADDRESS,
        value=0,
        data=_initialise_call(initial, initial.others_wei + stake_wei),
        code=codes[Address(STAKING)],
    )
    _, error, output = run_root_call(state, message, TransactionContext(0, SYSTEM_ADDRESS))
    if error is not None:
        raise InitialisationFailed(f"staking contract at genesis: {describe(error)}: 0x{output.hex()}")
    overlay.begin_transaction()
    storage = overlay.changes().storage
    return MappingProxyType(
        {
            address: GenesisAccount(
                overlay.get_balance(address), 1, code, tuple(sorted(storage.get(address, {}).items()))
            )
            for address, code in codes.items()
        }
    )


def _initialise_call(initial: InitialStaking, supply_wei: int) -> bytes:
    arguments = (
        initial.stakes,
        initial.params.by_id,
        initial.params.inflation_initial_bps,
        supply_wei,
        1000 * initial.timestamp,
        initial.set_hash,
        initial.epoch_length,
    )
    return encode_call(load("Staking"), "initialise", arguments)
