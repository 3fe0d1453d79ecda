"""Evidence at hand: held once, offered oldest first, given up when carried, useless or too old, kept over a restart."""

from dataclasses import replace
from pathlib import Path

from astralink_node.services import evidence_keeper
from astralink_node.services.consensus_log import EVIDENCE_FILE, ConsensusLog
from astralink_node.services.evidence_keeper import EvidenceKeeper
from consensus.block_evidence import CarriedEvidence, encode_carried
from consensus.certificate import Certificate, bitmap_of
from consensus.evidence import Evidence
from consensus.evidence_forms import AnyEvidence, encode_any_evidence
from consensus.forged_header import HISTORY_HEIGHTS, ForgedHeader
from consensus.messages import VoteType
from consensus.params import ConsensusParams
from consensus.validator_set import Validator, ValidatorSet
from consensus.votes import SignedVote

PARAMS = ConsensusParams(evidence_max_age_blocks=100, evidence_max_age_ms=50_000, unbonding_ms=60_000)
SET = ValidatorSet(tuple(Validator(bytes([n + 1]) * 48, bytes(32), 1, bytes(20)) for n in range(8)), bytes(128))


def crime(by: int = 0, height: int = 7, mark: int = 2) -> Evidence:
    vote = SignedVote(VoteType.PREVOTE, height, 0, bytes([1]) * 32, -1, by, bytes(96))
    return Evidence(vote, replace(vote, block_hash=bytes([mark]) * 32))


def forgery(*by: int, height: int = 7, header: bytes = b"header") -> ForgedHeader:
    bitmap = bitmap_of(by, len(SET))
    return ForgedHeader(header, Certificate(VoteType.PRECOMMIT, height, 0, -1, bytes([1]) * 32, bitmap, bytes(96)))


def keeper_with(*held: AnyEvidence, at_ms: int = 1_000) -> EvidenceKeeper:
    keeper = EvidenceKeeper(PARAMS)
    for evidence in held:
        assert keeper.add(evidence, at_ms)
    return keeper


def test_whoever_is_named_for_a_height_is_not_named_again() -> None:
    keeper = keeper_with(crime())
    assert not keeper.add(crime(mark=3), 2_000)
    assert keeper.add(crime(height=8), 2_000)
    assert keeper.has_named(7, 0)
    assert not keeper.has_named(7, 1)
    assert keeper.offered() == (encode_any_evidence(crime()), encode_any_evidence(crime(height=8)))


def test_what_a_block_carried_is_given_up_and_not_taken_again() -> None:
    keeper = keeper_with(crime(0), crime(1))
    keeper.forget_carried([encode_carried(CarriedEvidence(crime(0), SET))])
    assert keeper.held == (crime(1),)
    assert not keeper.add(crime(0), 2_000)


def test_what_execution_cannot_use_is_given_up() -> None:
    keeper = keeper_with(crime(0), crime(1))
    keeper.forget([encode_any_evidence(crime(1)), encode_any_evidence(crime(5))])
    assert keeper.held == (crime(0),)


def test_it_expires_with_both_ages_and_its_name_with_it() -> None:
    keeper = keeper_with(crime(height=7), at_ms=1_000)
    keeper.expire(107, 1_000_000)
    keeper.expire(1_000, 51_000)
    assert keeper.held == (crime(height=7),)
    keeper.expire(108, 51_001)
    assert keeper.held == ()
    assert not keeper.has_named(7, 0)


def test_beyond_the_bound_it_is_not_held(monkeypatch) -> None:
    monkeypatch.setattr(evidence_keeper, "MAX_HELD", 2)
    keeper = keeper_with(crime(0), crime(1))
    assert not keeper.has_room_for(crime(2))
    assert keeper.add(crime(2), 1_000)
    assert keeper.held == (crime(0), crime(1))
    keeper.forget([encode_any_evidence(crime(0))])
    assert keeper.add(crime(2), 1_000)
    assert keeper.held == (crime(1), crime(2))


def test_only_so_much_is_offered_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(evidence_keeper, "MAX_OFFERED", 1)
    assert keeper_with(crime(0), crime(1)).offered() == (encode_any_evidence(crime(0)),)


def test_it_survives_a_restart_in_the_order_and_with_the_age_that_it_had(tmp_path: Path) -> None:
    log = ConsensusLog(tmp_path)
    assert log.load_evidence() == ()
    keeper = keeper_with(crime(3), crime(1), at_ms=1_000)
    assert keeper.has_changed
    log.save_evidence(keeper.records())
    assert not keeper.has_changed
    restarted = EvidenceKeeper(PARAMS)
    restarted.restore(log.load_evidence())
    assert restarted.held == (crime(3), crime(1))
    assert not restarted.has_changed
    restarted.expire(108, 51_001)
    assert restarted.held == ()
    log.close()


def test_a_damaged_file_costs_what_it_held_and_nothing_else(tmp_path: Path) -> None:
    log = ConsensusLog(tmp_path)
    log.save_evidence(keeper_with(crime(0), crime(1)).records())
    path = tmp_path / EVIDENCE_FILE
    path.write_bytes(path.read_bytes()[:-1])
    restarted = EvidenceKeeper(PARAMS)
    restarted.restore(log.load_evidence())
    assert restarted.held == (crime(0),)
    restarted.restore([b"", b"\0" * 9, bytes(8) + encode_any_evidence(crime(4))[:-1]])
    assert restarted.held == (crime(0),)
    log.close()


# --- Forged headers ----------------------------------------------------------------------------------------------


def test_forged_headers_are_held_offered_and_saved_beside_contradictions(tmp_path: Path) -> None:
    keeper = keeper_with(forgery(0, 1), crime(3))
    assert keeper.offered() == (encode_any_evidence(forgery(0, 1)), encode_any_evidence(crime(3)))
    restarted = EvidenceKeeper(PARAMS)
    log = ConsensusLog(tmp_path)
    log.save_evidence(keeper.records())
    restarted.restore(log.load_evidence())
    log.close()
    assert restarted.held == (forgery(0, 1), crime(3))
    restarted.forget_carried([encode_carried(CarriedEvidence(forgery(0, 1), SET))])
    assert restarted.held == (crime(3),)


def test_whoever_forged_a_header_can_still_be_convicted_and_not_the_other_way_round() -> None:
    keeper = keeper_with(forgery(0, 1))
    assert not keeper.is_news(forgery(1, header=b"another"))
    assert keeper.add(forgery(1, 2, header=b"another"), 1_000)
    assert not keeper.has_named(7, 0)
    assert keeper.add(crime(0), 1_000)
    assert keeper.has_named(7, 0)
    after_conviction = keeper_with(crime(4))
    assert not after_conviction.is_news(forgery(4))
    assert after_conviction.is_news(forgery(4, height=8))


def test_forged_headers_leave_room_for_contradictions(monkeypatch) -> None:
    monkeypatch.setattr(evidence_keeper, "MAX_FORGERIES", 2)
    keeper = keeper_with(forgery(0, height=7), forgery(0, height=8))
    assert not keeper.has_room_for(forgery(0, height=9))
    assert keeper.has_room_for(crime(0))
    assert keeper.add(forgery(0, height=9), 1_000)
    assert len(keeper.held) == 2


def test_a_forged_header_is_given_up_when_the_state_forgets_its_rightful_parent() -> None:
    keeper = keeper_with(forgery(0, height=7), crime(1, height=7), at_ms=1_000)
    keeper.expire(6 + HISTORY_HEIGHTS - 1, 1_000)
    assert len(keeper.held) == 2
    keeper.expire(6 + HISTORY_HEIGHTS, 1_000)
    assert keeper.held == (crime(1, height=7),)
