"""What catching up asks of execution: ranges of decided blocks, snapshots to serve, and a state to import.

Part of :mod:`astralink_node.chain.messages`, which takes these into its unions; nothing here does work. Questions
are for the socket of queries, so that helping others never delays block work; imports are block work.
"""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.chain.consensus_messages import Decided

# --- Questions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlocksQuestion:
    """Decided blocks from a height on; the selector is ignored, here and below."""

    from_height: int
    count: int
    max_bytes: int
    """The answer ends before the block that would exceed this, but holds one in any case."""


@dataclass(frozen=True, slots=True)
class BlocksAnswer:
    blocks: tuple[Decided, ...]
    """Consecutive; none if `from_height` is above the head."""
    head_height: int


@dataclass(frozen=True, slots=True)
class LightBlockQuestion:
    height: int


@dataclass(frozen=True, slots=True)
class LightBlockAnswer:
    """The parts of a light block, encoded."""

    raw_header: bytes
    raw_payload: bytes
    certificate: bytes
    voting_set: bytes
    next_set: bytes


@dataclass(frozen=True, slots=True)
class SnapshotHeightsQuestion:
    """Which heights' states can be served."""


@dataclass(frozen=True, slots=True)
class SnapshotHeights:
    heights: tuple[int, ...]
    """Ascending, at most two."""


@dataclass(frozen=True, slots=True)
class SnapshotManifestQuestion:
    height: int


@dataclass(frozen=True, slots=True)
class SnapshotManifest:
    raw_manifest: bytes
    """chain.snapshot_manifest encoding."""


@dataclass(frozen=True, slots=True)
class SnapshotChunkQuestion:
    """state.snapshot_chunks: the chunk that begins at (account, slot) and goes up to `last_account`."""

    height: int
    account: bytes
    slot: bytes
    last_account: bytes


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    raw_chunk: bytes


# --- Importing a state -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GetImport:
    """How far an import has come."""


@dataclass(frozen=True, slots=True)
class ImportBegin:
    """Import the state after a block that the node trusts; if an import of the same block runs, go on."""

    raw_manifest: bytes


@dataclass(frozen=True, slots=True)
class ImportChunk:
    """The next chunk of a segment: of the hashed addresses that begin with that hex digit."""

    segment: int
    raw_chunk: bytes


@dataclass(frozen=True, slots=True)
class ImportFinish:
    """Every segment is complete: build the tries, and make the block the head. The answer is the new Status."""


@dataclass(frozen=True, slots=True)
class ImportAbandon:
    """Forget what was imported: the database holds genesis again."""


@dataclass(frozen=True, slots=True)
class SegmentPosition:
    """Where a segment's next chunk begins."""

    segment: int
    account: bytes
    slot: bytes


@dataclass(frozen=True, slots=True)
class ImportProgress:
    height: int
    """Of the snapshot; 0 if none is being imported."""
    missing: tuple[SegmentPosition, ...] = ()
    """Segments that are not complete, ascending."""
    raw_manifest: bytes = b""
    """In answer to GetImport alone."""


@dataclass(frozen=True, slots=True)
class ImportRefused:
    """What was given is not what the block commits to. Nothing of it was kept."""

    rule: str
    expected: str
    found: str


SyncQuestion = (
    BlocksQuestion | LightBlockQuestion | SnapshotHeightsQuestion | SnapshotManifestQuestion | SnapshotChunkQuestion
)
SyncAnswer = BlocksAnswer | LightBlockAnswer | SnapshotHeights | SnapshotManifest | SnapshotChunk
ImportWork = GetImport | ImportBegin | ImportChunk | ImportFinish | ImportAbandon
ImportAnswer = ImportProgress | ImportRefused
