"""The chain's forks with what each has at which address, and what of the past can be read here."""

from astralink_node.chain.facts_messages import ChainFacts, ForkFacts, NamedPlace
from astralink_node.chain.ledger import Ledger
from astralink_node.evm.fork_rules import ForkRules
from astralink_node.evm.precompiles.registry import NATIVE, active_precompiles
from astralink_node.evm.system_places import BEACON_ROOTS_ADDRESS, HISTORY_STORAGE_ADDRESS
from astralink_node.types import Height
from contracts.places import GOVERNANCE, KEY_PROOFS, STAKING, STAKING_ANNEX
from genesis.schema import GenesisFile

EIP_7910_NAMES = {
    "ECRECOVER": "ECREC",
    "IDENTITY": "ID",
    "ECADD": "BN254_ADD",
    "ECMUL": "BN254_MUL",
    "ECPAIRING": "BN254_PAIRING",
    "POINT_EVALUATION": "KZG_POINT_EVALUATION",
}
"""Where our registry calls a precompile something else."""

ETHEREUM_CONTRACTS = (
    NamedPlace("BEACON_ROOTS_ADDRESS", BEACON_ROOTS_ADDRESS),
    NamedPlace("HISTORY_STORAGE_ADDRESS", HISTORY_STORAGE_ADDRESS),
)
STAKING_CONTRACTS = (
    NamedPlace("STAKING_ADDRESS", STAKING),
    NamedPlace("KEY_PROOFS_ADDRESS", KEY_PROOFS),
    NamedPlace("GOVERNANCE_ADDRESS", GOVERNANCE),
    NamedPlace("STAKING_ANNEX_ADDRESS", STAKING_ANNEX),
)


def chain_facts(ledger: Ledger, genesis: GenesisFile, genesis_hash: bytes, state_heights: int | None) -> ChainFacts:
    head = ledger.head()
    contracts = ETHEREUM_CONTRACTS if genesis.staking is None else (*ETHEREUM_CONTRACTS, *STAKING_CONTRACTS)
    return ChainFacts(
        genesis_hash=genesis_hash,
        head_height=head.height,
        head_hash=ledger.header(head.height).hash,
        forks=tuple(
            ForkFacts(
                name=fork.name,
                activation_height=height,
                activation_time_s=_activation_time_s(ledger, genesis, head.height, height),
                precompiles=_precompiles(fork, Height(height)),
                system_contracts=contracts,
            )
            for height, fork in genesis.chain_rules().forks
        ),
        oldest_block_height=ledger.oldest_block_height(),
        oldest_state_height=ledger.oldest_state_height(),
        state_heights=state_heights,
    )


def _activation_time_s(ledger: Ledger, genesis: GenesisFile, head_height: int, height: int) -> int:
    if not height:
        return 0
    # A node that joined by a snapshot may not have the fork's first block: its own oldest one is as near as it knows.
    known = min(max(height, ledger.oldest_block_height()), head_height)
    waiting_ms = max(height - head_height, 0) * genesis.consensus.min_block_interval_ms
    return ledger.header(known).timestamp + waiting_ms // 1000


def _precompiles(fork: ForkRules, height: Height) -> tuple[NamedPlace, ...]:
    return tuple(
        NamedPlace(EIP_7910_NAMES.get(entry.name, entry.name), entry.address)
        for entry in active_precompiles(fork.p256verify, native=NATIVE, height=height)
    )
