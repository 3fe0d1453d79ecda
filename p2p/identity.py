"""The node's key on disk: an Ed25519 key of its own, whose public half is the node's name on the network.

It is no validator's key: whoever steals it can pretend to be this node to its peers, and sign nothing. The file is
made on first use and readable by its owner alone.
"""

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from p2p.addresses import peer_id_text
from p2p.peer_id import PeerId

SEED_LENGTH: Final = 32
_PUBLIC_KEY_PREFIX: Final = bytes([0x00, 36, 0x08, 0x01, 0x12, 32])
"""Identity multihash of 36 bytes, and in it libp2p's PublicKey message: type 1 (Ed25519), 32 bytes of data."""


class UnusableNodeKey(Exception):
    """The file is damaged, or others may read it."""


@dataclass(frozen=True, slots=True)
class Identity:
    seed: bytes
    """The private key, as RFC 8032 has it."""

    @property
    def public_key(self) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def peer_id(self) -> PeerId:
        return PeerId(_PUBLIC_KEY_PREFIX + self.public_key)

    def __repr__(self) -> str:
        return f"Identity({peer_id_text(self.peer_id)})"


def new_identity() -> Identity:
    return Identity(os.urandom(SEED_LENGTH))


def load_or_create_identity(path: Path) -> Identity:
    """The key in the file, which is made where there is none. Two that make it at once get the same one.

    Raises UnusableNodeKey, and OSError where the folder cannot be written.
    """
    if not path.exists():
        _create(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UnusableNodeKey(f"{path}: expected mode 600, found {mode:o}: make another one, or chmod 600 it")
    text = path.read_text(encoding="ascii", errors="replace").strip()
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != SEED_LENGTH or len(text) != 2 * SEED_LENGTH:
        raise UnusableNodeKey(f"{path}: expected a node key of 64 hex digits, found {len(text)} other characters")
    return Identity(seed)


def _create(path: Path) -> None:
    """Whole or not at all: written aside, synced, and linked to its name unless another was quicker."""
    descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)  # made with mode 600
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(new_identity().seed.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            return
    finally:
        aside.unlink()
