"""The staking contract's calls as transactions to be, and its events as sentences. Pure.

Points go to the contract as EIP-2537 writes them; everything else as docs/staking.md says.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from astralink_node.cli.amounts import bwt, percent
from astralink_node.cli.transactions import ContractCall, Log
from astralink_node.crypto import bls
from astralink_node.crypto.addresses import checksum_address
from astralink_node.gateway.staking_abi import STAKING_ADDRESS, call_data, event_fields, event_of
from astralink_node.types import Address
from astralink_node.validator.key_proofs import KeyProofs

MAX_NAME_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    fields: Mapping[str, Any]


# --- Calls -------------------------------------------------------------------------------------------------------


def create_validator(proofs: KeyProofs, commission_bps: int, name: str, stake_wei: int) -> ContractCall:
    return _call(
        f"registering validator {name!r} with {bwt(stake_wei)}",
        "create_validator",
        bls.aggregate_public_keys_eip2537((proofs.voting_key,)),
        bls.signature_eip2537(proofs.possession),
        proofs.checkpoint_key,
        proofs.checkpoint_possession,
        commission_bps,
        name,
        value_wei=stake_wei,
    )


def rotate_voting_key(proofs: KeyProofs) -> ContractCall:
    return _call(
        "rotating the voting key",
        "rotate_voting_key",
        bls.aggregate_public_keys_eip2537((proofs.voting_key,)),
        bls.signature_eip2537(proofs.possession),
    )


def rotate_checkpoint_key(proofs: KeyProofs) -> ContractCall:
    return _call(
        "rotating the checkpoint key", "rotate_checkpoint_key", proofs.checkpoint_key, proofs.checkpoint_possession
    )


def delegate(operator: Address, amount_wei: int) -> ContractCall:
    return _call(
        f"delegating {bwt(amount_wei)} to {checksum_address(operator)}", "delegate", operator, value_wei=amount_wei
    )


def undelegate(operator: Address, shares: int, worth_wei: int) -> ContractCall:
    return _call(f"undelegating {bwt(worth_wei)} from {checksum_address(operator)}", "undelegate", operator, shares)


def redelegate(source: Address, target: Address, shares: int, worth_wei: int) -> ContractCall:
    purpose = f"moving {bwt(worth_wei)} from {checksum_address(source)} to {checksum_address(target)}"
    return _call(purpose, "redelegate", source, target, shares)


def claim(operator: Address) -> ContractCall:
    return _call(f"claiming the rewards of {checksum_address(operator)}", "claim", operator)


def withdraw_commission() -> ContractCall:
    return _call("withdrawing the commission", "withdraw_commission")


def withdraw(index: int, worth_wei: int) -> ContractCall:
    return _call(f"withdrawing entry {index} ({bwt(worth_wei)})", "withdraw", index)


def poke(delegator: Address, operator: Address) -> ContractCall:
    return _call(f"applying the slashes of {checksum_address(operator)}", "poke", delegator, operator)


def unjail() -> ContractCall:
    return _call("unjailing", "unjail")


def set_commission(bps: int) -> ContractCall:
    return _call(f"setting the commission to {percent(bps)}", "set_commission", bps)


def announce_maintenance(first_height: int, heights: int) -> ContractCall:
    purpose = f"announcing maintenance for the heights {first_height:,} to {first_height + heights - 1:,}"
    return _call(purpose, "announce_maintenance", first_height, heights)


def shares_for(amount_wei: int, held_shares: int, held_wei: int) -> int:
    """Shares worth at least `amount_wei` and at most a few wei more, and never more than are held."""
    if amount_wei >= held_wei:
        return held_shares
    return -(-amount_wei * held_shares // held_wei)


def _call(purpose: str, function: str, *arguments: object, value_wei: int = 0) -> ContractCall:
    return ContractCall(STAKING_ADDRESS, call_data(function, *arguments), purpose, value_wei)


# --- Events ------------------------------------------------------------------------------------------------------


def events_of(logs: Iterable[Log]) -> list[Event]:
    """Those of the staking contract that this version knows; others are left out."""
    found = []
    for log in logs:
        if log.address == STAKING_ADDRESS:
            known = event_of(log.topics, log.data)
            if known is not None:
                found.append(Event(*known))
    return found


def event_object(event: Event) -> dict[str, object]:
    """For --json; quantities and byte strings as JSON-RPC writes them."""
    return {"event": event.name, **event_fields(event.fields)}


def sentence_of(event: Event) -> str:
    """What happened, for people."""
    fields = event.fields
    operator = checksum_address(fields["operator"]) if "operator" in fields else ""
    match event.name:
        case "Registered":
            return f"registered {fields['name']!r}, commission {percent(fields['commission_bps'])}, operator {operator}"
        case "Delegated":
            return f"delegated {bwt(fields['amount'])} to {operator}"
        case "Undelegated":
            return f"{bwt(fields['amount'])} leaves {operator}; withdraw it from {moment(fields['matures_at'])} on"
        case "Redelegated":
            return (
                f"moved {bwt(fields['amount'])} from {checksum_address(fields['source'])} to {operator}; "
                f"liable for the first until {moment(fields['matures_at'])}"
            )
        case "Withdrawn":
            return f"withdrew {bwt(fields['amount'])} that had left {operator}"
        case "Claimed":
            return f"claimed {bwt(fields['amount'])} of {operator}"
        case "CommissionWithdrawn":
            return f"withdrew {bwt(fields['amount'])} of commission"
        case "CommissionChanged":
            return f"the commission is {percent(fields['commission_bps'])} from now on"
        case "Unjailed":
            return "unjailed: it stands for election again"
        case "StakeCut":
            return f"slashes took {bwt(fields['amount'])} of the stake with {operator}"
        case "MaintenanceAnnounced":
            first, heights = fields["first_height"], fields["heights"]
            return f"absence from height {first:,} to {first + heights - 1:,} is announced"
        case "KeyRotated":
            voting, checkpoint = fields["voting_key"].hex()[:8], fields["checkpoint_key_hash"].hex()[:8]
            return f"keys from the next election on: voting 0x{voting}.., hash of the checkpoint key 0x{checkpoint}.."
        case "Displaced":
            return f"{operator} made room on the full list"
        case _:
            return f"{event.name}: " + ", ".join(f"{name} {value}" for name, value in event_fields(fields).items())


def moment(timestamp: int) -> str:
    """UTC, to the second."""
    if timestamp >= 2**35:
        return f"second {timestamp:,} of Unix time"
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
