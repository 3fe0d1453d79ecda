"""Evidence as blocks carry it: its bytes, its age, and the set that the record must name."""

from dataclasses import replace

import pytest

from consensus.block_evidence import (
    CarriedEvidence,
    SetRecord,
    check_age,
    convicted,
    decode_carried,
    encode_carried,
)
from consensus.certificate import Certificate, bitmap_of
from consensus.evidence import Evidence, EvidenceError, encode_evidence, verify_evidence
from consensus.evidence_forms import AnyEvidence, indices_named
from consensus.forged_header import HISTORY_HEIGHTS, MAX_HEADER_BYTES, ForgedHeader
from consensus.hashing import keccak256
from consensus.messages import VoteType, signing_root
from consensus.params import ConsensusParams
from consensus.payload import MAX_EVIDENCE_BYTES
from consensus.staking_params import MAX_SEATS
from consensus.validator_set import Validator, ValidatorSet, encode_validator_set
from consensus.votes import SignedVote
from consensus.wire import DecodeError

GENESIS = b"g" * 32
PARAMS = ConsensusParams(evidence_max_age_blocks=100, evidence_max_age_ms=50_000, unbonding_ms=60_000)


def set_of(count: int, power: int = 1) -> ValidatorSet:
    members = tuple(
        Validator((index + 1).to_bytes(48, "big"), bytes(32), power, bytes([index]) * 20) for index in range(count)
    )
    return ValidatorSet(members, bytes(128))


SET = set_of(4)


def signature_by(keys, message) -> bytes:
    """A toy aggregate that binds exactly these keys and this message."""
    return (keccak256(b"".join(keys) + message) * 3)[:96]


def verify_aggregate(keys, message, signature) -> bool:
    return signature == signature_by(keys, message)


def verify(evidence: AnyEvidence, validator_set: ValidatorSet) -> tuple[int, ...]:
    assert isinstance(evidence, Evidence)
    return verify_evidence(evidence, validator_set, GENESIS, verify_aggregate)


def vote(block_hash: bytes, by: int, validator_set: ValidatorSet = SET) -> SignedVote:
    unsigned = SignedVote(VoteType.PRECOMMIT, 7, 0, block_hash, -1, by, b"")
    key = validator_set.validators[by].voting_key
    return replace(unsigned, signature=signature_by([key], signing_root(unsigned.sign_bytes(GENESIS))))


def certificate(block_hash: bytes, by: range, validator_set: ValidatorSet) -> Certificate:
    bitmap = bitmap_of(by, len(validator_set))
    unsigned = Certificate(VoteType.PRECOMMIT, 7, 0, -1, block_hash, bitmap, bytes(96))
    keys = [validator_set.validators[index].voting_key for index in by]
    return replace(unsigned, signature=signature_by(keys, signing_root(unsigned.sign_bytes(GENESIS))))


CRIME = Evidence(vote(b"a" * 32, 2), vote(b"b" * 32, 2))
ITEM = CarriedEvidence(CRIME, SET)
RECORD = SetRecord(SET.hash, 1_000_000)


def replaced_height(height: int) -> Evidence:
    return Evidence(replace(CRIME.first, height=height), replace(CRIME.second, height=height))


def age_rule(evidence_height: int, record: SetRecord, height: int, parent_time_ms: int) -> str:
    try:
        check_age(replaced_height(evidence_height), record, height=height, parent_time_ms=parent_time_ms, params=PARAMS)
    except EvidenceError as error:
        return error.rule
    return ""


def test_an_item_survives_its_encoding_which_is_evidence_and_set() -> None:
    encoded = encode_carried(ITEM)
    evidence = encode_evidence(CRIME)
    assert encoded == b"\1" + len(evidence).to_bytes(2, "big") + evidence + encode_validator_set(SET)
    assert decode_carried(encoded) == ITEM


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: b"\0" + raw[1:],
        lambda raw: b"\2" + raw[1:],
        lambda raw: b"\3" + raw[1:],
        lambda raw: raw[:1] + bytes(2) + raw[3:],
        lambda raw: raw[:1] + b"\xff\xff" + raw[3:],
        lambda raw: raw[:300],
    ],
)
def test_other_bytes_are_refused(damage) -> None:
    with pytest.raises(DecodeError):
        decode_carried(damage(encode_carried(ITEM)))


def test_the_largest_sets_aggregates_fit_the_bound_of_an_item() -> None:
    largest = set_of(MAX_SEATS)
    everybody = range(MAX_SEATS)
    crime = Evidence(certificate(b"a" * 32, everybody, largest), certificate(b"b" * 32, everybody, largest))
    item = CarriedEvidence(crime, largest)
    assert len(encode_carried(item)) <= MAX_EVIDENCE_BYTES
    record = SetRecord(largest.hash, 0)
    assert convicted(item, record, verify) == largest.validators


def test_it_convicts_the_member_of_that_set() -> None:
    assert convicted(ITEM, RECORD, verify) == (SET.validators[2],)


def test_another_set_than_the_recorded_one_is_refused_even_where_the_keys_are_the_same() -> None:
    stronger = CarriedEvidence(CRIME, set_of(4, power=2))
    with pytest.raises(EvidenceError) as caught:
        convicted(stronger, RECORD, verify)
    assert caught.value.rule == "set"


def test_a_signature_that_does_not_hold_convicts_nobody() -> None:
    forged = Evidence(CRIME.first, replace(CRIME.second, signature=bytes(96)))
    with pytest.raises(EvidenceError) as caught:
        convicted(CarriedEvidence(forged, SET), RECORD, verify)
    assert caught.value.rule == "signature"


def test_only_the_past_can_be_punished() -> None:
    assert age_rule(7, RECORD, 8, 1_000_000) == ""
    assert age_rule(8, RECORD, 8, 1_000_000) == "height"
    assert age_rule(0, RECORD, 8, 1_000_000) == "height"


def test_an_epoch_without_a_record_has_no_set_to_accuse() -> None:
    assert age_rule(7, SetRecord(bytes(32), 0), 8, 1_000_000) == "epoch"


def test_it_expires_when_both_ages_have_passed_counted_from_the_epochs_beginning() -> None:
    old_ms = RECORD.time_ms + PARAMS.evidence_max_age_ms + 1
    assert age_rule(7, RECORD, 7 + 100 + 1, old_ms) == ""
    assert age_rule(7, RECORD, 7 + 100 + 2, old_ms - 1) == ""
    assert age_rule(7, RECORD, 7 + 100 + 2, old_ms) == "age"


# --- Forged headers ----------------------------------------------------------------------------------------------


FORGED = ForgedHeader(b"a header", certificate(b"a" * 32, range(2), SET))


def test_a_forged_header_is_carried_under_a_form_of_its_own() -> None:
    item = CarriedEvidence(FORGED, SET)
    encoded = encode_carried(item)
    assert encoded[:1] == b"\2"
    assert encoded.endswith(encode_validator_set(SET))
    assert decode_carried(encoded) == item
    assert convicted(item, RECORD, lambda evidence, _: indices_named(evidence)) == SET.validators[:2]


def test_the_largest_header_under_the_largest_set_fits_the_bound_of_an_item() -> None:
    largest = set_of(MAX_SEATS)
    forged = ForgedHeader(bytes(MAX_HEADER_BYTES), certificate(b"a" * 32, range(MAX_SEATS), largest))
    assert len(encode_carried(CarriedEvidence(forged, largest))) <= MAX_EVIDENCE_BYTES


def forged_age_rule(forged_height: int, height: int) -> str:
    forged = replace(FORGED, certificate=replace(FORGED.certificate, height=forged_height))
    try:
        check_age(forged, RECORD, height=height, parent_time_ms=RECORD.time_ms, params=PARAMS)
    except EvidenceError as error:
        return error.rule
    return ""


def test_a_forged_header_is_judged_only_while_the_state_holds_its_rightful_parent() -> None:
    height = 3 * HISTORY_HEIGHTS
    assert forged_age_rule(height - 1, height) == ""
    assert forged_age_rule(height, height) == "height"
    assert forged_age_rule(height - HISTORY_HEIGHTS + 1, height) == ""
    assert forged_age_rule(height - HISTORY_HEIGHTS, height) == "history"
    assert forged_age_rule(1, 2) == ""
    # What is no forged header needs no hash of the past.
    assert age_rule(height - HISTORY_HEIGHTS, RECORD, height, RECORD.time_ms) == ""
