"""Recovery and signing: agreement with eth-keys, and every input that must be refused."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from eth_keys import keys
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.crypto import secp256k1
from astralink_node.crypto.keccak import keccak256

private_keys = st.integers(1, secp256k1.ORDER - 1).map(lambda value: value.to_bytes(32, "big"))
digests = st.binary(min_size=32, max_size=32)
KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")


@settings(max_examples=50)
@given(private_keys, digests)
def test_a_signature_recovers_to_its_signer_as_eth_keys_has_it(private_key, digest):
    r, s, y_parity = secp256k1.sign(private_key, digest)
    expected = keys.PrivateKey(private_key).public_key.to_canonical_address()
    assert secp256k1.address_of(private_key) == expected
    assert secp256k1.recover_address(digest, r, s, y_parity) == expected
    assert s <= secp256k1.HALF_ORDER
    signature = keys.PrivateKey(private_key).sign_msg_hash(digest)
    assert (signature.r, signature.s, signature.v) == (r, s, y_parity)


def test_a_high_s_with_the_other_parity_recovers_too():
    digest = keccak256(b"high s")
    r, s, y_parity = secp256k1.sign(KEY, digest)
    mirrored = secp256k1.recover_address(digest, r, secp256k1.ORDER - s, 1 - y_parity)
    assert mirrored == secp256k1.address_of(KEY)
    assert secp256k1.ORDER - s > secp256k1.HALF_ORDER


@pytest.mark.parametrize(
    ("r", "s", "y_parity"),
    [
        (0, 1, 0),
        (1, 0, 0),
        (secp256k1.ORDER, 1, 0),
        (1, secp256k1.ORDER, 0),
        (2**256, 1, 0),
        (1, 2**300, 1),
        (-1, 1, 0),
        (1, 1, 2),
        (1, 1, 27),
        (1, 1, -1),
        (5, 1, 0),  # x = 5 is not on the curve
    ],
)
def test_values_that_no_key_can_produce_are_refused(r, s, y_parity):
    with pytest.raises(secp256k1.InvalidSignature):
        secp256k1.recover_address(bytes(32), r, s, y_parity)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_digest_of_another_length_is_refused(length):
    r, s, y_parity = secp256k1.sign(KEY, bytes(32))
    with pytest.raises(secp256k1.InvalidSignature):
        secp256k1.recover_address(bytes(length), r, s, y_parity)
    with pytest.raises(ValueError, match="digest"):
        secp256k1.sign(KEY, bytes(length))


@pytest.mark.parametrize("value", [0, secp256k1.ORDER, 2**256 - 1])
def test_a_private_key_out_of_range_is_refused_without_being_shown(value):
    private_key = value.to_bytes(32, "big")
    with pytest.raises(secp256k1.InvalidPrivateKey) as caught:
        secp256k1.address_of(private_key)
    assert private_key.hex() not in str(caught.value)


def test_threads_recover_their_own_signers():
    signers = [(index + 1).to_bytes(32, "big") for index in range(64)]
    cases = [(keccak256(key), *secp256k1.sign(key, keccak256(key))) for key in signers]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: secp256k1.recover_address(*case), cases * 20))
    assert found == [secp256k1.address_of(key) for key in signers] * 20
