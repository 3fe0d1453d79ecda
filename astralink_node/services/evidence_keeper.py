"""Evidence that this node holds until a block carries it, or until it is too old to be carried.

Who proposes offers it to execution, which says what no block can carry. What is held survives a restart in a file
beside the consensus log; what a crash takes of the last moments others have, since evidence is gossiped when found.
"""

from collections.abc import Iterable
from typing import Final

from consensus.block_evidence import decode_carried
from consensus.evidence import is_expired
from consensus.evidence_forms import AnyEvidence, decode_any_evidence, encode_any_evidence, indices_named
from consensus.forged_header import HISTORY_HEIGHTS, ForgedHeader
from consensus.params import ConsensusParams
from consensus.wire import DecodeError

MAX_HELD: Final = 1024
"""More is logged only."""
MAX_FORGERIES: Final = 64
"""Forged headers among them: one validator may sign some for each of 8,190 heights, and only the first is of use."""
MAX_OFFERED: Final = 64
"""To one build, the oldest first: a block carries four."""


class EvidenceKeeper:
    """Nobody is named twice for one height, but for a forged header and then for a contradiction, which weighs more.

    `has_changed` says that what is held should be saved.
    """

    def __init__(self, params: ConsensusParams) -> None:
        self._params = params
        self._held: dict[AnyEvidence, int] = {}
        """-> the head's time when it was found, in ms: never before the crime, so it is not given up too early."""
        self._named: set[tuple[int, int]] = set()
        """(height, validator's index) of everybody who contradicted itself, carried since or not."""
        self._forgers: set[tuple[int, int]] = set()
        """Likewise of those who signed a forged header."""
        self.has_changed = False

    @property
    def held(self) -> tuple[AnyEvidence, ...]:
        """Oldest first."""
        return tuple(self._held)

    def has_room_for(self, evidence: AnyEvidence) -> bool:
        if isinstance(evidence, ForgedHeader):
            forgeries = sum(isinstance(one, ForgedHeader) for one in self._held)
            return forgeries < MAX_FORGERIES and len(self._held) < MAX_HELD
        return len(self._held) < MAX_HELD

    def has_named(self, height: int, validator_index: int) -> bool:
        """Whether it contradicted itself at that height."""
        return (height, validator_index) in self._named

    def is_news(self, evidence: AnyEvidence) -> bool:
        """Whether it names somebody new."""
        known = self._named | self._forgers if isinstance(evidence, ForgedHeader) else self._named
        return not _named_by(evidence) <= known

    def add(self, evidence: AnyEvidence, head_time_ms: int) -> bool:
        """Whether it names somebody new. Without room it is not held, and will be new again."""
        if not self.is_news(evidence):
            return False
        if self.has_room_for(evidence):
            self._held[evidence] = head_time_ms
            known = self._forgers if isinstance(evidence, ForgedHeader) else self._named
            known |= _named_by(evidence)
            self.has_changed = True
        return True

    def offered(self) -> tuple[bytes, ...]:
        return tuple(encode_any_evidence(evidence) for evidence in list(self._held)[:MAX_OFFERED])

    def forget_carried(self, items: Iterable[bytes]) -> None:
        """Of a committed block's payload: valid items."""
        self._forget(decode_carried(item).evidence for item in items)

    def forget(self, encoded: Iterable[bytes]) -> None:
        """What execution found to be of no use, as it was offered."""
        self._forget(decode_any_evidence(raw) for raw in encoded)

    def expire(self, head_height: int, head_time_ms: int) -> None:
        """Give up what no block can carry any more."""
        if not self._named and not self._forgers:
            return
        self._forget(
            [
                evidence
                for evidence, found_ms in self._held.items()
                if is_expired(evidence.height, found_ms, head_height, head_time_ms, self._params)
                or (isinstance(evidence, ForgedHeader) and evidence.height <= head_height + 1 - HISTORY_HEIGHTS)
            ]
        )
        heights = {evidence.height for evidence in self._held}
        oldest = head_height - self._params.evidence_max_age_blocks
        self._named = {named for named in self._named if named[0] >= oldest or named[0] in heights}
        self._forgers = {named for named in self._forgers if named[0] >= oldest or named[0] in heights}

    def _forget(self, evidence: Iterable[AnyEvidence]) -> None:
        for one in evidence:
            if self._held.pop(one, None) is not None:
                self.has_changed = True

    # --- On disk ---------------------------------------------------------------------------------------------------

    def records(self) -> tuple[bytes, ...]:
        """What is held, for a file: time found 8, evidence with its form. It counts as saved."""
        self.has_changed = False
        return tuple(found_ms.to_bytes(8, "big") + encode_any_evidence(one) for one, found_ms in self._held.items())

    def restore(self, records: Iterable[bytes]) -> None:
        """What an earlier run held; a record of another shape is passed over."""
        for record in records:
            try:
                self.add(decode_any_evidence(record[8:]), int.from_bytes(record[:8], "big"))
            except DecodeError:
                continue
        self.has_changed = False


def _named_by(evidence: AnyEvidence) -> set[tuple[int, int]]:
    return {(evidence.height, index) for index in indices_named(evidence)}
