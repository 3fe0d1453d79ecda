"""The only place that knows how database keys are laid out.

A key is one byte naming the table, then the fields. Heights and positions are big-endian, so that key order is
height order. State is keyed by hashes, as Ethereum's tries are: every flat entry has the key of its trie leaf.
A trie node is keyed by its place, not by its hash: the owner (nothing for the account trie, keccak(address) for
a storage trie) and the path from the root, one ASCII hex digit a nibble; a node that changes is replaced.
"""

from collections.abc import Sequence
from struct import pack, unpack
from typing import Final

FORMAT_VERSION: Final = 1
"""Raised by every change to this module or to a stored value that an older node would misread."""

# --- Tables ---------------------------------------------------------------------------------------------------

META: Final = b"M"
HEADERS: Final = b"H"
HEIGHTS: Final = b"N"
BODIES: Final = b"B"
PAYLOADS: Final = b"P"
CERTIFICATES: Final = b"C"
RECEIPTS: Final = b"R"
TRANSACTIONS: Final = b"X"
LOGS: Final = b"L"
ACCOUNTS: Final = b"A"
STORAGE: Final = b"S"
CODES: Final = b"K"
ACCOUNT_NODES: Final = b"T"
STORAGE_NODES: Final = b"U"
DIFFS: Final = b"D"
DIFF_LISTS: Final = b"E"
VALIDATOR_SETS: Final = b"V"
PRIORITIES: Final = b"W"
CHECKPOINTS: Final = b"Q"
PROTOCOL_LOGS: Final = b"G"
APPEARANCES: Final = b"I"
CREATIONS: Final = b"O"
SENDER_NONCES: Final = b"J"
APPEARANCE_LISTS: Final = b"Y"

TABLE_NAMES: Final[dict[bytes, str]] = {
    META: "meta",
    HEADERS: "headers",
    HEIGHTS: "heights by block hash",
    BODIES: "bodies",
    PAYLOADS: "consensus payloads",
    CERTIFICATES: "local certificates",
    RECEIPTS: "receipts",
    TRANSACTIONS: "transaction index",
    LOGS: "log index",
    ACCOUNTS: "flat accounts",
    STORAGE: "flat storage",
    CODES: "codes",
    ACCOUNT_NODES: "account trie",
    STORAGE_NODES: "storage tries",
    DIFFS: "reverse diffs",
    DIFF_LISTS: "reverse diff lists",
    VALIDATOR_SETS: "validator sets",
    PRIORITIES: "proposer priorities",
    CHECKPOINTS: "checkpoint index",
    PROTOCOL_LOGS: "protocol logs",
    APPEARANCES: "explorer: addresses",
    CREATIONS: "explorer: contracts",
    SENDER_NONCES: "explorer: nonces",
    APPEARANCE_LISTS: "explorer: lists",
}
"""Every table, for `db stats` and `db check`."""

# --- Meta: one entry each -------------------------------------------------------------------------------------

FORMAT_KEY: Final = META + b"format"
"""FORMAT_VERSION as 4 bytes. Written with genesis, checked at every start."""

GENESIS_HASH_KEY: Final = META + b"genesis-hash"
GENESIS_FILE_KEY: Final = META + b"genesis-file"
"""The genesis file's bytes, as they were given."""

HEAD_KEY: Final = META + b"head"
"""The committed head: height (8 bytes), then block hash (32 bytes)."""

HEAD_TOUCHED_KEY: Final = META + b"head-touched"
"""The accounts that the head block touched: lets Commit answer the same again after a restart."""

OLDEST_STATE_KEY: Final = META + b"oldest-state"
"""The lowest height whose state can still be read (8 bytes); absent while nothing was pruned."""

OLDEST_BLOCK_KEY: Final = META + b"oldest-block"
"""The lowest height above genesis whose block is here (8 bytes): where a snapshot was imported; absent without one."""

IMPORTED_CHECKPOINT_KEY: Final = META + b"imported-checkpoint"
"""The newest checkpoint that a block carried when a snapshot was imported; that block itself is not here."""

IMPORT_KEY: Final = META + b"import"
"""The manifest of the snapshot that is being imported; absent when none is. The state is incomplete meanwhile."""

EXPLORER_COVERAGE_KEY: Final = META + b"explorer-coverage"
"""Which heights are in the explorer index, and how well (chain.explorer_coverage); absent while none is."""


def import_position_key(segment: int) -> bytes:
    """-> where the segment's next chunk begins: account 32 bytes, slot 32 bytes; empty when it is complete.

    Absent for all segments until the state that stood there before is gone."""
    return META + b"import-at" + bytes((segment,))


def encode_height(height: int) -> bytes:
    return height.to_bytes(8, "big")


def decode_height(raw_height: bytes) -> int:
    return int.from_bytes(raw_height, "big")


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """The bounds ``(start, stop)`` of all keys that begin with ``prefix`` (not empty, not all 0xff)."""
    head = prefix.rstrip(b"\xff")
    return prefix, head[:-1] + bytes((head[-1] + 1,))


# --- The chain ------------------------------------------------------------------------------------------------


def header_key(height: int) -> bytes:
    """-> the header's RLP."""
    return HEADERS + encode_height(height)


def height_key(block_hash: bytes) -> bytes:
    """-> the block's height, 8 bytes."""
    return HEIGHTS + block_hash


def body_key(height: int) -> bytes:
    """-> raw transactions and their senders."""
    return BODIES + encode_height(height)


def payload_key(height: int) -> bytes:
    """-> the consensus payload."""
    return PAYLOADS + encode_height(height)


def certificate_key(height: int) -> bytes:
    """-> the commit certificate that this node saw; other nodes' may differ."""
    return CERTIFICATES + encode_height(height)


def receipts_key(height: int) -> bytes:
    """-> all receipts of the block."""
    return RECEIPTS + encode_height(height)


def transaction_key(transaction_hash: bytes) -> bytes:
    """-> height (8 bytes) and index in the block (4 bytes)."""
    return TRANSACTIONS + transaction_hash


def validator_set_key(height: int) -> bytes:
    """-> the set that votes from this height on, until an entry at a greater height replaces it."""
    return VALIDATOR_SETS + encode_height(height)


def priorities_key(height: int) -> bytes:
    """-> the proposer priorities before this height."""
    return PRIORITIES + encode_height(height)


def protocol_log_key(height: int) -> bytes:
    """-> what the protocol's own calls in the block emitted, and which failed; absent if they did neither."""
    return PROTOCOL_LOGS + encode_height(height)


def checkpoint_key(epoch: int) -> bytes:
    """-> height (8 bytes) of the block whose payload carries the epoch's quantum-safe checkpoint."""
    return CHECKPOINTS + epoch.to_bytes(8, "big")


def checkpoint_epoch(key: bytes) -> int:
    """The epoch in a key that :func:`checkpoint_key` made."""
    return int.from_bytes(key[len(CHECKPOINTS) :], "big")


# --- The log index: who emitted, or which topic stood at which position -> where -------------------------------


def log_address_prefix(address: bytes) -> bytes:
    return LOGS + b"a" + address


def log_topic_prefix(position: int, topic: bytes) -> bytes:
    """``position`` is 0 to 3: a topic is indexed together with its place in the log."""
    return LOGS + b"0123"[position : position + 1] + topic


def log_index_key(prefix: bytes, height: int) -> bytes:
    """One entry per prefix and block -> positions of the matching logs in the block (:func:`encode_positions`)."""
    return prefix + encode_height(height)


def log_index_height(key: bytes) -> int:
    """The height in a key that :func:`log_index_key` made."""
    return decode_height(key[-8:])


def encode_positions(positions: Sequence[int]) -> bytes:
    """Rising positions within a block, 4 bytes each."""
    return pack(f">{len(positions)}I", *positions)


def decode_positions(raw_positions: bytes) -> list[int]:
    return list(unpack(f">{len(raw_positions) // 4}I", raw_positions))


# --- The explorer index: what an address took part in ----------------------------------------------------------


def appearance_key(address: bytes, height: int) -> bytes:
    """One entry per address and block -> indices of the transactions (:func:`encode_positions`)."""
    return APPEARANCES + address + encode_height(height)


def appearance_height(key: bytes) -> int:
    """The height in a key that :func:`appearance_key` made."""
    return decode_height(key[-8:])


def creation_key(address: bytes) -> bytes:
    """-> the creating transaction's height (8 bytes) and index (4 bytes), and the creator (20 bytes)."""
    return CREATIONS + address


def sender_nonce_key(sender: bytes, nonce: int) -> bytes:
    """-> height (8 bytes) and index in the block (4 bytes) of the transaction."""
    return SENDER_NONCES + sender + nonce.to_bytes(8, "big")


def appearance_list_key(height: int) -> bytes:
    """-> the addresses that have an entry at this height, joined: for rollback. Kept as long as reverse diffs."""
    return APPEARANCE_LISTS + encode_height(height)


# --- State ----------------------------------------------------------------------------------------------------


def account_key(address_hash: bytes) -> bytes:
    """keccak(address) -> the account as its trie leaf holds it."""
    return ACCOUNTS + address_hash


def storage_key(address_hash: bytes, slot_hash: bytes) -> bytes:
    """keccak(address), keccak(slot as 32 bytes) -> the value, big-endian without leading zeros; never zero."""
    return STORAGE + address_hash + slot_hash


def storage_prefix(address_hash: bytes) -> bytes:
    """All flat storage of one account."""
    return STORAGE + address_hash


def code_key(code_hash: bytes) -> bytes:
    return CODES + code_hash


def storage_nodes_prefix(address_hash: bytes) -> bytes:
    """All nodes of one storage trie; a node's key is this and its path. The account trie's is ACCOUNT_NODES."""
    return STORAGE_NODES + address_hash


# --- Reverse diffs --------------------------------------------------------------------------------------------


def diff_key(key: bytes, height: int) -> bytes:
    """-> what ``key`` held before the block at ``height`` changed it; the length keeps a longer key's diffs apart."""
    return DIFFS + bytes((len(key),)) + key + height.to_bytes(8, "big")


def diff_list_key(height: int) -> bytes:
    """-> the keys that have a diff at this height: for rollback and pruning."""
    return DIFF_LISTS + encode_height(height)
