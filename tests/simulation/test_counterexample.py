"""Why "or lockedValue = v" is gone from lines 23 and 29 (docs/adr/0012): with it an honest validator is convicted.

Four validators of equal power; 0 and 1 are byzantine, 2 (D in the facts) and 3 (C) are honest machines. The schedules
are scripted, and everybody's signatures are real ones of the simulated scheme, so evidence is verified, not assumed.
"""

from collections.abc import Sequence

import pytest

from consensus import height_machine, round_machine
from consensus.certificate import Certificate, bitmap_of
from consensus.evidence import EvidenceKind, contradiction, find_evidence, verify_evidence
from consensus.height_machine import (
    BlockChecked,
    CertificateReceived,
    Input,
    ProposalReceived,
    SignVote,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
    begin_height,
    step,
)
from consensus.messages import NIL, NO_ROUND, VoteType, signing_root
from consensus.params import ConsensusParams
from consensus.round_machine import TimeoutKind
from consensus.votes import SignedProposal, SignedVote
from tests.simulation.setting import GENESIS_HASH, Setting
from tests.simulation.signatures import aggregate
from tests.support.altered_source import altered

A, B, D, C = range(4)
HEIGHT = 1
ARRIVED_MS = 1_000_000
V, W = b"v" * 32, b"w" * 32
"""v, and v' of the facts."""
PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT

PAPER_LINE_23 = (
    "proposed.is_acceptable and state.locked_round == NO_ROUND",
    "proposed.is_acceptable and (state.locked_round == NO_ROUND or state.locked_hash == proposed.block_hash)",
)
PAPER_LINE_29 = (
    "proposed.is_acceptable and state.locked_round <= valid_round",
    "proposed.is_acceptable and (state.locked_round <= valid_round or state.locked_hash == proposed.block_hash)",
)
ANY_BUILD_ROUND = ("return is_timely_ and checked.build_round == proposal.round_", "return is_timely_")
"""The facts propose v' with validRound -1 in two rounds. Our blocks carry the round that they were built for and are
refused in any other, which alone stops that schedule; it is taken away to see line 23 by itself."""

SETTING = Setting((1, 1, 1, 1), ConsensusParams())


class Story:
    """The two honest machines, and all that anybody signed."""

    def __init__(self) -> None:
        self._states = {index: begin_height(SETTING.context(HEIGHT, index)) for index in (C, D)}
        self.testimonies: list[SignedVote | Certificate] = []
        for index in (C, D):
            self.feed(index, StartHeight())

    def feed(self, index: int, event: Input) -> None:
        """One input; the machine's votes are signed, heard by itself and kept from the others."""
        self._states[index], outputs = step(self._states[index], event)
        for output in outputs:
            if isinstance(output, SignVote):
                vote = sign(index, output.vote_type, output.round_, output.block_hash, output.valid_round)
                self.testimonies.append(vote)
                self.feed(index, VoteReceived(vote))

    def propose(self, index: int, round_: int, block_hash: bytes, valid_round: int = NO_ROUND) -> None:
        proposal = SignedProposal(HEIGHT, round_, block_hash, valid_round, bytes(96))
        self.feed(index, ProposalReceived(proposal, ARRIVED_MS))
        self.feed(index, BlockChecked(block_hash, True, round_, ARRIVED_MS))

    def liars_say(self, index: int, vote_type: VoteType, round_: int, block_hash: bytes, valid_round: int = -1) -> None:
        """A and B tell one of the honest."""
        for liar in (A, B):
            vote = sign(liar, vote_type, round_, block_hash, valid_round)
            self.testimonies.append(vote)
            self.feed(index, VoteReceived(vote))

    def certify(
        self, signers: Sequence[int], vote_type: VoteType, round_: int, block_hash: bytes, vr: int
    ) -> Certificate:
        """Of votes that were really cast: raises StopIteration otherwise."""
        votes = [
            next(
                vote
                for vote in self.testimonies
                if isinstance(vote, SignedVote)
                and (vote.validator_index, vote.vote_type, vote.round_) == (signer, vote_type, round_)
                and (vote.block_hash, vote.valid_round) == (block_hash, vr)
            )
            for signer in signers
        ]
        signature = aggregate(vote.signature for vote in votes)
        return Certificate(vote_type, HEIGHT, round_, vr, block_hash, bitmap_of(signers, 4), signature)

    def votes_of(self, index: int, vote_type: VoteType) -> dict[int, tuple[bytes, int]]:
        return {
            vote.round_: (vote.block_hash, vote.valid_round)
            for vote in self.testimonies
            if isinstance(vote, SignedVote) and (vote.validator_index, vote.vote_type) == (index, vote_type)
        }

    def convicted_of(self, kind: EvidenceKind) -> set[int]:
        return {
            index
            for evidence in find_evidence(self.testimonies)
            if contradiction(evidence.first, evidence.second) is kind
            for index in verify_evidence(evidence, SETTING.validator_set, GENESIS_HASH, SETTING.notary.verify_aggregate)
        }


def sign(index: int, vote_type: VoteType, round_: int, block_hash: bytes, valid_round: int) -> SignedVote:
    vote = SignedVote(vote_type, HEIGHT, round_, block_hash, valid_round, index, bytes(96))
    signature = SETTING.keys[index].sign(signing_root(vote.sign_bytes(GENESIS_HASH)))
    return SignedVote(vote_type, HEIGHT, round_, block_hash, valid_round, index, signature)


def tell_fresh_value_twice() -> Story:
    """The facts, rule 2: round 0 commits v by A, B, C; round 1 has a polka for v' by A, B, D with -1 and C relocks v';
    then v' is proposed again with -1 by A (in round 4, its next turn)."""
    story = Story()
    story.propose(C, 0, V)
    story.liars_say(C, PREVOTE, 0, V)  # C locks v; the liars keep their precommits for v to themselves
    story.testimonies += [sign(liar, PRECOMMIT, 0, V, NO_ROUND) for liar in (A, B)]
    story.feed(D, TimeoutElapsed(TimeoutKind.PROPOSE, 0))
    for index in (C, D):
        story.liars_say(index, PREVOTE, 1, W)  # both skip to round 1
        story.propose(index, 1, W)
    story.feed(C, VoteReceived(sign(D, PREVOTE, 1, W, NO_ROUND)))  # C relocks v'
    for index in (C, D):
        story.liars_say(index, PREVOTE, 4, W)  # both skip to round 4
        story.propose(index, 4, W)
    return story


def tell_old_polka_twice() -> Story:
    """The same by line 29, with nothing taken away: A proposes v to C and v' to D in round 0, both get a polka; v' is
    proposed with validRound 0 in round 1, where C relocks v', and in round 4 once more."""
    story = Story()
    story.propose(C, 0, V)
    story.liars_say(C, PREVOTE, 0, V)  # C locks v
    story.propose(D, 0, W)
    story.liars_say(D, PREVOTE, 0, W)  # D locks v'
    polka = story.certify((A, B, D), PREVOTE, 0, W, NO_ROUND)
    story.testimonies.append(polka)
    for round_ in (1, 4):
        for index in (C, D):
            story.feed(index, CertificateReceived(polka))
            story.liars_say(index, PREVOTE, round_, W, 0)
            story.propose(index, round_, W, 0)
    return story


def test_the_schedule_of_the_facts_goes_as_they_say() -> None:
    with altered(height_machine, ANY_BUILD_ROUND), altered(round_machine, PAPER_LINE_23):
        story = tell_fresh_value_twice()
    assert story.votes_of(C, PRECOMMIT) == {0: (V, -1), 1: (W, -1), 4: (W, -1)}
    assert story.votes_of(C, PREVOTE) == {0: (V, -1), 1: (NIL, -1), 4: (W, -1)}
    assert story.votes_of(D, PREVOTE) == {0: (NIL, -1), 1: (W, -1), 4: (W, -1)}
    story.certify((A, B, C), PRECOMMIT, 0, V, NO_ROUND)
    story.certify((A, B, C), PREVOTE, 4, W, NO_ROUND)


def test_honest_c_is_convicted_under_the_papers_line_23() -> None:
    with altered(height_machine, ANY_BUILD_ROUND), altered(round_machine, PAPER_LINE_23):
        story = tell_fresh_value_twice()
    assert C in story.convicted_of(EvidenceKind.AMNESIA)


def test_two_certificates_of_that_schedule_are_enough_to_convict_c() -> None:
    with altered(height_machine, ANY_BUILD_ROUND), altered(round_machine, PAPER_LINE_23):
        story = tell_fresh_value_twice()
    commit = story.certify((A, B, C), PRECOMMIT, 0, V, NO_ROUND)
    polka = story.certify((A, B, C), PREVOTE, 4, W, NO_ROUND)
    (evidence,) = find_evidence([commit, polka])
    convicted = verify_evidence(evidence, SETTING.validator_set, GENESIS_HASH, SETTING.notary.verify_aggregate)
    assert convicted == (A, B, C)


def test_nobody_honest_is_convicted_under_our_line_23() -> None:
    with altered(height_machine, ANY_BUILD_ROUND):
        story = tell_fresh_value_twice()
    assert story.votes_of(C, PREVOTE)[4] == (NIL, NO_ROUND)
    assert story.votes_of(D, PREVOTE)[4] == (NIL, NO_ROUND)
    assert story.convicted_of(EvidenceKind.AMNESIA) == {A, B}
    assert story.convicted_of(EvidenceKind.DUPLICATE) == set()


def test_a_block_of_another_round_is_refused_before_line_23_is_asked() -> None:
    with altered(round_machine, PAPER_LINE_23):
        story = tell_fresh_value_twice()
    assert story.votes_of(C, PREVOTE)[1] == (NIL, NO_ROUND)
    assert story.convicted_of(EvidenceKind.AMNESIA) <= {A, B}


def test_honest_c_is_convicted_under_the_papers_line_29() -> None:
    with altered(round_machine, PAPER_LINE_29):
        story = tell_old_polka_twice()
    assert story.votes_of(C, PRECOMMIT) == {0: (V, -1), 1: (W, -1), 4: (W, -1)}
    assert story.votes_of(C, PREVOTE) == {0: (V, -1), 1: (W, 0), 4: (W, 0)}
    assert C in story.convicted_of(EvidenceKind.AMNESIA)


def test_nobody_honest_is_convicted_under_our_line_29() -> None:
    story = tell_old_polka_twice()
    assert story.votes_of(C, PREVOTE) == {0: (V, -1), 1: (W, 0), 4: (NIL, -1)}
    assert story.convicted_of(EvidenceKind.AMNESIA) <= {A, B}
    assert story.convicted_of(EvidenceKind.DUPLICATE) == {A, B}


@pytest.mark.parametrize("change", [PAPER_LINE_23, PAPER_LINE_29])
def test_altering_a_rule_ends_with_the_test(change: tuple[str, str]) -> None:
    before = round_machine._answer_proposal.__code__
    with altered(round_machine, change):
        assert round_machine._answer_proposal.__code__ != before
    assert round_machine._answer_proposal.__code__ is before
