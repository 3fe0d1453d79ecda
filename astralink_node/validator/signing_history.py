"""The durable record of everything this validator signed: written and synced before a signature leaves.

An append-only log of checksummed records (layout: docs/specification.md, "Signing history"). A crash can leave
only the last record incomplete; its signature never left, so it is cut off. Any other damage stops the signer:
forgetting one record could cost the stake. The log is rewritten with what the rules still need when it grows.
"""

import errno
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from astralink_node.errors import EXIT_STORAGE, AstraLinkError, UserError
from astralink_node.validator.history_file import HistoryFile, HistoryLocked, HistoryStorage
from astralink_node.validator.signing_rules import (
    ChainHistory,
    HistoryState,
    Refuse,
    ReturnStored,
    Signed,
    SignNew,
    decide,
    describe,
    is_foreign,
    raise_floor,
    record,
)
from consensus.messages import ProposalMessage, SignedMessage, VoteMessage, decode_message, encode_message
from consensus.wire import DecodeError, WireReader

__all__ = [
    "HistoryDamaged",
    "HistoryExists",
    "HistoryLocked",
    "HistoryMissing",
    "HistoryUnwritable",
    "RefusedToSign",
    "SigningHistory",
    "create_history",
    "history_path",
    "open_history",
]

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_MAGIC = b"ALNKSIG1"
_HEADER_BYTES = len(_MAGIC) + 48 + 1 + 4
_FRAME_BYTES = 12
_MAX_BODY_BYTES = 8_192
_MAX_CHAINS = 1024
"""Networks that one key may vote on; a devnet that is reset daily gets there in three years."""

_COMPACT_AFTER_BYTES = 1_048_576
"""The log is rewritten when it has grown by this much, and to twice its size, since it was last rewritten."""


class HistoryMissing(UserError):
    """No history for a key that may have signed before."""


class HistoryExists(UserError):
    """There is a history for this key already; it is never overwritten."""


class HistoryDamaged(UserError):
    """Bytes that no crash explains. The signer must not guess what they said."""


class HistoryUnwritable(AstraLinkError):
    """The disk refused a write or a sync: nothing is signed until the history is opened anew."""

    exit_code = EXIT_STORAGE


class RefusedToSign(AstraLinkError):
    """Signing this would contradict, or might contradict, an earlier signature."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Origin(IntEnum):
    """Why the history began where it did: decides what an empty one permits."""

    NEW_KEY = 1
    """The key was made together with the history: it cannot have signed before."""
    LOST = 2
    """An earlier history may have existed: each chain waits for its floor."""


class _Kind(IntEnum):
    SIGNATURE = 1
    FLOOR = 2


@dataclass(frozen=True, slots=True)
class _Floor:
    genesis_hash: bytes
    height: int


_Entry = Signed | _Floor


_MISSING: Final = (
    "signing history: none found for this voting key. If the key never signed anywhere, or no other node signs with "
    "it, start once with --new-signing-history: signing then begins two heights above the first certified block that "
    "the node sees"
)


def history_path(folder: Path, voting_key: bytes) -> Path:
    """Where the history of a key lives: one file a key, so that a rotated key keeps its own."""
    return folder / f"{voting_key[:8].hex()}.history"


def create_history(storage: HistoryStorage, voting_key: bytes, *, key_is_new: bool) -> None:
    """Begin an empty history. With `key_is_new` false, nothing is signed on a chain before `set_floor`."""
    if storage.load() is not None:
        raise HistoryExists("signing history: exists already for this key; it is never overwritten")
    storage.replace(_encode_header(voting_key, _Origin.NEW_KEY if key_is_new else _Origin.LOST))


def open_history(folder: Path, voting_key: bytes) -> "SigningHistory":
    """The history of `voting_key`, locked for this process.

    Raises `HistoryMissing`, `HistoryLocked` or `HistoryDamaged`.
    """
    path = history_path(folder, voting_key)
    if not path.exists():
        raise HistoryMissing(_MISSING)
    try:
        storage = HistoryFile(path)
    except OSError as error:
        raise _unwritable(error, f"{path} cannot be opened") from error
    try:
        return SigningHistory(storage, voting_key)
    except HistoryDamaged as error:
        storage.close()
        raise HistoryDamaged(
            f"{error}. {path} cannot be trusted, nor can an older copy, which forgets newer signatures: move it away "
            "and, if no other node signs with this key, start once with --new-signing-history"
        ) from error
    except OSError as error:
        storage.close()
        raise _unwritable(error, f"{path} cannot be used") from error
    except BaseException:
        storage.close()
        raise


class SigningHistory:
    """Guards one voting key, and the ML-DSA key beside it. Safe to call from several threads."""

    def __init__(self, storage: HistoryStorage, voting_key: bytes) -> None:
        data = storage.load()
        if data is None:
            raise HistoryMissing(_MISSING)
        self._storage = storage
        self._lock = threading.Lock()
        self._is_broken = False
        self._header = data[:_HEADER_BYTES]
        self._origin = _decode_header(data, voting_key)
        self._chains: dict[bytes, ChainHistory] = {}
        valid_bytes = _HEADER_BYTES
        for body, end in _split_records(data):
            self._replay(body, end)
            valid_bytes = end
        self.truncated_bytes = len(data) - valid_bytes
        """Length of the incomplete last record that a crash left and that was cut off."""
        if len(data) > _HEADER_BYTES:
            # What a process that died had appended can be read before it is durable, even after a failed sync: a
            # signature must not be given from it until it is. Writing anew also cuts a torn end off.
            storage.replace(data[:valid_bytes])
        self._log_bytes = self._compacted_bytes = valid_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def sign(self, message: SignedMessage, make_signature: Callable[[bytes], bytes]) -> bytes:
        """The signature on `message`: the stored one, or a new one whose record is durable.

        `make_signature` receives the sign bytes. Raises `RefusedToSign` or `HistoryUnwritable`.
        """
        sign_bytes = encode_message(message)
        # The rules judge what the bytes say, as every other node will, whatever types the caller used.
        message = decode_message(sign_bytes)
        with self._lock:
            chain = self._chain(message.genesis_hash)
            match decide(chain, message):
                case Refuse(reason):
                    raise RefusedToSign(reason)
                case ReturnStored(signature):
                    return signature
                case SignNew():
                    signed = Signed(message, make_signature(sign_bytes))
                    self._write(signed)
                    self._chains[message.genesis_hash] = record(chain, signed)
                    return signed.signature

    def set_floor(self, genesis_hash: bytes, height: int) -> None:
        """Allow `height` and above on a chain whose earlier signatures may be lost.

        A floor never sinks: a second, lower one changes nothing.
        """
        with self._lock:
            chain = self._chain(genesis_hash)
            raised = raise_floor(chain, height)
            if raised != chain:
                self._write(_Floor(genesis_hash, height))
                self._chains[genesis_hash] = raised

    def needs_floor(self, genesis_hash: bytes) -> bool:
        """Whether the chain's earlier signatures may be lost: nothing is signed on it before `set_floor`."""
        return not self.state(genesis_hash).is_intact

    def state(self, genesis_hash: bytes) -> HistoryState:
        """What a driver needs to know before it starts on a chain."""
        chain = self.chain(genesis_hash)
        return HistoryState(chain.floor, chain.height)

    def is_foreign(self, message: ProposalMessage | VoteMessage) -> bool:
        """Whether `message`, which bears our valid signature, was signed elsewhere (signing_rules.is_foreign)."""
        return is_foreign(self.chain(message.genesis_hash), message)

    def chain(self, genesis_hash: bytes) -> ChainHistory:
        """What the history holds of one chain."""
        with self._lock:
            return self._chain(genesis_hash)

    def stored_signature(self, message: SignedMessage) -> bytes | None:
        """The signature if exactly this was signed and is still remembered; for the doppelganger check."""
        decision = decide(self.chain(message.genesis_hash), message)
        return decision.signature if isinstance(decision, ReturnStored) else None

    def close(self) -> None:
        with self._lock:
            self._is_broken = True
            self._storage.close()

    def _chain(self, genesis_hash: bytes) -> ChainHistory:
        chain = self._chains.get(genesis_hash)
        if chain is not None:
            return chain
        if len(self._chains) >= _MAX_CHAINS:
            raise RefusedToSign(f"the signing history holds {_MAX_CHAINS} chains already")
        return ChainHistory(floor=1 if self._origin is _Origin.NEW_KEY else None)

    def _write(self, entry: _Entry) -> None:
        if self._is_broken:
            raise HistoryUnwritable("signing history: closed, or an earlier write failed; restart the validator")
        encoded = _encode_record(entry)
        try:
            self._storage.append(encoded)
            self._storage.sync()
            self._log_bytes += len(encoded)
            if self._log_bytes > 2 * self._compacted_bytes + _COMPACT_AFTER_BYTES:
                self._compact(entry)
        except OSError as error:
            # After a failed sync the kernel may have dropped the pages: nothing can be known but by reading anew.
            self._is_broken = True
            raise _unwritable(error, "nothing more is signed") from error

    def _compact(self, latest: _Entry) -> None:
        """Rewrite the log with what the rules need. `latest` is in the log and not yet in the state."""
        entries = [entry for genesis, chain in self._chains.items() for entry in _entries_of(genesis, chain)]
        data = self._header + b"".join(_encode_record(entry) for entry in (*entries, latest))
        self._storage.replace(data)
        self._log_bytes = self._compacted_bytes = len(data)

    def _replay(self, body: bytes, position: int) -> None:
        try:
            entry = _decode_body(body)
        except DecodeError as error:
            raise HistoryDamaged(f"signing history: the record that ends at byte {position}: {error}") from error
        match entry:
            case _Floor(genesis_hash, height):
                self._chains[genesis_hash] = raise_floor(self._chain(genesis_hash), height)
            case Signed(message):
                chain = self._chain(message.genesis_hash)
                if not isinstance(decide(chain, message), SignNew):
                    raise HistoryDamaged(
                        f"signing history: the record that ends at byte {position} ({describe(message)}) "
                        "contradicts what stands before it"
                    )
                self._chains[message.genesis_hash] = record(chain, entry)


def _unwritable(error: OSError, consequence: str) -> HistoryUnwritable:
    hint = " (the disk is full: make room)" if error.errno in _NO_SPACE else ""
    return HistoryUnwritable(f"signing history: {error.strerror or error}{hint}; {consequence}")


def _entries_of(genesis_hash: bytes, chain: ChainHistory) -> list[_Entry]:
    """Records that rebuild `chain`, in an order that the rules accept: a floor may have risen above what was signed."""
    if chain.floor is None:
        return []
    lowest: list[_Entry] = [_Floor(genesis_hash, min(1, chain.floor))]
    signed = [chain.checkpoint, *chain.signed] if chain.checkpoint else list(chain.signed)
    return lowest + signed + [_Floor(genesis_hash, chain.floor)]


def _encode_header(voting_key: bytes, origin: _Origin) -> bytes:
    """Magic 8, voting key 48, origin 1, CRC-32 of these 4."""
    header = _MAGIC + voting_key + bytes([origin])
    return header + zlib.crc32(header).to_bytes(4, "big")


def _decode_header(data: bytes, voting_key: bytes) -> _Origin:
    header = data[:_HEADER_BYTES]
    # The header is put in place whole; no crash shortens it.
    if len(header) < _HEADER_BYTES or zlib.crc32(header[:-4]) != int.from_bytes(header[-4:], "big"):
        raise HistoryDamaged("signing history: its first bytes are damaged")
    if header[:8] != _MAGIC:
        raise HistoryDamaged(f"signing history: expected the format {_MAGIC!r}, found {header[:8]!r}")
    if header[8:56] != voting_key:
        raise HistoryDamaged(f"signing history: belongs to the voting key 0x{header[8:56].hex()}")
    return _Origin(header[56])


def _encode_record(entry: _Entry) -> bytes:
    """Body length 4, CRC-32 of the length 4, CRC-32 of the body 4, body.

    Body of a signature: kind 1, sign bytes' length 2, sign bytes, signature. Of a floor: kind 1, genesis hash 32,
    height 8.
    """
    match entry:
        case Signed(message, signature):
            sign_bytes = encode_message(message)
            body = bytes([_Kind.SIGNATURE]) + len(sign_bytes).to_bytes(2, "big") + sign_bytes + signature
        case _Floor(genesis_hash, height):
            body = bytes([_Kind.FLOOR]) + genesis_hash + height.to_bytes(8, "big")
    length = len(body).to_bytes(4, "big")
    return length + zlib.crc32(length).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


def _split_records(data: bytes) -> list[tuple[bytes, int]]:
    """Bodies with the positions where they end. An incomplete last record is left out, all else is damage.

    The length has its own checksum: a flipped bit in it must not make the records behind it look like a tail.
    """
    records = []
    position = _HEADER_BYTES
    while len(data) - position >= _FRAME_BYTES:
        length_bytes, length_crc, body_crc = (data[position + at : position + at + 4] for at in (0, 4, 8))
        length = int.from_bytes(length_bytes, "big")
        if zlib.crc32(length_bytes) != int.from_bytes(length_crc, "big") or length > _MAX_BODY_BYTES:
            raise HistoryDamaged(f"signing history: the record at byte {position} has a damaged length")
        end = position + _FRAME_BYTES + length
        if end > len(data):
            break
        body = data[position + _FRAME_BYTES : end]
        if zlib.crc32(body) != int.from_bytes(body_crc, "big"):
            raise HistoryDamaged(f"signing history: the record at byte {position} does not match its checksum")
        records.append((body, end))
        position = end
    return records


def _decode_body(body: bytes) -> _Entry:
    reader = WireReader(body)
    kind = reader.unsigned(1, "kind")
    if kind == _Kind.SIGNATURE:
        message = decode_message(reader.take(reader.unsigned(2, "sign_bytes"), "sign_bytes"))
        return Signed(message, reader.rest())
    if kind == _Kind.FLOOR:
        floor = _Floor(reader.take(32, "genesis_hash"), reader.unsigned(8, "height"))
        reader.finish()
        return floor
    raise DecodeError("kind", "1 or 2", str(kind))
