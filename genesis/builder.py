"""Block 0, built from a genesis file and from nothing else: same file, same block, same hash, anywhere.

Its header is the file's; its state root is that of `alloc`; its consensus payload commits to `config` and
`astralink` (genesis.canonical) and names the first validator set. It executes nothing, so the system contracts'
storage is empty until height 1.
"""

from dataclasses import dataclass, replace

from astralink_node.evm.blocks import Block, Header, SealedBlock, empty_header
from astralink_node.evm.fee_rules import encode_fee_parameters
from astralink_node.state.commitment import StateUpdate, commit_changes
from astralink_node.state.flat_state import HeadState
from astralink_node.state.overlay import Overlay
from astralink_node.storage.memory import MemoryStore
from astralink_node.types import EMPTY_TRIE_ROOT, Hash32
from consensus.payload import EMPTY_REVEAL, ConsensusPayload, encode_payload, payload_root
from consensus.proposer_selection import Priorities, initial_priorities, priorities_hash
from consensus.validator_set import ValidatorSet
from genesis.canonical import configuration_hash
from genesis.schema import GenesisFile

ZERO_32 = bytes(32)


@dataclass(frozen=True, slots=True)
class GenesisBlock:
    genesis: GenesisFile
    sealed: SealedBlock
    payload: ConsensusPayload
    state: StateUpdate
    """The state root of `alloc`, and the database entries that hold that state."""
    validator_set: ValidatorSet
    """Votes on every height of epoch 0."""
    priorities: Priorities
    """Proposer priorities before height 1."""

    @property
    def header(self) -> Header:
        return self.sealed.block.header

    @property
    def hash(self) -> Hash32:
        """The genesis hash: domain of every signature on this chain."""
        return self.header.hash


def build_genesis(genesis: GenesisFile) -> GenesisBlock:
    validator_set = genesis.validator_set()
    priorities = initial_priorities(validator_set)
    state = _state_of(genesis)
    payload = ConsensusPayload(
        version=configuration_hash(genesis),
        genesis_hash=ZERO_32,
        height=0,
        time_ms=genesis.time_ms,
        build_round=0,
        proposer_index=0,
        priorities_hash=priorities_hash(priorities),
        reveal=EMPTY_REVEAL,
        parent_certificate=None,
        late_credits=(),
        voting_set_hash=validator_set.hash,
        next_set_hash=validator_set.hash,
        evidence=(),
        epoch=0,
        checkpoint=b"",
        checkpoint_hash=ZERO_32,
        outbox_root=ZERO_32,
    )
    header = replace(
        empty_header(),
        coinbase=genesis.coinbase,
        state_root=Hash32(state.state_root),
        gas_limit=genesis.fees.gas_limit,
        timestamp=genesis.timestamp,
        extra_data=encode_fee_parameters(genesis.fees),
        prev_randao=Hash32(genesis.mix_hash),
        base_fee_per_gas=genesis.base_fee_wei,
        parent_beacon_block_root=Hash32(payload_root(payload)),
    )
    sealed = SealedBlock(Block(header, ()), encode_payload(payload))
    return GenesisBlock(genesis, sealed, payload, state, validator_set, priorities)


def _state_of(genesis: GenesisFile) -> StateUpdate:
    nothing = MemoryStore()
    overlay = Overlay(HeadState(nothing))
    overlay.begin_transaction()
    for address, account in genesis.alloc.items():
        overlay.touch_account(address)
        if account.balance_wei:
            overlay.set_balance(address, account.balance_wei)
        if account.nonce:
            overlay.set_nonce(address, account.nonce)
        if account.code:
            overlay.set_code(address, account.code)
        for slot, value in account.storage:
            overlay.set_storage(address, slot, value)
    return commit_changes(nothing, EMPTY_TRIE_ROOT, overlay.changes())
