"""`genesis new|seal|show|verify|diff`: the file that starts a chain, and its hash."""

import json
import secrets
import time
from dataclasses import replace
from pathlib import Path

import click

from astralink_node.chain.data_folder import errors_naming, read_genesis_file
from astralink_node.chain.new_folder import parse_genesis_file
from astralink_node.cli.options import json_option
from astralink_node.cli.output_files import removed_unless_whole
from astralink_node.crypto.addresses import checksum_address, parse_address
from astralink_node.errors import UserError
from astralink_node.evm.fee_rules import MIN_GAS_TARGET
from astralink_node.types import Address
from consensus.staking_params import MIN_DOWNTIME_WINDOW, StakingParams
from genesis.builder import GenesisBlock, build_genesis
from genesis.canonical import configuration_hash
from genesis.comparison import Difference, differences
from genesis.devnet_terms import DEVNET_EPOCH_LENGTH
from genesis.fields import Field, GenesisError, parse_json
from genesis.presets import new_genesis
from genesis.schema import (
    MAX_CHAIN_ID,
    STAKE_UNIT_WEI,
    GenesisAccount,
    GenesisValidator,
    parse_unsealed_genesis,
    parse_validator,
)
from genesis.sealing import parse_genesis, sealed
from genesis.staking_section import render_staking
from genesis.staking_state import STAKING_PLACES
from genesis.system_contracts import SYSTEM_CONTRACTS

EXIT_DIFFERENT = 1
WEI_PER_BWT = 10**18
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def genesis() -> None:
    """Create, show, verify and compare genesis files."""


@genesis.command("new")
@click.option("--network-name", required=True, help="Shown to people; part of the genesis hash.")
@click.option("--chain-id", type=click.IntRange(1, MAX_CHAIN_ID), required=True, help="EIP-155 chain id of your own.")
@click.option(
    "--validator",
    "validators",
    type=FILE,
    multiple=True,
    required=True,
    help="Public keys as `validator key show --json` prints them; once for each validator.",
)
@click.option("--stake", type=click.IntRange(1), default=32, show_default=True, help="BWT that each validator stakes.")
@click.option("--fund", multiple=True, metavar="ADDRESS=BWT", help="Give an account whole BWT; as often as needed.")
@click.option("--block-interval-ms", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--epoch-length", type=click.IntRange(3), default=DEVNET_EPOCH_LENGTH, show_default=True)
@click.option(
    "--max-gas-target",
    type=click.IntRange(MIN_GAS_TARGET),
    default=15_000_000,
    show_default=True,
    help="Half of the highest gas limit; the propose timeout follows from it.",
)
@click.option("--staking", is_flag=True, help="With the staking contracts and our default parameters.")
@click.option("--timestamp", type=click.IntRange(0), help="Unix seconds of block 0.  [default: now]")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: stdout]")
def new(
    network_name: str,
    chain_id: int,
    validators: tuple[Path, ...],
    stake: int,
    fund: tuple[str, ...],
    block_interval_ms: int,
    epoch_length: int,
    max_gas_target: int,
    timestamp: int | None,
    output: Path | None,
    *,
    staking: bool,
) -> None:
    """Write a genesis file with our defaults, to edit before anybody starts from it (then `genesis seal`)."""
    text = new_genesis(
        chain_id=chain_id,
        network_name=network_name,
        timestamp=int(time.time()) if timestamp is None else timestamp,
        seed=secrets.token_bytes(32),
        validators=[_read_validator(path, stake * STAKE_UNIT_WEI) for path in validators],
        alloc=dict(_parse_fund(text) for text in fund),
        block_interval_ms=block_interval_ms,
        epoch_length=epoch_length,
        max_gas_target=max_gas_target,
        staking=_staking(epoch_length) if staking else None,
    )
    _write(text, output)


@genesis.command("seal")
@click.argument("file", type=FILE)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: stdout]")
def seal(file: Path, output: Path | None) -> None:
    """Write FILE, which was edited, with the staking contracts as its validators and parameters make them now."""
    with errors_naming(file):
        text = sealed(parse_unsealed_genesis(read_genesis_file(file)))
    _write(text, output)


def _staking(epoch_length: int) -> StakingParams:
    default = StakingParams()
    return replace(default, downtime_window=max(MIN_DOWNTIME_WINDOW, min(default.downtime_window, epoch_length)))


def _write(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        file = output.open("x")
        with removed_unless_whole(output), file:
            file.write(text)
    except FileExistsError as error:
        raise UserError(f"{output} exists already; a genesis file is never overwritten") from error
    except OSError as error:
        raise UserError(f"{output}: {error.strerror}") from error
    click.echo(f"Genesis hash: 0x{build_genesis(parse_genesis(text.encode())).hash.hex()}", err=True)


@genesis.command("show")
@click.argument("file", type=FILE)
@json_option()
def show(file: Path, as_json: bool) -> None:
    """Print what FILE says, and its hash."""
    block = build_genesis(parse_genesis_file(file))
    summary = _summary(block)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    genesis_file = block.genesis
    click.echo(f"Network:       {genesis_file.network_name} (chain id {genesis_file.chain_id})")
    click.echo(f"Genesis hash:  {summary['genesisHash']}")
    click.echo(f"State root:    {summary['stateRoot']}")
    click.echo(f"Configuration: {summary['configurationHash']}")
    click.echo(f"Time:          {genesis_file.timestamp} s since 1970")
    click.echo(f"Gas limit:     {genesis_file.fees.gas_limit:,}")
    click.echo(f"Base fee:      {genesis_file.base_fee_wei:,} wei")
    click.echo(f"Epoch length:  {genesis_file.epoch_length:,} blocks")
    click.echo("Forks:         " + ", ".join(f"{name} at {height}" for height, name in genesis_file.forks))
    click.echo(f"Validators:    {len(genesis_file.validators)}")
    for validator in genesis_file.validators:
        click.echo(
            f"  {checksum_address(validator.operator)}  0x{validator.voting_key.hex()[:16]}...  {validator.power:,} BWT"
        )
    if genesis_file.staking is None:
        click.echo("Staking:       none; the set never changes")
    else:
        click.echo(f"Staking:       {genesis_file.staking.max_validators} seats")
    ours = SYSTEM_CONTRACTS.keys() | STAKING_PLACES
    funded = {address: account for address, account in genesis_file.alloc.items() if address not in ours}
    total = sum(account.balance_wei for account in funded.values())
    click.echo(f"Accounts:      {len(funded)}, holding {total // WEI_PER_BWT:,} BWT")


@genesis.command("verify")
@click.argument("file", type=FILE)
@click.option("--hash", "expected_hash", metavar="HASH", help="Also demand this genesis hash.")
@json_option()
def verify(file: Path, expected_hash: str | None, as_json: bool) -> None:
    """Check every field of FILE, proofs of possession included, and print the genesis hash."""
    found = build_genesis(parse_genesis_file(file)).hash.hex()
    if expected_hash is not None and expected_hash.lower().removeprefix("0x") != found:
        raise UserError(f"{file}: expected genesis hash {expected_hash}, found 0x{found}")
    if as_json:
        click.echo(json.dumps({"valid": True, "genesisHash": f"0x{found}"}, indent=2))
    else:
        click.echo(f"valid: 0x{found}")


@genesis.command("diff")
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@json_option()
@click.pass_context
def diff(context: click.Context, first: Path, second: Path, as_json: bool) -> None:
    """Say which fields of two genesis files differ, order and spelling aside. Exits with 1 if any does."""
    left, right = (build_genesis(parse_genesis_file(path)) for path in (first, second))
    found = differences(left.genesis, right.genesis)
    if as_json:
        report = {
            "same": left.hash == right.hash,
            "first": f"0x{left.hash.hex()}",
            "second": f"0x{right.hash.hex()}",
            "differences": [{"path": item.path, "first": item.first, "second": item.second} for item in found],
        }
        click.echo(json.dumps(report, indent=2))
    elif left.hash == right.hash:
        click.echo(f"same chain: 0x{left.hash.hex()}")
    else:
        _print_differences(first, second, left, right, found)
    if left.hash != right.hash:
        context.exit(EXIT_DIFFERENT)


def _print_differences(
    first: Path, second: Path, left: GenesisBlock, right: GenesisBlock, found: list[Difference]
) -> None:
    click.echo(f"- {first}: 0x{left.hash.hex()}")
    click.echo(f"+ {second}: 0x{right.hash.hex()}")
    for item in found:
        click.echo(f"{item.path}:")
        for sign, value in (("-", item.first), ("+", item.second)):
            if value is not None:
                click.echo(f"  {sign} {value}")


def _summary(block: GenesisBlock) -> dict[str, object]:
    genesis_file = block.genesis
    return {
        "networkName": genesis_file.network_name,
        "chainId": genesis_file.chain_id,
        "genesisHash": f"0x{block.hash.hex()}",
        "stateRoot": f"0x{block.header.state_root.hex()}",
        "configurationHash": f"0x{configuration_hash(genesis_file).hex()}",
        "validatorSetHash": f"0x{block.validator_set.hash.hex()}",
        "timestamp": genesis_file.timestamp,
        "gasLimit": genesis_file.fees.gas_limit,
        "baseFeePerGas": genesis_file.base_fee_wei,
        "epochLength": genesis_file.epoch_length,
        "forks": {name: height for height, name in genesis_file.forks},
        "validators": [
            {
                "operator": checksum_address(validator.operator),
                "votingKey": f"0x{validator.voting_key.hex()}",
                "power": validator.power,
            }
            for validator in genesis_file.validators
        ],
        "staking": None if genesis_file.staking is None else render_staking(genesis_file.staking),
        "accounts": len(genesis_file.alloc),
    }


def _read_validator(path: Path, stake_wei: int) -> GenesisValidator:
    """The entry in a file: `validator key show --json`'s output, or that part of it which belongs into genesis."""
    try:
        document = parse_json(path.read_bytes())
        entries = document.entries()
        entry = entries.get("genesisEntry", document).entries()
        value = {name: field.value for name, field in entry.items()} | {"stakeWei": str(stake_wei)}
        return parse_validator(Field("", value))
    except GenesisError as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _parse_fund(text: str) -> tuple[Address, GenesisAccount]:
    address, separator, amount = text.partition("=")
    if not separator or not amount.isdecimal():
        raise UserError(f"--fund: expected ADDRESS=BWT with whole BWT, found {text!r}")
    return parse_address(address), GenesisAccount(int(amount) * WEI_PER_BWT, 0, b"", ())
