"""Properties of the consensus values: codecs are bijections, quorums are exact, proposers come by their power."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.certificate import Certificate, bitmap_of, decode_certificate, encode_certificate, signer_indices
from consensus.checkpoint import checkpoint_hash
from consensus.hashing import merkle_branch, merkle_root, verify_branch
from consensus.messages import NIL, VoteType, decode_message, encode_message, vote_sign_bytes
from consensus.params import MAX_HEIGHT, MAX_ROUND, MAX_TIME_MS, MAX_TOTAL_POWER
from consensus.payload import ConsensusPayload, decode_payload, encode_payload, payload_root
from consensus.proposer_selection import (
    advance,
    carry_over,
    decode_priorities,
    encode_priorities,
    initial_priorities,
    priorities_hash,
    proposer,
)
from consensus.validator_set import Validator, ValidatorSet, decode_validator_set, encode_validator_set
from consensus.wire import DecodeError

hashes = st.binary(min_size=32, max_size=32)
powers = st.lists(st.integers(1, 60), min_size=1, max_size=9)
large_powers = st.lists(st.integers(1, MAX_TOTAL_POWER // 8), min_size=1, max_size=8)


def set_of(values: list[int], first_key: int = 0) -> ValidatorSet:
    members = tuple(
        Validator(bytes([first_key + index] * 48), bytes(32), power, bytes(20)) for index, power in enumerate(values)
    )
    return ValidatorSet(members, bytes(128))


@st.composite
def certificates(draw, vote_types=tuple(VoteType)) -> Certificate:
    vote_type, round_ = draw(st.sampled_from(vote_types)), draw(st.integers(0, MAX_ROUND))
    block_hash = draw(hashes)
    is_reproposal = vote_type is VoteType.PREVOTE and block_hash != NIL
    valid_round = draw(st.integers(-1, round_ - 1)) if is_reproposal else -1
    bitmap, signature = draw(st.binary(min_size=1, max_size=64)), draw(st.binary(min_size=96, max_size=96))
    return Certificate(vote_type, draw(st.integers(1, MAX_HEIGHT)), round_, valid_round, block_hash, bitmap, signature)


late_credits = st.lists(certificates(), max_size=7, unique_by=lambda certificate: certificate.height).map(
    lambda found: tuple(sorted(found, key=lambda certificate: certificate.height))
)


def with_matching_hash(payload: ConsensusPayload) -> ConsensusPayload:
    return replace(payload, checkpoint_hash=checkpoint_hash(payload.checkpoint)) if payload.checkpoint else payload


payloads = st.builds(
    ConsensusPayload,
    version=st.just(b"\x01") | hashes,
    genesis_hash=hashes,
    height=st.integers(0, MAX_HEIGHT),
    time_ms=st.integers(0, MAX_TIME_MS),
    build_round=st.integers(0, MAX_ROUND),
    proposer_index=st.integers(0, 511),
    priorities_hash=hashes,
    reveal=st.binary(min_size=96, max_size=96),
    parent_certificate=st.none() | certificates(),
    late_credits=late_credits,
    voting_set_hash=hashes,
    next_set_hash=hashes,
    evidence=st.lists(st.binary(max_size=40), max_size=4).map(tuple),
    epoch=st.integers(0, 2**64 - 1),
    checkpoint=st.binary(max_size=60),
    checkpoint_hash=hashes,
    outbox_root=hashes,
).map(with_matching_hash)


@given(payloads)
def test_a_payload_round_trips(payload):
    assert decode_payload(encode_payload(payload)) == payload


@given(payloads, st.data())
def test_a_payload_cut_or_continued_is_refused(payload, data):
    encoded = encode_payload(payload)
    with pytest.raises(DecodeError):
        decode_payload(encoded + b"\0")
    with pytest.raises(DecodeError):
        decode_payload(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(payloads, st.data())
def test_what_decodes_is_what_was_encoded_and_a_changed_byte_changes_the_root(payload, data):
    """Canonical, and wholly committed to: no two byte strings share a payload or a root."""
    encoded = bytearray(encode_payload(payload))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode_payload(bytes(encoded))
    except DecodeError:
        return
    assert encode_payload(changed) == encoded
    assert payload_root(changed) != payload_root(payload)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_decode_canonically_or_not_at_all(data):
    for decode, encode in (
        (decode_payload, encode_payload),
        (decode_certificate, encode_certificate),
        (decode_message, encode_message),
        (decode_validator_set, encode_validator_set),
    ):
        try:
            value = decode(data)
        except DecodeError:
            continue
        assert encode(value) == data


@given(certificates())
def test_a_certificate_round_trips(certificate):
    encoded = encode_certificate(certificate)
    assert decode_certificate(encoded) == certificate
    with pytest.raises(DecodeError):
        decode_certificate(encoded + b"\0")
    with pytest.raises(DecodeError):
        decode_certificate(encoded[:-1])


@given(certificates(), certificates(), hashes, hashes)
def test_different_votes_have_different_sign_bytes(one, other, genesis, other_genesis):
    def vote(certificate):
        return (
            certificate.height,
            certificate.round_,
            certificate.vote_type,
            certificate.block_hash,
            certificate.valid_round,
        )

    same = vote(one) == vote(other) and genesis == other_genesis
    assert (one.sign_bytes(genesis) == other.sign_bytes(other_genesis)) is same
    assert decode_message(vote_sign_bytes(genesis, *vote(one))).height == one.height


@given(st.sets(st.integers(0, 99)), st.integers(100, 130))
def test_a_bitmap_names_exactly_its_signers(indices, count):
    bitmap = bitmap_of(indices, count)
    assert len(bitmap) == -(-count // 8)
    assert set(signer_indices(bitmap)) == indices


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.data())
def test_a_branch_proves_its_value_at_its_place_only(values, data):
    index = data.draw(st.integers(0, len(values) - 1))
    root, branch = merkle_root(values), merkle_branch(values, index)
    assert verify_branch(root, values[index], index, branch)
    assert not verify_branch(root, values[index] + b"\0", index, branch)
    other = data.draw(st.integers(-2, 2 * len(values)))
    assert not verify_branch(root, values[index], other, branch) or values[other] == values[index]
    assert not verify_branch(root, values[index], index, [*branch, bytes(32)])


@given(st.lists(st.binary(max_size=3), max_size=6), st.lists(st.binary(max_size=3), max_size=6))
def test_a_root_commits_to_the_values_and_their_number(one, other):
    assert (merkle_root(one) == merkle_root(other)) is (one == other)


@given(large_powers, st.data())
def test_a_quorum_is_strictly_more_than_two_thirds(values, data):
    validator_set = set_of(values)
    total = sum(values)
    near = {0, total // 3, total // 3 + 1, 2 * total // 3, 2 * total // 3 + 1, total}
    for power in (*near, data.draw(st.integers(0, total))):
        assert validator_set.has_quorum(power) is (Fraction(power, total) > Fraction(2, 3))
        assert validator_set.has_one_correct(power) is (Fraction(power, total) > Fraction(1, 3))


@given(powers, powers)
def test_two_quorums_share_more_than_a_third(one, other):
    """The intersection that safety rests on, for random subsets of random sets."""
    validator_set = set_of([*one, *other])
    first, second = sum(one), validator_set.total_power - sum(one)
    if validator_set.has_quorum(first):
        assert not validator_set.has_quorum(second)
        assert not validator_set.has_one_correct(second)


@given(powers)
def test_a_set_round_trips_and_its_hash_sees_every_field(values):
    validator_set = set_of(values)
    assert decode_validator_set(encode_validator_set(validator_set)) == validator_set
    member = validator_set.validators[0]
    variants = [
        Validator(member.voting_key, b"\x01" * 32, member.power, member.operator),
        Validator(member.voting_key, member.ml_dsa_key_hash, member.power + 1, member.operator),
        Validator(member.voting_key, member.ml_dsa_key_hash, member.power, b"\x01" * 20),
    ]
    found = {ValidatorSet((variant, *validator_set.validators[1:]), bytes(128)).hash for variant in variants}
    found.add(ValidatorSet(validator_set.validators, b"\x01" * 128).hash)
    found.add(validator_set.hash)
    assert len(found) == 5


@given(powers)
def test_over_total_power_heights_everyone_proposes_by_its_power(values):
    validator_set = set_of(values)
    priorities = initial_priorities(validator_set)
    turns = [0] * len(values)
    for _ in range(validator_set.total_power):
        turns[proposer(priorities, validator_set, 0)] += 1
        priorities = advance(priorities, validator_set)
    assert turns == values
    assert priorities == initial_priorities(validator_set)


@given(large_powers, st.integers(0, 20), st.integers(0, 20))
def test_advancing_twice_is_advancing_once_by_the_sum(values, first, second):
    validator_set = set_of(values)
    start = initial_priorities(validator_set)
    assert advance(advance(start, validator_set, first), validator_set, second) == advance(
        start, validator_set, first + second
    )


@given(large_powers, st.integers(0, 10))
def test_the_next_rounds_proposer_is_the_next_heights_first(values, round_):
    validator_set = set_of(values)
    priorities = advance(initial_priorities(validator_set), validator_set, 3)
    following = advance(priorities, validator_set)
    assert proposer(priorities, validator_set, round_ + 1) == proposer(following, validator_set, round_)


@given(large_powers, large_powers, st.integers(0, 4), st.integers(0, 12))
def test_carried_priorities_are_bounded_centred_and_fit_their_encoding(old_values, new_values, shift, steps):
    old_set, new_set = set_of(old_values), set_of(new_values, first_key=shift)
    priorities = advance(initial_priorities(old_set), old_set, steps)
    carried = carry_over(priorities, old_set, new_set)
    assert max(carried) - min(carried) <= 2 * new_set.total_power
    assert 0 <= sum(carried) < len(carried)
    assert decode_priorities(encode_priorities(carried)) == carried
    for _ in range(6):
        carried = advance(carried, new_set)
        assert max(carried) - min(carried) <= 4 * new_set.total_power
        priorities_hash(carried)


@given(powers, st.integers(1, 1000))
def test_a_joiner_starts_behind_everyone(values, power):
    old_set = set_of(values, first_key=1)
    joiner = Validator(bytes(48), bytes(32), power, bytes(20))
    new_set = ValidatorSet((joiner, *old_set.validators), bytes(128))
    carried = carry_over(initial_priorities(old_set), old_set, new_set)
    assert carried[0] == min(carried)
    assert all(carried[0] < value for value in carried[1:])
