"""Options that several command groups share, spelled the same everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DEFAULT_DATA_DIR = Path("~/.astralink")

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _expand(_context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    return value.expanduser().resolve()


def data_dir_option() -> Decorator:
    """--data-dir: passed as `data_dir`, an absolute Path that need not exist."""
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_DATA_DIR,
        envvar="ASTRALINK_DATA_DIR",
        show_default=True,
        show_envvar=True,
        callback=_expand,
        help="Folder of the node's chain, keys and settings.",
    )


def json_option() -> Decorator:
    """--json: passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def password_file_option() -> Decorator:
    """--password-file: passed as `password_file`, a Path or None. There is no flag for a password itself."""
    return click.option(
        "--password-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Read the password from this file (its first line) instead of asking.",
    )


def new_signing_history_option() -> Decorator:
    """--new-signing-history: passed as `new_signing_history`."""
    return click.option(
        "--new-signing-history",
        is_flag=True,
        help="The validator's key was restored or its history lost, and no other node signs with it.",
    )
