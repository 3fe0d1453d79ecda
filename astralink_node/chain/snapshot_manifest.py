"""What a snapshot says beside its state: the block that it was taken after, and what the next block refers to.

Everything in it follows from the block's hash, so one believed hash makes all of it believable. Only `ancestors`
older than the headers that come along need somebody who believes them (services.snapshot_trust). Nothing here
touches a database: the receiving node checks a manifest before it trusts its block, execution before it imports.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from astralink_node.crypto import bls
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm import rlp
from astralink_node.evm.blocks import (
    Header,
    MalformedBlock,
    SealedBlock,
    decode_block,
    decode_header,
)
from astralink_node.state.trie import ordered_root
from astralink_node.types import EMPTY_TRIE_ROOT
from consensus.certificate import CertificateError, decode_certificate, verify_commit
from consensus.checkpoint import NO_CHECKPOINT_EPOCH, decode_checkpoint
from consensus.epoch import is_last
from consensus.payload import ConsensusPayload, decode_payload, payload_root
from consensus.proposer_selection import Priorities, decode_priorities, priorities_hash
from consensus.validator_set import ValidatorSet, decode_validator_set
from consensus.wire import DecodeError

MAX_MANIFEST_BYTES: Final = 32 << 20
"""A whole block with its receipts, checkpoint, headers and ancestors; a longer one is not offered."""
HEADERS: Final = 256
"""As many as BLOCKHASH reaches."""
MAX_TRANSACTIONS: Final = 100_000
"""In the block, more than any gas limit in use allows: what a root is computed over is bounded before it is."""
MAX_ANCESTORS: Final = 64
"""The newest are kept."""


class ManifestRefused(Exception):
    """A manifest whose parts do not belong together. `rule` is a stable short name, the rest are facts."""

    def __init__(self, rule: str, expected: object, found: object) -> None:
        super().__init__(f"{rule}: expected {_shown(expected)}, found {_shown(found)}")
        self.rule = rule
        self.expected = _shown(expected)
        self.found = _shown(found)


@dataclass(frozen=True, slots=True)
class Ancestor:
    """An earlier block that later ones may refer to: a set began to vote, or an epoch without checkpoint ended."""

    raw_header: bytes
    raw_payload: bytes
    certificate: bytes
    voting_set: bytes
    next_set: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """Fields named `raw_*` and sets, certificates, priorities and checkpoint hold their encodings."""

    raw_block: bytes
    """The block after which the state was taken: an epoch's last."""
    certificate: bytes
    raw_receipts: tuple[bytes, ...]
    raw_headers: tuple[bytes, ...]
    """Of the 256 heights below, ascending; fewer near genesis, which is then the first."""
    voting_set: bytes
    """Voted on the block."""
    next_set: bytes
    """Votes on the next two heights: an epoch is longer."""
    priorities: bytes
    """Before the block's height."""
    checkpoint: bytes
    """The newest that a block carries, this one included; empty if none does."""
    ancestors: tuple[Ancestor, ...]
    """Ascending, below the block, at most 64."""


@dataclass(frozen=True, slots=True)
class CheckedAncestor:
    header: Header
    parts: Ancestor
    is_linked: bool
    """One of the manifest's own headers, and so as good as the block."""


@dataclass(frozen=True, slots=True)
class CheckedManifest:
    """Parts that belong together: as trustworthy as the block's hash, but for ancestors that are not linked."""

    sealed: SealedBlock
    payload: ConsensusPayload
    headers: tuple[Header, ...]
    voting_set: ValidatorSet
    next_set: ValidatorSet
    priorities: Priorities
    checkpoint_epoch: int
    ancestors: tuple[CheckedAncestor, ...]

    @property
    def header(self) -> Header:
        return self.sealed.block.header


# --- Bytes -------------------------------------------------------------------------------------------------------


def encode_manifest(manifest: Manifest) -> bytes:
    """RLP of the fields in order, tuples and ancestors as lists."""
    ancestors: list[rlp.Item] = [
        [one.raw_header, one.raw_payload, one.certificate, one.voting_set, one.next_set] for one in manifest.ancestors
    ]
    return rlp.encode(
        [
            manifest.raw_block,
            manifest.certificate,
            list(manifest.raw_receipts),
            list(manifest.raw_headers),
            manifest.voting_set,
            manifest.next_set,
            manifest.priorities,
            manifest.checkpoint,
            ancestors,
        ]
    )


def decode_manifest(raw: bytes) -> Manifest:
    """Strict and bounded. Raises ManifestRefused with rule `encoding`."""
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ManifestRefused("encoding", f"at most {MAX_MANIFEST_BYTES} bytes", len(raw))
    try:
        fields = rlp.decode_list(raw)
    except rlp.MalformedRlp as error:
        raise ManifestRefused("encoding", "canonical RLP", error) from error
    match fields:
        case [
            bytes() as raw_block,
            bytes() as certificate,
            list() as receipts,
            list() as headers,
            bytes() as voting_set,
            bytes() as next_set,
            bytes() as priorities,
            bytes() as checkpoint,
            list() as ancestors,
        ]:
            return Manifest(
                raw_block,
                certificate,
                _strings(receipts, "receipts"),
                _strings(headers, "headers"),
                voting_set,
                next_set,
                priorities,
                checkpoint,
                tuple(_ancestor(item) for item in ancestors),
            )
        case _:
            raise ManifestRefused("encoding", "the nine fields of a manifest", f"{len(fields)} of another kind")


def _strings(items: list[rlp.Item], what: str) -> tuple[bytes, ...]:
    strings = tuple(item for item in items if isinstance(item, bytes))
    if len(strings) != len(items):
        raise ManifestRefused("encoding", f"{what} that are byte strings", "a list")
    return strings


def _ancestor(item: rlp.Item) -> Ancestor:
    parts = _strings(item, "the parts of an ancestor") if isinstance(item, list) else ()
    if len(parts) != 5:
        raise ManifestRefused("encoding", "an ancestor of 5 parts", len(parts))
    return Ancestor(*parts)


# --- Whether its parts belong together ---------------------------------------------------------------------------


def check_manifest(manifest: Manifest, genesis_hash: bytes, epoch_length: int) -> CheckedManifest:
    """Raises ManifestRefused unless the block's hash commits to all parts and its voting set made it final."""
    if len(manifest.raw_headers) > HEADERS:
        raise ManifestRefused("headers", f"at most {HEADERS}", len(manifest.raw_headers))
    try:
        sealed = decode_block(manifest.raw_block)
        payload = decode_payload(sealed.raw_payload)
        voting_set, next_set = decode_validator_set(manifest.voting_set), decode_validator_set(manifest.next_set)
        priorities = decode_priorities(manifest.priorities)
        headers = tuple(decode_header(raw) for raw in manifest.raw_headers)
    except (MalformedBlock, DecodeError) as error:
        raise ManifestRefused("encoding", error.expected, error.found) from error
    header = sealed.block.header
    _check_body(sealed, payload, manifest.raw_receipts)
    if header.number < 1 or not is_last(header.number, epoch_length):
        raise ManifestRefused("height", f"an epoch's last, of {epoch_length} heights", header.number)
    _expect("voting_set", payload.voting_set_hash, voting_set.hash)
    _expect("next_set", payload.next_set_hash, next_set.hash)
    _expect("priorities", payload.priorities_hash, priorities_hash(priorities))
    _check_certificate(manifest.certificate, header, voting_set, genesis_hash)
    _check_headers(header, headers, genesis_hash)
    return CheckedManifest(
        sealed,
        payload,
        headers,
        voting_set,
        next_set,
        priorities,
        _checkpoint_epoch(manifest.checkpoint, payload),
        _check_ancestors(manifest.ancestors, header.number, {one.hash for one in headers}),
    )


def _check_body(sealed: SealedBlock, payload: ConsensusPayload, raw_receipts: Sequence[bytes]) -> None:
    header, block = sealed.block.header, sealed.block
    _expect("payload", header.parent_beacon_block_root, payload_root(payload))
    count = len(block.raw_transactions)
    if count > MAX_TRANSACTIONS or len(raw_receipts) != count or block.withdrawals:
        found = f"{count}, {len(raw_receipts)} receipts, {len(block.withdrawals)} withdrawals"
        raise ManifestRefused(
            "body", f"at most {MAX_TRANSACTIONS} transactions with a receipt each, no withdrawals", found
        )
    _expect("transactions", header.transactions_root, ordered_root(block.raw_transactions))
    _expect("withdrawals", header.withdrawals_root, EMPTY_TRIE_ROOT)
    _expect("receipts", header.receipts_root, ordered_root(raw_receipts))


def _check_certificate(encoded: bytes, header: Header, voting_set: ValidatorSet, genesis_hash: bytes) -> None:
    try:
        verify_commit(
            decode_certificate(encoded),
            header.number,
            header.hash,
            voting_set,
            genesis_hash,
            bls.fast_aggregate_verify,
        )
    except (DecodeError, CertificateError) as error:
        raise ManifestRefused("certificate", error.expected, error.found) from error


def _check_headers(header: Header, headers: Sequence[Header], genesis_hash: bytes) -> None:
    expected_count = min(HEADERS, header.number)
    if len(headers) != expected_count:
        raise ManifestRefused("headers", f"{expected_count} below block {header.number}", len(headers))
    for parent, child in pairwise((*headers, header)):
        if child.parent_hash != parent.hash or child.number != parent.number + 1:
            raise ManifestRefused("headers", f"the parent of block {child.number}", parent.hash)
    if headers[0].number == 0:
        _expect("genesis", genesis_hash, headers[0].hash)


def _checkpoint_epoch(encoded: bytes, payload: ConsensusPayload) -> int:
    if not encoded:
        _expect("checkpoint", payload.checkpoint_hash, bytes(32))
        return NO_CHECKPOINT_EPOCH
    _expect("checkpoint", payload.checkpoint_hash, keccak256(encoded))
    try:
        return decode_checkpoint(encoded).epoch
    except DecodeError as error:
        raise ManifestRefused("checkpoint", error.expected, error.found) from error


def _check_ancestors(ancestors: Sequence[Ancestor], height: int, linked: set[bytes]) -> tuple[CheckedAncestor, ...]:
    if len(ancestors) > MAX_ANCESTORS:
        raise ManifestRefused("ancestors", f"at most {MAX_ANCESTORS}", len(ancestors))
    checked: list[CheckedAncestor] = []
    lowest = 1
    for parts in ancestors:
        try:
            header, payload = decode_header(parts.raw_header), decode_payload(parts.raw_payload)
            sets = decode_validator_set(parts.voting_set), decode_validator_set(parts.next_set)
        except (MalformedBlock, DecodeError) as error:
            raise ManifestRefused("ancestors", error.expected, error.found) from error
        if not lowest <= header.number < height:
            raise ManifestRefused("ancestors", f"heights from {lowest} to {height - 1}", header.number)
        lowest = header.number + 1
        _expect("ancestors", header.parent_beacon_block_root, payload_root(payload))
        _expect("ancestors", (payload.voting_set_hash, payload.next_set_hash), (sets[0].hash, sets[1].hash))
        checked.append(CheckedAncestor(header, parts, header.hash in linked))
    return tuple(checked)


def _expect(rule: str, expected: object, found: object) -> None:
    if expected != found:
        raise ManifestRefused(rule, expected, found)


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
