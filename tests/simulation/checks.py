"""What must hold of a run, judged from what honest validators signed, received and decided.

Each failed check raises `Violation` with a stable name, which the shrinker compares. The rules E1 and E2 are written
down here once more, apart from `consensus.evidence`, so that an error there does not excuse itself.
"""

from collections.abc import Iterable, Sequence

from consensus.evidence import Evidence, EvidenceError, Testimony, accused, find_evidence, verify_evidence
from consensus.messages import NIL, VoteType
from consensus.votes import SignedProposal, SignedVote
from tests.simulation.blocks import GENESIS, is_valid_child
from tests.simulation.disk import Decided
from tests.simulation.setting import GENESIS_HASH, Setting


class Violation(AssertionError):
    """A promise of consensus that was not kept."""

    def __init__(self, name: str, facts: str) -> None:
        super().__init__(f"{name}: {facts}")
        self.name = name


class Records:
    """The `Witness` of the honest validators of one run."""

    def __init__(self, setting: Setting, honest: Iterable[int]) -> None:
        self._setting = setting
        self.honest = frozenset(honest)
        self.decisions: dict[int, dict[bytes, Decided]] = {}
        """Height -> the different blocks that were decided there."""
        self._reached = dict.fromkeys(self.honest, 0)
        self.lowest = 0
        """The height that every honest validator has in its database."""
        self.highest_round = 0
        self._signed: dict[int, list[SignedVote | SignedProposal]] = {index: [] for index in self.honest}
        self.testimonies: dict[Testimony, None] = {}
        """All that any honest validator received and admitted, in order."""
        self.reports: set[Evidence] = set()
        self.re_proposals = 0
        self.refusals = 0
        """Messages that were refused because their signatures do not hold."""
        self._wiped: set[int] = set()
        self._silenced: list[tuple[int, str]] = []

    def decided(self, index: int, decided: Decided) -> None:
        height = decided.block.height
        self.decisions.setdefault(height, {}).setdefault(decided.block.hash, decided)
        self._reached[index] = height
        self.lowest = min(self._reached.values())

    def signed_by(self, index: int) -> Sequence[SignedVote | SignedProposal]:
        return self._signed[index]

    def all_have(self, height: int) -> bool:
        return self.lowest >= height

    def wiped(self, index: int) -> None:
        """Its database is gone."""
        self._wiped.add(index)
        self._reached[index] = self.lowest = 0

    def signed(self, index: int, message: SignedVote | SignedProposal) -> None:
        self._signed[index].append(message)
        self.highest_round = max(self.highest_round, message.round_)
        self.re_proposals += isinstance(message, SignedProposal) and message.valid_round >= 0

    def received(self, testimony: Testimony) -> None:
        self.testimonies[testimony] = None

    def accused(self, index: int, evidence: Evidence) -> None:
        self.reports.add(evidence)

    def refused(self, index: int, what: str) -> None:
        self.refusals += 1

    def silenced(self, index: int, reason: str) -> None:
        """Its signing rules refused."""
        if index not in self._wiped:
            self._silenced.append((index, reason))

    @property
    def has_fork(self) -> bool:
        return any(len(blocks) > 1 for blocks in self.decisions.values())

    # --- Safety ----------------------------------------------------------------------------------------------

    def check_safety(self) -> None:
        """All promises that hold while less than a third of the power is byzantine."""
        self.check_agreement()
        self.check_validity()
        self.check_honest_signatures()
        self.check_machines_never_need_the_signing_rules()
        self.check_reports()
        self.check_nobody_honest_is_found_guilty()

    def check_agreement(self) -> None:
        for height, blocks in self.decisions.items():
            if len(blocks) > 1:
                raise Violation("agreement", f"{len(blocks)} blocks decided at height {height}")

    def check_validity(self) -> None:
        """Every decided block is a valid child of the one before it, and its certificate is complete."""
        parent = GENESIS
        for height in sorted(self.decisions):
            for block_hash, decided in self.decisions[height].items():
                rotation = self._setting.rotation(height)
                if not is_valid_child(decided.block, parent, rotation, self._setting.params):
                    raise Violation("validity", f"height {height}: {decided.block} on {parent}")
                if not self._setting.is_final(decided.certificate, height, block_hash):
                    raise Violation("certificate", f"height {height}: {decided.certificate}")
            parent = next(iter(self.decisions[height].values())).block

    def check_honest_signatures(self) -> None:
        for index, messages in self._signed.items():
            check_never_contradicts_itself(index, messages)

    def check_machines_never_need_the_signing_rules(self) -> None:
        """With its log, a machine asks for nothing that its signing rules must refuse, whatever crashed when."""
        for index, reason in self._silenced:
            raise Violation("signer refused", f"validator {index}: {reason}")

    def check_reports(self) -> None:
        """Evidence that machines reported convicts somebody, and nobody honest."""
        for evidence in self.reports:
            try:
                convicted = verify_evidence(
                    evidence, self._setting.validator_set, GENESIS_HASH, self._setting.notary.verify_aggregate
                )
            except EvidenceError as error:
                raise Violation("report", f"does not convict: {error}") from error
            self._check_none_is_honest(convicted, evidence)

    def check_nobody_honest_is_found_guilty(self) -> None:
        for evidence in self.find_all_evidence():
            self._check_none_is_honest(accused(evidence), evidence)

    def _check_none_is_honest(self, convicted: Sequence[int], evidence: Evidence) -> None:
        innocent = self.honest.intersection(convicted)
        if innocent:
            raise Violation("honest accused", f"{sorted(innocent)} by {evidence}")

    # --- Accountability --------------------------------------------------------------------------------------

    def find_all_evidence(self) -> tuple[Evidence, ...]:
        """From the union of all honest logs and certificates."""
        certificates = [decided.certificate for blocks in self.decisions.values() for decided in blocks.values()]
        return find_evidence([*self.testimonies, *certificates])

    def guilty(self) -> set[int]:
        found: set[int] = set()
        for evidence in self.find_all_evidence():
            found.update(
                verify_evidence(
                    evidence, self._setting.validator_set, GENESIS_HASH, self._setting.notary.verify_aggregate
                )
            )
        return found

    def check_fork_is_accounted_for(self) -> set[int]:
        """After a fork: evidence names at least a third of the power, and none of it is honest."""
        guilty = self.guilty()
        if guilty & self.honest:
            raise Violation("honest accused", f"{sorted(guilty & self.honest)} after a fork")
        power = self._setting.power_of(sorted(guilty))
        if 3 * power < self._setting.validator_set.total_power:
            raise Violation("accountability", f"a fork, but {sorted(guilty)} are less than a third")
        return guilty


def check_never_contradicts_itself(index: int, messages: Iterable[SignedVote | SignedProposal]) -> None:
    """E1 and E2 over everything that one validator ever signed."""
    proposals: dict[tuple[int, int], SignedProposal] = {}
    votes: dict[tuple[int, VoteType, int], SignedVote] = {}
    for message in messages:
        if isinstance(message, SignedProposal):
            if proposals.setdefault((message.height, message.round_), message) != message:
                raise Violation("double sign", f"validator {index}: {message}")
        elif votes.setdefault((message.height, message.vote_type, message.round_), message) != message:
            raise Violation("double sign", f"validator {index}: {message}")
    locks: dict[int, list[int]] = {}
    for (height, vote_type, round_), vote in votes.items():
        if vote_type is VoteType.PRECOMMIT and vote.block_hash != NIL:
            locks.setdefault(height, []).append(round_)
    for (height, vote_type, round_), vote in votes.items():
        if vote_type is VoteType.PREVOTE and vote.block_hash != NIL:
            for locked_round in locks.get(height, ()):
                if vote.valid_round < locked_round < round_:
                    raise Violation("amnesia", f"validator {index}: locked in round {locked_round}, then {vote}")
