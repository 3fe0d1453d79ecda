"""What others fell into, each trap with its own test: see the sources named at each."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from astralink_node.cli.main import run
from astralink_node.services.data_folder import DataFolder
from astralink_node.validator.keys import load_public_keys
from astralink_node.validator.signing_history import RefusedToSign, open_history
from consensus.admission import admit_votes
from consensus.certificate import CertificateError, verify_certificate
from consensus.evidence import is_expired
from consensus.hashing import keccak256
from consensus.height_machine import (
    BuildBlock,
    CheckBlock,
    CommitBlock,
    ScheduleTimeout,
    ShareQuorum,
    SignProposal,
    SignVote,
    is_timely,
)
from consensus.messages import NIL, VoteMessage, VoteType, signing_root
from consensus.params import ConsensusParams
from consensus.proposer_selection import advance, carry_over, initial_priorities, proposer
from consensus.round_machine import Step, TimeoutKind
from consensus.validator_set import ValidatorSet
from tests.support.height_machines import (
    PRECOMMIT,
    PREVOTE,
    TIME_MS,
    Machine,
    V,
    W,
    certificate,
    context_of,
    good,
    locked_on_v,
    prevote,
    set_of,
    started,
    to_round,
)

GENESIS = b"g" * 32
PARAMS = ConsensusParams()


def votes_in(outputs):
    return [output for output in outputs if isinstance(output, SignVote)]


# --- Locks -------------------------------------------------------------------------------------------------------


def test_a_nil_polka_does_not_unlock():
    """CometBFT's main branch unlocks there; the paper does not."""
    machine = locked_on_v()
    to_round(machine, 1)
    machine.elapse(TimeoutKind.PROPOSE, 1)
    machine.prevotes((0, 1, 2, 3), 1, NIL)
    machine.precommits((0, 1, 2, 3), 1, NIL)
    assert machine.lock == (0, V)
    to_round(machine, 2)
    machine.proposal(2, W)
    assert votes_in(machine.checked(good(W, 2))) == [SignVote(PREVOTE, 2, NIL, -1)]
    to_round(machine, 3)
    assert SignProposal(3, V, 0) in machine.said


def test_a_nil_polka_certificate_does_not_unlock():
    machine = locked_on_v()
    machine.certificate(certificate(PREVOTE, 1, NIL))
    machine.elapse(TimeoutKind.PROPOSE, 1)
    assert machine.step is Step.PRECOMMIT
    assert machine.lock == machine.valid == (0, V)


def test_a_hidden_lock_is_resolved_by_the_gossiped_polka():
    """malachite #850: who is locked shares the polka before it proposes again, and then everyone may follow."""
    locked = locked_on_v(own_index=1)
    outputs = to_round(locked, 1, (0, 2))
    (shared,) = [output for output in outputs if isinstance(output, ShareQuorum)]
    assert outputs.index(shared) < outputs.index(SignProposal(1, V, 0))

    unaware = started(own_index=3)
    to_round(unaware, 1, (0, 2))
    unaware.certificate(certificate(PREVOTE, 0, V, by=[vote.validator_index for vote in shared.quorum.votes]))
    unaware.proposal(1, V, 0)
    assert unaware.checked(good(V)) == [SignVote(PREVOTE, 1, V, 0)]


def test_a_hidden_lock_stays_hidden_without_the_polka():
    """The reason for gossiping it: the re-proposal is not answered, the round is lost, and so is every later one."""
    unaware = started(own_index=3)
    to_round(unaware, 1, (0, 2))
    unaware.proposal(1, V, 0)
    assert unaware.checked(good(V)) == []
    assert unaware.elapse(TimeoutKind.PROPOSE, 1) == [SignVote(PREVOTE, 1, NIL, -1)]


def test_the_holder_of_the_highest_lock_cannot_be_refused_by_a_lower_one():
    """The liveness argument for the accountable prevote, at its two sides."""
    lower = locked_on_v(own_index=3)
    lower.certificate(certificate(PREVOTE, 1, W))
    to_round(lower, 2)
    lower.proposal(2, W, 1)
    assert votes_in(lower.checked(good(W, 1))) == [SignVote(PREVOTE, 2, W, 1)]
    higher = started(own_index=3)
    to_round(higher, 1)
    higher.proposal(1, W)
    higher.checked(good(W, 1))
    higher.prevotes((0, 1, 3), 1, W)
    assert higher.lock == (1, W)
    higher.certificate(certificate(PREVOTE, 0, V))
    to_round(higher, 2)
    higher.proposal(2, V, 0)
    assert votes_in(higher.checked(good(V))) == [SignVote(PREVOTE, 2, NIL, -1)]


def test_an_honest_validator_is_never_an_amnesiac_by_prevoting_its_own_lock():
    """The accountable prevote's reason: C locked v' in round 1 and is asked for v' in round 2 without a polka."""
    machine = locked_on_v(own_index=2)
    to_round(machine, 1, (0, 3))
    machine.proposal(1, W)
    machine.checked(good(W, 1))
    machine.prevotes((0, 1, 3), 1, W)
    assert machine.lock == (1, W)
    to_round(machine, 2, (0, 3))
    assert votes_in(machine.proposal(2, W)) == [SignVote(PREVOTE, 2, NIL, -1)]


# --- Quorums -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("powers", "two_thirds", "more"), [((1, 1, 1), (0, 1), (2,)), ((4, 2, 1, 2), (0, 1), (2,))])
def test_exactly_two_thirds_is_no_quorum(powers, two_thirds, more):
    machine = started(powers, own_index=None)
    assert 3 * sum(powers[index] for index in two_thirds) == 2 * sum(powers)
    machine.good_proposal(0, V)
    machine.elapse(TimeoutKind.PROPOSE, 0)
    machine.prevotes(two_thirds, 0, V)
    assert machine.lock == (-1, NIL)
    assert machine.precommits(two_thirds, 0, V) == []
    assert machine.decided is None
    machine.precommits(more, 0, V)
    assert machine.decided == V


def test_exactly_two_thirds_is_no_certificate():
    validator_set = set_of((1, 1, 1))

    def verify_aggregate(keys, message, signature):
        return True

    with pytest.raises(CertificateError, match="quorum: expected more than 2/3 of 3, found 2"):
        verify_certificate(certificate(PRECOMMIT, 0, V, by=(0, 1), count=3), validator_set, GENESIS, verify_aggregate)
    verify_certificate(certificate(PRECOMMIT, 0, V, by=(0, 1, 2), count=3), validator_set, GENESIS, verify_aggregate)


def test_exactly_a_third_skips_no_round():
    machine = started((1, 1, 1), own_index=2)
    to_round(machine, 5, (0,))
    assert machine.round_ == 0


def test_f_plus_1_messages_of_one_higher_round_skip_to_it_and_f_do_not():
    machine = started()
    to_round(machine, 7, (0,))
    machine.precommits((0,), 7, NIL)
    assert machine.round_ == 0
    machine.prevotes((1,), 6, NIL)
    assert machine.round_ == 0
    machine.precommits((1,), 7, NIL)
    assert machine.round_ == 7


def test_the_highest_of_several_rounds_ahead_is_taken():
    machine = Machine(context_of(own_index=3))
    to_round(machine, 4)
    to_round(machine, 9)
    to_round(machine, 6)
    outputs = machine.start()
    assert machine.round_ == 9
    assert [output.round_ for output in outputs if isinstance(output, ScheduleTimeout)] == [0, 9]


# --- Power and signature by the same key (CSA-2026-001) -----------------------------------------------------------


def signature_of(keys, message):
    """A toy signature that binds exactly these keys and this message."""
    return (keccak256(b"".join(keys) + message) * 3)[:96]


def signed(vote, by_index, validator_set):
    key = validator_set.validators[by_index].voting_key
    return replace(vote, signature=signature_of([key], signing_root(vote.sign_bytes(GENESIS))))


def verify_batch(keys, messages, signatures):
    pairs = zip(keys, messages, strict=True)
    return list(signatures) == [signature_of([key], message) for key, message in pairs]


def test_power_and_signature_of_a_vote_are_checked_by_the_same_key():
    validator_set = set_of((10, 1, 1, 1))
    honest, borrowed = signed(prevote(1, 0, V), 1, validator_set), signed(prevote(0, 0, V), 1, validator_set)
    admission = admit_votes([honest, borrowed], validator_set, GENESIS, verify_batch)
    assert admission.admitted == (honest,)
    assert admission.refused == (borrowed,)
    machine = Machine(context_of((10, 1, 1, 1), None))
    machine.votes(*admission.admitted)
    assert machine.state.tally.ballots(0, PREVOTE).power == 1


def test_power_and_signature_of_a_certificate_are_checked_by_the_same_key():
    validator_set = set_of((10, 1, 1, 1))
    asked = []

    def verify_aggregate(keys, message, signature):
        asked.append(tuple(keys))
        return True

    verify_certificate(certificate(PRECOMMIT, 0, V, by=(0,)), validator_set, GENESIS, verify_aggregate)
    assert asked == [(validator_set.validators[0].voting_key,)]
    with pytest.raises(CertificateError, match="quorum"):
        verify_certificate(certificate(PRECOMMIT, 0, V, by=(1, 2, 3)), validator_set, GENESIS, verify_aggregate)
    assert validator_set.validators[0].power == 10


# --- Time (PBTS) -------------------------------------------------------------------------------------------------


def answer_to(time_ms, arrived_ms, round_=0, valid_round=-1, build_round=None):
    """What a validator prevotes for such a proposal, once it has the polka that a re-proposal rests on."""
    machine = started()
    if valid_round >= 0:
        machine.certificate(certificate(PREVOTE, valid_round, V))
    if round_:
        to_round(machine, round_)
    machine.proposal(round_, V, valid_round, arrived_ms)
    (vote,) = machine.checked(good(V, round_ if build_round is None else build_round, time_ms))
    return vote.block_hash


@pytest.mark.parametrize("round_", [0, 1, 2])
def test_a_fresh_value_must_be_timely_by_the_arrival_of_its_proposal(round_):
    delay, precision = PARAMS.message_delay_at(round_), PARAMS.precision_ms
    oldest, newest = TIME_MS - delay - precision, TIME_MS + precision
    assert answer_to(oldest, TIME_MS, round_) == answer_to(newest, TIME_MS, round_) == V
    assert answer_to(oldest - 1, TIME_MS, round_) == answer_to(newest + 1, TIME_MS, round_) == NIL


def test_a_reproposal_keeps_its_time_and_is_not_judged_timely_again():
    hours = 3_600_000
    assert answer_to(TIME_MS, TIME_MS + 5 * hours, round_=2, valid_round=0, build_round=0) == V
    assert answer_to(TIME_MS, TIME_MS + 5 * hours, round_=2) == NIL
    machine = locked_on_v()
    to_round(machine, 3)
    assert SignProposal(3, V, 0) in machine.said  # the very same block: its time is in its hash
    assert not any(isinstance(output, BuildBlock) for output in machine.said)


def test_a_polka_locks_a_valid_block_that_came_too_late_for_our_own_prevote():
    """Timeliness is for the prevote; the quorum judged by its own clocks."""
    machine = started()
    machine.proposal(0, V, arrived_ms=TIME_MS + 60_000)
    assert machine.checked(good(V)) == [SignVote(PREVOTE, 0, NIL, -1)]
    assert votes_in(machine.prevotes((0, 1, 2), 0, V)) == [SignVote(PRECOMMIT, 0, V, -1)]


def test_the_message_delay_grows_by_a_tenth_a_round():
    delays = [PARAMS.message_delay_at(round_) for round_ in range(4)]
    assert delays == [2_000, 2_200, 2_420, 2_662]
    assert is_timely(PARAMS, 1, TIME_MS - 2_700, TIME_MS)
    assert not is_timely(PARAMS, 0, TIME_MS - 2_700, TIME_MS)


@pytest.mark.parametrize("build_round", [0, 1, 3])
def test_a_fresh_value_must_be_built_in_its_round(build_round):
    """Else a proposer could bring back an old block, whose proposer index belongs to somebody else's turn."""
    assert answer_to(TIME_MS, TIME_MS, round_=2, build_round=build_round) == NIL
    assert answer_to(TIME_MS, TIME_MS, round_=2, build_round=2) == V


def test_timeouts_grow_linearly():
    """Exponential ones strand a network for hours after its quorum is back (Besu QBFT, Polygon Edge)."""
    machine = started()
    for round_ in range(1, 40):
        machine.elapse(TimeoutKind.PROPOSE, round_ - 1)
        machine.prevotes((0, 1), round_ - 1, NIL)
        machine.prevotes((2,), round_ - 1, W)
        machine.precommits((0, 1, 2), round_ - 1, NIL)
        machine.elapse(TimeoutKind.PRECOMMIT, round_ - 1)
    for kind, first, delta in (
        (TimeoutKind.PROPOSE, PARAMS.propose_timeout_ms, PARAMS.propose_timeout_delta_ms),
        (TimeoutKind.PREVOTE, PARAMS.prevote_timeout_ms, PARAMS.prevote_timeout_delta_ms),
        (TimeoutKind.PRECOMMIT, PARAMS.precommit_timeout_ms, PARAMS.precommit_timeout_delta_ms),
    ):
        durations = [
            output.duration_ms
            for output in machine.said
            if isinstance(output, ScheduleTimeout) and output.kind is kind and output.round_ < 39
        ]
        assert durations == [first + round_ * delta for round_ in range(39)]


@pytest.mark.parametrize("kind", TimeoutKind)
def test_timeouts_of_old_rounds_are_ignored(kind):
    machine = started()
    to_round(machine, 3)
    before = machine.state
    for round_ in (0, 1, 2):
        assert machine.elapse(kind, round_) == []
    assert machine.state is before


# --- Decisions ---------------------------------------------------------------------------------------------------


def test_a_block_that_is_decided_but_not_here_is_got_before_it_is_committed():
    machine = started()
    assert machine.precommits((0, 1, 2), 0, V)[0] == CheckBlock(V)
    assert machine.decided is None
    assert isinstance(machine.checked(good(V))[-1], CommitBlock)


# --- Evidence ----------------------------------------------------------------------------------------------------


def test_evidence_expires_only_by_both_limits():
    """100,000 fast blocks alone must not let a crime of this morning go, nor two days of a halted chain."""
    blocks, age = PARAMS.evidence_max_age_blocks, PARAMS.evidence_max_age_ms
    assert (blocks, age) == (100_000, 48 * 3_600_000)
    assert not is_expired(10, TIME_MS, 10 + blocks + 1, TIME_MS + age, PARAMS)
    assert not is_expired(10, TIME_MS, 10 + blocks, TIME_MS + age + 1, PARAMS)
    assert is_expired(10, TIME_MS, 10 + blocks + 1, TIME_MS + age + 1, PARAMS)


# --- Proposers ---------------------------------------------------------------------------------------------------


def test_who_joins_starts_at_minus_1_125_of_the_total_power():
    old_set = set_of((8, 8, 8))
    members = old_set.validators
    joiner = replace(members[0], voting_key=b"\xff" * 48)
    new_set = ValidatorSet((*members, joiner), bytes(128))
    assert new_set.total_power == 32
    carried = carry_over(initial_priorities(old_set), old_set, new_set)
    # (0, 0, 0, -36), centred by floor(-36 / 4).
    assert carried == (9, 9, 9, -27)
    assert carried[0] - carried[3] == 32 + 32 // 8


def test_leaving_and_joining_again_never_pays():
    full, without = set_of((1, 1, 1, 1)), ValidatorSet(set_of((1, 1, 1, 1)).validators[:3], bytes(128))
    priorities = advance(initial_priorities(full), full, 4)
    back = carry_over(carry_over(priorities, full, without), without, full)
    assert [proposer(advance(back, full, turn), full, 0) for turn in range(3)] == [0, 1, 2]


# --- The signing history outlives the chain ------------------------------------------------------------------------


def vote_for(block_hash, height=1):
    return VoteMessage(GENESIS, height, 0, VoteType.PRECOMMIT, block_hash, -1)


def test_a_reset_never_touches_the_signing_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`devnet --reset`, and `init` into a folder whose chain is gone, by the commands themselves."""
    from astralink_node.cli import devnet as devnet_verb  # heavy: only this test needs it

    started_nodes = []
    monkeypatch.setattr(devnet_verb.node, "run", lambda setup, on_ready: started_nodes.append(setup))
    folder = DataFolder(tmp_path / "devnet")
    assert run(["devnet", "--dir", str(folder.root), "--rpc-port", "0"]) == 0
    (key_file,) = folder.signing.glob("*.history")
    voting_key = load_public_keys(folder.validator_keys).voting_key
    with open_history(folder.signing, voting_key) as history:
        signature = history.sign(vote_for(V), lambda _: b"s" * 96)
    folder.consensus.mkdir(exist_ok=True)
    (folder.consensus / "height.log").write_bytes(b"a log")
    first_genesis = folder.genesis_file.read_bytes()

    assert run(["devnet", "--dir", str(folder.root), "--rpc-port", "0", "--reset"]) == 0
    assert folder.genesis_file.read_bytes() != first_genesis
    assert not (folder.consensus / "height.log").exists()
    assert key_file.exists()

    folder.genesis_file.rename(tmp_path / "genesis.json")
    shutil.rmtree(folder.database)
    assert run(["init", "--data-dir", str(folder.root), str(tmp_path / "genesis.json")]) == 0

    with open_history(folder.signing, voting_key) as history:
        assert history.sign(vote_for(V), lambda _: b"t" * 96) == signature
        with pytest.raises(RefusedToSign):
            history.sign(vote_for(W), lambda _: b"t" * 96)
    assert len(started_nodes) == 2
