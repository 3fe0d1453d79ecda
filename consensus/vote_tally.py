"""Counts the votes of one height: who said what in which round, and where a quorum stands behind it.

Values in, values out: adding returns a new tally. A validator's first vote of a round and type is the one that
counts; another one is evidence. Prevotes are counted for each (block hash, validRound), as accountability asks. A
verified certificate counts as the quorum that it proves. Votes are admitted before they come here: signature and
power belong to the same member of the set.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from consensus.certificate import Certificate, bitmap_of, signer_indices
from consensus.evidence import Evidence, Testimony, conflict_with, contradiction
from consensus.messages import NIL, NO_ROUND, VoteType
from consensus.validator_set import ValidatorSet
from consensus.votes import SignedVote

MAX_ROUNDS_AHEAD = 16
"""Rounds above the current one of which a validator's votes are kept; its lowest makes room, since the highest are
where it is now. So nobody fills the memory of others, and a validator that lags still learns where they are."""

MAX_ROUNDS_KEPT = 64
"""Rounds below the current one whose single votes are kept. What older rounds decided comes as a certificate."""

Choice = tuple[bytes, int]
"""(block hash, validRound): what a vote is for."""


@dataclass(frozen=True, slots=True)
class Ballots:
    """The votes of one round and one type."""

    votes: Mapping[int, SignedVote] = field(default_factory=dict)
    """The first vote of each validator."""
    power_for: Mapping[Choice, int] = field(default_factory=dict)
    power: int = 0
    """Of all who voted, whatever for."""
    certificates: Mapping[Choice, Certificate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quorum:
    """More than 2/3 of the power behind one choice, as single votes or as a certificate that came from elsewhere."""

    vote_type: VoteType
    height: int
    round_: int
    block_hash: bytes
    valid_round: int
    votes: tuple[SignedVote, ...]
    """In the order of the set; what is here beyond a quorum is welcome in a certificate."""
    certificate: Certificate | None = None


_NO_BALLOTS = Ballots()
_NO_ROUND_VOTES = (_NO_BALLOTS, _NO_BALLOTS)


@dataclass(frozen=True, slots=True)
class VoteTally:
    height: int
    validator_set: ValidatorSet
    rounds: Mapping[int, tuple[Ballots, Ballots]] = field(default_factory=dict)
    """Round -> (prevotes, precommits)."""

    def ballots(self, round_: int, vote_type: VoteType) -> Ballots:
        return self.rounds.get(round_, _NO_ROUND_VOTES)[vote_type - 1]

    def has_quorum_of_any(self, round_: int, vote_type: VoteType) -> bool:
        """2f+1 votes of the round, whatever for (lines 34 and 47)."""
        ballots = self.ballots(round_, vote_type)
        return bool(ballots.certificates) or self.validator_set.has_quorum(ballots.power)

    def quorums(self, round_: int, vote_type: VoteType) -> Iterator[Choice]:
        """Every choice with 2f+1 votes of that round; more than one only where more than f are byzantine."""
        ballots = self.ballots(round_, vote_type)
        if 3 * ballots.power > 2 * self.validator_set.total_power:
            for choice, power in ballots.power_for.items():
                if self.validator_set.has_quorum(power):
                    yield choice
        for choice in ballots.certificates:
            if not self.validator_set.has_quorum(ballots.power_for.get(choice, 0)):
                yield choice

    def has_quorum(self, round_: int, vote_type: VoteType, block_hash: bytes) -> bool:
        """2f+1 votes of that round for the block under one validRound."""
        return any(choice[0] == block_hash for choice in self.quorums(round_, vote_type))

    def quorum(self, round_: int, vote_type: VoteType, choice: Choice) -> Quorum:
        """What stands behind a choice that `quorums` named."""
        ballots = self.ballots(round_, vote_type)
        block_hash, valid_round = choice
        if self.validator_set.has_quorum(ballots.power_for.get(choice, 0)):
            votes = tuple(
                vote for _, vote in sorted(ballots.votes.items()) if (vote.block_hash, vote.valid_round) == choice
            )
            return Quorum(vote_type, self.height, round_, block_hash, valid_round, votes)
        return Quorum(vote_type, self.height, round_, block_hash, valid_round, (), ballots.certificates[choice])

    def one_correct_is_at(self, round_: int) -> bool:
        """f+1 messages of that round (line 55): more than a third of the power voted in it."""
        prevotes, precommits = self.rounds.get(round_, _NO_ROUND_VOTES)
        if prevotes.certificates or precommits.certificates:
            return True
        power = prevotes.power
        power += sum(vote_power(self, index) for index in precommits.votes if index not in prevotes.votes)
        return self.validator_set.has_one_correct(power)

    def votes_of(self, validator_index: int) -> Iterator[SignedVote]:
        for pair in self.rounds.values():
            for ballots in pair:
                vote = ballots.votes.get(validator_index)
                if vote is not None:
                    yield vote

    def testimonies(self, indices: Iterable[int]) -> Iterator[Testimony]:
        """What may be held against these validators: their single votes, and every certificate."""
        for index in indices:
            yield from self.votes_of(index)
        for pair in self.rounds.values():
            for ballots in pair:
                yield from ballots.certificates.values()


def vote_power(tally: VoteTally, validator_index: int) -> int:
    return tally.validator_set.validators[validator_index].power


def add_vote(tally: VoteTally, vote: SignedVote, current_round: int) -> tuple[VoteTally, Evidence | None]:
    """The tally with an admitted vote, and what the vote proves against its sender.

    The same vote again, and a vote of a round too old to be kept, change nothing.
    """
    if vote.round_ < current_round - MAX_ROUNDS_KEPT:
        return tally, None
    index = vote.validator_index
    pair = tally.rounds.get(vote.round_, _NO_ROUND_VOTES)
    ballots = pair[vote.vote_type - 1]
    earlier = ballots.votes.get(index)
    if earlier is not None and _choice(earlier) == _choice(vote):
        return tally, None
    evidence = None
    # Otherwise nothing here can contradict it: amnesia takes two rounds and two blocks.
    speaks_of_block_again = vote.block_hash != NIL and any(round_ != vote.round_ for round_ in tally.rounds)
    if earlier is not None or ballots.certificates or speaks_of_block_again:
        evidence = conflict_with(tally.testimonies([index]), vote)
    if earlier is not None:
        return tally, evidence
    counted = _count(ballots, vote, vote_power(tally, index))
    rounds = dict(tally.rounds)
    rounds[vote.round_] = (counted, pair[1]) if vote.vote_type is VoteType.PREVOTE else (pair[0], counted)
    if vote.round_ > current_round and len(rounds) > MAX_ROUNDS_AHEAD:
        _make_room(rounds, tally, index, current_round)
    return VoteTally(tally.height, tally.validator_set, rounds), evidence


def add_certificate(tally: VoteTally, certificate: Certificate) -> tuple[VoteTally, tuple[Evidence, ...]]:
    """The tally with a verified certificate of its height, and what it proves against the signers."""
    pair = tally.rounds.get(certificate.round_, _NO_ROUND_VOTES)
    ballots = pair[certificate.vote_type - 1]
    choice = (certificate.block_hash, certificate.valid_round)
    if choice in ballots.certificates:
        return tally, ()
    evidence = tuple(
        Evidence(testimony, certificate)
        for testimony in tally.testimonies(signer_indices(certificate.signers))
        if contradiction(testimony, certificate) is not None
    )
    counted = replace(ballots, certificates={**ballots.certificates, choice: certificate})
    rounds = dict(tally.rounds)
    is_prevote = certificate.vote_type is VoteType.PREVOTE
    rounds[certificate.round_] = (counted, pair[1]) if is_prevote else (pair[0], counted)
    return VoteTally(tally.height, tally.validator_set, rounds), evidence


def forget_old_rounds(tally: VoteTally, current_round: int, valid_round: int) -> VoteTally:
    """The tally without single votes of rounds more than `MAX_ROUNDS_KEPT` below the current one.

    The polka behind validValue stays, and so do certificates, which are few: were a lock's polka forgotten, nobody
    could be shown it any more, and whoever is locked would refuse everything for ever.
    """
    oldest = current_round - MAX_ROUNDS_KEPT
    if all(round_ >= oldest for round_ in tally.rounds):
        return tally
    rounds: dict[int, tuple[Ballots, Ballots]] = {}
    for round_, pair in tally.rounds.items():
        if round_ >= oldest or round_ == valid_round:
            rounds[round_] = pair
        elif any(ballots.certificates for ballots in pair):
            prevotes, precommits = pair
            rounds[round_] = (
                Ballots(certificates=prevotes.certificates),
                Ballots(certificates=precommits.certificates),
            )
    return VoteTally(tally.height, tally.validator_set, rounds)


def _choice(vote: SignedVote) -> Choice:
    return (vote.block_hash, vote.valid_round if vote.vote_type is VoteType.PREVOTE else NO_ROUND)


def _count(ballots: Ballots, vote: SignedVote, power: int) -> Ballots:
    choice = _choice(vote)
    votes, power_for = dict(ballots.votes), dict(ballots.power_for)
    votes[vote.validator_index] = vote
    power_for[choice] = power_for.get(choice, 0) + power
    return Ballots(votes, power_for, ballots.power + power, ballots.certificates)


def _make_room(rounds: dict[int, tuple[Ballots, Ballots]], tally: VoteTally, index: int, current_round: int) -> None:
    """Drop a validator's votes of its lowest round ahead if it has too many rounds there."""
    ahead = [
        round_
        for round_, pair in rounds.items()
        if round_ > current_round and (index in pair[0].votes or index in pair[1].votes)
    ]
    if len(ahead) <= MAX_ROUNDS_AHEAD:
        return
    lowest = min(ahead)
    prevotes, precommits = (_without(ballots, index, vote_power(tally, index)) for ballots in rounds[lowest])
    if prevotes.votes or precommits.votes or prevotes.certificates or precommits.certificates:
        rounds[lowest] = (prevotes, precommits)
    else:
        del rounds[lowest]


def _without(ballots: Ballots, index: int, power: int) -> Ballots:
    vote = ballots.votes.get(index)
    if vote is None:
        return ballots
    votes, power_for = dict(ballots.votes), dict(ballots.power_for)
    del votes[index]
    power_for[_choice(vote)] -= power
    return Ballots(votes, power_for, ballots.power - power, ballots.certificates)


def certificate_of(quorum: Quorum, member_count: int, aggregate: Callable[[Sequence[bytes]], bytes]) -> Certificate:
    """The certificate of the votes behind a choice; `aggregate` adds signatures up (astralink_node.crypto.bls)."""
    if quorum.certificate is not None:
        return quorum.certificate
    return Certificate(
        quorum.vote_type,
        quorum.height,
        quorum.round_,
        quorum.valid_round,
        quorum.block_hash,
        bitmap_of((vote.validator_index for vote in quorum.votes), member_count),
        aggregate([vote.signature for vote in quorum.votes]),
    )
