"""`validator key new|show|verify`: the keys with which a validator votes and signs checkpoints."""

import json
from pathlib import Path

import click

from astralink_node.cli.options import data_dir_option, json_option, password_file_option
from astralink_node.cli.passwords import existing_password, hidden_input, new_password, read_secret_line
from astralink_node.crypto.addresses import checksum_address, parse_address
from astralink_node.crypto.bls_keys import voting_key_path
from astralink_node.crypto.mnemonic import generate_mnemonic, seed_of
from astralink_node.validator.keys import (
    PublicKeys,
    create_validator,
    keys_from_seed,
    load_keys,
    load_public_keys,
    public_keys_object,
    random_keys,
)

KEYS_FOLDER = "validator"
SIGNING_FOLDER = "signing"


@click.group()
def validator() -> None:
    """Manage this node's validator."""


@validator.group("key")
def key() -> None:
    """Create, show and verify the validator's keys (encrypted keystores)."""


@key.command("new")
@data_dir_option()
@password_file_option()
@json_option()
@click.option("--operator", metavar="ADDRESS", help="The account that owns the stake.")
@click.option("--mnemonic", "with_mnemonic", is_flag=True, help="Derive the keys from 24 new words, shown once.")
@click.option("--restore", is_flag=True, help="Derive the keys from words that you have: asked for, or from a file.")
@click.option(
    "--mnemonic-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --restore: read the words from this file's first line.",
)
@click.option(
    "--index", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Which keys of the words."
)
def new(
    data_dir: Path,
    password_file: Path | None,
    as_json: bool,
    operator: str | None,
    with_mnemonic: bool,
    restore: bool,
    mnemonic_file: Path | None,
    index: int,
) -> None:
    """Create the voting key (BLS12-381) and the checkpoint key (ML-DSA-65), and begin their signing history.

    Restored keys may have signed elsewhere: they sign nothing until two heights above the first certified block
    that the node sees.
    """
    if with_mnemonic and restore:
        raise click.UsageError("--mnemonic makes new words, --restore takes old ones: give one of them")
    if mnemonic_file is not None and not restore:
        raise click.UsageError("--mnemonic-file belongs to --restore")
    if index and not (with_mnemonic or restore):
        raise click.UsageError("--index belongs to --mnemonic and --restore")
    owner = None if operator is None else parse_address(operator)
    words = None
    if restore:
        words = (
            hidden_input("Mnemonic (hidden)", "--mnemonic-file")
            if mnemonic_file is None
            else read_secret_line(mnemonic_file)
        )
    elif with_mnemonic:
        words = generate_mnemonic()
    keys = random_keys(owner) if words is None else keys_from_seed(seed_of(words), index, owner)
    password = new_password(password_file, "the validator's keys")
    create_validator(
        data_dir / KEYS_FOLDER,
        data_dir / SIGNING_FOLDER,
        keys,
        password,
        key_is_new=not restore,
        path="" if words is None else voting_key_path(index),
    )
    if with_mnemonic and words is not None:
        click.echo("Write these words down; they restore both keys and are not shown again:\n", err=True)
        click.echo(f"  {words}\n", err=True)
    _print(keys.public, data_dir / KEYS_FOLDER, as_json=as_json)


@key.command("show")
@data_dir_option()
@json_option()
def show(data_dir: Path, as_json: bool) -> None:
    """Print the public keys. Needs no password."""
    _print(load_public_keys(data_dir / KEYS_FOLDER), data_dir / KEYS_FOLDER, as_json=as_json)


@key.command("verify")
@data_dir_option()
@password_file_option()
def verify(data_dir: Path, password_file: Path | None) -> None:
    """Check that the password opens both keystores and that they hold the keys they claim."""
    load_keys(data_dir / KEYS_FOLDER, existing_password(password_file, "the validator's keys"))
    click.echo("Both keystores open, and hold the keys that they claim.")


def _print(public: PublicKeys, folder: Path, *, as_json: bool) -> None:
    key_hash = "0x" + public.checkpoint_key_hash.hex()
    if as_json:
        entry = public_keys_object(public)
        if public.operator is not None:
            entry["operator"] = checksum_address(public.operator)
        # `genesisEntry` goes into a genesis file as it is, once stakeWei is added.
        shown = {"genesisEntry": entry, "checkpointKeyHash": key_hash, "keystores": str(folder)}
        click.echo(json.dumps(shown, indent=2))
        return
    operator = "not set" if public.operator is None else checksum_address(public.operator)
    click.echo(f"Voting key (BLS12-381):      0x{public.voting_key.hex()}")
    click.echo(f"Proof of possession:         0x{public.proof_of_possession.hex()}")
    click.echo(f"Checkpoint key hash:         {key_hash}")
    click.echo("Checkpoint key (ML-DSA-65):  1,952 bytes, printed by --json")
    click.echo(f"Operator:                    {operator}")
    click.echo(f"Keystores:                   {folder}")
