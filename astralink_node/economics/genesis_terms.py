"""The staking parameters that a genesis file gives, for a simulation of its chain.

Reads `astralink.staking` alone: whether the file is whole otherwise is `genesis verify`'s to say.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

from astralink_node.economics.parameters import ParameterError, StakingParameters
from astralink_node.economics.scenarios import INFLATION_INITIAL_BPS
from astralink_node.errors import UserError
from genesis.fields import Field, GenesisError, parse_json

_LARGEST = 2**256 - 1


@dataclass(frozen=True, slots=True)
class StakingTerms:
    """What a chain starts with."""

    parameters: StakingParameters = field(default_factory=StakingParameters)
    inflation_initial_bps: int = INFLATION_INITIAL_BPS

    def __post_init__(self) -> None:
        low, high = self.parameters.inflation_min_bps, self.parameters.inflation_max_bps
        if not low <= self.inflation_initial_bps <= high:
            raise ParameterError(f"inflationInitialBps: expected {low} to {high}, found {self.inflation_initial_bps}")


def read_terms(path: Path) -> StakingTerms:
    """Raises `UserError` for a file without staking, or with parameters out of bounds."""
    try:
        astralink = _member(parse_json(path.read_bytes()), "astralink")
        if "staking" not in astralink.entries():
            raise UserError(f"{path}: no astralink.staking: this chain's set never changes and nothing is minted")
        return _terms(_member(astralink, "staking"), _member(astralink, "consensus"))
    except (GenesisError, ParameterError) as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _terms(staking: Field, consensus: Field) -> StakingTerms:
    values = {}
    for entry in fields(StakingParameters):
        name = _spelled(entry.name)
        # Unbonding is a rule of consensus first; the staking section may repeat it.
        holder = consensus if entry.name == "unbonding_ms" and name not in staking.entries() else staking
        values[entry.name] = _member(holder, name).number(0, _LARGEST)
    return StakingTerms(StakingParameters(**values), _member(staking, "inflationInitialBps").number(0, _LARGEST))


def _member(of: Field, name: str) -> Field:
    entries = of.entries()
    if name not in entries:
        raise GenesisError(f"{of.path}.{name}" if of.path else name, "a value", "nothing")
    return entries[name]


def _spelled(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
