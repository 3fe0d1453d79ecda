"""The node itself: what it is, its place on the network, and what its consensus is doing."""

from __future__ import annotations

from astralink_node.gateway.link_messages import (
    CheckReachability,
    ConsensusState,
    ConsensusStateReply,
    DialedBack,
    EvidenceVerdict,
    GetConsensusState,
    GetMetrics,
    GetNetworkView,
    GetNodeStatus,
    MetricsText,
    NetworkView,
    NodeStatus,
    Reachability,
    SubmitEvidence,
)
from astralink_node.gateway.reading.errors import NotAnswered
from astralink_node.gateway.reading.source import Source


class NodeReader:
    def __init__(self, source: Source) -> None:
        self._source = source

    async def status(self) -> NodeStatus:
        return await self._source.ask_node(GetNodeStatus(), NodeStatus)

    async def network(self) -> NetworkView:
        return await self._source.ask_node(GetNetworkView(), NetworkView)

    async def consensus_state(self) -> ConsensusState | None:
        """None: the node shows none."""
        return (await self._source.ask_node(GetConsensusState(), ConsensusStateReply)).state

    async def check_reachability(self) -> tuple[DialedBack, ...]:
        """Has peers dial this node back; takes up to 15 s."""
        return (await self._source.ask_node(CheckReachability(), Reachability)).reports

    async def submit_evidence(self, encoded: bytes) -> bytes:
        """Hand in what proves validators guilty; its hash. Raises NotAnswered with the node's refusal."""
        verdict = await self._source.ask_node(SubmitEvidence(encoded), EvidenceVerdict)
        if verdict.refusal:
            raise NotAnswered(verdict.refusal)
        return verdict.evidence_hash

    async def metrics(self) -> str | None:
        """The node's metrics as text; None where it has none to give now."""
        return (await self._source.ask_node(GetMetrics(), MetricsText)).text or None
