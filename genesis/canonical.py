"""The canonical encoding of a genesis file's `config` and `astralink`, whose hash stands in block 0.

JSON with keys sorted by code point, no whitespace, non-ASCII characters escaped, and one spelling for every
value of ours: times, heights and indices are numbers, amounts of wei decimal strings, bytes lower-case 0x hex;
validators ascend by voting key. Values of unknown `config` keys stay as they are. Everything else in the file is
in block 0 already: `alloc` through the state root, the rest in the header.
"""

import json
from dataclasses import asdict

from astralink_node.crypto.keccak import keccak256
from astralink_node.types import Hash32
from genesis.fields import camel_case
from genesis.schema import SECTION_VERSION, GenesisFile, GenesisValidator
from genesis.staking_section import render_staking


def configuration_hash(genesis: GenesisFile) -> Hash32:
    """What the version leaf of block 0 holds: keccak256 of the canonical encoding."""
    return Hash32(keccak256(canonical_encoding(genesis)))


def canonical_encoding(genesis: GenesisFile) -> bytes:
    return canonical_json({"config": dict(genesis.config), "astralink": section_of(genesis)})


def canonical_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def section_of(genesis: GenesisFile) -> dict[str, object]:
    """The `astralink` section in its one spelling; parsing it gives the same genesis again."""
    bounds, fees = genesis.fee_bounds, genesis.fees
    section: dict[str, object] = {
        "version": SECTION_VERSION,
        "networkName": genesis.network_name,
        "epochLength": genesis.epoch_length,
        "forks": {name: height for height, name in genesis.forks},
        "consensus": {camel_case(name): value for name, value in asdict(genesis.consensus).items()},
        "fees": {
            "gasTarget": _range(bounds.min_gas_target, fees.gas_target, bounds.max_gas_target),
            "baseFeeStepIndex": _range(bounds.min_step_index, fees.base_fee_step_index, bounds.max_step_index),
            "minBaseFeeWei": {
                name: str(value)
                for name, value in _range(
                    bounds.lowest_min_base_fee_wei, fees.min_base_fee_wei, bounds.highest_min_base_fee_wei
                ).items()
            },
        },
        "validators": [_validator(entry) for entry in genesis.validators],
    }
    if genesis.staking is not None:
        section["staking"] = render_staking(genesis.staking)
    return section


def _range(minimum: int, initial: int, maximum: int) -> dict[str, int]:
    return {"minimum": minimum, "initial": initial, "maximum": maximum}


def _validator(entry: GenesisValidator) -> dict[str, object]:
    return {
        "operator": f"0x{entry.operator.hex()}",
        "votingKey": f"0x{entry.voting_key.hex()}",
        "proofOfPossession": f"0x{entry.proof_of_possession.hex()}",
        "checkpointKey": f"0x{entry.checkpoint_key.hex()}",
        "stakeWei": str(entry.stake_wei),
    }
