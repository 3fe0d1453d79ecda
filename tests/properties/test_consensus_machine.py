"""Properties of the height machine, for every sequence of inputs that a validator could be given.

The generator knows no honesty: any vote, proposal, certificate, verdict or timeout in any order, so that quorums
for different blocks meet locks of every kind. What a byzantine majority sends must not make a correct validator
sign two things, give up a lock for an older polka, or fall over.
"""

from collections import Counter

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from consensus.height_machine import (
    BlockBuilt,
    BlockChecked,
    BuildBlock,
    CertificateReceived,
    CheckBlock,
    CommitBlock,
    HeightState,
    ProposalReceived,
    ReportEvidence,
    ScheduleTimeout,
    SignProposal,
    SignVote,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
    begin_height,
    step,
)
from consensus.messages import NIL, VoteType
from consensus.params import MAX_ROUND
from consensus.proposer_selection import ProposerRotation, advance, initial_priorities, proposer
from consensus.replay import decode_input, encode_input, replay
from consensus.round_machine import TimeoutKind
from tests.support.height_machines import (
    PRECOMMIT,
    PREVOTE,
    TIME_MS,
    Machine,
    V,
    W,
    X,
    certificate,
    context_of,
    precommit,
    prevote,
    proposal,
    set_of,
)

ROUNDS = 4
OWN = 3
BAD = b"!" * 32
VERDICTS = {
    V: BlockChecked(V, True, 0, TIME_MS),
    W: BlockChecked(W, True, 1, TIME_MS),
    X: BlockChecked(X, True, 2, TIME_MS),
    BAD: BlockChecked(BAD, False, 0, 0),
}
"""A block is valid or not, and was built in one round, whoever asks."""
BUILT_IN = [V, W, X, V]

rounds = st.integers(0, ROUNDS - 1)
blocks = st.sampled_from([V, V, W, X, BAD])
things = st.sampled_from([V, V, W, W, X, BAD, NIL])
others = st.integers(0, 2)
groups = st.sampled_from([(0, 1, 2), (0, 1, 2), (0, 1), (1, 2), (0,), ()])
quorums = st.sampled_from([(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3), (0, 1, 2, 3)])
power_tables = st.sampled_from([(1, 1, 1, 1), (1, 1, 1, 1), (5, 1, 2, 3), (3, 3, 3, 1)])


@st.composite
def valid_rounds(draw, round_, block_hash):
    return draw(st.integers(-1, round_ - 1)) if block_hash != NIL else -1


@st.composite
def prevotes(draw, by=others):
    round_, block_hash = draw(rounds), draw(things)
    return VoteReceived(prevote(draw(by), round_, block_hash, draw(valid_rounds(round_, block_hash))))


@st.composite
def precommits(draw, by=others):
    return VoteReceived(precommit(draw(by), draw(rounds), draw(things)))


@st.composite
def proposals(draw):
    round_, block_hash = draw(rounds), draw(blocks)
    arrived_ms = TIME_MS + draw(st.sampled_from([0, 0, 0, 60_000]))
    return ProposalReceived(proposal(round_, block_hash, draw(valid_rounds(round_, block_hash))), arrived_ms)


@st.composite
def certificates(draw):
    vote_type, round_, block_hash = draw(st.sampled_from(VoteType)), draw(rounds), draw(things)
    valid_round = draw(valid_rounds(round_, block_hash)) if vote_type is PREVOTE else -1
    return CertificateReceived(certificate(vote_type, round_, block_hash, valid_round, draw(quorums)))


verdicts = st.sampled_from(list(VERDICTS.values()))
timeouts = st.builds(TimeoutElapsed, st.sampled_from(TimeoutKind), rounds)
singles = st.one_of(proposals(), prevotes(), precommits(), certificates(), verdicts, timeouts)


@st.composite
def rounds_of_play(draw):
    """Round after round a proposal, votes by some for it or for something else, timeouts, and anything in between."""
    events = []
    for round_ in range(draw(st.integers(1, ROUNDS))):
        block_hash = draw(st.just(BUILT_IN[round_]) | blocks)
        valid_round = draw(valid_rounds(round_, block_hash))
        events.append(ProposalReceived(proposal(round_, block_hash, valid_round), TIME_MS))
        events += draw(st.lists(singles, max_size=2))
        told = draw(st.sampled_from([block_hash, block_hash, NIL]))
        rests_on = valid_round if told != NIL else -1
        events += [VoteReceived(prevote(index, round_, told, rests_on)) for index in draw(groups)]
        events += [TimeoutElapsed(kind, round_) for kind in (TimeoutKind.PROPOSE, TimeoutKind.PREVOTE)]
        events += draw(st.lists(singles, max_size=2))
        told = draw(st.sampled_from([block_hash, NIL, NIL]))
        events += [VoteReceived(precommit(index, round_, told)) for index in draw(groups)]
        events.append(TimeoutElapsed(TimeoutKind.PRECOMMIT, round_))
    return events


sequences = rounds_of_play() | rounds_of_play() | st.lists(singles, max_size=30)
withheld = st.sets(st.sampled_from([V, W]), max_size=1)
"""Blocks whose check nobody answers, unless a verdict comes by itself."""


def run(events, *, own_index=OWN, powers=(1, 1, 1, 1), unanswered=frozenset()):
    """A machine driven as a driver would: own messages go back into it, and questions are answered."""
    machine = Machine(context_of(powers, own_index))
    pending = [StartHeight()]
    for one in events:
        pending.append(one)
        while pending:
            for output in machine.feed(pending.pop(0)):
                pending += answers(output, own_index, unanswered)
    return machine


def answers(output, own_index, unanswered):
    match output:
        case SignVote(VoteType.PREVOTE, round_, block_hash, valid_round):
            return [VoteReceived(prevote(own_index, round_, block_hash, valid_round))]
        case SignVote(_, round_, block_hash):
            return [VoteReceived(precommit(own_index, round_, block_hash))]
        case SignProposal(round_, block_hash, valid_round):
            return [ProposalReceived(proposal(round_, block_hash, valid_round), TIME_MS)]
        case CheckBlock(block_hash) if block_hash not in unanswered:
            return [VERDICTS[block_hash]]
        case BuildBlock(round_):
            return [BlockBuilt(round_, round_.to_bytes(32, "big").replace(b"\0", b"b"), TIME_MS)]
    return []


def frozen(state: HeightState) -> str:
    """All of the state, down to every byte, but its context: a mutated mapping would show."""
    return repr((state.rounds, state.tally.rounds, state.proposals, state.blocks, state.decision))


@given(sequences, power_tables, withheld)
def test_no_sequence_makes_a_validator_sign_two_things_or_betray_its_lock(events, powers, unanswered):
    machine = run(events, powers=powers, unanswered=unanswered)
    votes = [output for output in machine.said if isinstance(output, SignVote)]
    slots = Counter((vote.vote_type, vote.round_) for vote in votes)
    assert all(count == 1 for count in slots.values())
    assert [(vote.round_, vote.vote_type) for vote in votes] == sorted((vote.round_, vote.vote_type) for vote in votes)
    locked_round = -1
    for vote in votes:
        if vote.block_hash == NIL:
            assert vote.valid_round == -1
        elif vote.vote_type is PREVOTE:
            assert locked_round <= vote.valid_round < vote.round_
        else:
            locked_round = vote.round_
    event(f"precommits for a block: {sum(vote.vote_type is PRECOMMIT and vote.block_hash != NIL for vote in votes)}")
    event(f"rounds: {machine.round_}; decided: {machine.decided is not None}")


@given(sequences, power_tables, withheld)
def test_no_input_is_mutated_and_every_step_can_be_taken_again(events, powers, unanswered):
    machine = run(events, powers=powers, unanswered=unanswered)
    state = begin_height(context_of(powers, OWN))
    for one in machine.log:
        before = frozen(state)
        after, outputs = step(state, one)
        assert frozen(state) == before
        again, same_outputs = step(state, one)
        assert frozen(again) == frozen(after)
        assert same_outputs == outputs
        state = after
    assert frozen(state) == frozen(machine.state)


@given(sequences, withheld)
def test_the_state_moves_forward_only(events, unanswered):
    machine = run(events, unanswered=unanswered)
    state = begin_height(context_of(own_index=OWN))
    for one in machine.log:
        after, outputs = step(state, one)
        assert (after.rounds.round_, after.rounds.step) >= (state.rounds.round_, state.rounds.step)
        assert after.rounds.locked_round >= state.rounds.locked_round
        assert after.rounds.valid_round >= max(state.rounds.valid_round, after.rounds.locked_round)
        assert after.rounds.valid_round <= after.rounds.round_
        assert state.decision is None or after.decision == state.decision
        commits = [output for output in outputs if isinstance(output, CommitBlock)]
        assert len(commits) == (state.decision is None and after.decision is not None)
        state = after


@given(sequences, withheld)
def test_nothing_is_asked_twice(events, unanswered):
    machine = run(events, unanswered=unanswered)
    for kind in (BuildBlock, CheckBlock, ScheduleTimeout, CommitBlock, SignVote):
        asked = [output for output in machine.said if isinstance(output, kind)]
        assert len(asked) == len(set(asked)), kind
    proposed = Counter(output.round_ for output in machine.said if isinstance(output, SignProposal))
    answered = Counter(one.round_ for one in machine.log if isinstance(one, BlockBuilt))
    assert all(count <= max(1, answered[round_]) for round_, count in proposed.items())


@given(sequences, withheld)
def test_what_is_committed_is_a_valid_block_with_a_quorum(events, unanswered):
    machine = run(events, unanswered=unanswered)
    decision = machine.state.decision
    if decision is None:
        return
    assert machine.state.blocks[decision.block_hash].is_valid
    if decision.certificate is None:
        assert len({vote.validator_index for vote in decision.votes}) >= 3
        assert {(vote.vote_type, vote.round_, vote.block_hash) for vote in decision.votes} == {
            (PRECOMMIT, decision.round_, decision.block_hash)
        }
    else:
        assert (decision.certificate.vote_type, decision.certificate.block_hash) == (PRECOMMIT, decision.block_hash)


@given(sequences, st.data())
def test_duplicates_change_nothing(events, data):
    """Every message once more at any later place: the same votes, proposals and decision come out."""
    once = run(events)
    messages = [
        index
        for index, one in enumerate(events)
        if isinstance(one, VoteReceived | ProposalReceived | CertificateReceived)
    ]
    doubled = list(events)
    chosen = data.draw(st.lists(st.sampled_from(messages), max_size=6)) if messages else []
    for index in sorted(chosen, reverse=True):  # from the end, so that an earlier index stays where it was
        doubled.insert(data.draw(st.integers(index + 1, len(doubled))), events[index])
    twice = run(doubled)
    assert [output for output in twice.said if not isinstance(output, ReportEvidence)] == [
        output for output in once.said if not isinstance(output, ReportEvidence)
    ]
    assert twice.state.rounds == once.state.rounds


@given(sequences, st.data())
def test_a_replay_of_any_prefix_is_the_state_that_was_left(events, data):
    machine = run(events)
    cut = data.draw(st.integers(0, len(machine.log)))
    records = [encode_input(one) for one in machine.log[:cut]]
    state, _ = replay(context_of(own_index=OWN), [decode_input(record) for record in records])
    left = begin_height(context_of(own_index=OWN))
    for one in machine.log[:cut]:
        left, _ = step(left, one)
    assert frozen(state) == frozen(left)


@st.composite
def honest_heights(draw):
    """Votes of a height in which every validator votes once a round and type, and a quorum precommitted one block."""
    round_, block_hash = draw(rounds), draw(blocks)
    commit = [precommit(index, round_, block_hash) for index in draw(quorums)]
    taken = {(vote.vote_type, vote.round_, vote.validator_index) for vote in commit}
    rest = draw(st.lists(prevotes(st.integers(0, 3)) | precommits(st.integers(0, 3)), max_size=12))
    votes = list(commit)
    for one in rest:
        slot = (one.vote.vote_type, one.vote.round_, one.vote.validator_index)
        # A second commit needs more than a third of byzantine validators: not what is asked here.
        if slot not in taken and (one.vote.vote_type is PREVOTE or one.vote.block_hash in (block_hash, NIL)):
            taken.add(slot)
            votes.append(one.vote)
    return block_hash, votes


@given(honest_heights(), st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_votes_does_not_change_what_is_decided(height, random, block_comes_last):
    block_hash, votes = height
    verdict = [BlockChecked(block_hash, True, 0, TIME_MS)]
    for _ in range(3):
        random.shuffle(votes)
        received = [VoteReceived(vote) for vote in votes]
        events = [*received, *verdict] if block_comes_last else [*verdict, *received]
        assert run(events, own_index=None).decided == block_hash


@given(st.lists(prevotes(st.integers(0, 3)) | precommits(st.integers(0, 3)), max_size=14), st.randoms())
def test_the_order_of_votes_does_not_change_who_is_found_guilty_of_doubles(events, random):
    """Whose second vote is reported depends on the order; that there is a report on them does not."""

    def reported(sequence):
        machine = Machine(context_of(own_index=None))
        outputs = machine.feed(*sequence)
        return {output.evidence.first.validator_index for output in outputs}

    shuffled = list(events)
    random.shuffle(shuffled)
    assert reported(shuffled) == reported(events)


@given(sequences)
def test_who_only_follows_signs_and_builds_nothing(events):
    follower = run(events, own_index=None)
    assert not any(isinstance(output, SignVote | SignProposal | BuildBlock) for output in follower.said)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(0, 5), st.lists(st.integers(0, 40), max_size=8)
)
def test_a_rotation_names_the_proposers_in_whatever_order_they_are_asked_for(powers, heights, asked):
    validator_set = set_of(powers)
    priorities = advance(initial_priorities(validator_set), validator_set, heights)
    rotation = ProposerRotation(priorities, validator_set)
    assert [rotation.at(round_) for round_ in asked] == [
        proposer(priorities, validator_set, round_) for round_ in asked
    ]


def test_a_rotation_knows_its_bounds():
    validator_set = set_of((1, 2))
    rotation = ProposerRotation((0, 0), validator_set)
    for round_ in (-1, MAX_ROUND + 1):
        with pytest.raises(ValueError, match="round"):
            rotation.at(round_)
    with pytest.raises(ValueError, match="expected 2 priorities, found 3"):
        ProposerRotation((0, 0, 0), validator_set)
