"""Secrets from the person at the terminal or from files: never from flags, which other users can see."""

import stat
import sys
import warnings
from getpass import GetPassWarning
from pathlib import Path

import click

from astralink_node.errors import UserError

_MAX_SECRET_FILE_BYTES = 4_096


class BadSecretFile(UserError):
    """A file that should hold one line with a secret."""


class NobodyToAsk(UserError):
    """A secret was to be asked for, and nobody answers."""


def new_password(password_file: Path | None, purpose: str) -> str:
    """A password for something new: asked twice, or the file's first line. Never empty."""
    if password_file is not None:
        return read_secret_line(password_file)
    return _asked(f"New password for {purpose}", "--password-file", twice=True)


def existing_password(password_file: Path | None, purpose: str, flag: str = "--password-file") -> str:
    """The password of something that exists: asked once, or the file's first line. `flag` is what names the file."""
    if password_file is not None:
        return read_secret_line(password_file)
    return _asked(f"Password for {purpose}", flag)


def hidden_input(prompt: str, flag: str | None = None) -> str:
    """Something secret that is asked for; `flag` names a file with it instead."""
    return _asked(prompt, flag).strip()


def _asked(prompt: str, flag: str | None, *, twice: bool = False) -> str:
    with warnings.catch_warnings():
        # Without a terminal the answer is read from standard input, where nothing echoes.
        warnings.simplefilter("ignore", GetPassWarning)
        try:
            return str(click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))
        except click.Abort:
            if sys.stdin.isatty():
                raise  # by the person at it
            advice = "" if flag is None else f": give {flag}"
            raise NobodyToAsk(f"{prompt}: there is no terminal to ask at{advice}") from None


def read_secret_line(path: Path) -> str:
    """The first line of a file, without its line end. Warns if other users can read it."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SECRET_FILE_BYTES + 1)
        mode = path.stat().st_mode
    except OSError as error:
        raise BadSecretFile(f"{path}: {error.strerror}") from error
    if len(data) > _MAX_SECRET_FILE_BYTES:
        raise BadSecretFile(f"{path}: larger than {_MAX_SECRET_FILE_BYTES} bytes")
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        click.echo(f"warning: {path} can be read by other users (chmod 600 {path})", err=True)
    try:
        line = data.decode().split("\n", 1)[0].removesuffix("\r")
    except UnicodeDecodeError:
        raise BadSecretFile(f"{path}: not text in UTF-8") from None
    if not line:
        raise BadSecretFile(f"{path}: its first line is empty")
    return line
