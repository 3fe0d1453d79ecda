"""astralink_*: stake, rewards and punishment at a block, read from the staking contract. Read-only."""

from __future__ import annotations

from typing import Final

from astralink_node.chain.messages import BlockSelector
from astralink_node.chain.protocol_messages import ProtocolCall
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.arguments import ADDRESS, BLOCK
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import address, addresses
from astralink_node.gateway.reading.errors import NoStaking, StateUnavailable, TooMuch
from astralink_node.gateway.reading.staking import DelegationView, StakingReader, UnbondingView, ValidatorView
from astralink_node.gateway.reading.staking_status import Standing, powers_if_elected, standing_of
from astralink_node.gateway.staking_abi import STAKING_ADDRESS, event_fields, event_of
from consensus.epoch import epoch_of, first_height, next_election

OPERATOR = Parameter("operator", address, None)
"""None: every operator."""

OPERATORS = Parameter("operators", addresses, ())

MAX_SLASHES: Final = 512
"""In one answer: the newest of one operator; over all operators more are refused."""
SLASH_KINDS: Final = {1: "doubleSign", 2: "downtime"}
"""The contract's numbers."""


async def registered_validators(context: RpcContext, at: BlockSelector) -> Json:
    """Every registered validator, those that vote first, then by stake.

    Null without staking, and where the block is known but its state is not kept any more.
    """
    reader = context.read.staking(at)
    try:
        operators = await reader.operators()
    except (NoStaking, StateUnavailable):
        return None
    parameters = await reader.parameters()
    validators = await reader.validators(operators)
    own = await reader.delegations([(operator, operator) for operator in operators])
    members = await reader.members()
    elected = powers_if_elected(validators, parameters["minStakeWei"], parameters["maxValidators"])
    rows = sorted(
        zip(validators, own, strict=True),
        key=lambda row: (-members.get(row[0].operator, 0), -row[0].tokens_wei, row[0].voting_key),
    )
    return [
        _validator_fields(
            validator,
            stake.value_wei,
            standing_of(validator, parameters["minStakeWei"]),
            power=members.get(validator.operator, 0),
            power_if_elected=elected.get(validator.operator, 0),
        )
        for validator, stake in rows
    ]


def _validator_fields(
    validator: ValidatorView, self_stake_wei: int, standing: Standing, *, power: int, power_if_elected: int
) -> JsonObject:
    return {
        "operator": data(validator.operator),
        "name": validator.name,
        "votingKey": data(validator.voting_key),
        "checkpointKeyHash": data(validator.checkpoint_key_hash),
        "status": standing.value,
        "jailedUntil": quantity(validator.jailed_until) if validator.is_jailed else None,
        "isActive": validator.is_active,
        "tokensWei": quantity(validator.tokens_wei),
        "selfStakeWei": quantity(self_stake_wei),
        "shares": quantity(validator.shares),
        "power": quantity(power),
        "powerIfElected": quantity(power_if_elected),
        "commissionBps": quantity(validator.commission_bps),
        "commissionWei": quantity(validator.commission_wei),
        "missed": quantity(validator.missed),
        "maintenance": None
        if not validator.maintenance_until
        else {"from": quantity(validator.maintenance_from), "until": quantity(validator.maintenance_until)},
        "slashCount": quantity(validator.slash_count),
        "registeredAt": quantity(validator.registered_height),
    }


async def get_delegations(
    context: RpcContext, delegator: bytes, at: BlockSelector, also: tuple[bytes, ...] = ()
) -> Json:
    """What an account has staked, with whom, what of it is leaving and what is still liable elsewhere.

    `also` are operators to look at beside those on the contract's list: displaced ones are not on it.
    """
    reader = context.read.staking(at)
    view = await context.read.blocks.existing_block(reader.at)
    held = await _held(reader, delegator, also)
    names = {validator.operator: validator.name for validator in await reader.validators([each for each, _ in held])}
    return {
        "number": quantity(view.height),
        "timestamp": quantity(view.header.timestamp),
        "delegator": data(delegator),
        "delegations": [
            {
                "operator": data(operator),
                "name": names[operator],
                "shares": quantity(delegation.shares),
                "valueWei": quantity(delegation.value_wei),
                "pendingWei": quantity(delegation.pending_wei),
                "liability": _liability_fields(delegation),
            }
            for operator, delegation in held
        ],
        "unbondings": [
            _unbonding_fields(index, entry, view.header.timestamp)
            for index, entry in enumerate(await reader.unbondings(delegator))
        ],
    }


async def get_rewards(context: RpcContext, account: bytes, at: BlockSelector) -> Json:
    """What an account could collect: rewards by validator, and the commission of its own validator."""
    reader = context.read.staking(at)
    view = await context.read.blocks.existing_block(reader.at)
    held = await _held(reader, account)
    commission = 0
    if account in await reader.operators():
        commission = (await reader.validators([account]))[0].commission_wei
    pending = {operator: delegation.pending_wei for operator, delegation in held if delegation.pending_wei}
    return {
        "number": quantity(view.height),
        "account": data(account),
        "rewards": [{"operator": data(operator), "pendingWei": quantity(wei)} for operator, wei in pending.items()],
        "commissionWei": quantity(commission),
        "totalWei": quantity(sum(pending.values()) + commission),
    }


async def get_slashes(context: RpcContext, operator: bytes | None, at: BlockSelector) -> Json:
    """Slashes, newest first: of one operator, or of all."""
    reader = context.read.staking(at)
    asked = await reader.operators() if operator is None else [operator]
    counts = {each.operator: each.slash_count for each in await reader.validators(asked)}
    if operator is None and sum(counts.values()) > MAX_SLASHES:
        raise TooMuch(
            f"at most {MAX_SLASHES} slashes may be asked for, found {sum(counts.values())}: ask for one operator",
        )
    places = [(each, index) for each, count in counts.items() for index in range(max(0, count - MAX_SLASHES), count)]
    slashes = await reader.slashes(places)
    found = sorted(zip(places, slashes, strict=True), key=lambda row: (row[1].timestamp, row[0][1]), reverse=True)
    return [
        {
            "operator": data(place[0]),
            "index": quantity(place[1]),
            "epoch": quantity(slash.epoch),
            "bps": quantity(slash.bps),
            "timestamp": quantity(slash.timestamp),
            "kind": SLASH_KINDS[slash.kind],
            "cutWei": quantity(slash.cut_wei),
        }
        for place, slash in found
    ]


async def get_staking(context: RpcContext, at: BlockSelector) -> Json:
    """Totals, parameters, inflation, and when the next election is."""
    reader = context.read.staking(at)
    view = await context.read.blocks.existing_block(reader.at)
    totals = await reader.totals()
    parameters = await reader.parameters()
    length = await reader.epoch_length()
    return {
        "number": quantity(view.height),
        "timestamp": quantity(view.header.timestamp),
        "epoch": quantity(epoch_of(view.height, length)),
        "epochLength": quantity(length),
        "nextElectionHeight": quantity(next_election(view.height, length)),
        "nextEpochHeight": quantity(first_height(epoch_of(view.height, length) + 1, length)),
        "inflationBpsE9": quantity(totals.rate_e9),
        "totals": {
            "bondedWei": quantity(totals.bonded_wei),
            "unbondingWei": quantity(totals.unbonding_wei),
            "owedWei": quantity(totals.owed_wei),
            "mintedWei": quantity(totals.minted_wei),
            "burnedWei": quantity(totals.burned_wei),
            "supplyWei": quantity(totals.supply_wei),
            "activeTokensWei": quantity(totals.active_tokens_wei),
        },
        "parameters": {name: quantity(value) for name, value in parameters.items()},
    }


async def get_protocol_log(context: RpcContext, at: BlockSelector) -> Json:
    """What the protocol's own calls did at a block, beside its transactions. Null for a block that is not there."""
    answer = await context.read.blocks.protocol_log(at)
    if answer is None:
        return None
    return {
        "number": quantity(answer.height),
        "blockHash": data(answer.block_hash),
        "calls": [_protocol_call_fields(call) for call in answer.calls],
    }


def _protocol_call_fields(call: ProtocolCall) -> JsonObject:
    events: list[Json] = []
    for event in call.events:
        known = event_of(event.topics, event.data) if event.address == STAKING_ADDRESS else None
        events.append(
            {
                "address": data(event.address),
                "topics": [data(topic) for topic in event.topics],
                "data": data(event.data),
                "event": None if known is None else known[0],
                "fields": None if known is None else event_fields(known[1]),
            }
        )
    return {"name": call.name, "failure": call.failure or None, "events": events}


async def _held(
    reader: StakingReader, delegator: bytes, also: tuple[bytes, ...] = ()
) -> list[tuple[bytes, DelegationView]]:
    """The delegations that hold shares or rewards, by operator in the contract's order."""
    operators = list(dict.fromkeys([*await reader.operators(), *also]))
    found = await reader.delegations([(delegator, operator) for operator in operators])
    return [
        (operator, each) for operator, each in zip(operators, found, strict=True) if each.shares or each.pending_wei
    ]


def _unbonding_fields(index: int, entry: UnbondingView, timestamp: int) -> JsonObject:
    return {
        "index": quantity(index),
        "operator": data(entry.operator),
        "amountWei": quantity(entry.amount_wei),
        "valueNowWei": quantity(entry.value_now_wei),
        "maturesAt": quantity(entry.matures_at),
        "lastEpoch": quantity(entry.last_epoch),
        "isMature": timestamp >= entry.matures_at,
    }


def _liability_fields(delegation: DelegationView) -> Json:
    liability = delegation.liability
    if liability is None:
        return None
    return {
        "source": data(liability.source),
        "shares": quantity(liability.shares),
        "lastEpoch": quantity(liability.last_epoch),
        "maturesAt": quantity(liability.matures_at),
    }


METHODS = (
    Method("astralink_getDelegations", get_delegations, (ADDRESS, BLOCK, OPERATORS), source=Specification.ASTRALINK),
    Method("astralink_getRewards", get_rewards, (ADDRESS, BLOCK), source=Specification.ASTRALINK),
    Method("astralink_getSlashes", get_slashes, (OPERATOR, BLOCK), source=Specification.ASTRALINK),
    Method("astralink_getStaking", get_staking, (BLOCK,), source=Specification.ASTRALINK),
    Method("astralink_getProtocolLog", get_protocol_log, (BLOCK,), source=Specification.ASTRALINK),
)
