"""Validator keys on disk, and signatures of the local signer, checked as any other node would check them."""

import dataclasses
import json
import os
import stat

import pytest

from astralink_node.crypto import bls, ml_dsa
from astralink_node.crypto.keystore_envelope import KeystoreError, Pbkdf2, WrongPassword
from astralink_node.crypto.secret_files import SecretFileExists, UnreadableSecretFile
from astralink_node.types import Address
from astralink_node.validator import keys as module
from astralink_node.validator.keys import (
    create_validator,
    keys_from_seed,
    load_keys,
    load_public_keys,
    random_keys,
    save_keys,
)
from astralink_node.validator.local_signer import HistoryState, LocalSigner, RefusedToSign
from astralink_node.validator.signing_history import HistoryExists, HistoryMissing, open_history
from consensus.messages import (
    NIL,
    VoteMessage,
    VoteType,
    checkpoint_sign_bytes,
    proposal_sign_bytes,
    reveal_sign_bytes,
    signing_root,
    vote_sign_bytes,
)
from consensus.wire import DecodeError

QUICK = Pbkdf2(c=10)
GENESIS, A, B = b"g" * 32, b"a" * 32, b"b" * 32
KEYS = keys_from_seed(b"\x07" * 64, 0, Address(b"o" * 20))


def create(tmp_path, keys=KEYS, *, key_is_new=True):
    create_validator(tmp_path / "validator", tmp_path / "signing", keys, "pw", key_is_new=key_is_new, kdf=QUICK)


def test_created_keys_load_with_their_password_and_show_their_public_side_without(tmp_path):
    create(tmp_path)
    assert load_keys(tmp_path / "validator", "pw") == KEYS
    assert load_public_keys(tmp_path / "validator") == KEYS.public
    with pytest.raises(WrongPassword):
        load_keys(tmp_path / "validator", "other")


def test_the_folder_is_private_and_holds_no_plain_secret(tmp_path):
    create(tmp_path)
    secrets = [KEYS.voting_secret.reveal().hex(), KEYS.checkpoint_seed.reveal().hex()]
    assert stat.S_IMODE((tmp_path / "validator").stat().st_mode) == 0o700
    names = sorted(os.listdir(tmp_path / "validator"))
    assert names == ["checkpoint-keystore.json", "validator.json", "voting-keystore.json"]
    for name in names:
        path = tmp_path / "validator" / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not any(secret in path.read_text() for secret in secrets)
    assert not any(secret in repr(KEYS) + str(KEYS) for secret in secrets)


def test_keys_are_never_overwritten(tmp_path):
    create(tmp_path)
    with pytest.raises(SecretFileExists):
        create(tmp_path, random_keys())
    with pytest.raises(SecretFileExists):
        save_keys(tmp_path / "validator", random_keys(), "pw", kdf=QUICK)
    assert load_public_keys(tmp_path / "validator") == KEYS.public
    assert sorted(os.listdir(tmp_path)) == ["signing", "validator"]


def test_a_key_whose_folder_was_lost_does_not_get_a_second_history(tmp_path):
    create(tmp_path)
    (tmp_path / "validator").rename(tmp_path / "lost")
    with pytest.raises(HistoryExists):
        create(tmp_path)


def test_a_failure_midway_leaves_no_folder(tmp_path, monkeypatch):
    written = []

    def fail_on_second(path, value):
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        path.write_text(json.dumps(value))

    monkeypatch.setattr(module, "create_json_file", fail_on_second)
    with pytest.raises(OSError, match="No space"):
        save_keys(tmp_path / "validator", KEYS, "pw", kdf=QUICK)
    assert os.listdir(tmp_path) == []


def test_a_public_file_that_lies_is_refused(tmp_path):
    create(tmp_path)
    path = tmp_path / "validator" / "validator.json"
    entry = json.loads(path.read_text())
    other = random_keys().public
    lies = [
        {"proofOfPossession": "0x" + other.proof_of_possession.hex()},
        {"votingKey": "0x" + other.voting_key.hex(), "proofOfPossession": "0x" + other.proof_of_possession.hex()},
        {"checkpointKey": "0x" + other.checkpoint_key.hex()},
        {"votingKey": "0x00"},
    ]
    for lie in lies:
        path.write_text(json.dumps({**entry, **lie}))
        with pytest.raises(KeystoreError):
            load_public_keys(tmp_path / "validator")
    with pytest.raises(UnreadableSecretFile):
        load_public_keys(tmp_path / "nowhere")


def test_one_seed_restores_both_keys_and_accounts_differ():
    assert keys_from_seed(b"\x07" * 64, 0, KEYS.public.operator) == KEYS
    other = keys_from_seed(b"\x07" * 64, 1)
    assert other.voting_secret != KEYS.voting_secret
    assert other.checkpoint_seed != KEYS.checkpoint_seed
    assert random_keys() != random_keys()


@pytest.fixture
def signer(tmp_path):
    create(tmp_path)
    with open_history(tmp_path / "signing", KEYS.public.voting_key) as history:
        yield LocalSigner(load_keys(tmp_path / "validator", "pw"), history, GENESIS)


def test_signatures_verify_over_the_published_sign_bytes(signer):
    key = signer.public.voting_key
    signed = [
        (signer.sign_reveal(4), reveal_sign_bytes(GENESIS, 4)),
        (signer.sign_proposal(4, 0, A, -1), proposal_sign_bytes(GENESIS, 4, 0, A, -1)),
        (
            signer.sign_vote(VoteType.PREVOTE, 4, 0, A, -1),
            vote_sign_bytes(GENESIS, 4, 0, VoteType.PREVOTE, A, -1),
        ),
        (
            signer.sign_vote(VoteType.PRECOMMIT, 4, 0, NIL, -1),
            vote_sign_bytes(GENESIS, 4, 0, VoteType.PRECOMMIT, NIL, -1),
        ),
    ]
    for signature, sign_bytes in signed:
        assert bls.verify(key, signing_root(sign_bytes), signature)
    checkpoint = signer.sign_checkpoint(0, 4, A, B)
    root = signing_root(checkpoint_sign_bytes(GENESIS, 0, 4, A, B))
    assert ml_dsa.verify(signer.public.checkpoint_key, root, checkpoint)
    # ML-DSA is hedged: only the history makes these equal.
    assert signer.sign_checkpoint(0, 4, A, B) == checkpoint


def test_a_conflicting_request_is_refused_with_its_reason(signer):
    first = signer.sign_vote(VoteType.PREVOTE, 4, 0, A, -1)
    assert signer.sign_vote(VoteType.PREVOTE, 4, 0, A, -1) == first
    with pytest.raises(RefusedToSign) as caught:
        signer.sign_vote(VoteType.PREVOTE, 4, 0, B, -1)
    assert caught.value.reason == "prevote at height 4 round 0: other bytes were signed for this step"


def test_a_restart_remembers_and_a_lost_history_stops_the_signer(tmp_path):
    create(tmp_path)
    with open_history(tmp_path / "signing", KEYS.public.voting_key) as history:
        LocalSigner(KEYS, history, GENESIS).sign_vote(VoteType.PRECOMMIT, 9, 2, A, -1)
    with (
        open_history(tmp_path / "signing", KEYS.public.voting_key) as history,
        pytest.raises(RefusedToSign, match="locked in round 2"),
    ):
        LocalSigner(KEYS, history, GENESIS).sign_vote(VoteType.PREVOTE, 9, 3, B, 1)
    (tmp_path / "signing").rename(tmp_path / "lost")
    with pytest.raises(HistoryMissing, match="--new-signing-history"):
        open_history(tmp_path / "signing", KEYS.public.voting_key)
    assert not (tmp_path / "signing").exists()


def test_a_restored_key_waits_for_its_floor(tmp_path):
    create(tmp_path, key_is_new=False)
    with open_history(tmp_path / "signing", KEYS.public.voting_key) as history:
        signer = LocalSigner(KEYS, history, GENESIS)
        with pytest.raises(RefusedToSign, match="no certified head"):
            signer.sign_reveal(1)
        history.set_floor(GENESIS, 102)
        with pytest.raises(RefusedToSign, match="below height 102"):
            signer.sign_reveal(101)
        signer.sign_reveal(102)


def test_a_driver_learns_whether_the_history_is_intact_and_who_else_signs(tmp_path):
    create(tmp_path, key_is_new=False)
    foreign = VoteMessage(GENESIS, 100, 0, VoteType.PREVOTE, A, -1)
    with open_history(tmp_path / "signing", KEYS.public.voting_key) as history:
        signer = LocalSigner(KEYS, history, GENESIS)
        assert signer.history_state() == HistoryState(floor=None, height=0)
        assert history.needs_floor(GENESIS)
        assert signer.is_foreign(foreign)
        signer.set_floor(102)
        assert signer.history_state() == HistoryState(floor=102, height=0)
        assert not history.needs_floor(GENESIS)
        assert not signer.is_foreign(foreign)
        signer.sign_vote(VoteType.PREVOTE, 102, 0, A, -1)
        assert signer.history_state() == HistoryState(floor=102, height=102)
        assert not signer.is_foreign(VoteMessage(GENESIS, 102, 0, VoteType.PREVOTE, A, -1))
        assert signer.is_foreign(VoteMessage(GENESIS, 102, 0, VoteType.PREVOTE, B, -1))
        assert history.needs_floor(b"h" * 32), "another network's history is still lost"


def test_a_plain_number_for_a_vote_type_cannot_hide_a_lock(signer):
    with pytest.raises(DecodeError):
        signer.sign_vote(1, 4, 0, A, -1)
    signer.sign_vote(2, 4, 0, A, -1)
    with pytest.raises(RefusedToSign, match="locked in round 0"):
        signer.sign_vote(VoteType.PREVOTE, 4, 1, B, -1)


def test_keys_are_values(tmp_path):
    assert dataclasses.replace(KEYS) == KEYS
    assert KEYS.public.checkpoint_key_hash == ml_dsa.key_hash(KEYS.public.checkpoint_key)
