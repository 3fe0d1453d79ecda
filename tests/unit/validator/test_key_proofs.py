"""Proofs of possession for registration: they hold for one operator on one chain, and are not anything else."""

from __future__ import annotations

import dataclasses
import json

import pytest

from astralink_node.crypto import bls, ml_dsa
from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.keystore_envelope import KeystoreError
from astralink_node.types import Address
from astralink_node.validator.key_proofs import (
    BadKeyProof,
    check_proofs,
    checkpoint_key_message,
    key_proofs_object,
    parse_key_proofs,
    prove_keys,
)
from astralink_node.validator.keys import keys_from_seed
from consensus.messages import checkpoint_sign_bytes, signing_root

OPERATOR, OTHER = Address(b"o" * 20), Address(b"p" * 20)
KEYS = keys_from_seed(b"\x07" * 64, 0, OPERATOR)
UNOWNED = keys_from_seed(b"\x08" * 64, 0)
CHAIN_ID = 424242
PROOFS = prove_keys(KEYS, CHAIN_ID, OPERATOR)


def test_the_message_is_that_of_the_specification() -> None:
    key = KEYS.public.checkpoint_key
    fields = b"ALNK:keyproof/v1" + (424242).to_bytes(32, "big") + b"o" * 20 + keccak256(key)
    assert len(fields) == 16 + 32 + 20 + 32
    assert checkpoint_key_message(CHAIN_ID, OPERATOR, key) == keccak256(fields)


def test_proofs_hold_for_their_keys() -> None:
    check_proofs(PROOFS)
    assert (PROOFS.voting_key, PROOFS.checkpoint_key) == (KEYS.public.voting_key, KEYS.public.checkpoint_key)


@pytest.mark.parametrize(
    "changed",
    [
        {"operator": OTHER},
        {"chain_id": 1},
        {"voting_key": UNOWNED.public.voting_key},
        {"possession": UNOWNED.public.proof_of_possession},
        {"checkpoint_key": UNOWNED.public.checkpoint_key},
        {"checkpoint_possession": bytes(ml_dsa.SIGNATURE_BYTES)},
    ],
)
def test_proofs_hold_for_nothing_else(changed: dict[str, object]) -> None:
    with pytest.raises(BadKeyProof):
        check_proofs(dataclasses.replace(PROOFS, **changed))


def test_keys_that_were_made_for_an_operator_prove_nothing_for_another() -> None:
    with pytest.raises(BadKeyProof, match="made for operator 0x6f6f"):
        prove_keys(KEYS, CHAIN_ID, OTHER)
    assert prove_keys(UNOWNED, CHAIN_ID, OTHER).operator == OTHER


def test_a_proof_is_no_signature_on_a_checkpoint_or_vote() -> None:
    checkpoint = signing_root(checkpoint_sign_bytes(b"g" * 32, 1, 100, b"b" * 32, b"s" * 32))
    assert not ml_dsa.verify(PROOFS.checkpoint_key, checkpoint, PROOFS.checkpoint_possession)
    assert not bls.verify(PROOFS.voting_key, PROOFS.voting_key, PROOFS.possession)


def test_proofs_travel_as_json_and_are_checked_on_arrival() -> None:
    entry = json.loads(json.dumps(key_proofs_object(PROOFS)))
    assert parse_key_proofs(entry) == PROOFS
    assert KEYS.voting_secret.reveal().hex() not in json.dumps(entry)
    assert KEYS.checkpoint_seed.reveal().hex() not in json.dumps(entry)
    with pytest.raises(BadKeyProof, match="checkpointPossession"):
        parse_key_proofs(entry | {"operator": "0x" + OTHER.hex()})
    for broken in ({"chainId": "0x1"}, {"votingKey": "0x00"}, {"possession": None}):
        with pytest.raises(KeystoreError):
            parse_key_proofs(entry | broken)
    with pytest.raises(BadKeyProof, match="chainId"):
        parse_key_proofs(entry | {"chainId": 0})
