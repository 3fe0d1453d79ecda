"""`stake delegate|undelegate|redelegate|claim|withdraw|poke|list`: what a holder of BWT does with it."""

import json
from pathlib import Path

import click

from astralink_node.cli import staking_calls
from astralink_node.cli.account_keys import find_account
from astralink_node.cli.amounts import Amount, AmountCommand, bwt
from astralink_node.cli.node_health import number
from astralink_node.cli.options import data_dir_option, json_option
from astralink_node.cli.rpc_client import RpcClient, rpc_url_option
from astralink_node.cli.staking_calls import moment, shares_for
from astralink_node.cli.staking_session import Session, staking_verb
from astralink_node.cli.staking_state import Answer, NotStaked, StakingState
from astralink_node.crypto.addresses import checksum_address, parse_address
from astralink_node.errors import UserError
from astralink_node.types import Address


@click.group()
def stake() -> None:
    """Delegate BWT to validators, and take it and its rewards back.

    Amounts are BWT, as 12.5, or wei, as 12500wei. An OPERATOR is the account that registered a validator:
    `astralink-node validator list` names them all.
    """


@stake.command("delegate", cls=AmountCommand)
@click.argument("operator")
@click.argument("amount", type=Amount())
@staking_verb
def delegate(session: Session, operator: str, amount: int) -> None:
    """Bond AMOUNT to the validator of OPERATOR.

    With an active validator it earns from the next block on; with another from the epoch on in which that is elected.
    It votes from the next epoch on.
    """
    send_delegation(session, parse_address(operator), amount)


@stake.command("undelegate", cls=AmountCommand)
@click.argument("operator")
@click.argument("amount", type=Amount(), required=False)
@click.option("--all", "everything", is_flag=True, help="All that is delegated there.")
@staking_verb
def undelegate(session: Session, operator: str, amount: int | None, everything: bool) -> None:
    """Begin to take AMOUNT out. It stops earning now and can be withdrawn after the unbonding time."""
    from_ = parse_address(operator)
    shares, worth_wei = shares_to_move(session, from_, amount, everything=everything)
    session.report(session.run([staking_calls.undelegate(from_, shares, worth_wei)]))


@stake.command("redelegate", cls=AmountCommand)
@click.argument("source")
@click.argument("target")
@click.argument("amount", type=Amount(), required=False)
@click.option("--all", "everything", is_flag=True, help="All that is delegated to SOURCE.")
@staking_verb
def redelegate(session: Session, source: str, target: str, amount: int | None, everything: bool) -> None:
    """Move AMOUNT from one validator to another at once. It stays liable for what SOURCE did until now."""
    from_, to = parse_address(source), parse_address(target)
    if from_ == to:
        raise UserError("SOURCE and TARGET are one validator")
    target_validator = session.state.known_validator(to)
    shares, worth_wei = shares_to_move(session, from_, amount, everything=everything)
    _warn_if_idle(session, target_validator, worth_wei)
    done = session.run([staking_calls.redelegate(from_, to, shares, worth_wei)])
    session.report(done)


@stake.command("claim")
@click.argument("operator", required=False)
@staking_verb
def claim(session: Session, operator: str | None) -> None:
    """Collect the rewards of all delegations, or of the one to OPERATOR; an operator's commission with them."""
    state, account = session.state, session.account.address
    if operator is not None:
        wanted = parse_address(operator)
        due = [wanted] if number(state.delegation(account, wanted)["pendingWei"]) else []
        calls = [staking_calls.claim(each) for each in due]
    else:
        rewards = state.rewards(account)
        due = [Address(bytes.fromhex(each["operator"][2:])) for each in rewards["rewards"]]
        calls = [staking_calls.claim(each) for each in due]
        if number(rewards["commissionWei"]):
            calls.append(staking_calls.withdraw_commission())
    if not calls:
        raise NotStaked("there is nothing to claim: rewards come with every block while a validator is active")
    session.report(session.run(calls))


@stake.command("withdraw")
@click.argument("index", type=click.IntRange(0), required=False)
@staking_verb
def withdraw(session: Session, index: int | None) -> None:
    """Collect what has finished unbonding: everything mature, or entry INDEX of `stake list`."""
    entries = session.state.delegations(session.account.address)["unbondings"]
    if index is None:
        chosen = [entry for entry in entries if entry["isMature"]]
        if not chosen:
            times = sorted(number(entry["maturesAt"]) for entry in entries)
            raise NotStaked(
                f"nothing is mature yet; the next is on {moment(times[0])}" if times else "nothing is unbonding"
            )
    else:
        chosen = [entry for entry in entries if number(entry["index"]) == index]
        if not chosen:
            raise NotStaked(f"there is no entry {index}: `astralink-node stake list` shows them")
        if not chosen[0]["isMature"]:
            raise NotStaked(f"entry {index} can be withdrawn from {moment(number(chosen[0]['maturesAt']))} on")
    # The contract moves the last entry into the place of one that leaves: from the end, no number changes meaning.
    chosen.sort(key=lambda entry: number(entry["index"]), reverse=True)
    calls = [staking_calls.withdraw(number(entry["index"]), number(entry["valueNowWei"])) for entry in chosen]
    session.report(session.run(calls))


@stake.command("poke")
@click.argument("operator")
@staking_verb
def poke(session: Session, operator: str) -> None:
    """Apply slashes that this account's stake with OPERATOR has not felt yet. Needed after more than 64 alone."""
    session.report(session.run([staking_calls.poke(session.account.address, parse_address(operator))]))


@stake.command("list")
@click.argument("address", required=False)
@data_dir_option()
@click.option("--from", "sender", metavar="ADDRESS", help="The account. [default: the only one there]")
@rpc_url_option()
@json_option()
def list_(address: str | None, data_dir: Path, sender: str | None, rpc_url: str, as_json: bool) -> None:
    """Show what ADDRESS, or this folder's account, has delegated, earned, and what is unbonding. Needs no password."""
    owner = find_account(data_dir, sender, None).address if address is None else parse_address(address)
    state = StakingState(RpcClient(rpc_url))
    held, rewards = state.delegations(owner), state.rewards(owner)
    if as_json:
        both = {**held, "commissionWei": rewards["commissionWei"], "totalRewardsWei": rewards["totalWei"]}
        click.echo(json.dumps(both, indent=2))
    else:
        click.echo("\n".join(_lines(owner, held, rewards)))


def send_delegation(session: Session, operator: Address, amount_wei: int) -> None:
    """Shared with `validator stake`, an operator's delegation to itself."""
    validator = session.state.known_validator(operator)
    if validator["status"] == "tombstoned":
        raise NotStaked(f"{checksum_address(operator)} is tombstoned: it takes no stake any more")
    _warn_if_idle(session, validator, amount_wei)
    session.report(session.run([staking_calls.delegate(operator, amount_wei)]))


def _warn_if_idle(session: Session, validator: Answer, more_wei: int) -> None:
    """`more_wei` is about to come to a validator that may earn nothing now."""
    status, shown = validator["status"], checksum_address(bytes.fromhex(validator["operator"][2:]))
    if status == "jailed":
        session.tell(f"warning: {shown} is jailed: it earns nothing until it is unjailed")
    if status not in ("waiting", "belowMinimum"):
        return
    election, effective = session.state.election_with(session.state.head() + 1)
    least = number(session.state.staking()["parameters"]["minStakeWei"])
    if number(validator["tokensWei"]) + more_wei < least:
        why = f"is below the least stake of {bwt(least)} and remains so: this earns nothing until it has that"
    else:
        why = "does not vote: this earns nothing until it is elected"
    session.tell(
        f"warning: {shown} {why}; at the earliest from height {effective:,} on, by the election at height {election:,}"
    )


def shares_to_move(session: Session, operator: Address, amount_wei: int | None, *, everything: bool) -> tuple[int, int]:
    """(shares, what they are worth) of the account's delegation that are to leave `operator`. Raises `NotStaked`."""
    if (amount_wei is None) != everything:
        raise click.UsageError("give either an AMOUNT or --all")
    held = session.state.stake_with(session.account.address, operator)
    shares, value_wei = number(held["shares"]), number(held["valueWei"])
    wanted_wei = value_wei if amount_wei is None else amount_wei
    if wanted_wei > value_wei:
        raise NotStaked(f"expected at most {bwt(value_wei)} (use --all), found {bwt(wanted_wei)}")
    moved = shares_for(wanted_wei, shares, value_wei)
    return moved, wanted_wei


def _lines(owner: Address, held: Answer, rewards: Answer) -> list[str]:
    lines = [f"Account {checksum_address(owner)} at height {number(held['number']):,}"]
    for each in held["delegations"]:
        operator = checksum_address(bytes.fromhex(each["operator"][2:]))
        lines += [
            f"  {operator}  {each['name']}",
            f"    delegated  {bwt(number(each['valueWei']))}",
            f"    to claim   {bwt(number(each['pendingWei']))}",
        ]
        if each["liability"] is not None:
            source = checksum_address(bytes.fromhex(each["liability"]["source"][2:]))
            until = moment(number(each["liability"]["maturesAt"]))
            lines.append(f"    liable     {number(each['liability']['shares'])} shares, for {source}, until {until}")
    if not held["delegations"]:
        lines.append("  nothing delegated")
    if number(rewards["commissionWei"]):
        lines.append(f"  commission to claim: {bwt(number(rewards['commissionWei']))}")
    for entry in held["unbondings"]:
        operator = checksum_address(bytes.fromhex(entry["operator"][2:]))
        lost = number(entry["amountWei"]) - number(entry["valueNowWei"])
        when = "can be withdrawn" if entry["isMature"] else f"until {moment(number(entry['maturesAt']))}"
        slashed = f" ({bwt(lost)} slashed)" if lost else ""
        value = bwt(number(entry["valueNowWei"]))
        lines.append(f"  unbonding {number(entry['index'])}: {value} from {operator}{slashed}, {when}")
    return lines
