"""Certificates and checkpoints: power and signature by the same member, quorum strict, every rule with its name."""

from dataclasses import replace

import pytest

from consensus.certificate import (
    Certificate,
    CertificateError,
    bitmap_of,
    decode_certificate,
    encode_certificate,
    verify_certificate,
    verify_commit,
    verify_signers,
)
from consensus.checkpoint import Checkpoint, decode_checkpoint, encode_checkpoint, verify_checkpoint
from consensus.hashing import keccak256
from consensus.messages import NIL, VoteType, signing_root
from consensus.validator_set import Validator, ValidatorSet, ValidatorSetError, canonical_order
from consensus.wire import DecodeError

GENESIS, BLOCK = b"g" * 32, b"b" * 32
POWERS = [1, 1, 1, 10]


def ml_dsa_key(index: int) -> bytes:
    return bytes([index]) * 1952


def set_of(powers) -> ValidatorSet:
    members = tuple(
        Validator(bytes([index + 1] * 48), keccak256(ml_dsa_key(index)), power, bytes(20))
        for index, power in enumerate(powers)
    )
    return ValidatorSet(members, bytes(128))


def signature_by(keys, message) -> bytes:
    """A toy aggregate that binds exactly these keys and this message."""
    return (keccak256(b"".join(keys) + message) * 3)[:96]


def verify_aggregate(keys, message, signature) -> bool:
    return signature == signature_by(keys, message)


def certificate_by(validator_set, indices, **changes) -> Certificate:
    bitmap = bitmap_of(indices, len(validator_set))
    certificate = replace(Certificate(VoteType.PRECOMMIT, 5, 0, -1, BLOCK, bitmap, bytes(96)), **changes)
    keys = [validator_set.validators[index].voting_key for index in indices]
    return replace(certificate, signature=signature_by(keys, signing_root(certificate.sign_bytes(GENESIS))))


def rule_broken(call, *arguments) -> str:
    with pytest.raises(CertificateError) as caught:
        call(*arguments)
    return caught.value.rule


def test_the_signers_own_power_counts_and_nobody_elses():
    validator_set = set_of(POWERS)
    strong, weak = certificate_by(validator_set, [3]), certificate_by(validator_set, [0, 1, 2])
    verify_certificate(strong, validator_set, GENESIS, verify_aggregate)
    assert rule_broken(verify_certificate, weak, validator_set, GENESIS, verify_aggregate) == "quorum"
    assert verify_signers(weak, validator_set, GENESIS, verify_aggregate) == 3
    # Borrowing the strong member's bit without its signature.
    borrowed = replace(weak, signers=bitmap_of([0, 1, 2, 3], 4))
    assert rule_broken(verify_certificate, borrowed, validator_set, GENESIS, verify_aggregate) == "signature"


def test_exactly_two_thirds_is_no_quorum():
    validator_set = set_of([1, 1, 1])
    assert (
        rule_broken(verify_certificate, certificate_by(validator_set, [0, 1]), validator_set, GENESIS, verify_aggregate)
        == "quorum"
    )
    verify_certificate(certificate_by(validator_set, [0, 1, 2]), validator_set, GENESIS, verify_aggregate)


def test_another_chains_certificate_does_not_hold():
    validator_set = set_of(POWERS)
    certificate = certificate_by(validator_set, [3])
    assert rule_broken(verify_certificate, certificate, validator_set, b"h" * 32, verify_aggregate) == "signature"


@pytest.mark.parametrize(
    ("signers", "rule"),
    [(b"\x0f\x00", "bitmap_length"), (b"\x1f", "signers"), (b"\x00", "signers"), (b"", "bitmap_length")],
)
def test_a_bitmap_that_does_not_fit_the_set_is_refused(signers, rule):
    validator_set = set_of(POWERS)
    certificate = replace(certificate_by(validator_set, [3]), signers=signers)
    assert rule_broken(verify_signers, certificate, validator_set, GENESIS, verify_aggregate) == rule


def test_a_commit_is_for_this_block_at_this_height_by_precommits():
    validator_set = set_of(POWERS)

    def broken(certificate):
        return rule_broken(verify_commit, certificate, 5, BLOCK, validator_set, GENESIS, verify_aggregate)

    verify_commit(certificate_by(validator_set, [3]), 5, BLOCK, validator_set, GENESIS, verify_aggregate)
    assert broken(certificate_by(validator_set, [3], height=6)) == "height"
    assert broken(certificate_by(validator_set, [3], block_hash=b"c" * 32)) == "block_hash"
    assert broken(certificate_by(validator_set, [3], vote_type=VoteType.PREVOTE)) == "vote_type"
    nil = certificate_by(validator_set, [3], block_hash=NIL)
    assert rule_broken(verify_commit, nil, 5, NIL, validator_set, GENESIS, verify_aggregate) == "block_hash"


def test_a_certificate_of_votes_that_nobody_may_cast_is_refused():
    validator_set = set_of(POWERS)
    precommit = replace(certificate_by(validator_set, [3]), valid_round=0, round_=1)
    assert rule_broken(verify_certificate, precommit, validator_set, GENESIS, verify_aggregate) == "vote"
    with pytest.raises(DecodeError):
        decode_certificate(encode_certificate(precommit))


def test_sizes_are_bounded_in_both_directions():
    certificate = certificate_by(set_of(POWERS), [3])
    for signers in (b"", bytes(65)):
        with pytest.raises(ValueError, match="signers"):
            encode_certificate(replace(certificate, signers=signers))
    encoded = bytearray(encode_certificate(certificate))
    encoded[49:51] = (65).to_bytes(2, "big")
    with pytest.raises(DecodeError, match="bitmap_length"):
        decode_certificate(bytes(encoded) + bytes(64))


def test_a_set_is_canonical_or_refused():
    members = set_of(POWERS).validators
    assert canonical_order(reversed(members)) == members
    for wrong in ((), members[::-1], (members[0], members[0])):
        with pytest.raises(ValidatorSetError):
            ValidatorSet(wrong, bytes(128))
    with pytest.raises(ValidatorSetError, match="power"):
        Validator(bytes(48), bytes(32), 0, bytes(20))
    half = [replace(member, power=2**59) for member in members[:2]]
    with pytest.raises(ValidatorSetError, match="total power"):
        ValidatorSet(tuple(half), bytes(128))
    with pytest.raises(ValueError, match="aggregate_key"):
        ValidatorSet(members, bytes(127))


def test_members_are_found_by_their_key():
    validator_set = set_of(POWERS)
    assert [validator_set.index_of(member.voting_key) for member in validator_set.validators] == [0, 1, 2, 3]
    assert validator_set.index_of(bytes(48)) is None


def checkpoint_by(validator_set, indices) -> Checkpoint:
    bitmap = bitmap_of(indices, len(validator_set))
    checkpoint = Checkpoint(1, 199, BLOCK, b"n" * 32, bitmap, (), ())
    root = signing_root(checkpoint.sign_bytes(GENESIS))
    keys = tuple(ml_dsa_key(index) for index in indices)
    return replace(checkpoint, keys=keys, signatures=tuple(one_signature(key, root) for key in keys))


def one_signature(key, message) -> bytes:
    return (keccak256(key + message) * 104)[:3309]


def verify_one(key, message, signature) -> bool:
    return signature == one_signature(key, message)


def test_a_checkpoint_holds_by_more_than_two_thirds_with_registered_keys():
    validator_set = set_of([1, 1, 1, 1])
    checkpoint = checkpoint_by(validator_set, [0, 1, 3])
    assert decode_checkpoint(encode_checkpoint(checkpoint)) == checkpoint
    verify_checkpoint(checkpoint, validator_set, GENESIS, verify_one)

    def broken(changed, genesis=GENESIS):
        return rule_broken(verify_checkpoint, changed, validator_set, genesis, verify_one)

    assert broken(checkpoint_by(validator_set, [0, 1])) == "quorum"
    assert broken(replace(checkpoint, height=198)) == "signature"
    assert broken(checkpoint, b"h" * 32) == "signature"
    assert broken(replace(checkpoint, keys=(ml_dsa_key(2), *checkpoint.keys[1:]))) == "key"
    assert broken(replace(checkpoint, signers=b"\x1f")) == "bitmap_length"
    assert broken(replace(checkpoint, signers=b"\x0f")) == "signers"
    with pytest.raises(ValueError, match="signers"):
        encode_checkpoint(replace(checkpoint, signers=b"\x0f"))
    for data in (encode_checkpoint(checkpoint) + b"\0", encode_checkpoint(checkpoint)[:-1], bytes(100)):
        with pytest.raises(DecodeError):
            decode_checkpoint(data)
