"""The optional section `astralink.staking` of a genesis file: docs/staking.md, "Parameters".

A chain without it has a voting set that never changes.
"""

from dataclasses import fields

from consensus.params import ConsensusParams
from consensus.staking_params import StakingParams, StakingParamsError
from genesis.fields import Field, GenesisError, camel_case

_NAMES = {camel_case(field.name): field.name for field in fields(StakingParams)}
_IN_WEI = "min_stake_wei"
_ANY = (0, 2**256 - 1)


def parse_staking(section: Field, consensus: ConsensusParams, epoch_length: int) -> StakingParams:
    """Every parameter, within its bounds. Raises GenesisError."""
    entries = section.record(tuple(_NAMES))
    try:
        params = StakingParams(**{_NAMES[key]: entry.number(*_ANY) for key, entry in entries.items()})
        params.check_epoch_length(epoch_length)
    except StakingParamsError as error:
        raise GenesisError(f"{section.path}.{camel_case(error.field)}", error.expected, str(error.found)) from error
    if params.unbonding_ms != consensus.unbonding_ms:
        raise entries["unbondingMs"].fail(f"astralink.consensus.unbondingMs ({consensus.unbonding_ms})")
    return params


def render_staking(params: StakingParams) -> dict[str, object]:
    """The section in its one spelling: wei as decimal strings, everything else as numbers."""
    values = {key: getattr(params, name) for key, name in _NAMES.items()}
    return {key: str(value) if _NAMES[key] == _IN_WEI else value for key, value in values.items()}
