"""Evidence: exactly the two contradictions of the rules convict, each signer of both testimonies, and nobody else."""

from dataclasses import replace
from itertools import combinations
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.certificate import Certificate, bitmap_of
from consensus.evidence import (
    Evidence,
    EvidenceError,
    EvidenceKind,
    accused,
    conflict_with,
    contradiction,
    decode_evidence,
    encode_evidence,
    encode_testimony,
    find_evidence,
    is_expired,
    verify_evidence,
)
from consensus.hashing import keccak256
from consensus.messages import NIL, VoteType, signing_root
from consensus.params import ConsensusParams
from consensus.payload import MAX_EVIDENCE_BYTES
from consensus.validator_set import Validator, ValidatorSet
from consensus.votes import SignedVote
from consensus.wire import DecodeError

GENESIS, V, W = b"g" * 32, b"v" * 32, b"w" * 32
PREVOTE, PRECOMMIT = VoteType.PREVOTE, VoteType.PRECOMMIT
SET = ValidatorSet(
    tuple(Validator(bytes([index + 1] * 48), bytes(32), power, bytes(20)) for index, power in enumerate([1, 1, 1, 10])),
    bytes(128),
)


def signature_by(keys, message) -> bytes:
    """A toy aggregate that binds exactly these keys and this message."""
    return (keccak256(b"".join(keys) + message) * 3)[:96]


def verify_aggregate(keys, message, signature) -> bool:
    return signature == signature_by(keys, message)


def signed(testimony, signers, genesis=GENESIS):
    keys = [SET.validators[index].voting_key for index in signers]
    return replace(testimony, signature=signature_by(keys, signing_root(testimony.sign_bytes(genesis))))


def vote(vote_type, round_, block_hash, valid_round=-1, by=0, height=5) -> SignedVote:
    return signed(SignedVote(vote_type, height, round_, block_hash, valid_round, by, b""), [by])


def certificate(vote_type, round_, block_hash, valid_round=-1, by=(0, 1, 2), height=5) -> Certificate:
    return signed(Certificate(vote_type, height, round_, valid_round, block_hash, bitmap_of(by, 4), b""), by)


def convicted(evidence, genesis=GENESIS) -> tuple[int, ...]:
    return verify_evidence(evidence, SET, genesis, verify_aggregate)


def rule_broken(evidence, genesis=GENESIS) -> str:
    with pytest.raises(EvidenceError) as caught:
        convicted(evidence, genesis)
    return caught.value.rule


DUPLICATES = [
    (vote(PREVOTE, 1, V), vote(PREVOTE, 1, W)),
    (vote(PREVOTE, 1, V), vote(PREVOTE, 1, NIL)),
    (vote(PREVOTE, 1, V), vote(PREVOTE, 1, V, 0)),
    (vote(PRECOMMIT, 1, V), vote(PRECOMMIT, 1, W)),
    (vote(PRECOMMIT, 1, V), vote(PRECOMMIT, 1, NIL)),
    (vote(PRECOMMIT, 1, V), certificate(PRECOMMIT, 1, W)),
    (certificate(PRECOMMIT, 1, V), certificate(PRECOMMIT, 1, W, by=(0, 3))),
]
AMNESIA = [
    (vote(PRECOMMIT, 0, V), vote(PREVOTE, 1, W)),
    (vote(PRECOMMIT, 2, V), vote(PREVOTE, 5, W, 1)),
    # The accountable rule has no exception for one's own locked value.
    (vote(PRECOMMIT, 0, V), vote(PREVOTE, 2, V)),
    (vote(PRECOMMIT, 0, V), certificate(PREVOTE, 3, W, by=(0, 2))),
    (certificate(PRECOMMIT, 0, V), vote(PREVOTE, 3, W)),
    (certificate(PRECOMMIT, 0, V), certificate(PREVOTE, 3, W, by=(0, 3))),
]
INNOCENT = [
    (vote(PREVOTE, 1, V), vote(PREVOTE, 1, V)),
    (vote(PREVOTE, 1, V), vote(PREVOTE, 2, W)),
    (vote(PREVOTE, 1, V), vote(PREVOTE, 1, W, height=6)),
    (vote(PRECOMMIT, 0, V), vote(PREVOTE, 1, W, height=6)),
    (vote(PREVOTE, 1, V), vote(PRECOMMIT, 1, W)),
    # Prevotes of the same round or an earlier one than the lock.
    (vote(PRECOMMIT, 1, V), vote(PREVOTE, 1, W)),
    (vote(PRECOMMIT, 1, V), vote(PREVOTE, 0, W)),
    # A polka of the lock's round or above releases it.
    (vote(PRECOMMIT, 1, V), vote(PREVOTE, 3, W, 1)),
    (vote(PRECOMMIT, 1, V), vote(PREVOTE, 3, W, 2)),
    # Nil locks nothing and betrays nothing.
    (vote(PRECOMMIT, 0, NIL), vote(PREVOTE, 1, W)),
    (vote(PRECOMMIT, 0, V), vote(PREVOTE, 1, NIL)),
    (vote(PRECOMMIT, 0, V), vote(PRECOMMIT, 1, W)),
]


@pytest.mark.parametrize(
    ("pair", "kind"),
    [(pair, EvidenceKind.DUPLICATE) for pair in DUPLICATES] + [(pair, EvidenceKind.AMNESIA) for pair in AMNESIA],
)
def test_a_contradiction_convicts_in_either_order(pair, kind):
    first, second = pair
    assert contradiction(first, second) is contradiction(second, first) is kind
    evidence = Evidence(first, second)
    assert evidence == Evidence(second, first)
    assert evidence.height == 5
    assert convicted(evidence) == accused(evidence) == (0,)
    assert decode_evidence(encode_evidence(evidence)) == evidence


@pytest.mark.parametrize("pair", INNOCENT)
def test_what_a_correct_validator_may_sign_is_no_evidence(pair):
    assert contradiction(*pair) is contradiction(*reversed(pair)) is None
    assert rule_broken(Evidence(*pair)) == "contradiction"
    assert find_evidence(pair) == ()


def test_two_commit_certificates_of_different_rounds_are_no_evidence_by_themselves():
    first, second = certificate(PRECOMMIT, 0, V), certificate(PRECOMMIT, 1, W)
    assert contradiction(first, second) is None
    assert find_evidence([first, second]) == ()
    # The polka that the second commit rests on is what convicts.
    polka = certificate(PREVOTE, 1, W, by=(0, 1, 3))
    (evidence,) = find_evidence([first, second, polka])
    assert convicted(evidence) == (0, 1)


def test_certificates_convict_exactly_those_who_signed_both():
    evidence = Evidence(certificate(PREVOTE, 2, V, by=(0, 1, 3)), certificate(PREVOTE, 2, W, by=(1, 2, 3)))
    assert convicted(evidence) == (1, 3)


def test_words_of_different_validators_contradict_nobody():
    first, second = vote(PREVOTE, 1, V, by=0), vote(PREVOTE, 1, W, by=1)
    assert contradiction(first, second) is None
    assert rule_broken(Evidence(first, second)) == "accused"
    outside = certificate(PREVOTE, 1, W, by=(1, 2))
    assert contradiction(first, outside) is None
    assert rule_broken(Evidence(first, outside)) == "accused"


def test_forged_testimonies_convict_nobody():
    good, other = vote(PREVOTE, 1, V), vote(PREVOTE, 1, W)
    assert rule_broken(Evidence(good, replace(other, signature=bytes(96)))) == "signature"
    assert rule_broken(Evidence(replace(good, signature=bytes(96)), other)) == "signature"
    assert rule_broken(Evidence(good, other), b"h" * 32) == "signature"
    by_three, by_two = certificate(PREVOTE, 1, V, by=(0, 1, 2)), certificate(PREVOTE, 1, W, by=(1, 2))
    padded = replace(by_two, signers=by_three.signers)
    assert rule_broken(Evidence(by_three, padded)) == "signature"


def test_evidence_of_members_or_values_that_do_not_exist_is_refused():
    beyond = [replace(vote(PREVOTE, 1, value), validator_index=4) for value in (V, W)]
    assert rule_broken(Evidence(*beyond)) == "signers"
    long = [replace(certificate(PREVOTE, 1, value), signers=b"\x07\x00") for value in (V, W)]
    assert rule_broken(Evidence(*long)) == "bitmap_length"
    high = [replace(certificate(PREVOTE, 1, value), signers=b"\x17") for value in (V, W)]
    assert rule_broken(Evidence(*high)) == "signers"
    unsignable = [replace(item, valid_round=1) for item in (vote(PRECOMMIT, 1, V), vote(PRECOMMIT, 1, W))]
    assert rule_broken(Evidence(*unsignable)) == "vote"
    unsignable_certificates = [replace(certificate(PRECOMMIT, 1, value), valid_round=1) for value in (V, W)]
    assert rule_broken(Evidence(*unsignable_certificates)) == "vote"


def test_the_words_are_judged_before_any_signature_is_checked():
    def never(*_):
        raise AssertionError("touched the curve")

    for pair in INNOCENT:
        with pytest.raises(EvidenceError, match="contradiction"):
            verify_evidence(Evidence(*pair), SET, GENESIS, never)


def test_evidence_has_one_spelling_and_fits_its_bound():
    evidence = Evidence(certificate(PREVOTE, 1, V), certificate(PREVOTE, 1, W))
    encoded = encode_evidence(evidence)
    half = len(encode_testimony(evidence.first))
    for wrong in (
        encoded + b"\0",
        encoded[:-1],
        encoded[:half],
        encoded[half:] + encoded[:half],
        encoded[:half] * 2,
        b"\x03" + encoded[1:],
        b"\x01" + encoded[1:],
        b"",
    ):
        with pytest.raises(DecodeError):
            decode_evidence(wrong)
    full = [Certificate(PREVOTE, 5, 1, -1, value, b"\xff" * 64, bytes(96)) for value in (V, W)]
    assert len(encode_evidence(Evidence(*full))) == 428 <= MAX_EVIDENCE_BYTES


def test_evidence_expires_only_by_both_limits():
    params = ConsensusParams(evidence_max_age_blocks=100, evidence_max_age_ms=1_000)
    assert not is_expired(10, 5_000, 110, 6_000, params)
    assert not is_expired(10, 5_000, 111, 6_000, params)
    assert not is_expired(10, 5_000, 110, 6_001, params)
    assert not is_expired(10, 5_000, 1_000_000, 5_001, params)
    assert not is_expired(10, 5_000, 11, 9_000_000, params)
    assert is_expired(10, 5_000, 111, 6_001, params)


def test_a_new_vote_is_held_against_its_signers_earlier_ones():
    earlier = [vote(PREVOTE, 0, V), vote(PRECOMMIT, 0, V), vote(PREVOTE, 1, NIL)]
    assert conflict_with(earlier, vote(PREVOTE, 2, V, 0)) is None
    assert conflict_with(earlier, earlier[0]) is None
    amnesiac, duplicate = vote(PREVOTE, 2, W), vote(PREVOTE, 1, W)
    assert conflict_with(earlier, amnesiac) == Evidence(earlier[1], amnesiac)
    assert conflict_with(earlier, duplicate) == Evidence(earlier[1], duplicate)
    late_lock = vote(PRECOMMIT, 0, V)
    assert conflict_with([vote(PREVOTE, 1, W)], late_lock) == Evidence(vote(PREVOTE, 1, W), late_lock)
    assert conflict_with(earlier, replace(duplicate, validator_index=1)) is None
    polka = certificate(PREVOTE, 1, W)
    assert conflict_with(earlier, polka) == Evidence(earlier[1], polka)


def test_a_fork_names_the_third_that_made_it():
    """n = 4: the byzantine 0 and 1 commit v with 2 in round 0, and w with 3 in round 1."""
    four = ValidatorSet(tuple(replace(member, power=1) for member in SET.validators), bytes(128))
    told_two = [
        certificate(PREVOTE, 0, V, by=(0, 1, 2)),
        certificate(PRECOMMIT, 0, V, by=(0, 1, 2)),
        vote(PREVOTE, 1, NIL, by=2),
    ]
    told_three = [
        *(vote(PREVOTE, 1, W, by=index) for index in (0, 1, 3)),
        *(vote(PRECOMMIT, 0, NIL, by=index) for index in (3,)),
        certificate(PRECOMMIT, 1, W, by=(0, 1, 3)),
    ]
    found = find_evidence(told_two + told_three)
    guilty = {index for item in found for index in verify_evidence(item, four, GENESIS, verify_aggregate)}
    assert guilty == {0, 1}
    assert four.has_one_correct(len(guilty))


@st.composite
def any_testimony(draw):
    vote_type, round_ = draw(st.sampled_from(VoteType)), draw(st.integers(0, 3))
    block_hash, height = draw(st.sampled_from([V, W, NIL])), draw(st.integers(5, 6))
    may_rest = vote_type is PREVOTE and block_hash != NIL
    valid_round = draw(st.integers(-1, round_ - 1)) if may_rest else -1
    signers = sorted(draw(st.sets(st.integers(0, 3), min_size=1)))
    if len(signers) == 1:
        return vote(vote_type, round_, block_hash, valid_round, signers[0], height)
    return certificate(vote_type, round_, block_hash, valid_round, signers, height)


@given(st.lists(any_testimony(), max_size=14), st.randoms(use_true_random=False))
def test_a_post_mortem_names_exactly_those_whom_some_pair_convicts(given_testimonies, random):
    expected = {
        (first.height, index)
        for first, second in combinations(given_testimonies, 2)
        if contradiction(first, second)
        for index in accused(Evidence(first, second))
    }
    found = find_evidence(given_testimonies)
    assert {(item.height, index) for item in found for index in convicted(item)} == expected
    assert len(found) <= len(expected)
    shuffled = list(given_testimonies)
    random.shuffle(shuffled)
    assert find_evidence(shuffled) == found


@given(any_testimony(), any_testimony(), st.integers(0, 427), st.binary(max_size=3))
def test_whatever_decodes_has_no_second_spelling(first, second, at, overwriting):
    evidence = Evidence(first, second)
    encoded = encode_evidence(evidence)
    if first != second:
        assert decode_evidence(encoded) == evidence
    changed = encoded[:at] + overwriting + encoded[at + len(overwriting) :]
    try:
        decoded = decode_evidence(changed)
    except DecodeError:
        return
    assert encode_evidence(decoded) == changed


def test_thousands_of_votes_take_no_quadratic_time():
    votes = [
        SignedVote(vote_type, 5, round_, V, -1, index, bytes([index]) * 96)
        for index in range(200)
        for round_ in range(20)
        for vote_type in (PREVOTE, PRECOMMIT)
    ]
    started = process_time()
    found = find_evidence(votes)
    assert process_time() - started < 2  # all pairs would be 32 million
    assert {index for item in found for index in accused(item)} == set(range(200))
    assert len(found) == 200
