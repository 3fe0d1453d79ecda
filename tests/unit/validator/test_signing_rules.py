"""The signing rules, one situation a test: what is new, what is repeated, what is refused and why."""

import pytest

from astralink_node.validator.signing_rules import (
    ChainHistory,
    HistoryState,
    Refuse,
    ReturnStored,
    Signed,
    SignNew,
    decide,
    floor_after_lost_history,
    is_foreign,
    raise_floor,
    record,
)
from consensus.messages import (
    NIL,
    CheckpointMessage,
    ProposalMessage,
    RevealMessage,
    VoteMessage,
    VoteType,
)

GENESIS = b"g" * 32
A, B = b"a" * 32, b"b" * 32


def proposal(height, round_, block_hash=A, valid_round=-1):
    return ProposalMessage(GENESIS, height, round_, block_hash, valid_round)


def prevote(height, round_, block_hash=A, valid_round=-1):
    return VoteMessage(GENESIS, height, round_, VoteType.PREVOTE, block_hash, valid_round)


def precommit(height, round_, block_hash=A):
    return VoteMessage(GENESIS, height, round_, VoteType.PRECOMMIT, block_hash, -1)


def reveal(height):
    return RevealMessage(GENESIS, height)


def checkpoint(epoch, height, block_hash=A):
    return CheckpointMessage(GENESIS, epoch, height, block_hash, B)


def after(*messages, floor=1):
    history = ChainHistory(floor=floor)
    for index, message in enumerate(messages):
        assert decide(history, message) == SignNew(), message
        history = record(history, Signed(message, b"signature %d" % index))
    return history


def reason(history, message):
    decision = decide(history, message)
    assert isinstance(decision, Refuse), decision
    return decision.reason


def test_a_whole_height_is_signed_in_order():
    after(reveal(1), proposal(1, 0), prevote(1, 0), precommit(1, 0), reveal(2), proposal(2, 0), prevote(2, 0))


@pytest.mark.parametrize("message", [proposal(3, 2), prevote(3, 2), precommit(3, 2), reveal(3), checkpoint(1, 3)])
def test_identical_bytes_return_the_stored_signature(message):
    assert decide(after(message), message) == ReturnStored(b"signature 0")


def test_identical_bytes_return_the_stored_signature_after_later_steps_and_rounds():
    first = prevote(3, 0)
    history = after(first, precommit(3, 0, NIL), prevote(3, 1, B), precommit(3, 1, B))
    assert decide(history, first) == ReturnStored(b"signature 0")


@pytest.mark.parametrize(
    ("signed", "other"),
    [
        (proposal(3, 2), proposal(3, 2, B)),
        (proposal(3, 2), proposal(3, 2, A, 1)),
        (prevote(3, 2), prevote(3, 2, B)),
        (prevote(3, 2), prevote(3, 2, NIL)),
        (prevote(3, 2, A, -1), prevote(3, 2, A, 1)),
        (precommit(3, 2), precommit(3, 2, NIL)),
        (precommit(3, 2, NIL), precommit(3, 2)),
        (checkpoint(1, 9), checkpoint(1, 9, B)),
        (checkpoint(1, 9), checkpoint(1, 10)),
    ],
)
def test_other_bytes_for_a_recorded_step_are_refused(signed, other):
    assert "other bytes" in reason(after(signed), other)


@pytest.mark.parametrize(
    "message",
    [
        proposal(5, 3),
        proposal(5, 1),
        prevote(5, 2),
        prevote(5, 3),
        precommit(5, 2),
        proposal(4, 9),
        prevote(4, 9),
        precommit(4, 9),
        reveal(4),
    ],
)
def test_steps_that_are_not_above_the_watermark_are_refused(message):
    reason(after(precommit(5, 3, NIL)), message)


def test_a_missed_step_is_not_signed_later():
    assert "not above" in reason(after(precommit(5, 3, NIL)), prevote(5, 3, A))


def test_a_prevote_for_a_polka_older_than_the_lock_is_refused():
    history = after(prevote(5, 2), precommit(5, 2))
    assert "locked in round 2" in reason(history, prevote(5, 3, B, -1))
    assert "locked in round 2" in reason(history, prevote(5, 3, B, 1))
    assert "locked in round 2" in reason(history, prevote(5, 3, A, -1))


def test_a_prevote_for_a_polka_of_the_locks_round_or_later_is_signed():
    history = after(prevote(5, 2), precommit(5, 2))
    assert decide(history, prevote(5, 4, B, 2)) == SignNew()
    assert decide(history, prevote(5, 4, B, 3)) == SignNew()


def test_a_nil_prevote_and_a_proposal_are_signed_whatever_the_lock():
    history = after(prevote(5, 2), precommit(5, 2))
    assert decide(history, prevote(5, 3, NIL)) == SignNew()
    assert decide(history, proposal(5, 3, B)) == SignNew()


def test_a_nil_precommit_neither_locks_nor_unlocks():
    unlocked = after(prevote(5, 0, NIL), precommit(5, 0, NIL))
    assert decide(unlocked, prevote(5, 1, B)) == SignNew()
    locked = after(prevote(5, 0), precommit(5, 0), prevote(5, 1, NIL), precommit(5, 1, NIL))
    assert "locked in round 0" in reason(locked, prevote(5, 2, B))


def test_the_lock_ends_with_its_height():
    assert decide(after(prevote(5, 2), precommit(5, 2)), prevote(6, 0, B)) == SignNew()


def test_a_reveal_moves_the_watermark_to_its_height():
    history = after(precommit(5, 0), reveal(6))
    assert "below height 6" in reason(history, prevote(5, 1, B, 0))
    assert decide(history, prevote(6, 0, B)) == SignNew()


def test_a_reveal_in_a_later_round_of_the_same_height_is_signed():
    assert decide(after(prevote(5, 0, NIL), precommit(5, 0, NIL)), reveal(5)) == SignNew()


def test_checkpoints_ascend_and_do_not_disturb_votes():
    history = after(prevote(5, 2), checkpoint(0, 4), precommit(5, 2))
    assert decide(history, checkpoint(1, 9)) == SignNew()
    later = record(history, Signed(checkpoint(3, 19), b"x"))
    assert "not above" in reason(later, checkpoint(2, 14))
    assert "not above" in reason(later, checkpoint(4, 19))
    assert later.step == (2, 2)


def test_below_the_floor_nothing_is_signed():
    history = after(floor=10)
    for message in (proposal(9, 0), prevote(9, 0), precommit(9, 0), reveal(9), checkpoint(1, 9)):
        assert "below height 10" in reason(history, message)
    assert decide(history, prevote(10, 0)) == SignNew()


def test_without_a_known_floor_nothing_is_signed():
    assert "no certified head" in reason(ChainHistory(floor=None), prevote(1000, 0))


def test_a_floor_never_sinks():
    assert raise_floor(ChainHistory(floor=10), 5).floor == 10
    assert raise_floor(ChainHistory(floor=None), 5).floor == 5


@pytest.mark.parametrize(
    ("certified_head", "alone", "floor"), [(1, False, 3), (100, False, 102), (0, True, 1), (100, True, 101)]
)
def test_after_a_loss_others_certify_the_next_height_first_unless_there_are_none(certified_head, alone, floor):
    assert floor_after_lost_history(certified_head, alone=alone) == floor


def test_genesis_is_no_certified_head_among_several_validators():
    with pytest.raises(ValueError, match="certified_head: expected a certified block"):
        floor_after_lost_history(0, alone=False)


def test_a_history_is_intact_with_a_new_key_or_a_floor_and_not_after_a_loss():
    assert HistoryState(floor=1, height=0).is_intact
    assert HistoryState(floor=102, height=0).is_intact
    assert not HistoryState(floor=None, height=0).is_intact


def test_our_own_vote_gossiped_back_is_not_foreign():
    own = [proposal(5, 1), prevote(5, 1), precommit(5, 1), prevote(5, 2, NIL), precommit(5, 2, NIL)]
    history = after(*own)
    assert [is_foreign(history, message) for message in own] == [False] * 5


@pytest.mark.parametrize(
    "message",
    [
        prevote(5, 1, B),
        prevote(5, 1, NIL),
        prevote(5, 1, A, 0),
        precommit(5, 1, NIL),
        precommit(5, 0),
        prevote(5, 7),
        proposal(5, 1, B),
        proposal(5, 4),
    ],
)
def test_a_vote_at_the_height_of_the_history_that_it_lacks_is_foreign(message):
    assert is_foreign(after(proposal(5, 1), prevote(5, 1), precommit(5, 1)), message)


@pytest.mark.parametrize("message", [proposal(6, 0), prevote(6, 0), precommit(6, 3, NIL), prevote(900, 0)])
def test_a_vote_above_the_history_is_foreign(message):
    assert is_foreign(after(prevote(5, 1)), message)
    assert is_foreign(after(), message), "a new key signed nothing"


@pytest.mark.parametrize("message", [proposal(4, 0), prevote(4, 0), precommit(1, 3)])
def test_of_a_vote_below_the_history_nobody_can_tell(message):
    assert not is_foreign(after(prevote(5, 1)), message)
    assert not is_foreign(after(reveal(5)), message)


def test_after_a_loss_every_vote_is_foreign():
    lost = ChainHistory(floor=None)
    assert is_foreign(lost, prevote(5, 0))
    assert is_foreign(lost, precommit(1, 0))


def test_below_the_floor_the_lost_history_may_have_signed_and_from_it_on_nobody_did():
    history = after(floor=10)
    assert not is_foreign(history, prevote(9, 0))
    assert is_foreign(history, prevote(10, 0))
    later = record(history, Signed(prevote(12, 0), b"x"))
    assert not is_foreign(later, prevote(10, 0))
    assert not is_foreign(later, prevote(12, 0))
    assert is_foreign(later, precommit(12, 0))


def test_a_checkpoint_does_not_make_votes_foreign_or_known():
    history = after(prevote(5, 0), checkpoint(0, 9))
    assert is_foreign(history, prevote(9, 0))
    assert not is_foreign(history, prevote(5, 0))
