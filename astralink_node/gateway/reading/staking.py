"""What the staking contract's views say at one block, typed: read in bounded batches through the execution process.

The addresses and the ABI are those of docs/staking.md; a chain whose genesis has no staking answers every question
with one clear error. At most 256 validators are registered, so nothing here grows beyond that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from astralink_node.chain.consensus_messages import ValidatorsAnswer, ValidatorsQuestion
from astralink_node.chain.messages import AtHash, AtHeight, AtLatest, AtPending, BlockSelector
from astralink_node.chain.view_messages import ViewsAnswer, ViewsQuestion
from astralink_node.gateway.reading.errors import NoStaking, NotAnswered
from astralink_node.gateway.reading.source import Source
from astralink_node.gateway.staking_abi import STAKING_ADDRESS, call_data, values_of
from consensus.staking_params import PARAMETER_NAMES
from contracts.artifacts import AbiError
from genesis.fields import camel_case

BATCH: Final = 64
"""Views in one question: well below what an answer's time allows."""
MAX_VALIDATORS: Final = 256
"""The contract registers no more."""


@dataclass(frozen=True, slots=True)
class ValidatorView:
    operator: bytes
    voting_key: bytes
    checkpoint_key_hash: bytes
    name: str
    tokens_wei: int
    shares: int
    commission_bps: int
    commission_wei: int
    """Earned and not withdrawn."""
    is_active: bool
    is_jailed: bool
    is_tombstoned: bool
    jailed_until: int
    """Seconds; 0 for one that never was jailed."""
    missed: int
    """Heights, in this downtime window."""
    power: int
    """In the set that votes now."""
    registered_height: int
    maintenance_from: int
    """Heights; both 0 without any."""
    maintenance_until: int
    slash_count: int


@dataclass(frozen=True, slots=True)
class Liability:
    """Of shares that came from another validator."""

    source: bytes
    shares: int
    last_epoch: int
    matures_at: int
    """Seconds; from then on they are liable no more."""


@dataclass(frozen=True, slots=True)
class DelegationView:
    shares: int
    value_wei: int
    pending_wei: int
    liability: Liability | None


@dataclass(frozen=True, slots=True)
class UnbondingView:
    operator: bytes
    amount_wei: int
    """As it left."""
    value_now_wei: int
    """Less the slashes since."""
    matures_at: int
    """Seconds."""
    last_epoch: int
    """For which the amount was counted."""


@dataclass(frozen=True, slots=True)
class SlashView:
    epoch: int
    bps: int
    timestamp: int
    kind: int
    cut_wei: int


@dataclass(frozen=True, slots=True)
class Totals:
    bonded_wei: int
    unbonding_wei: int
    owed_wei: int
    minted_wei: int
    burned_wei: int
    supply_wei: int
    rate_e9: int
    """Inflation a year: ten thousandths times 10^9."""
    active_tokens_wei: int
    epoch: int


class StakingReader:
    """Reads at one block, so that what it gives belongs together while the chain goes on."""

    def __init__(self, source: Source, at: BlockSelector) -> None:
        self._source = source
        match at:
            case AtLatest() | AtPending():
                # Nothing is staked between blocks: what is pending is what the head says.
                self.at: BlockSelector = AtHeight(source.heads.head.height)
            case AtHeight() | AtHash():
                self.at = at

    async def totals(self) -> Totals:
        return Totals(*await self._one("totals"))

    async def parameters(self) -> dict[str, int]:
        """By the names of docs/staking.md, in the order of their ids."""
        (values,) = await self._one("parameters")
        return dict(zip(map(camel_case, PARAMETER_NAMES), values, strict=True))

    async def epoch_length(self) -> int:
        return (await self._source.ask(self.at, ValidatorsQuestion(), ValidatorsAnswer)).epoch_length

    async def operators(self) -> list[bytes]:
        """Of every registered validator, in the contract's order."""
        (found,) = await self._one("operators")
        if len(found) > MAX_VALIDATORS:
            raise NotAnswered(f"staking: expected at most {MAX_VALIDATORS} validators, found {len(found)}")
        return list(found)

    async def members(self) -> dict[bytes, int]:
        """Operator -> power, of the set that votes in the block's epoch."""
        operators, powers = await self._one("members")
        return dict(zip(operators, powers, strict=True))

    async def validators(self, operators: Sequence[bytes]) -> list[ValidatorView]:
        found = await self._many("validator", [(operator,) for operator in operators])
        return [ValidatorView(*fields.values()) for (fields,) in found]

    async def delegations(self, pairs: Sequence[tuple[bytes, bytes]]) -> list[DelegationView]:
        """Of (delegator, operator) pairs."""
        return [_delegation(*values) for values in await self._many("delegation", pairs)]

    async def unbondings(self, delegator: bytes) -> list[UnbondingView]:
        (entries,) = await self._one("unbondings", delegator)
        return [UnbondingView(*fields.values()) for fields in entries]

    async def slashes(self, places: Sequence[tuple[bytes, int]]) -> list[SlashView]:
        """Of (operator, index) pairs."""
        return [SlashView(*values) for values in await self._many("slash_record", places)]

    async def _one(self, function: str, *arguments: object) -> tuple[Any, ...]:
        return (await self._many(function, [arguments]))[0]

    async def _many(self, function: str, arguments: Sequence[Sequence[object]]) -> list[tuple[Any, ...]]:
        calls = [call_data(function, *each) for each in arguments]
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(calls), BATCH):
            question = ViewsQuestion(STAKING_ADDRESS, tuple(calls[start : start + BATCH]))
            answer = await self._source.ask(self.at, question, ViewsAnswer)
            for output in answer.outputs:
                if not output:
                    raise NoStaking
                try:
                    found.append(values_of(function, output))
                except AbiError as error:
                    raise NotAnswered(f"staking: the contract is not of this version: {error}") from error
        return found


def _delegation(shares: int, value_wei: int, pending_wei: int, liability: Mapping[str, Any]) -> DelegationView:
    if not any(liability["source"]):
        return DelegationView(shares, value_wei, pending_wei, None)
    named = Liability(liability["source"], liability["shares"], liability["last_epoch"], liability["matures_at"])
    return DelegationView(shares, value_wei, pending_wei, named)
