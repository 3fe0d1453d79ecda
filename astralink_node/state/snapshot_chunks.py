"""A state cut into chunks, each proven alone: accounts in the order of their hashed addresses, each with all its slots.

Whoever asks says where a chunk begins and up to which account it may go; whoever answers says how far it came. The
entries between are proven complete by `range_proofs` against the state root, slots against their account's storage
root, code by its hash. What does not fit goes into the next chunk, also in the middle of an account's slots.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.state.accounts import decode_account, encode_integer
from astralink_node.state.errors import StateDamaged
from astralink_node.state.range_proofs import (
    FIRST_KEY,
    KEY_BYTES,
    LAST_KEY,
    RangeRefused,
    nodes_by_hash,
    prove_range,
    verify_range,
)
from astralink_node.state.reverse_diffs import HistoricalReader
from astralink_node.storage.keys import (
    ACCOUNT_NODES,
    account_key,
    code_key,
    storage_key,
    storage_nodes_prefix,
)
from astralink_node.types import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, Hash32

TARGET_BYTES: Final = 1 << 20
"""A chunk takes no further entry once it is as long as this."""
MAX_CHUNK_BYTES: Final = TARGET_BYTES + (1 << 18)
"""A last entry with its code, and the boundary's nodes, may stand above it; a longer chunk is refused unread."""

_COMPLETE: Final = 1
_CUT: Final = 2
_ENTRIES_PER_INTERRUPT: Final = 256


@dataclass(frozen=True, slots=True)
class Position:
    """Where in a state a chunk begins."""

    account: bytes
    """The lowest hashed address that may stand in the chunk."""
    slot: bytes = FIRST_KEY
    """If that account's first slots stood in the chunk before: the lowest hashed slot that is still missing."""


@dataclass(frozen=True, slots=True)
class ChunkAccount:
    address_hash: bytes
    raw_account: bytes
    """The leaf of the account trie."""
    slots: tuple[tuple[bytes, bytes], ...]
    """(hashed slot, value without leading zeros), ascending."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What travels; believed only after :func:`verify_chunk`."""

    accounts: tuple[ChunkAccount, ...]
    is_complete: bool
    """Nothing is left up to the last account that was asked for."""
    is_cut: bool
    """The last account has further slots."""
    codes: tuple[bytes, ...]
    """Of the accounts that begin here, each once, in the order in which they are first met."""
    nodes: tuple[bytes, ...]
    """Trie nodes on the boundaries."""


@dataclass(frozen=True, slots=True)
class VerifiedChunk:
    writes: dict[bytes, bytes | None]
    """Flat entries and codes by database key."""
    next_position: Position | None
    """None: everything up to the last account that was asked for is here."""


# --- Reading -----------------------------------------------------------------------------------------------------


def read_chunk(
    reader: HistoricalReader,
    state_root: Hash32,
    start: Position,
    last_account: bytes,
    interrupt: Callable[[], None],
    target_bytes: int = TARGET_BYTES,
) -> Chunk | None:
    """The chunk that begins at `start`. None if it begins in the middle of an account that is not there.

    `interrupt` is called now and then. Raises StateDamaged if the database does not hold what `state_root` says.
    """
    collected = _Collected(reader, start, target_bytes, interrupt)
    is_complete = True
    for key, raw_account in reader.entries(account_key(start.account), account_key(last_account) + b"\x00"):
        if collected.size >= target_bytes:
            is_complete = False
            break
        if start.slot != FIRST_KEY and not collected.accounts and key[1:] != start.account:
            return None
        collected.add(key[1:], raw_account)
        if collected.is_cut:
            is_complete = False
            break
    if start.slot != FIRST_KEY and not collected.accounts:
        return None
    covered = last_account if is_complete else collected.accounts[-1].address_hash
    nodes = prove_range(reader.get, ACCOUNT_NODES, state_root, start.account, covered)
    for address_hash, storage_root, first, last in collected.partial:
        nodes |= prove_range(reader.get, storage_nodes_prefix(address_hash), storage_root, first, last)
    return Chunk(
        tuple(collected.accounts), is_complete, collected.is_cut, tuple(collected.codes.values()), tuple(nodes.values())
    )


class _Collected:
    """A chunk while it grows."""

    __slots__ = ("_interrupt", "_reader", "_start", "_target", "accounts", "codes", "is_cut", "partial", "size")

    def __init__(
        self, reader: HistoricalReader, start: Position, target_bytes: int, interrupt: Callable[[], None]
    ) -> None:
        self._reader = reader
        self._start = start
        self._target = target_bytes
        self._interrupt = interrupt
        self.accounts: list[ChunkAccount] = []
        self.codes: dict[bytes, bytes] = {}
        self.partial: list[tuple[bytes, Hash32, bytes, bytes]] = []
        """(address hash, storage root, first slot, last slot) where not all slots are here."""
        self.is_cut = False
        self.size = 0

    def add(self, address_hash: bytes, raw_account: bytes) -> None:
        account = decode_account(raw_account)
        first = self._start.slot if address_hash == self._start.account else FIRST_KEY
        self.size += KEY_BYTES + 5 + len(raw_account)
        if account.code_hash != EMPTY_CODE_HASH and first == FIRST_KEY:
            self._add_code(account.code_hash)
        slots: list[tuple[bytes, bytes]] = []
        if account.storage_root != EMPTY_TRIE_ROOT:
            self._add_slots(address_hash, first, slots)
        if self.is_cut or first != FIRST_KEY:
            last = slots[-1][0] if self.is_cut else LAST_KEY
            self.partial.append((address_hash, account.storage_root, first, last))
        self.accounts.append(ChunkAccount(address_hash, raw_account, tuple(slots)))
        if len(self.accounts) % _ENTRIES_PER_INTERRUPT == 0:
            self._interrupt()

    def _add_code(self, code_hash: bytes) -> None:
        if code_hash in self.codes:
            return
        code = self._reader.get(code_key(code_hash))
        if code is None:
            raise StateDamaged(f"code {code_hash.hex()}", "its bytes", "nothing")
        self.codes[code_hash] = code
        self.size += len(code)

    def _add_slots(self, address_hash: bytes, first: bytes, slots: list[tuple[bytes, bytes]]) -> None:
        for key, value in self._reader.entries(
            storage_key(address_hash, first), storage_key(address_hash, LAST_KEY) + b"\x00"
        ):
            if slots and self.size >= self._target:
                self.is_cut = True
                return
            slots.append((key[-KEY_BYTES:], value))
            self.size += KEY_BYTES + 1 + len(value)
            if len(slots) % _ENTRIES_PER_INTERRUPT == 0:
                self._interrupt()


# --- Verifying ---------------------------------------------------------------------------------------------------


def verify_chunk(chunk: Chunk, state_root: Hash32, start: Position, last_account: bytes) -> VerifiedChunk:
    """Raises RangeRefused unless the chunk holds all that stands from `start` to where it says that it ends."""
    accounts = chunk.accounts
    if (chunk.is_complete and chunk.is_cut) or not (chunk.is_complete or accounts):
        raise RangeRefused("end", "a chunk that is complete, or ends at an account", "both or neither")
    if start.slot != FIRST_KEY and (not accounts or accounts[0].address_hash != start.account):
        raise RangeRefused("begin", f"slots of account {start.account.hex()}", "another account")
    nodes = nodes_by_hash(chunk.nodes)
    covered = last_account if chunk.is_complete else accounts[-1].address_hash
    leaves = [(account.address_hash, account.raw_account) for account in accounts]
    used = verify_range(state_root, start.account, covered, leaves, nodes)
    writes: dict[bytes, bytes | None] = {}
    wanted_codes: dict[bytes, None] = {}
    for index, account in enumerate(accounts):
        first = start.slot if account.address_hash == start.account else FIRST_KEY
        is_cut = chunk.is_cut and index == len(accounts) - 1
        decoded = decode_account(account.raw_account)
        writes[account_key(account.address_hash)] = account.raw_account
        if account.slots or decoded.storage_root != EMPTY_TRIE_ROOT:
            used |= _verify_slots(account, decoded.storage_root, first, nodes, is_cut=is_cut)
            for slot_hash, value in account.slots:
                writes[storage_key(account.address_hash, slot_hash)] = value
        elif is_cut:
            raise RangeRefused("cut", "an account with slots", account.address_hash.hex())
        if decoded.code_hash != EMPTY_CODE_HASH and first == FIRST_KEY:
            wanted_codes[decoded.code_hash] = None
    _add_codes(chunk.codes, wanted_codes, writes)
    if len(used) != len(chunk.nodes):
        raise RangeRefused("nodes", f"{len(used)} nodes on the boundaries", f"{len(chunk.nodes)}")
    return VerifiedChunk(writes, _next_position(chunk, last_account))


def _verify_slots(
    account: ChunkAccount, storage_root: Hash32, first: bytes, nodes: dict[bytes, bytes], *, is_cut: bool
) -> set[bytes]:
    if is_cut and not account.slots:
        raise RangeRefused("cut", "at least one slot before the cut", "none")
    for slot_hash, value in account.slots:
        if not 1 <= len(value) <= 32 or not value[0]:
            raise RangeRefused("slot", f"a value of {slot_hash.hex()} without leading zeros", value.hex())
    leaves = [(slot_hash, encode_integer(int.from_bytes(value, "big"))) for slot_hash, value in account.slots]
    return verify_range(storage_root, first, account.slots[-1][0] if is_cut else LAST_KEY, leaves, nodes)


def _add_codes(codes: tuple[bytes, ...], wanted: Iterable[bytes], writes: dict[bytes, bytes | None]) -> None:
    expected, found = list(wanted), [keccak256(code) for code in codes]
    if found != expected:
        at = next((i for i, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), len(found))
        raise RangeRefused("code", f"{len(expected)} codes, each what its account says", f"another one at {at}")
    for code_hash, code in zip(found, codes, strict=True):
        writes[code_key(code_hash)] = code


def _next_position(chunk: Chunk, last_account: bytes) -> Position | None:
    if chunk.is_complete:
        return None
    account = chunk.accounts[-1]
    if chunk.is_cut:
        return Position(account.address_hash, _after(account.slots[-1][0]))
    if account.address_hash == last_account:
        raise RangeRefused("end", "a complete chunk, since its last account was reached", "an incomplete one")
    return Position(_after(account.address_hash))


def _after(key: bytes) -> bytes:
    if key == LAST_KEY:
        raise RangeRefused("end", "something above the last key", "nothing can stand there")
    return (int.from_bytes(key, "big") + 1).to_bytes(KEY_BYTES, "big")


# --- Bytes -------------------------------------------------------------------------------------------------------


def encode_chunk(chunk: Chunk) -> bytes:
    """Flags u8 (1 complete, 2 cut); u32 accounts: hash 32, leaf with u8 length, u32 slots: hash 32, value with u8
    length; u16 codes with u16 lengths; u16 nodes with u16 lengths."""
    parts = [
        bytes([_COMPLETE * chunk.is_complete | _CUT * chunk.is_cut]),
        len(chunk.accounts).to_bytes(4, "big"),
    ]
    for account in chunk.accounts:
        parts.append(account.address_hash + bytes([len(account.raw_account)]) + account.raw_account)
        parts.append(len(account.slots).to_bytes(4, "big"))
        parts.extend(slot_hash + bytes([len(value)]) + value for slot_hash, value in account.slots)
    for blobs in (chunk.codes, chunk.nodes):
        parts.append(len(blobs).to_bytes(2, "big"))
        parts.extend(len(blob).to_bytes(2, "big") + blob for blob in blobs)
    return b"".join(parts)


def decode_chunk(data: bytes) -> Chunk:
    """The inverse of :func:`encode_chunk`. Raises RangeRefused with rule `encoding`."""
    if len(data) > MAX_CHUNK_BYTES:
        raise RangeRefused("encoding", f"at most {MAX_CHUNK_BYTES} bytes", str(len(data)))
    reader = _ChunkReader(data)
    flags = reader.integer(1)
    if flags > _COMPLETE | _CUT:
        raise RangeRefused("encoding", "flags of a chunk", str(flags))
    accounts = tuple(reader.account() for _ in range(reader.integer(4)))
    codes = tuple(reader.blob(2) for _ in range(reader.integer(2)))
    nodes = tuple(reader.blob(2) for _ in range(reader.integer(2)))
    if reader.position != len(data):
        raise RangeRefused("encoding", "no more bytes", f"{len(data) - reader.position} more")
    return Chunk(accounts, bool(flags & _COMPLETE), bool(flags & _CUT), codes, nodes)


class _ChunkReader:
    """Front to back; a count that promises more than there is ends at the first value that is missing."""

    __slots__ = ("_data", "position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def take(self, length: int) -> bytes:
        start, self.position = self.position, self.position + length
        if self.position > len(self._data):
            raise RangeRefused("encoding", f"{length} bytes at {start}", f"{len(self._data) - start}")
        return self._data[start : self.position]

    def integer(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def blob(self, length_bytes: int) -> bytes:
        return self.take(self.integer(length_bytes))

    def account(self) -> ChunkAccount:
        address_hash, raw_account = self.take(KEY_BYTES), self.blob(1)
        slots = tuple((self.take(KEY_BYTES), self.blob(1)) for _ in range(self.integer(4)))
        return ChunkAccount(address_hash, raw_account, slots)
