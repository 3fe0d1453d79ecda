"""`validator create|stake|unstake|unjail|commission|rotate-key|maintenance|list|status`: a validator on the chain.

The account that registers is the operator, for ever; its keys are those of `validator key new`. Proofs of possession
are made here, from the key files, or on the machine that has them (`validator key prove`); a signer makes none.
"""

import json
from pathlib import Path

import click

from astralink_node.cli import staking_calls
from astralink_node.cli.account_keys import NoSuchAccount, find_account
from astralink_node.cli.amounts import Amount, AmountCommand, Percentage, bwt, percent
from astralink_node.cli.node_health import Answer, field, number
from astralink_node.cli.options import Decorator, data_dir_option, json_option, password_file_option
from astralink_node.cli.passwords import existing_password
from astralink_node.cli.rpc_client import EXIT_UNHEALTHY, RpcClient, rpc_url_option
from astralink_node.cli.stake import send_delegation, shares_to_move
from astralink_node.cli.staking_calls import MAX_NAME_BYTES, moment
from astralink_node.cli.staking_session import Session, staking_verb
from astralink_node.cli.staking_state import NotStaked, StakingState
from astralink_node.cli.validator import KEYS_FOLDER, SIGNING_FOLDER, key, validator
from astralink_node.crypto.addresses import checksum_address, parse_address
from astralink_node.crypto.keystore_envelope import KeystoreError
from astralink_node.crypto.ml_dsa import key_hash
from astralink_node.crypto.secret_files import read_json_file
from astralink_node.errors import UserError
from astralink_node.types import Address
from astralink_node.validator.key_proofs import (
    BadKeyProof,
    KeyProofs,
    check_operator,
    key_proofs_object,
    parse_key_proofs,
    prove_keys,
)
from astralink_node.validator.keys import create_validator, load_keys, load_public_keys, random_keys

__all__ = ["validator"]

NEXT_KEYS_FOLDER = "validator-next"
MAINTENANCE_MARGIN = 10
"""Blocks that may pass until an announcement is in one."""


def keys_password_file_option() -> Decorator:
    """--keys-password-file: passed as `keys_password_file`."""
    return click.option(
        "--keys-password-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The password of the validator's keys, which is not the account's.",
    )


@key.command("prove")
@data_dir_option()
@password_file_option()
@click.option("--operator", required=True, metavar="ADDRESS", help="The account that will register the keys.")
@click.option("--chain-id", required=True, type=click.IntRange(1), help="The chain on which it will.")
def prove(data_dir: Path, password_file: Path | None, operator: str, chain_id: int) -> None:
    """Print, as JSON, the proofs with which OPERATOR can register these keys: for `validator create --proofs`.

    Run it where the keys are. What it prints is public, and of use to that operator on that chain alone.
    """
    owner = parse_address(operator)
    check_operator(load_public_keys(data_dir / KEYS_FOLDER), owner)
    keys = load_keys(data_dir / KEYS_FOLDER, existing_password(password_file, "the validator's keys"))
    click.echo(json.dumps(key_proofs_object(prove_keys(keys, chain_id, owner)), indent=2))


@validator.command("create")
@click.option("--name", required=True, help="Up to 64 bytes, shown to delegators.")
@click.option("--stake", required=True, type=Amount(), help="Its own stake: BWT as 32.5, or wei as 32500wei.")
@click.option("--commission", type=Percentage(), default="5", show_default=True, help="Of delegators' rewards, in %.")
@click.option(
    "--proofs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `validator key prove` printed, where the keys are on another machine.",
)
@keys_password_file_option()
@staking_verb
def create(
    session: Session,
    name: str,
    stake: int,
    commission: int,
    proofs: Path | None,
    keys_password_file: Path | None,
) -> None:
    """Register a validator with this folder's keys. It votes from an epoch on in which it is elected."""
    _check_name(name)
    state, operator = session.state, session.account.address
    parameters = state.staking()["parameters"]
    if stake < number(parameters["minStakeWei"]):
        raise UserError(f"--stake: expected at least {bwt(number(parameters['minStakeWei']))}, found {bwt(stake)}")
    registered = state.registered()
    if any(each["operator"] == "0x" + operator.hex() for each in registered):
        raise UserError(f"{checksum_address(operator)} has registered a validator already: one account, one validator")
    if proofs is None:
        check_operator(load_public_keys(session.data_dir / KEYS_FOLDER), operator)
    session.check_confirmable()
    given = _proofs_of(session, session.data_dir / KEYS_FOLDER, proofs, keys_password_file)
    if any(each["votingKey"] == "0x" + given.voting_key.hex() for each in registered):
        raise UserError("these keys are registered already: make new ones with `astralink-node validator key new`")
    done = session.run([staking_calls.create_validator(given, commission, name, stake)])
    session.notes.append(_effect(state, done[-1].receipt.height, "It stands for the election")[0])
    session.notes.append("Let its node run with these keys by then; `astralink-node validator status` watches it.")
    session.report(done)


@validator.command("stake", cls=AmountCommand)
@click.argument("amount", type=Amount())
@staking_verb
def stake_(session: Session, amount: int) -> None:
    """Add AMOUNT to the validator's own stake."""
    send_delegation(session, session.account.address, amount)


@validator.command("unstake", cls=AmountCommand)
@click.argument("amount", type=Amount(), required=False)
@click.option("--all", "everything", is_flag=True, help="All of its own stake.")
@staking_verb
def unstake(session: Session, amount: int | None, everything: bool) -> None:
    """Begin to take AMOUNT of the validator's own stake out; below the least stake it leaves the set."""
    state, operator = session.state, session.account.address
    found = state.known_validator(operator)
    shares, worth_wei = shares_to_move(session, operator, amount, everything=everything)
    left = number(found["tokensWei"]) - worth_wei
    least = number(state.staking()["parameters"]["minStakeWei"])
    if left < least:
        session.tell(
            f"warning: {bwt(max(left, 0))} will be left, less than {bwt(least)}: it leaves the set at the next election"
        )
    session.report(session.run([staking_calls.undelegate(operator, shares, worth_wei)]))


@validator.command("unjail")
@staking_verb
def unjail(session: Session) -> None:
    """Stand for election again once the jail time is over."""
    found = session.state.known_validator(session.account.address)
    if found["status"] == "tombstoned":
        raise NotStaked("this validator signed twice and is tombstoned: it can never be unjailed")
    if found["jailedUntil"] is None:
        raise NotStaked(f"this validator is not jailed: it is {found['status']}")
    until = number(found["jailedUntil"])
    if number(session.state.staking()["timestamp"]) < until:
        raise NotStaked(f"this validator can be unjailed from {moment(until)} on")
    done = session.run([staking_calls.unjail()])
    session.notes.append(_effect(session.state, done[-1].receipt.height, "It stands for the election")[0])
    session.report(done)


@validator.command("commission")
@click.argument("rate", type=Percentage())
@staking_verb
def commission_(session: Session, rate: int) -> None:
    """Set the commission to RATE, in %; once a day, and by no more than the chain allows."""
    found = session.state.known_validator(session.account.address)
    most = number(session.state.staking()["parameters"]["maxCommissionChangeBps"])
    now = number(found["commissionBps"])
    if abs(rate - now) > most:
        raise UserError(f"the commission is {percent(now)} and moves by at most {percent(most)} a day")
    session.report(session.run([staking_calls.set_commission(rate)]))


@validator.command("maintenance")
@click.argument("blocks", type=click.IntRange(1))
@click.option("--from-height", type=click.IntRange(1), help="The first height. [default: as early as possible]")
@staking_verb
def maintenance(session: Session, blocks: int, from_height: int | None) -> None:
    """Announce that the validator will be absent for BLOCKS heights, which then are no downtime.

    At least a downtime window ahead.
    """
    session.state.known_validator(session.account.address)
    parameters = session.state.staking()["parameters"]
    most, window = number(parameters["maintenanceMaxBlocks"]), number(parameters["downtimeWindow"])
    if blocks > most:
        raise UserError(f"maintenance: expected at most {most:,} blocks, found {blocks:,}")
    head = session.state.head()
    earliest = head + 1 + window
    first = earliest + MAINTENANCE_MARGIN if from_height is None else from_height
    if first < earliest:
        raise UserError(
            f"--from-height: expected at least {earliest:,} (a window of {window:,} ahead), found {first:,}"
        )
    session.report(session.run([staking_calls.announce_maintenance(first, blocks)]))


@validator.command("rotate-key")
@click.option(
    "--proofs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `validator key prove` printed for the new keys, where they are on another machine.",
)
@keys_password_file_option()
@staking_verb
def rotate_key(session: Session, proofs: Path | None, keys_password_file: Path | None) -> None:
    """Make new keys beside the old ones and register them; both take effect with the next election.

    The new keys lie in `validator-next`, under the same password. A node that finds them there when it starts votes
    with the old ones until then and with the new ones from then on. Run again after an interruption: what is
    registered already is left out.
    """
    state, operator = session.state, session.account.address
    found = state.known_validator(operator)
    session.check_confirmable()
    folder = session.data_dir / NEXT_KEYS_FOLDER
    if proofs is None:
        given = _prove_next(session, folder, keys_password_file)
    else:
        given = _proofs_of(session, folder, proofs, None)
    calls = []
    if found["votingKey"] != "0x" + given.voting_key.hex():
        calls.append(staking_calls.rotate_voting_key(given))
    if found["checkpointKeyHash"] != "0x" + key_hash(given.checkpoint_key).hex():
        calls.append(staking_calls.rotate_checkpoint_key(given))
    if not calls:
        raise NotStaked("these keys are registered already: nothing is to be rotated")
    done = session.run(calls)
    sentence, height = _effect(state, done[-1].receipt.height, "The new keys are those of the election")
    session.notes.extend([sentence, *_switch_lines(session.data_dir, height)])
    session.report(done, effectiveHeight=hex(height))


@validator.command("list")
@rpc_url_option()
@json_option()
def list_(rpc_url: str, as_json: bool) -> None:
    """Show every registered validator: those that vote first, then by stake."""
    registered = StakingState(RpcClient(rpc_url)).registered()
    if as_json:
        click.echo(json.dumps(registered, indent=2))
        return
    for each in registered:
        operator = checksum_address(bytes.fromhex(each["operator"][2:]))
        click.echo(
            f"{operator}  {each['status']:<12} {bwt(number(each['tokensWei'])):>20}  "
            f"commission {percent(number(each['commissionBps'])):>7}  {each['name']}"
        )


@validator.command("status")
@click.argument("operator", required=False)
@data_dir_option()
@rpc_url_option()
@json_option()
@click.pass_context
def status(context: click.Context, operator: str | None, data_dir: Path, rpc_url: str, as_json: bool) -> None:
    """Show OPERATOR's validator, or the one of this folder's keys: stake, standing, rewards, faults.

    Exit code 0: it is active; 1: it is not; 69: no node answers.
    """
    state = StakingState(RpcClient(rpc_url))
    found = _own_validator(state, data_dir) if operator is None else state.known_validator(parse_address(operator))
    staking = state.staking()
    key_in_set, head = state.key_in_set(Address(bytes.fromhex(found["operator"][2:])))
    if as_json:
        click.echo(json.dumps({"validator": found, "votingKeyInSet": key_in_set, "staking": staking}, indent=2))
    else:
        keys = _keys_text(found, key_in_set, state.election_with(head)[1])
        click.echo("\n".join(_status_lines(found, staking, keys)))
    if found["status"] != "active":
        context.exit(EXIT_UNHEALTHY)


def _own_validator(state: StakingState, data_dir: Path) -> Answer:
    """By the folder's validator keys, else by its only account."""
    if (data_dir / KEYS_FOLDER).is_dir():
        public = load_public_keys(data_dir / KEYS_FOLDER)
        wanted = "0x" + public.voting_key.hex()
        for each in state.registered():
            if each["votingKey"] == wanted:
                return each
        if public.operator is not None:
            return state.known_validator(public.operator)
    try:
        return state.known_validator(find_account(data_dir, None, None).address)
    except NoSuchAccount as error:
        raise NoSuchAccount(f"name an OPERATOR: the keys in {data_dir} are not registered") from error


def _keys_text(found: Answer, key_in_set: str | None, effective: int) -> str:
    """Which key votes now, and the registered one if that is another: it votes from height `effective` on."""
    registered = f"{found['votingKey'][:18]}.."
    if key_in_set is None or key_in_set == found["votingKey"]:
        return registered
    condition = "" if found["status"] == "active" else ", if it is elected"
    return f"{key_in_set[:18]}.. votes; from height {effective:,} on {registered}{condition}"


def _status_lines(found: Answer, staking: Answer, keys: str) -> list[str]:
    """`keys` is what is to be said of them."""
    tokens, own = number(found["tokensWei"]), number(found["selfStakeWei"])
    lines = [
        field("Validator", f"{found['name'] or '(no name)'}"),
        field("Operator", checksum_address(bytes.fromhex(found["operator"][2:]))),
        field("Status", _standing(found)),
        field("Stake", f"{bwt(tokens)}, of it its own {bwt(own)}"),
        field("Power", f"{number(found['power']):,} now, {number(found['powerIfElected']):,} if elected now"),
        field(
            "Commission", f"{percent(number(found['commissionBps']))}; to claim {bwt(number(found['commissionWei']))}"
        ),
        field("Missed", f"{number(found['missed']):,} heights in this window of {_window(staking):,}"),
        field("Slashes", f"{number(found['slashCount']):,}"),
        field("Key", keys),
    ]
    if found["maintenance"] is not None:
        first, until = number(found["maintenance"]["from"]), number(found["maintenance"]["until"])
        lines.append(field("Maintenance", f"heights {first:,} to {until - 1:,}"))
    lines.append(
        field(
            "Election",
            f"at height {number(staking['nextElectionHeight']):,}; the head is {number(staking['number']):,}",
        )
    )
    return lines


def _standing(found: Answer) -> str:
    match found["status"]:
        case "jailed":
            return f"jailed; `validator unjail` from {moment(number(found['jailedUntil']))} on"
        case "tombstoned":
            return "tombstoned: it signed twice and takes no part any more"
        case "belowMinimum":
            return "below the least stake: it is not elected"
        case "waiting":
            return "waiting for the next election, or for a seat"
        case other:
            return str(other)


def _window(staking: Answer) -> int:
    return number(staking["parameters"]["downtimeWindow"])


def _check_name(name: str) -> None:
    size = len(name.encode())
    if not 1 <= size <= MAX_NAME_BYTES or not name.isprintable():
        raise UserError(f"--name: expected 1 to {MAX_NAME_BYTES} bytes of printable text, found {size} bytes")


def _proofs_of(session: Session, folder: Path, file: Path | None, password_file: Path | None) -> KeyProofs:
    """Made from the keys in `folder`, or as `file` holds them."""
    operator, chain_id = session.account.address, session.state.chain_id()
    if file is None:
        password = existing_password(password_file, f"the validator's keys in {folder}", "--keys-password-file")
        return prove_keys(load_keys(folder, password), chain_id, operator)
    entry = read_json_file(file)
    try:
        proofs = parse_key_proofs(entry)
    except (KeystoreError, BadKeyProof) as error:
        raise BadKeyProof(f"{file}: key proofs: {str(error).removeprefix('keystore: ')}") from error
    if (proofs.chain_id, proofs.operator) != (chain_id, operator):
        raise BadKeyProof(
            f"{file}: expected proofs for chain {chain_id} and {checksum_address(operator)}, found chain "
            f"{proofs.chain_id} and {checksum_address(proofs.operator)}"
        )
    return proofs


def _prove_next(session: Session, folder: Path, password_file: Path | None) -> KeyProofs:
    """Makes the next keys if they are not there. Their password is that of the present ones: a start asks for one."""
    present = session.data_dir / KEYS_FOLDER
    operator, chain_id = session.account.address, session.state.chain_id()
    password = existing_password(password_file, f"the validator's keys in {present}", "--keys-password-file")
    load_keys(present, password)
    if not folder.exists():
        create_validator(folder, session.data_dir / SIGNING_FOLDER, random_keys(operator), password, key_is_new=True)
        session.tell(f"made new keys in {folder}")
    return prove_keys(load_keys(folder, password), chain_id, operator)


def _effect(state: StakingState, height: int, what: str) -> tuple[str, int]:
    """(A sentence, the first height of the epoch that the next election from `height` on decides about.)"""
    election, effective = state.election_with(height)
    return f"{what} at height {election:,}, with effect from height {effective:,} on.", effective


def _switch_lines(data_dir: Path, height: int) -> list[str]:
    """What the operator has to do; the node follows the set by itself once it has both keys."""
    now, new, old = (data_dir / name for name in (KEYS_FOLDER, NEXT_KEYS_FOLDER, f"{KEYS_FOLDER}-until-{height}"))
    return [
        f"Start the node again before height {height:,}: it then has both, voting with the present ones till there.",
        "At any time from an epoch later on, stop it, let the new keys take the old ones' place, start it:",
        f"  mv {now} {old} && mv {new} {now}",
        f"Where a signer process has the keys, that is all there is to do, at height {height:,} itself.",
    ]
