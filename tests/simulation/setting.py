"""What all validators of a simulated network share: keys, powers, parameters, and who proposes when."""

from collections.abc import Sequence

from consensus.admission import admit_proposal, admit_votes
from consensus.certificate import Certificate, CertificateError, verify_certificate, verify_commit
from consensus.hashing import keccak256
from consensus.height_machine import HeightContext
from consensus.params import ConsensusParams
from consensus.proposer_selection import ProposerRotation, advance, initial_priorities
from consensus.validator_set import Validator, ValidatorSet
from consensus.votes import SignedProposal, SignedVote
from tests.simulation.signatures import Notary, make_keys

GENESIS_HASH = keccak256(b"simulated network")

_MAX_REMEMBERED = 4096


class Setting:
    """Validator i has `keys[i]` and `powers[i]` and stands at index i of the set."""

    def __init__(self, powers: Sequence[int], params: ConsensusParams) -> None:
        self.params = params
        self.keys = make_keys(len(powers))
        self.notary = Notary(self.keys)
        self.validator_set = ValidatorSet(
            tuple(
                Validator(key.public, bytes(32), power, bytes(20)) for key, power in zip(self.keys, powers, strict=True)
            ),
            bytes(128),
        )
        self._priorities = initial_priorities(self.validator_set)
        self._rotations: list[ProposerRotation] = []
        self._admitted: dict[SignedVote, bool] = {}

    def rotation(self, height: int) -> ProposerRotation:
        """The proposers of that height; the set never changes here."""
        while len(self._rotations) < height:
            self._rotations.append(ProposerRotation(self._priorities, self.validator_set))
            self._priorities = advance(self._priorities, self.validator_set)
        return self._rotations[height - 1]

    def context(self, height: int, own_index: int | None) -> HeightContext:
        return HeightContext(height, self.validator_set, self.rotation(height), own_index, self.params)

    def power_of(self, indices: Sequence[int]) -> int:
        return sum(self.validator_set.validators[index].power for index in indices)

    def admits_vote(self, vote: SignedVote) -> bool:
        """Whether it is signed by whom it names. The answer never changes, so it is found once for all receivers."""
        admitted = self._admitted.get(vote)
        if admitted is None:
            if len(self._admitted) >= _MAX_REMEMBERED:
                self._admitted.clear()
            verdict = admit_votes((vote,), self.validator_set, GENESIS_HASH, self.notary.verify_batch)
            admitted = self._admitted[vote] = bool(verdict.admitted)
        return admitted

    def admits_proposal(self, proposal: SignedProposal) -> bool:
        proposer = self.rotation(proposal.height).at(proposal.round_)
        return admit_proposal(proposal, proposer, self.validator_set, GENESIS_HASH, self.notary.verify)

    def admits_certificate(self, certificate: Certificate) -> bool:
        try:
            verify_certificate(certificate, self.validator_set, GENESIS_HASH, self.notary.verify_aggregate)
        except CertificateError:
            return False
        return True

    def is_final(self, certificate: Certificate, height: int, block_hash: bytes) -> bool:
        try:
            verify_commit(
                certificate, height, block_hash, self.validator_set, GENESIS_HASH, self.notary.verify_aggregate
            )
        except CertificateError:
            return False
        return True
