"""`config show`: every setting, its value, and where that came from."""

import json
import os
from pathlib import Path

import click

from astralink_node.cli.options import data_dir_option, json_option
from astralink_node.cli.settings import config_file_option
from astralink_node.config import CONFIG_FILE, Value, load_config, values_of, variable_of


@click.group()
def config() -> None:
    """Show the settings in effect."""


@config.command("show")
@data_dir_option()
@config_file_option()
@json_option()
def show(data_dir: Path, config_file: Path | None, as_json: bool) -> None:
    """Print every setting with its value and its source: a default, the file, or the environment."""
    path = data_dir / CONFIG_FILE if config_file is None else config_file
    loaded = load_config(path, os.environ, {}, file_must_exist=config_file is not None)
    values = values_of(loaded.config)
    if as_json:
        shown = {
            name: {"value": value, "source": loaded.sources[name], "variable": variable_of(name)}
            for name, value in values.items()
        }
        click.echo(json.dumps(shown, indent=2))
        return
    found = "" if path.exists() else " (not there)"
    click.echo(f"# settings file: {path}{found}")
    section = ""
    for name, value in values.items():
        table, key = name.split(".")
        if table != section:
            section = table
            click.echo(f"\n[{table}]")
        line = f"{key} = {_toml(value)}"
        click.echo(f"{line:<48} # {loaded.sources[name]}")


def _toml(value: Value) -> str:
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(value)
