"""Short words for tests of the height machine: sets, signed messages, and a machine that remembers what it said.

Signatures here are as if verified: what the machine gets has been admitted, and it never looks at them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from consensus.certificate import Certificate, bitmap_of
from consensus.height_machine import (
    BlockBuilt,
    BlockChecked,
    CertificateReceived,
    HeightContext,
    HeightState,
    Input,
    Output,
    ProposalReceived,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
    begin_height,
    step,
)
from consensus.messages import NIL, NO_ROUND, VoteType
from consensus.params import ConsensusParams
from consensus.proposer_selection import ProposerRotation, initial_priorities
from consensus.round_machine import Step, TimeoutKind
from consensus.validator_set import Validator, ValidatorSet
from consensus.votes import SignedProposal, SignedVote

HEIGHT = 5
V, W, X = b"v" * 32, b"w" * 32, b"x" * 32
PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT
TIME_MS = 1_000_000
"""When blocks are made and proposals arrive, unless a test says otherwise."""
EQUAL = (1, 1, 1, 1)


def set_of(powers: Sequence[int]) -> ValidatorSet:
    members = tuple(
        Validator((index + 1).to_bytes(2, "big") * 24, bytes(32), power, bytes(20))
        for index, power in enumerate(powers)
    )
    return ValidatorSet(members, bytes(128))


def context_of(
    powers: Sequence[int] = EQUAL, own_index: int | None = 0, params: ConsensusParams | None = None
) -> HeightContext:
    """With equal powers, validator r % n proposes round r."""
    validator_set = set_of(powers)
    rotation = ProposerRotation(initial_priorities(validator_set), validator_set)
    return HeightContext(HEIGHT, validator_set, rotation, own_index, params or ConsensusParams())


def prevote(by: int, round_: int, block_hash: bytes, valid_round: int = NO_ROUND, height: int = HEIGHT) -> SignedVote:
    return SignedVote(PREVOTE, height, round_, block_hash, valid_round, by, bytes([by % 256]) * 96)


def precommit(by: int, round_: int, block_hash: bytes, height: int = HEIGHT) -> SignedVote:
    return SignedVote(PRECOMMIT, height, round_, block_hash, NO_ROUND, by, bytes([by % 256]) * 96)


def proposal(round_: int, block_hash: bytes, valid_round: int = NO_ROUND, height: int = HEIGHT) -> SignedProposal:
    return SignedProposal(height, round_, block_hash, valid_round, b"p" * 96)


def certificate(
    vote_type: VoteType,
    round_: int,
    block_hash: bytes,
    valid_round: int = NO_ROUND,
    by: Iterable[int] = (0, 1, 2),
    count: int = 4,
) -> Certificate:
    return Certificate(vote_type, HEIGHT, round_, valid_round, block_hash, bitmap_of(by, count), b"c" * 96)


def good(block_hash: bytes, build_round: int = 0, time_ms: int = TIME_MS) -> BlockChecked:
    return BlockChecked(block_hash, True, build_round, time_ms)


def bad(block_hash: bytes) -> BlockChecked:
    return BlockChecked(block_hash, False, 0, 0)


class Machine:
    """A height machine with its log; each call gives what came out of it."""

    def __init__(self, context: HeightContext) -> None:
        self.state: HeightState = begin_height(context)
        self.log: list[Input] = []
        self.said: list[Output] = []

    def feed(self, *events: Input) -> list[Output]:
        outputs: list[Output] = []
        for event in events:
            self.log.append(event)
            self.state, more = step(self.state, event)
            outputs += more
        self.said += outputs
        return outputs

    def start(self) -> list[Output]:
        return self.feed(StartHeight())

    def votes(self, *votes: SignedVote) -> list[Output]:
        return self.feed(*(VoteReceived(vote) for vote in votes))

    def prevotes(self, by: Iterable[int], round_: int, block_hash: bytes, valid_round: int = NO_ROUND) -> list[Output]:
        return self.votes(*(prevote(index, round_, block_hash, valid_round) for index in by))

    def precommits(self, by: Iterable[int], round_: int, block_hash: bytes) -> list[Output]:
        return self.votes(*(precommit(index, round_, block_hash) for index in by))

    def proposal(
        self, round_: int, block_hash: bytes, valid_round: int = NO_ROUND, arrived_ms: int = TIME_MS
    ) -> list[Output]:
        return self.feed(ProposalReceived(proposal(round_, block_hash, valid_round), arrived_ms))

    def good_proposal(self, round_: int, block_hash: bytes, valid_round: int = NO_ROUND) -> list[Output]:
        """A proposal whose block is checked at once: fresh and timely, or built in round 0."""
        build_round = round_ if valid_round == NO_ROUND else 0
        return self.proposal(round_, block_hash, valid_round) + self.checked(good(block_hash, build_round))

    def checked(self, *verdicts: BlockChecked) -> list[Output]:
        return self.feed(*verdicts)

    def built(self, round_: int, block_hash: bytes, time_ms: int = TIME_MS) -> list[Output]:
        return self.feed(BlockBuilt(round_, block_hash, time_ms))

    def certificate(self, received: Certificate) -> list[Output]:
        return self.feed(CertificateReceived(received))

    def elapse(self, kind: TimeoutKind, round_: int) -> list[Output]:
        return self.feed(TimeoutElapsed(kind, round_))

    @property
    def round_(self) -> int:
        return self.state.rounds.round_

    @property
    def step(self) -> Step:
        return self.state.rounds.step

    @property
    def lock(self) -> tuple[int, bytes]:
        return self.state.rounds.locked_round, self.state.rounds.locked_hash

    @property
    def valid(self) -> tuple[int, bytes]:
        return self.state.rounds.valid_round, self.state.rounds.valid_hash

    @property
    def decided(self) -> bytes | None:
        return self.state.decision.block_hash if self.state.decision else None


def started(powers: Sequence[int] = EQUAL, own_index: int | None = 3, params: ConsensusParams | None = None) -> Machine:
    """A machine in round 0, by default one that proposes in round 3 only."""
    machine = Machine(context_of(powers, own_index, params))
    machine.start()
    return machine


def locked_on_v(own_index: int = 3) -> Machine:
    """It prevoted v in round 0, saw the polka, and precommitted v; its own votes are with it."""
    machine = started(own_index=own_index)
    machine.good_proposal(0, V)
    machine.prevotes((0, 1, max(2, own_index)), 0, V)
    machine.precommits([own_index], 0, V)
    assert machine.lock == machine.valid == (0, V)
    return machine


def to_round(machine: Machine, round_: int, by: Iterable[int] = (0, 1)) -> list[Output]:
    """Line 55: two of four speak in a later round, and leave their prevotes there to the test."""
    return machine.precommits(by, round_, NIL)


def with_signature(vote: SignedVote, signature: bytes) -> SignedVote:
    return replace(vote, signature=signature)
