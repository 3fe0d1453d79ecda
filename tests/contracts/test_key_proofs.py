"""Possession of voting and checkpoint keys, proven with real keys and refused for everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from astralink_node.crypto import bls, ml_dsa
from astralink_node.crypto.keccak import keccak256
from contracts.places import KEY_PROOFS
from tests.support.staking_worlds import (
    CHAIN_ID,
    COIN,
    Call,
    StakingWorld,
    account,
    checkpoint_message,
    g2_eip2537,
    keys,
)

OPERATOR, OTHER = account(1), account(2)
P = int("1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab", 16)
KEYS = keys(OPERATOR)
SECRET = bls.SecretKey((12345).to_bytes(32, "big"))


@pytest.fixture(scope="module")
def world() -> StakingWorld:
    return StakingWorld([(OPERATOR, 100 * COIN)])


def prove(world: StakingWorld, point: bytes, possession: bytes) -> Call:
    return world.call(OPERATOR, "voting_key", point, possession, at=KEY_PROOFS)


def prove_checkpoint(world: StakingWorld, key: bytes, possession: bytes, operator: bytes = OPERATOR) -> Call:
    return world.call(OPERATOR, "checkpoint_key", operator, key, possession, at=KEY_PROOFS)


@pytest.mark.parametrize("number", range(8))
def test_proven_voting_key_comes_back_compressed(world: StakingWorld, number: int) -> None:
    own = keys(OPERATOR, number)
    assert prove(world, own.voting_point, own.possession).values == (own.voting_key,)


def test_both_signs_of_y_were_among_the_keys() -> None:
    signs = {keys(OPERATOR, number).voting_key[0] >> 5 & 1 for number in range(8)}
    assert signs == {0, 1}


def test_proof_of_another_key_is_refused(world: StakingWorld) -> None:
    assert prove(world, KEYS.voting_point, keys(OTHER).possession).reason == "keys: possession not proven"


def test_plain_signature_on_the_key_is_no_proof(world: StakingWorld) -> None:
    point = bls.aggregate_public_keys_eip2537([bls.public_key(SECRET)])
    signature = g2_eip2537(bls.sign(SECRET, bls.public_key(SECRET)))
    assert prove(world, point, signature).reason == "keys: possession not proven"
    assert prove(world, point, g2_eip2537(bls.prove_possession(SECRET))).succeeded


def test_negated_key_is_refused(world: StakingWorld) -> None:
    y = int.from_bytes(KEYS.voting_point[64:], "big")
    negated = KEYS.voting_point[:64] + (P - y).to_bytes(64, "big")
    assert prove(world, negated, KEYS.possession).reason == "keys: possession not proven"


def test_identity_is_refused_with_the_proof_that_fits_it(world: StakingWorld) -> None:
    assert prove(world, bytes(128), bytes(256)).reason == "keys: the identity"


def test_identity_as_a_proof_is_refused(world: StakingWorld) -> None:
    assert prove(world, KEYS.voting_point, bytes(256)).reason == "keys: possession not proven"


@pytest.mark.parametrize("position", [0, 15, 64, 79])
def test_coordinate_beyond_its_field_is_refused(world: StakingWorld, position: int) -> None:
    point = bytearray(KEYS.voting_point)
    point[position] = 1
    assert prove(world, bytes(point), KEYS.possession).reason == "keys: coordinate out of range"


def test_coordinate_that_is_not_reduced_is_refused(world: StakingWorld) -> None:
    x = int.from_bytes(KEYS.voting_point[:64], "big")
    point = (x + P).to_bytes(64, "big") + KEYS.voting_point[64:]
    assert prove(world, point, KEYS.possession).reason == "keys: not points of the groups"


def test_point_off_the_curve_is_refused(world: StakingWorld) -> None:
    point = KEYS.voting_point[:127] + bytes([KEYS.voting_point[127] ^ 1])
    assert prove(world, point, KEYS.possession).reason == "keys: not points of the groups"


def test_point_outside_the_subgroup_is_refused(world: StakingWorld) -> None:
    # (4, sqrt(68)) is on the curve y^2 = x^3 + 4; the square root exists for p = 3 mod 4.
    y = pow(68, (P + 1) // 4, P)
    assert y * y % P == 68
    point = (4).to_bytes(64, "big") + y.to_bytes(64, "big")
    assert prove(world, point, KEYS.possession).reason == "keys: not points of the groups"


def test_failing_pairing_leaves_the_caller_its_gas(world: StakingWorld) -> None:
    point = KEYS.voting_point[:127] + bytes([KEYS.voting_point[127] ^ 1])
    assert prove(world, point, KEYS.possession).gas_used < 350_000


@pytest.mark.parametrize(
    ("point", "possession", "reason"),
    [
        (KEYS.voting_point[:-1], KEYS.possession, "keys: voting key of 128 bytes"),
        (b"", KEYS.possession, "keys: voting key of 128 bytes"),
        (KEYS.voting_point, KEYS.possession[:-1], "keys: possession of 256 bytes"),
    ],
)
def test_wrong_length_is_refused(world: StakingWorld, point: bytes, possession: bytes, reason: str) -> None:
    assert prove(world, point, possession).reason == reason


def test_overlong_key_is_refused_when_decoded(world: StakingWorld) -> None:
    assert not prove(world, KEYS.voting_point + b"\0", KEYS.possession).succeeded


def test_proven_checkpoint_key_comes_back_as_its_hash(world: StakingWorld) -> None:
    proven = prove_checkpoint(world, KEYS.checkpoint_key, KEYS.checkpoint_possession)
    assert proven.values == (ml_dsa.key_hash(KEYS.checkpoint_key),)


def test_message_to_sign_is_the_specified_one(world: StakingWorld) -> None:
    told = world.call(OPERATOR, "checkpoint_message", OPERATOR, KEYS.checkpoint_key_hash, at=KEY_PROOFS)
    assert told.values == (checkpoint_message(OPERATOR, KEYS.checkpoint_key_hash),)


def test_checkpoint_proof_for_another_operator_is_refused(world: StakingWorld) -> None:
    refused = prove_checkpoint(world, KEYS.checkpoint_key, KEYS.checkpoint_possession, operator=OTHER)
    assert refused.reason == "keys: checkpoint key unproven"


def test_checkpoint_proof_for_another_chain_is_refused(world: StakingWorld) -> None:
    seed = ml_dsa.Seed(keccak256(b"another chain"))
    key = ml_dsa.public_key(seed)
    here, elsewhere = (checkpoint_message(OPERATOR, keccak256(key), chain_id) for chain_id in (CHAIN_ID, CHAIN_ID + 1))
    assert prove_checkpoint(world, key, ml_dsa.sign(seed, elsewhere)).reason == "keys: checkpoint key unproven"
    assert prove_checkpoint(world, key, ml_dsa.sign(seed, here)).succeeded


def test_checkpoint_proof_of_another_key_is_refused(world: StakingWorld) -> None:
    refused = prove_checkpoint(world, keys(OTHER).checkpoint_key, KEYS.checkpoint_possession)
    assert refused.reason == "keys: checkpoint key unproven"


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (replace(KEYS, checkpoint_key=KEYS.checkpoint_key[:-1]), "keys: checkpoint key length"),
        (replace(KEYS, checkpoint_possession=KEYS.checkpoint_possession[:-1]), "keys: checkpoint proof length"),
    ],
)
def test_checkpoint_key_or_proof_of_wrong_length_is_refused(world: StakingWorld, own: object, reason: str) -> None:
    assert prove_checkpoint(world, own.checkpoint_key, own.checkpoint_possession).reason == reason  # type: ignore[attr-defined]
