"""Ready-made genesis files: the devnet of `astralink-node devnet`, and the base for a network of one's own.

A preset is the text of a file, not a :class:`~genesis.schema.GenesisFile`: what a node loads is always a file
that an operator can read, edit and compare.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from astralink_node.evm.fee_rules import MIN_GAS_TARGET, FeeBounds, FeeParameters
from astralink_node.types import Address
from consensus.params import ConsensusParams
from consensus.staking_params import StakingParams
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import (
    DEVNET_BALANCE_WEI,
    DEVNET_CHAIN_ID,
    DEVNET_EPOCH_LENGTH,
    DEVNET_MAX_GAS_TARGET,
    DEVNET_NAME,
)
from genesis.gas_ceiling import propose_timeout_for
from genesis.schema import GenesisAccount, GenesisFile, GenesisValidator
from genesis.sealing import sealed
from genesis.system_contracts import SYSTEM_CONTRACTS

GWEI: Final = 10**9
INITIAL_BASE_FEE_WEI: Final = GWEI
INITIAL_MIN_BASE_FEE_WEI: Final = GWEI // 10
HIGHEST_MIN_BASE_FEE_WEI: Final = 1_000 * GWEI

_DEVNET_STAKING: Final = StakingParams()


def devnet(
    validators: Sequence[GenesisValidator],
    *,
    timestamp: int,
    block_interval_ms: int,
    min_block_interval_ms: int | None = None,
    chain_id: int = DEVNET_CHAIN_ID,
    seed: bytes = bytes(32),
    staking: StakingParams | None = _DEVNET_STAKING,
) -> str:
    """The genesis file of a local network: ten funded accounts, generous gas, timing for the given interval.

    `min_block_interval_ms` is how far blocks are apart at least; None for what suits `block_interval_ms` and several
    validators. `staking` None: the set never changes.
    """
    alloc = {
        account.address: GenesisAccount(balance_wei=DEVNET_BALANCE_WEI, nonce=0, code=b"", storage=())
        for account in DEVNET_ACCOUNTS
    }
    return new_genesis(
        chain_id=chain_id,
        network_name=DEVNET_NAME,
        timestamp=timestamp,
        seed=seed,
        validators=validators,
        alloc=alloc,
        block_interval_ms=block_interval_ms,
        min_block_interval_ms=min_block_interval_ms,
        epoch_length=DEVNET_EPOCH_LENGTH,
        max_gas_target=DEVNET_MAX_GAS_TARGET,
        staking=staking,
    )


def new_genesis(
    *,
    chain_id: int,
    network_name: str,
    timestamp: int,
    seed: bytes,
    validators: Sequence[GenesisValidator],
    alloc: Mapping[Address, GenesisAccount],
    block_interval_ms: int,
    epoch_length: int,
    max_gas_target: int,
    min_block_interval_ms: int | None = None,
    staking: StakingParams | None = None,
) -> str:
    """The text of a genesis file with our defaults; the system contracts are added to `alloc`, and the staking
    contracts where there is staking.

    The result is parsed once before it is returned: a GenesisError names what does not fit.
    """
    system = {address: GenesisAccount(0, 1, code, ()) for address, code in SYSTEM_CONTRACTS.items()}
    fees = FeeParameters(gas_target=max_gas_target, base_fee_step_index=0, min_base_fee_wei=INITIAL_MIN_BASE_FEE_WEI)
    genesis = GenesisFile(
        chain_id=chain_id,
        config=_config(chain_id),
        timestamp=timestamp,
        mix_hash=seed,
        coinbase=Address(bytes(20)),
        base_fee_wei=INITIAL_BASE_FEE_WEI,
        alloc={**system, **alloc},
        network_name=network_name,
        forks=((0, "prague"), (0, "osaka")),
        epoch_length=epoch_length,
        consensus=_consensus(block_interval_ms, min_block_interval_ms, fees.gas_limit),
        fees=fees,
        fee_bounds=FeeBounds(
            min_gas_target=MIN_GAS_TARGET,
            max_gas_target=max_gas_target,
            min_step_index=0,
            max_step_index=8,
            lowest_min_base_fee_wei=0,
            highest_min_base_fee_wei=HIGHEST_MIN_BASE_FEE_WEI,
        ),
        validators=tuple(sorted(validators, key=lambda validator: validator.voting_key)),
        staking=staking,
    )
    return sealed(genesis)


def _consensus(block_interval_ms: int, min_block_interval_ms: int | None, gas_limit: int) -> ConsensusParams:
    """Defaults, except that blocks may follow as fast as asked, and that a full block fits the propose timeout.

    Half of that timeout may go into building, which PBTS counts as the proposal's way: three quarters of MSGDELAY.
    """
    default = ConsensusParams()
    propose_timeout_ms = max(default.propose_timeout_ms, block_interval_ms, propose_timeout_for(gas_limit))
    if min_block_interval_ms is None:
        min_block_interval_ms = max(1, min(block_interval_ms, default.min_block_interval_ms))
    changed = {
        "min_block_interval_ms": min_block_interval_ms,
        "propose_timeout_ms": propose_timeout_ms,
        "message_delay_ms": max(default.message_delay_ms, -(-propose_timeout_ms * 2 // 3)),
    }
    return ConsensusParams(**{**asdict(default), **changed})


def _config(chain_id: int) -> dict[str, object]:
    """geth's chain config with everything up to Osaka active from block 0."""
    blocks = (
        "homesteadBlock",
        "eip150Block",
        "eip155Block",
        "eip158Block",
        "byzantiumBlock",
        "constantinopleBlock",
        "petersburgBlock",
        "istanbulBlock",
        "berlinBlock",
        "londonBlock",
    )
    times = ("shanghaiTime", "cancunTime", "pragueTime", "osakaTime")
    blobs = {"target": 6, "max": 9, "baseFeeUpdateFraction": 5007716}
    return {
        "chainId": chain_id,
        **dict.fromkeys(blocks, 0),
        "terminalTotalDifficulty": 0,
        **dict.fromkeys(times, 0),
        # geth refuses a Cancun config without it. This chain carries no blobs.
        "blobSchedule": {
            "cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477},
            "prague": blobs,
            "osaka": blobs,
        },
    }
