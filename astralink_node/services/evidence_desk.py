"""What becomes of evidence that reaches this node: looked into with the chain's own past, kept, passed on, saved.

Evidence about the present heights is judged with other gossip (`gossip_judge`). What is left takes a question to
execution: a forged header, which names a parent that must not be the chain's, and what is of a height long decided.
"""

from collections.abc import Callable
from typing import Final

from astralink_node.chain.client import ExecutionLink
from astralink_node.chain.consensus_messages import ValidatorsAnswer, ValidatorsQuestion
from astralink_node.chain.evidence_verification import verify_any_evidence
from astralink_node.chain.messages import AtHash, AtHeight, AtPending, BytesAnswer, Query, StorageQuestion
from astralink_node.errors import AstraLinkError
from astralink_node.evm.system_places import HISTORY_SLOTS, HISTORY_STORAGE_ADDRESS
from astralink_node.log import Log
from astralink_node.metrics import NodeMetrics
from astralink_node.services.consensus_log import ConsensusLog
from astralink_node.services.evidence_keeper import EvidenceKeeper
from astralink_node.services.offload import Offload
from astralink_node.services.peer_talk import PeerTalk
from astralink_node.services.proposer import Head
from consensus.certificate import Certificate
from consensus.evidence import EvidenceError
from consensus.evidence_forms import AnyEvidence, decode_any_evidence, indices_named
from consensus.forged_header import ForgedHeader, check_history
from consensus.gossip import EvidenceGossip
from consensus.params import ConsensusParams
from consensus.validator_set import ValidatorSet, decode_validator_set
from consensus.wire import DecodeError

MAX_WAITING: Final = 16
"""Pieces of evidence about the past that wait to be looked into; further ones are let go, and may come again."""

_log = Log("evidence")


class CannotJudge(AstraLinkError):
    """Neither good nor bad, as far as this node can tell: it is of a height that this node does not know (any more)."""


class EvidenceUnwelcome(AstraLinkError):
    """Why evidence that was handed in goes no further."""


class EvidenceDesk:
    """`head` is the committed block that the node stands on."""

    def __init__(
        self,
        execution: ExecutionLink,
        genesis_hash: bytes,
        params: ConsensusParams,
        head: Callable[[], Head],
        peers: PeerTalk,
        log: ConsensusLog,
        offload: Offload,
        metrics: NodeMetrics,
    ) -> None:
        self._execution = execution
        self._genesis_hash = genesis_hash
        self._params = params
        self._head = head
        self._peers = peers
        self._log = log
        self._offload = offload
        self._metrics = metrics
        self.keeper = EvidenceKeeper(params)

    def is_wanted(self, evidence: AnyEvidence) -> bool:
        """Whether it would be held, if it is good: looking into anything else is work for nothing."""
        return self.keeper.is_news(evidence) and self.keeper.has_room_for(evidence)

    async def check(self, evidence: AnyEvidence) -> None:
        """Raises EvidenceError for what names nobody, CannotJudge for what this node cannot look into."""
        head = self._head()
        self._check_reach(evidence, head)
        validator_set = await self._set_at(evidence.height, head)
        parent_hash = await self._hash_at(evidence.height - 1, head) if isinstance(evidence, ForgedHeader) else b""
        await self._offload(verify_any_evidence, evidence, validator_set, self._genesis_hash, lambda _: parent_hash)

    async def read(self, encoded: bytes) -> AnyEvidence:
        """What somebody hands in by hand (`encode_any_evidence`), checked. Raises EvidenceUnwelcome."""
        try:
            evidence = decode_any_evidence(encoded)
            if not self.keeper.is_news(evidence):
                raise EvidenceUnwelcome("already known: everybody whom it names has been named for that height")
            if not self.keeper.has_room_for(evidence):
                raise EvidenceUnwelcome(
                    "this node holds as much evidence as it may: try again when blocks have carried it"
                )
            await self.check(evidence)
        except DecodeError as error:
            raise EvidenceUnwelcome(f"malformed evidence: {error}") from error
        except EvidenceError as error:
            raise EvidenceUnwelcome(f"evidence that names nobody: {error}") from error
        except CannotJudge as error:
            raise EvidenceUnwelcome(str(error)) from error
        return evidence

    def keep(self, evidence: AnyEvidence) -> None:
        """Hold what was found to be good until a block carries it, and pass it on, if it is news."""
        is_held = self.keeper.has_room_for(evidence)
        if not self.keeper.add(evidence, self._head().time_ms):
            return
        named = ",".join(str(index) for index in indices_named(evidence))
        self._metrics.evidence.add()
        what = "a header was forged" if isinstance(evidence, ForgedHeader) else "a validator contradicts itself"
        _log.warning(what, height=evidence.height, accused=named)
        if is_held:
            self._peers.tell(EvidenceGossip(evidence))

    async def is_good(self, evidence: AnyEvidence) -> bool:
        try:
            await self.check(evidence)
        except (EvidenceError, CannotJudge) as error:
            _log.info("what looked like evidence names nobody", why=str(error))
            return False
        return True

    async def keep_forgery(self, raw_header: bytes, certificate: Certificate) -> None:
        """What this node met itself and is about to halt for: told and durable before that, if it is evidence. Empty
        where the header is not here."""
        forged = ForgedHeader(raw_header, certificate)
        if raw_header and await self.is_good(forged):
            self.keep(forged)
            await self.save()

    async def save(self) -> None:
        """A full disk must not stop consensus: what is held stays in memory, and is saved with the next change."""
        if not self.keeper.has_changed:
            return
        try:
            await self._offload(self._log.save_evidence, self.keeper.records())
        except OSError as error:
            _log.error("the evidence at hand could not be saved", why=str(error.strerror))

    async def restore(self) -> None:
        """What an earlier run of the node held."""
        self.keeper.restore(await self._offload(self._log.load_evidence))

    # --- The chain's past ------------------------------------------------------------------------------------------

    def _check_reach(self, evidence: AnyEvidence, head: Head) -> None:
        """Of a block's rules, those that are plain for any coming block."""
        if not 1 <= evidence.height <= head.height + 1:
            raise CannotJudge(f"evidence of height {evidence.height}: this node stands at {head.height}")
        if head.height - evidence.height > self._params.evidence_max_age_blocks:
            raise CannotJudge(f"evidence of height {evidence.height}: it is too old, the head is {head.height}")
        if isinstance(evidence, ForgedHeader) and evidence.height <= head.height:
            try:
                check_history(evidence.height, height=head.height + 1)
            except EvidenceError as error:
                raise CannotJudge(f"a forged header that is too old: {error}") from error

    async def _set_at(self, height: int, head: Head) -> ValidatorSet:
        at = AtHeight(height) if height <= head.height else AtPending()
        answer = await self._execution.query(Query(at, ValidatorsQuestion()))
        if not isinstance(answer, ValidatorsAnswer) or answer.height != height:
            raise CannotJudge(f"evidence of height {height}: this node does not know who voted then")
        return decode_validator_set(answer.voting_set)

    async def _hash_at(self, height: int, head: Head) -> bytes:
        """Of the chain's own block, as the head's state keeps it (EIP-2935): whoever joined by a snapshot has that."""
        if height == head.height:
            return head.block_hash
        question = StorageQuestion(HISTORY_STORAGE_ADDRESS, height % HISTORY_SLOTS)
        answer = await self._execution.query(Query(AtHash(head.block_hash), question))
        if not isinstance(answer, BytesAnswer):
            raise CannotJudge(f"the hash of block {height} could not be read")
        return answer.value
