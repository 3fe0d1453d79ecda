"""What the raw BLS library lets through and the wrapper must not; possession, batches, and hidden secrets."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.crypto import bls
from astralink_node.evm.precompiles.bls12_381 import g2_add

SECRETS = [bls.SecretKey((7919 * (index + 1)).to_bytes(32, "big")) for index in range(4)]
KEYS = [bls.public_key(secret) for secret in SECRETS]
MESSAGE = b"a vote"
SIGNATURES = [bls.sign(secret, MESSAGE) for secret in SECRETS]
G1_INFINITY = b"\xc0" + bytes(47)
G2_INFINITY = b"\xc0" + bytes(95)


def negated(point: bytes) -> bytes:
    """The sign flag of a compressed point flipped."""
    return bytes([point[0] ^ 0x20]) + point[1:]


def test_the_identity_key_verifies_nothing():
    assert not bls.verify(G1_INFINITY, MESSAGE, G2_INFINITY)
    with pytest.raises(bls.InvalidPoint, match="identity"):
        bls.decode_public_key(G1_INFINITY)


@pytest.mark.parametrize(
    "key", [b"\xff" * 48, b"\xe0" + bytes(47), b"\xc0" + bytes(46) + b"\x01", bytes(48), b"", KEYS[0] + b"\0"]
)
def test_a_key_that_is_not_canonical_is_refused(key):
    with pytest.raises(bls.InvalidPoint):
        bls.decode_public_key(key)
    assert not bls.verify(key, MESSAGE, SIGNATURES[0])


@pytest.mark.parametrize("signature", [b"\xff" * 96, bytes(96), G2_INFINITY, b"", SIGNATURES[0][:-1]])
def test_a_malformed_or_empty_signature_does_not_verify(signature):
    assert not bls.verify(KEYS[0], MESSAGE, signature)


def test_keys_that_cancel_are_refused_as_an_aggregate():
    pair = [KEYS[0], negated(KEYS[0])]
    assert not bls.fast_aggregate_verify(pair, MESSAGE, G2_INFINITY)
    with pytest.raises(bls.InvalidPoint, match="identity"):
        bls.aggregate_public_keys_eip2537(pair)


def test_an_aggregate_verifies_for_exactly_its_signers():
    total = bls.aggregate(SIGNATURES)
    assert bls.fast_aggregate_verify(KEYS, MESSAGE, total)
    assert not bls.fast_aggregate_verify(KEYS[:3], MESSAGE, total)
    assert not bls.fast_aggregate_verify([*KEYS, KEYS[0]], MESSAGE, total)
    assert not bls.fast_aggregate_verify(KEYS, b"another", total)
    assert not bls.fast_aggregate_verify([], MESSAGE, total)


def test_two_signatures_whose_errors_cancel_pass_a_plain_sum_and_fail_the_batch():
    error = bls.sign(SECRETS[3], b"error")
    bent = [bls.aggregate([SIGNATURES[0], error]), bls.aggregate([SIGNATURES[1], negated(error)])]
    assert bls.fast_aggregate_verify(KEYS[:2], MESSAGE, bls.aggregate(bent))
    assert not bls.batch_verify(KEYS[:2], [MESSAGE] * 2, bent)
    assert bls.batch_verify(KEYS, [MESSAGE] * 4, SIGNATURES)


def test_a_batch_of_unequal_lengths_or_nothing_fails():
    assert not bls.batch_verify([], [], [])
    assert not bls.batch_verify(KEYS, [MESSAGE] * 3, SIGNATURES)


def test_possession_is_proven_by_the_holder_alone_and_is_no_vote():
    proof = bls.prove_possession(SECRETS[0])
    assert bls.verify_possession(KEYS[0], proof)
    assert not bls.verify_possession(KEYS[1], proof)
    assert not bls.verify(KEYS[0], KEYS[0], proof)
    assert not bls.verify_possession(KEYS[0], bls.sign(SECRETS[0], KEYS[0]))


def test_a_rogue_key_has_no_possession_proof():
    """The attacker registers pk' = own - victim, so that the pair's sum is its own key."""
    victim, attacker = KEYS[0], KEYS[1]
    rogue_sum = bls.aggregate_public_keys_eip2537([attacker, negated(victim)])
    assert bls.aggregate_public_keys_eip2537([attacker]) != rogue_sum
    assert not bls.verify_possession(negated(victim), bls.prove_possession(SECRETS[1]))


def test_the_aggregate_key_is_padded_as_eip_2537_says():
    key = bls.aggregate_public_keys_eip2537(KEYS)
    assert len(key) == 128
    assert key[:16] == key[64:80] == bytes(16)
    reordered = bls.aggregate_public_keys_eip2537(KEYS[::-1])
    assert reordered == key


def test_a_signature_in_eip_2537_is_the_point_that_the_precompile_adds():
    first, second = (bls.signature_eip2537(signature) for signature in SIGNATURES[:2])
    assert len(first) == 256
    assert g2_add(first + bytes(256)) == first
    assert g2_add(first + second) == bls.signature_eip2537(bls.aggregate(SIGNATURES[:2]))
    with pytest.raises(bls.InvalidPoint):
        bls.signature_eip2537(b"\xff" * 96)


def test_aggregating_nothing_is_refused():
    with pytest.raises(bls.InvalidPoint):
        bls.aggregate([])
    with pytest.raises(bls.InvalidPoint):
        bls.aggregate_public_keys_eip2537([])


@pytest.mark.parametrize("value", [bytes(32), bls.CURVE_ORDER.to_bytes(32, "big"), b"\xff" * 32, b"\x01", b"\x01" * 33])
def test_a_secret_key_out_of_range_is_refused_without_being_shown(value):
    with pytest.raises(bls.InvalidSecretKey) as caught:
        bls.SecretKey(value)
    assert value.hex() not in str(caught.value)


def test_a_secret_key_shows_itself_nowhere():
    secret = SECRETS[0]
    digits = secret.reveal().hex()
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{[secret]}"):
        assert digits not in text
        assert str(int(digits, 16)) not in text
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="pickled"):
        copy.copy(secret)
    assert secret == bls.SecretKey(secret.reveal())
    assert secret != SECRETS[1]
    with pytest.raises(TypeError, match="unhashable"):
        hash(secret)


def test_a_batch_over_several_messages_holds_only_as_a_whole():
    messages = [b"one", b"two", b"one", b"two"]
    signatures = [bls.sign(secret, message) for secret, message in zip(SECRETS, messages, strict=True)]
    assert bls.batch_verify(KEYS, messages, signatures)
    assert not bls.batch_verify(KEYS, messages, [signatures[2], *signatures[1:2], signatures[0], signatures[3]])
    assert not bls.batch_verify(KEYS, [b"two", *messages[1:]], signatures)
    assert bls.batch_verify([*KEYS, KEYS[0]], [*messages, b"one"], [*signatures, signatures[0]])


@given(st.binary(min_size=48, max_size=48), st.binary(min_size=96, max_size=96), st.sampled_from([0, 0x80, 0xA0, 0xC0]))
def test_arbitrary_bytes_are_refused_and_never_panic(key, signature, flags):
    assert not bls.verify(bytes([flags | key[0] & 0x1F]) + key[1:], MESSAGE, SIGNATURES[0])
    assert not bls.verify(KEYS[0], MESSAGE, bytes([flags | signature[0] & 0x1F]) + signature[1:])
