"""What a light client believes: the next header, or a far one by 1/3 of the power it knows, and nothing invented."""

from dataclasses import replace

import pytest
from py_arkworks_bls12381 import G1Point

from astralink_node.crypto import bls
from consensus.certificate import Certificate, bitmap_of, verify_certificate
from consensus.hashing import keccak256
from consensus.light_verification import (
    LightRules,
    LightVerificationError,
    SignedHeader,
    check_certified,
    next_height_to_try,
    trusting_period_ms,
    verify_adjacent,
    verify_skipping,
)
from consensus.messages import VoteType, signing_root
from consensus.params import ConsensusParams
from consensus.validator_set import Validator, ValidatorSet, canonical_order

GENESIS = b"g" * 32
PARAMS = ConsensusParams(
    min_block_interval_ms=100, precision_ms=50, evidence_max_age_ms=10_000, unbonding_ms=200_001, message_delay_ms=10
)
NOW = 1_000_000


def toy_key(name: int) -> bytes:
    return bytes([name]) * 48


def set_of(powers: dict[int, int]) -> ValidatorSet:
    """Members by the first byte of their key."""
    members = canonical_order(Validator(toy_key(name), bytes(32), power, bytes(20)) for name, power in powers.items())
    return ValidatorSet(members, keccak256(bytes(powers)) * 4)


def toy_signature(keys, message) -> bytes:
    """A toy aggregate that binds exactly these keys and this message."""
    return (keccak256(b"".join(keys) + message) * 3)[:96]


def toy_proof(key: bytes) -> bytes:
    return keccak256(b"possession" + key) * 3


RULES = LightRules(
    GENESIS,
    PARAMS,
    lambda keys, message, signature: signature == toy_signature(keys, message),
    lambda key, proof: proof == toy_proof(key),
)

OLD = set_of({1: 10, 2: 10, 3: 10, 4: 10})


def header(
    height: int, voting_set: ValidatorSet, signers=None, *, next_set: ValidatorSet | None = None, **changes
) -> SignedHeader:
    """Certified by those members of the set (all if not given); times are 1,000 ms a height, ending at NOW."""
    unsigned = SignedHeader(
        height=height,
        time_ms=NOW - 20_000 + 1_000 * height,
        block_hash=keccak256(b"block %d" % height),
        parent_hash=keccak256(b"block %d" % (height - 1)),
        voting_set_hash=voting_set.hash,
        next_set_hash=(next_set or voting_set).hash,
        certificate=None,
    )
    unsigned = replace(unsigned, **changes)
    keys = [toy_key(name) for name in signers] if signers is not None else [m.voting_key for m in voting_set.validators]
    indices = sorted(index for key in keys if (index := voting_set.index_of(key)) is not None)
    bitmap = bitmap_of(indices, len(voting_set))
    certificate = Certificate(VoteType.PRECOMMIT, height, 0, -1, unsigned.block_hash, bitmap, b"")
    message = signing_root(certificate.sign_bytes(GENESIS))
    signature = toy_signature([voting_set.validators[index].voting_key for index in indices], message)
    return replace(unsigned, certificate=replace(certificate, signature=signature))


TRUSTED = header(10, OLD)


def adjacent(new, voting_set=OLD, *, trusted=TRUSTED, now_ms=NOW):
    verify_adjacent(RULES, trusted, new, voting_set, now_ms)


def skipping(new, voting_set=OLD, *, trusted=TRUSTED, trusted_next_set=OLD, known=(), now_ms=NOW):
    possessions = {toy_key(name): toy_proof(toy_key(name)) for name in known}
    verify_skipping(RULES, trusted, trusted_next_set, new, voting_set, possessions, now_ms)


def rule_broken(call, *arguments, **options) -> str:
    with pytest.raises(LightVerificationError) as caught:
        call(*arguments, **options)
    return caught.value.rule


def test_the_next_header_is_believed_by_the_set_that_was_announced():
    adjacent(header(11, OLD, [1, 2, 3]))
    elected = set_of({7: 1, 8: 1})
    announcing = header(10, OLD, next_set=elected)
    adjacent(header(11, elected), elected, trusted=announcing)
    assert rule_broken(adjacent, header(11, OLD), OLD, trusted=announcing) == "announced_set"
    assert rule_broken(adjacent, header(11, elected), elected) == "announced_set"


def test_an_adjacent_header_is_adjacent():
    for height in (9, 10, 12):
        assert rule_broken(adjacent, header(height, OLD)) == "height"


def test_exactly_two_thirds_do_not_make_a_header_final():
    three = set_of({1: 1, 2: 1, 3: 1})
    trusted = header(10, three)
    assert rule_broken(adjacent, header(11, three, [1, 2]), three, trusted=trusted) == "commit_quorum"
    assert rule_broken(skipping, header(15, three, [1, 2]), three, trusted=trusted, trusted_next_set=three) == (
        "commit_quorum"
    )


@pytest.mark.parametrize(("check", "height"), [(adjacent, 11), (skipping, 15)])
def test_a_broken_certificate_is_named(check, height):
    good = header(height, OLD)
    certificate = good.certificate

    def broken(**changes) -> str:
        return rule_broken(check, replace(good, certificate=replace(certificate, **changes)))

    check(good)
    assert broken(signature=bytes(96)) == "commit_signature"
    assert broken(height=height + 1) == "commit_height"
    assert broken(block_hash=keccak256(b"another")) == "commit_block_hash"
    assert broken(vote_type=VoteType.PREVOTE) == "commit_vote_type"
    assert broken(signers=certificate.signers + b"\0") == "commit_bitmap_length"
    assert broken(signers=b"\x1f") == "commit_signers"
    assert broken(round_=1) == "commit_signature"
    assert rule_broken(check, replace(good, certificate=None)) == "certificate"
    assert rule_broken(check, good, set_of({1: 10, 2: 10, 3: 10, 4: 11})) == "voting_set"


def test_the_trusted_header_ages_out_after_half_of_unbonding():
    assert trusting_period_ms(PARAMS) == 100_000
    for check, height in ((adjacent, 11), (skipping, 15)):
        last = TRUSTED.time_ms + 100_000 - 1
        check(header(height, OLD), now_ms=last)
        assert rule_broken(check, header(height, OLD), now_ms=last + 1) == "trusting_period"


def test_time_advances_by_the_least_interval_and_not_beyond_the_clock():
    for check, height in ((adjacent, 11), (skipping, 15)):
        earliest = TRUSTED.time_ms + 100 * (height - 10)
        check(header(height, OLD, time_ms=earliest))
        assert rule_broken(check, header(height, OLD, time_ms=earliest - 1)) == "time"
        check(header(height, OLD, time_ms=NOW + 50))
        assert rule_broken(check, header(height, OLD, time_ms=NOW + 51)) == "clock"


def test_a_certified_header_with_another_parent_breaks_the_last_rule():
    other = header(11, OLD, parent_hash=keccak256(b"another parent"))
    assert rule_broken(adjacent, other) == "parent"
    forged = replace(other, certificate=replace(other.certificate, signature=bytes(96)))
    assert rule_broken(adjacent, forged) == "commit_signature"


def test_skipping_needs_more_than_a_third_of_the_known_power():
    """Members 1 and 2 stay, 5 and 6 join."""
    trusted_set = set_of({1: 10, 2: 10, 3: 10})
    trusted = header(10, OLD, next_set=trusted_set)
    changed = set_of({1: 10, 2: 10, 5: 10, 6: 10})

    def skip(new, voting_set=changed):
        skipping(new, voting_set, trusted=trusted, trusted_next_set=trusted_set, known=(5, 6))

    skip(header(20, changed, [1, 2, 5]))
    assert rule_broken(skip, header(20, changed, [1, 5, 6])) == "trust_level"  # exactly a third
    third_gone = set_of({5: 10, 6: 10, 7: 10})
    assert rule_broken(skip, header(20, third_gone), third_gone) == "trust_level"


def test_power_of_the_known_counts_as_the_trusted_set_had_it():
    trusted_set = set_of({1: 1, 2: 99})
    trusted = header(10, OLD, next_set=trusted_set)
    now_strong = set_of({1: 99, 2: 1})
    assert (
        rule_broken(skipping, header(20, now_strong, [1]), now_strong, trusted=trusted, trusted_next_set=trusted_set)
        == "trust_level"
    )


def test_members_are_matched_by_key_and_never_by_index():
    """A newcomer whose key is the lowest takes index 0 of the strong member, and none of its power."""
    trusted_set = set_of({5: 100, 6: 10, 7: 10})
    trusted = header(10, OLD, next_set=trusted_set)
    changed = set_of({1: 100, 6: 10, 7: 10})
    assert changed.index_of(toy_key(1)) == trusted_set.index_of(toy_key(5)) == 0

    def skip(new, voting_set):
        skipping(new, voting_set, trusted=trusted, trusted_next_set=trusted_set, known=(1,))

    assert rule_broken(skip, header(20, changed), changed) == "trust_level"
    moved = set_of({1: 10, 5: 100})
    skip(header(20, moved), moved)


def test_skipping_starts_from_the_set_that_the_trusted_header_announces():
    other = set_of({1: 10, 2: 10, 3: 10, 4: 11})
    assert rule_broken(skipping, header(15, OLD), trusted_next_set=other) == "trusted_set"


def test_skipping_is_for_heights_that_are_not_adjacent():
    skipping(header(12, OLD))
    for height in (9, 10, 11):
        assert rule_broken(skipping, header(height, OLD)) == "height"


def test_a_signer_whom_the_trusted_set_does_not_know_proves_possession():
    changed = set_of({1: 10, 2: 10, 3: 10, 5: 10})
    skipping(header(20, changed), changed, known=(5,))
    assert rule_broken(skipping, header(20, changed), changed) == "possession"
    wrong = {toy_key(5): toy_proof(toy_key(1))}
    with pytest.raises(LightVerificationError, match="possession"):
        verify_skipping(RULES, TRUSTED, OLD, header(20, changed), changed, wrong, NOW)
    # Who did not sign need not prove anything.
    skipping(header(20, changed, [1, 2, 3]), changed)


def test_an_invented_key_that_cancels_the_correct_members_signs_for_nobody():
    """The rogue-key attack with the real curve: the whole set 'signs' by one secret of the attacker alone."""
    correct = [bls.public_key(bls.SecretKey(bytes(31) + bytes([number + 1]))) for number in range(4)]
    attacker = bls.SecretKey(bytes(31) + b"\x63")
    total = G1Point.identity()
    for key in correct:
        total += bls.decode_public_key(key)
    rogue = bytes((bls.decode_public_key(bls.public_key(attacker)) + -total).to_compressed_bytes())

    def real_set(keys) -> ValidatorSet:
        members = canonical_order(Validator(key, bytes(32), 10, bytes(20)) for key in keys)
        return ValidatorSet(members, bytes(128))

    rules = LightRules(GENESIS, PARAMS, bls.fast_aggregate_verify, bls.verify_possession)
    trusted_set, invented = real_set(correct), real_set([*correct, rogue])
    trusted = replace(TRUSTED, next_set_hash=trusted_set.hash)
    new = header(20, invented)
    certificate = new.certificate
    signature = bls.sign(attacker, signing_root(certificate.sign_bytes(GENESIS)))
    new = replace(new, certificate=replace(certificate, signature=signature))
    # By itself the certificate holds: this is why possession must be proven.
    verify_certificate(new.certificate, invented, GENESIS, bls.fast_aggregate_verify)

    def skip(possessions):
        verify_skipping(rules, trusted, trusted_set, new, invented, possessions, NOW)

    assert rule_broken(skip, {}) == "possession"
    assert rule_broken(skip, {rogue: bls.prove_possession(attacker)}) == "possession"


def test_being_certified_says_nothing_of_trust():
    strangers = set_of({7: 1, 8: 1})
    check_certified(RULES, header(11, strangers), strangers)
    assert rule_broken(check_certified, RULES, header(11, strangers), OLD) == "voting_set"


def test_bisection_ends_at_the_adjacent_height():
    assert next_height_to_try(10, 20) == 15
    assert next_height_to_try(10, 13) == 11
    assert next_height_to_try(10, 12) == 11
    with pytest.raises(ValueError, match="nothing lies between"):
        next_height_to_try(10, 11)
    trusted, refused, tries = 0, 2**40, 0
    while refused > trusted + 1:
        refused = next_height_to_try(trusted, refused)
        tries += 1
    assert (refused, tries) == (1, 40)
