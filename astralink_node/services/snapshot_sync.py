"""Joins without replaying history: fetches the state of a recent epoch's end from several peers and has it imported.

Runs before the consensus driver, while the database holds nothing but genesis, and returns when the snapshot's block
is the head. What it has asked execution to import it believed first. A node that is killed goes on where it was, as
long as somebody still serves that snapshot; then it begins again with a newer one.
"""

from functools import partial
from typing import Final

import trio

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.import_segments import last_account
from astralink_node.chain.messages import Status
from astralink_node.chain.snapshot_manifest import (
    Manifest,
    ManifestRefused,
    check_manifest,
    decode_manifest,
    encode_manifest,
)
from astralink_node.chain.sync_messages import (
    GetImport,
    ImportAnswer,
    ImportBegin,
    ImportChunk,
    ImportFinish,
    ImportProgress,
    ImportRefused,
    SegmentPosition,
)
from astralink_node.clock import NowMs
from astralink_node.errors import AstraLinkError
from astralink_node.light_client import ForkDetected, LightBlock, LightBlockRefused
from astralink_node.log import Log
from astralink_node.services.offload import Offload
from astralink_node.services.peer_choice import PeerChoice
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.snapshot_trust import (
    JoiningRules,
    begin_trust,
    believe_manifest,
    check_trusting_period,
    light_block_of,
)
from astralink_node.services.sync_offences import Report, SyncOffence
from astralink_node.services.sync_protocols import CHUNK, LIGHT_BLOCK, MANIFEST
from consensus.evidence_forms import encode_any_evidence
from consensus.sync_wire import (
    MANIFEST_PART_BYTES,
    ChunkRequest,
    LightBlockRequest,
    ManifestReply,
    ManifestRequest,
    decode_light_block_reply,
    decode_manifest_reply,
    encode_chunk_request,
    encode_light_block_request,
    encode_manifest_request,
)
from consensus.wire import DecodeError
from p2p.peer_id import PeerId
from p2p.request_protocol import AsksPeers, Failure, RequestFailed, RequestProtocol

SNAPSHOT_FROM: Final = 2_000
"""Heights behind the furthest peer from which a node at genesis takes a snapshot; fewer are replayed in a minute."""
MAX_CHUNKS: Final = 8
"""Asked for at once."""
PAUSE_S: Final = 2.0
"""Before looking for a snapshot again where no peer has one that will do."""

_log = Log("snapshot")


class ImportFailed(AstraLinkError):
    """Execution refused what was verified, or its database lost something: a bug or a failing disk."""


class _Lie(Exception):
    def __init__(self, offence: SyncOffence, detail: str) -> None:
        super().__init__(detail)
        self.offence = offence


class SnapshotSync:
    """See the module's description. `execution` is the link of block work."""

    def __init__(
        self,
        requests: AsksPeers,
        execution: ExecutionLink,
        heads: PeerHeads,
        rules: JoiningRules,
        report: Report,
        now_ms: NowMs,
        offload: Offload,
    ) -> None:
        self._requests = requests
        self._execution = execution
        self._heads = heads
        self._rules = rules
        self._peers = PeerChoice(report)
        self._now_ms = now_ms
        self._offload = offload
        self.chunks = 0
        """Imported by this run, for people."""

    async def is_wanted(self) -> bool:
        """An import was interrupted, or the node is new and the chain long."""
        progress = await self._progress(GetImport())
        if progress.height:
            return True
        status = await self._execution.status()
        return status.head_height == 0 and self._heads.best() >= SNAPSHOT_FROM

    async def run(self) -> Status:
        """Returns where the database stands when the state is there. Raises TrustNeeded, ImportFailed."""
        progress = await self._progress(GetImport())
        while True:
            if not progress.height:
                progress = await self._begin()
            _log.info("importing the state", height=progress.height, segments_left=len(progress.missing))
            if not await self._fetch_all(progress):
                _log.warning("no peer serves this snapshot any more: looking for a newer one", height=progress.height)
                self._peers.pardon(self._heads.at_least(0))
                progress = await self._begin()
                continue
            status = await self._execution.import_state(ImportFinish())
            if not isinstance(status, Status):
                raise ImportFailed(f"the imported state is not whole: {status}; `db check` shows what is missing")
            _log.info("the state is here", height=status.head_height, chunks=self.chunks)
            return status

    async def _progress(self, request: GetImport | ImportBegin | ImportChunk) -> ImportProgress:
        answer = await self._execution.import_state(request)
        if not isinstance(answer, ImportProgress):
            raise ImportFailed(f"execution does not import what was verified: {answer}")
        return answer

    # --- The manifest ----------------------------------------------------------------------------------------------

    async def _begin(self) -> ImportProgress:
        """Find a snapshot that is to be believed, and begin to import it. Waits until a peer has one."""
        status = await self._execution.status()
        if self._rules.trusted is None:
            check_trusting_period(status.head_height, status.head_time_ms, self._now_ms(), self._rules.params)
        while True:
            asked: set[PeerId] = set()
            candidates = partial(self._not_in, asked)
            while (peer := await self._peers.pick(candidates, lambda: False)) is not None:
                asked.add(peer)
                manifest = await self._manifest_of(peer, status)
                if manifest is not None:
                    return await self._progress(ImportBegin(encode_manifest(manifest)))
            await trio.sleep(PAUSE_S)
            self._peers.pardon(self._heads.at_least(0))

    def _not_in(self, asked: set[PeerId]) -> list[PeerId]:
        return [peer for peer in self._heads.at_least(1) if peer not in asked]

    async def _manifest_of(self, peer: PeerId, status: Status) -> Manifest | None:
        """A peer's newest snapshot, believed; None if it has none that will do, or lied."""
        try:
            raw_manifest = await self._download_manifest(peer)
            if raw_manifest is None:
                return None
            manifest = decode_manifest(raw_manifest)
            checked = await self._offload(check_manifest, manifest, status.genesis_hash, self._rules.epoch_length)
            trusted = self._rules.trusted
            if trusted is not None and checked.header.number < trusted.height:
                _log.warning(
                    "the newest snapshot is older than the trusted block: waiting for the next; or --trust an older",
                    snapshot=checked.header.number,
                    trusted=trusted.height,
                )
                return None
            fetch = partial(self._light_block, peer)
            client = await begin_trust(status, trusted, self._rules.params, self._now_ms, fetch)
            return await believe_manifest(client, manifest, checked, fetch)
        except RequestFailed as failed:
            self._after_failure(peer, failed, MANIFEST)
        except ManifestRefused as refused:
            self._peers.convict(peer, SyncOffence.WRONG_MANIFEST, str(refused))
        except LightBlockRefused as refused:
            if refused.rule == "clock":  # it may be our own that is wrong
                _log.warning("a snapshot is from the future: is this machine's clock right?", detail=str(refused))
            else:
                self._peers.convict(peer, SyncOffence.WRONG_LIGHT_BLOCK, str(refused))
        except ForkDetected as fork:
            for forged in fork.forged_headers:
                _log.error(
                    "two certified headers contradict each other: hand this to a node of the chain that you trust "
                    "(astralink_submitEvidence); it is evidence if its parent is not that chain's",
                    height=forged.height,
                    evidence=f"0x{encode_any_evidence(forged).hex()}",
                )
            self._peers.convict(peer, SyncOffence.WRONG_LIGHT_BLOCK, str(fork))
        except DecodeError as error:
            self._peers.convict(peer, SyncOffence.MALFORMED, str(error))
        except _Lie as lie:
            self._peers.convict(peer, lie.offence, str(lie))
        return None

    async def _download_manifest(self, peer: PeerId) -> bytes | None:
        """In parts of a mebibyte, all from one peer."""
        first = await self._manifest_part(peer, ManifestRequest(0, 0))
        if first.height == 0:
            return None
        parts = [first.part]
        for number in range(1, first.parts):
            reply = await self._manifest_part(peer, ManifestRequest(first.height, number))
            if (reply.height, reply.parts) != (first.height, first.parts):
                return None  # it is a snapshot no longer
            parts.append(reply.part)
        if any(len(part) != MANIFEST_PART_BYTES for part in parts[:-1]):
            raise _Lie(SyncOffence.MALFORMED, f"a part of a manifest that is not {MANIFEST_PART_BYTES} bytes long")
        return b"".join(parts)

    async def _manifest_part(self, peer: PeerId, request: ManifestRequest) -> ManifestReply:
        with self._peers.asking(peer):
            data = await self._requests.request(peer, MANIFEST, encode_manifest_request(request))
        return decode_manifest_reply(data)

    async def _light_block(self, peer: PeerId, height: int) -> LightBlock:
        with self._peers.asking(peer):
            data = await self._requests.request(
                peer, LIGHT_BLOCK, encode_light_block_request(LightBlockRequest(height))
            )
        return light_block_of(decode_light_block_reply(data))

    # --- Chunks ----------------------------------------------------------------------------------------------------

    async def _fetch_all(self, progress: ImportProgress) -> bool:
        """Every segment that is not complete; False if no peer has the rest."""
        limit = trio.CapacityLimiter(MAX_CHUNKS)
        lacking: set[PeerId] = set()
        async with trio.open_nursery() as nursery:
            for position in progress.missing:
                nursery.start_soon(self._fetch_segment, progress.height, position, limit, lacking, nursery.cancel_scope)
        return not nursery.cancel_scope.cancel_called

    async def _fetch_segment(
        self,
        height: int,
        position: SegmentPosition,
        limit: trio.CapacityLimiter,
        lacking: set[PeerId],
        all_segments: trio.CancelScope,
    ) -> None:
        """Chunk after chunk, each from whoever gives it; if nobody does, all segments are given up."""
        at: SegmentPosition | None = position
        while at is not None:
            async with limit:
                answer = await self._next_chunk(height, at, lacking)
            if answer is None:
                all_segments.cancel()
                return
            self.chunks += 1
            at = next((one for one in answer.missing if one.segment == position.segment), None)

    async def _next_chunk(self, height: int, at: SegmentPosition, lacking: set[PeerId]) -> ImportProgress | None:
        """None if no peer has it."""
        request = encode_chunk_request(ChunkRequest(height, at.account, at.slot, last_account(at.segment)))
        while True:
            peer = await self._peers.pick(partial(self._not_in, lacking), lambda: False)
            if peer is None:
                return None
            try:
                with self._peers.asking(peer):
                    raw_chunk = await self._requests.request(peer, CHUNK, request)
            except RequestFailed as failed:
                if failed.failure is Failure.COME_BACK:
                    await trio.sleep(PAUSE_S / 4)
                else:
                    lacking.add(peer)
                self._after_failure(peer, failed, CHUNK)
                continue
            if peer in self._peers.liars:
                continue  # found out while it answered
            answer = await self._import_chunk(peer, at.segment, raw_chunk)
            if answer is not None:
                return answer

    async def _import_chunk(self, peer: PeerId, segment: int, raw_chunk: bytes) -> ImportProgress | None:
        """None if the chunk was a lie."""
        answer: ImportAnswer | Status = await self._execution.import_state(ImportChunk(segment, raw_chunk))
        if isinstance(answer, ImportProgress):
            return answer
        if not isinstance(answer, ImportRefused) or answer.rule == "segment":
            raise ImportFailed(f"a chunk of segment {segment} was not taken: {answer}")
        detail = f"{answer.rule}: expected {answer.expected}, found {answer.found}"
        offence = SyncOffence.MALFORMED if answer.rule == "encoding" else SyncOffence.WRONG_CHUNK
        self._peers.convict(peer, offence, detail)
        return None

    def _after_failure(self, peer: PeerId, failed: RequestFailed, protocol: RequestProtocol) -> None:
        self._peers.ask_last(peer, protocol.timeout_s)
        if failed.failure is Failure.TIMEOUT:
            self._peers.note(peer, SyncOffence.TOO_SLOW, str(failed))
        elif failed.failure is Failure.TOO_LONG:
            self._peers.convict(peer, SyncOffence.MALFORMED, str(failed))
