"""Who sees what validators do: the checks ask the witness of the honest ones, nobody sees the others."""

from typing import Protocol

from consensus.evidence import Evidence, Testimony
from consensus.votes import SignedProposal, SignedVote
from tests.simulation.disk import Decided


class Witness(Protocol):
    def decided(self, index: int, decided: Decided) -> None:
        """A block is in that validator's database."""

    def signed(self, index: int, message: SignedVote | SignedProposal) -> None:
        """Its key signed this, just before anybody else could know."""

    def received(self, testimony: Testimony) -> None:
        """It admitted this, with its signature verified."""

    def accused(self, index: int, evidence: Evidence) -> None:
        """Its machine reported this."""

    def refused(self, index: int, what: str) -> None:
        """It turned away something whose signature does not hold."""

    def silenced(self, index: int, reason: str) -> None:
        """Its signing rules refused what its machine asked for."""


class Unseen:
    """The witness of those whose deeds nobody vouches for."""

    def decided(self, index: int, decided: Decided) -> None: ...
    def signed(self, index: int, message: SignedVote | SignedProposal) -> None: ...
    def received(self, testimony: Testimony) -> None: ...
    def accused(self, index: int, evidence: Evidence) -> None: ...
    def refused(self, index: int, what: str) -> None: ...
    def silenced(self, index: int, reason: str) -> None: ...
