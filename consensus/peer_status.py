"""What two nodes tell each other before anything else: which chain, which rules, how far, and what time it is.

The fork digest names the rules that are in force at a height, so that a node can tell, from another's head, whether
both would apply the same ones there. Pure; fixed width but for the last two fields.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from consensus.hashing import keccak256
from consensus.params import MAX_HEIGHT, MAX_TIME_MS
from consensus.wire import DecodeError, WireReader, encode_unsigned, exact_bytes

STATUS_VERSION: Final = 1
FORK_DIGEST_BYTES: Final = 4
MAX_CLIENT_BYTES: Final = 64
MAX_ADDRESSES: Final = 8
MAX_ADDRESS_BYTES: Final = 128
MAX_STATUS_BYTES: Final = 1 + 32 + 4 + 8 + 32 + 8 + 1 + MAX_CLIENT_BYTES + 1 + MAX_ADDRESSES * (1 + MAX_ADDRESS_BYTES)

_FORK_TAG: Final = b"ALNK:forks/v1\0\0\0"


@dataclass(frozen=True, slots=True)
class PeerStatus:
    genesis_hash: bytes
    fork_digest: bytes
    """4 bytes: `fork_digest` at the sender's head."""
    head_height: int
    head_hash: bytes
    time_ms: int
    """The sender's clock: skew is measured against it."""
    client: str
    """What the sender runs, for people; printable ASCII."""
    addresses: tuple[str, ...]
    """Where the sender may be dialled, as multiaddresses."""


def fork_digest(genesis_hash: bytes, forks: Iterable[tuple[int, str]], height: int) -> bytes:
    """4 bytes of the keccak of tag 16, genesis hash 32, and each fork active at `height`: height 8, length 1, name."""
    parts = [_FORK_TAG, exact_bytes(genesis_hash, 32, "genesis_hash")]
    for active_from, name in sorted(forks):
        if active_from <= height:
            encoded = name.encode("ascii")
            parts += [encode_unsigned(active_from, 8, "fork height"), encode_unsigned(len(encoded), 1, "fork"), encoded]
    return keccak256(b"".join(parts))[:FORK_DIGEST_BYTES]


def encode_status(status: PeerStatus) -> bytes:
    """Version 1, genesis hash 32, fork digest 4, head height 8, head hash 32, time 8, client (length 1), count 1 of
    addresses, each with length 1.

    The client is cut and spelt so that decoders take it; further addresses are left out. Raises ValueError for an
    address that no decoder takes.
    """
    client = bytes(byte if _is_printable(byte) else ord("?") for byte in status.client.encode("ascii", "replace"))
    client = client[:MAX_CLIENT_BYTES]
    addresses = [_address_bytes(address) for address in status.addresses[:MAX_ADDRESSES]]
    return b"".join(
        [
            bytes([STATUS_VERSION]),
            exact_bytes(status.genesis_hash, 32, "genesis_hash"),
            exact_bytes(status.fork_digest, FORK_DIGEST_BYTES, "fork_digest"),
            encode_unsigned(status.head_height, 8, "head_height"),
            exact_bytes(status.head_hash, 32, "head_hash"),
            encode_unsigned(status.time_ms, 8, "time_ms"),
            bytes([len(client)]),
            client,
            bytes([len(addresses)]),
            *(bytes([len(address)]) + address for address in addresses),
        ]
    )


def decode_status(data: bytes) -> PeerStatus:
    """The inverse of `encode_status`; `DecodeError` for anything else, another version included."""
    reader = WireReader(data)
    version = reader.unsigned(1, "version")
    if version != STATUS_VERSION:
        raise DecodeError("version", str(STATUS_VERSION), str(version))
    genesis_hash = reader.take(32, "genesis_hash")
    digest = reader.take(FORK_DIGEST_BYTES, "fork_digest")
    head_height = reader.unsigned(8, "head_height", maximum=MAX_HEIGHT)
    head_hash = reader.take(32, "head_hash")
    time_ms = reader.unsigned(8, "time_ms", maximum=MAX_TIME_MS)
    client = _take_text(reader, "client", MAX_CLIENT_BYTES)
    count = reader.unsigned(1, "addresses", maximum=MAX_ADDRESSES)
    addresses = tuple(_take_text(reader, "address", MAX_ADDRESS_BYTES) for _ in range(count))
    reader.finish()
    return PeerStatus(genesis_hash, digest, head_height, head_hash, time_ms, client, addresses)


def _address_bytes(address: str) -> bytes:
    encoded = address.encode("utf-8", "replace")
    if len(encoded) > MAX_ADDRESS_BYTES or not all(map(_is_printable, encoded)):
        raise ValueError(f"address: expected at most {MAX_ADDRESS_BYTES} printable ASCII characters, found {address!r}")
    return encoded


def _is_printable(byte: int) -> bool:
    return 32 <= byte < 127


def _take_text(reader: WireReader, field: str, maximum: int) -> str:
    """Printable ASCII: it is shown to people."""
    data = reader.take(reader.unsigned(1, field, maximum=maximum), field)
    if not all(map(_is_printable, data)):
        raise DecodeError(field, "printable ASCII", data.hex())
    return data.decode("ascii")
