"""Files that hold secrets: readable by their owner only, whole or absent, and never written over.

A new file is written beside its place, synced, and linked into it: the link fails if the name is taken, so two
processes cannot overwrite one another's key, and a crash leaves either nothing or the whole file.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from astralink_node.errors import UserError

MAX_SECRET_FILE_BYTES = 65_536


class SecretFileExists(UserError):
    """A key is already there; it is never overwritten."""


class UnreadableSecretFile(UserError):
    """Missing, too large, or not what it should be."""


def create_secret_file(path: Path, data: bytes) -> None:
    """Write a new file with mode 0600, durably. Raises `SecretFileExists`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError as error:
            raise SecretFileExists(f"{path}: exists already; a key is never overwritten") from error
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def create_json_file(path: Path, value: Mapping[str, object]) -> None:
    """As `create_secret_file`, for a JSON object."""
    create_secret_file(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json_file(path: Path) -> dict[str, object]:
    """The JSON object in a file; raises `UnreadableSecretFile`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET_FILE_BYTES + 1)
    except OSError as error:
        raise UnreadableSecretFile(f"{path}: {error.strerror}") from error
    if len(data) > MAX_SECRET_FILE_BYTES:
        raise UnreadableSecretFile(f"{path}: larger than {MAX_SECRET_FILE_BYTES} bytes")
    try:
        value = json.loads(data)
    except ValueError as error:
        raise UnreadableSecretFile(f"{path}: not JSON") from error
    if not isinstance(value, dict):
        raise UnreadableSecretFile(f"{path}: expected a JSON object")
    return value


def sync_folder(folder: Path) -> None:
    """Make new, linked or renamed entries of `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
