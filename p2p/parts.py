"""Large messages in parts: split, announced by the hashes of the parts, fetched from whoever has them, joined. Pure.

An announcement is a Merkle tree of one level: it holds every leaf, and its own hash, the root, names the message. So a
part is checked alone, the moment it arrives, and a peer that sends another one is convicted by it.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

PART_BYTES: Final = 65_536
"""Every part but the last; small beside what a peer may send in a second, large beside a request's overhead."""
HASH_BYTES: Final = 32
MAX_PARTS: Final = 288
MAX_SPLIT_BYTES: Final = MAX_PARTS * PART_BYTES
"""18 MiB: a block of 16 MiB with what travels beside it."""
MAX_ANNOUNCEMENT_BYTES: Final = 4 + MAX_PARTS * HASH_BYTES


class PartsError(ValueError):
    """An announcement that no message has, or a part that its announcement does not know."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(f"{what}: expected {expected}, found {found}")


@dataclass(frozen=True, slots=True)
class Announcement:
    total_bytes: int
    hashes: tuple[bytes, ...]
    """SHA-256 of each part, in order."""

    @property
    def root(self) -> bytes:
        return sha256(encode_announcement(self)).digest()

    def part_bytes(self, index: int) -> int:
        """How long part `index` is."""
        return min(PART_BYTES, self.total_bytes - index * PART_BYTES)

    def check(self, index: int, part: bytes) -> None:
        """Raises PartsError unless `part` is part `index` of the message."""
        if len(part) != self.part_bytes(index):
            raise PartsError(f"part {index}", f"{self.part_bytes(index)} bytes", str(len(part)))
        found = sha256(part).digest()
        if found != self.hashes[index]:
            raise PartsError(f"part {index}", self.hashes[index].hex(), found.hex())


def announce(data: bytes) -> Announcement:
    """What to tell of a message of 1 to MAX_SPLIT_BYTES bytes."""
    if not 1 <= len(data) <= MAX_SPLIT_BYTES:
        raise ValueError(f"message: expected 1 to {MAX_SPLIT_BYTES} bytes, found {len(data)}")
    starts = range(0, len(data), PART_BYTES)
    return Announcement(len(data), tuple(sha256(data[start : start + PART_BYTES]).digest() for start in starts))


def part_of(data: bytes, index: int) -> bytes:
    """Part `index` of a message."""
    return data[index * PART_BYTES : (index + 1) * PART_BYTES]


def encode_announcement(announcement: Announcement) -> bytes:
    """The message's length in 4 bytes, then the hashes."""
    return announcement.total_bytes.to_bytes(4, "big") + b"".join(announcement.hashes)


def decode_announcement(encoded: bytes) -> Announcement:
    """The inverse of `encode_announcement`; raises PartsError for anything else."""
    total_bytes = int.from_bytes(encoded[:4], "big")
    if not 1 <= total_bytes <= MAX_SPLIT_BYTES:
        raise PartsError("announcement", f"a message of 1 to {MAX_SPLIT_BYTES} bytes", str(total_bytes))
    parts = -(-total_bytes // PART_BYTES)
    if len(encoded) != 4 + parts * HASH_BYTES:
        raise PartsError("announcement", f"{4 + parts * HASH_BYTES} bytes", str(len(encoded)))
    hashes = (encoded[start : start + HASH_BYTES] for start in range(4, len(encoded), HASH_BYTES))
    return Announcement(total_bytes, tuple(hashes))


class Assembly:
    """A message while its parts arrive."""

    def __init__(self, announcement: Announcement) -> None:
        self.announcement: Final = announcement
        self._parts: dict[int, bytes] = {}

    @property
    def is_complete(self) -> bool:
        return len(self._parts) == len(self.announcement.hashes)

    def missing(self) -> list[int]:
        return [index for index in range(len(self.announcement.hashes)) if index not in self._parts]

    def add(self, index: int, part: bytes) -> None:
        """Raises PartsError for another message's part; one that is there already changes nothing."""
        self.announcement.check(index, part)
        self._parts[index] = part

    def join(self) -> bytes:
        """The whole message, which must be complete."""
        return b"".join([self._parts[index] for index in range(len(self.announcement.hashes))])
