"""Keystores written by us: they round-trip, name the wrong password as such, and refuse what is broken or absurd."""

import copy
import json
import os
import stat

import eth_keyfile
import pytest
from eth_account import Account

from astralink_node.crypto import bls, bls_keystore, ml_dsa, web3_keystore
from astralink_node.crypto.addresses import InvalidAddress, checksum_address, parse_address
from astralink_node.crypto.bls_keys import InvalidPath, derive_key, parse_path, voting_key_path
from astralink_node.crypto.keystore_envelope import KeystoreError, Pbkdf2, Scrypt, WrongPassword, normalize_password
from astralink_node.crypto.mnemonic import InvalidMnemonic, account_private_keys, generate_mnemonic, seed_of
from astralink_node.crypto.secp256k1 import address_of
from astralink_node.crypto.secret_files import (
    SecretFileExists,
    UnreadableSecretFile,
    create_json_file,
    create_secret_file,
    read_json_file,
)

QUICK = [Scrypt(n=16), Pbkdf2(c=10)]
SECRET = bls.SecretKey(bytes(31) + b"\x2a")
PRIVATE_KEY = bytes(31) + b"\x2b"
JUNK_MNEMONIC = "test test test test test test test test test test test junk"


@pytest.mark.parametrize("kdf", QUICK, ids=["scrypt", "pbkdf2"])
def test_a_bls_keystore_round_trips_and_tells_a_wrong_password(kdf):
    keystore = json.loads(json.dumps(bls_keystore.encrypt_keystore(SECRET, "pässword", path="m/12381/60/0/0", kdf=kdf)))
    assert bls_keystore.decrypt_keystore(keystore, "pässword") == SECRET
    assert keystore["pubkey"] == bls.public_key(SECRET).hex()
    assert keystore["path"] == "m/12381/60/0/0"
    with pytest.raises(WrongPassword, match="wrong password"):
        bls_keystore.decrypt_keystore(keystore, "password")


def test_our_bls_keystore_opens_in_another_implementation():
    keystore = bls_keystore.encrypt_keystore(SECRET, "pw", kdf=Pbkdf2(c=10))
    assert eth_keyfile.decode_keyfile_json(keystore, b"pw") == SECRET.reveal()


def test_passwords_are_decomposed_and_stripped_of_control_codes():
    assert normalize_password("ﬀ\x00\x1f\x7f\x80\x9fé\n") == "ffe\u0301".encode()
    keystore = bls_keystore.encrypt_keystore(SECRET, "café", kdf=Pbkdf2(c=10))
    assert bls_keystore.decrypt_keystore(keystore, "cafe\u0301\n") == SECRET


@pytest.mark.parametrize("kdf", QUICK, ids=["scrypt", "pbkdf2"])
def test_a_seed_keystore_round_trips_and_tells_a_wrong_password(kdf):
    seed = ml_dsa.generate_seed()
    keystore = json.loads(json.dumps(ml_dsa.encrypt_seed(seed, "pw", kdf=kdf)))
    assert ml_dsa.decrypt_seed(keystore, "pw") == seed
    assert ml_dsa.keystore_public_key(keystore) == ml_dsa.public_key(seed)
    assert seed.reveal().hex() not in repr(seed) + str(seed)
    with pytest.raises(WrongPassword):
        ml_dsa.decrypt_seed(keystore, "other")


@pytest.mark.parametrize("kdf", QUICK, ids=["scrypt", "pbkdf2"])
def test_an_account_keystore_round_trips_and_opens_in_eth_account(kdf):
    keystore = json.loads(json.dumps(web3_keystore.encrypt_account(PRIVATE_KEY, "pw", kdf=kdf)))
    assert web3_keystore.decrypt_account(keystore, "pw") == PRIVATE_KEY
    assert bytes(Account.decrypt(keystore, "pw")) == PRIVATE_KEY
    assert web3_keystore.keystore_address(keystore) == address_of(PRIVATE_KEY)
    with pytest.raises(WrongPassword):
        web3_keystore.decrypt_account(keystore, "other")


def test_eth_accounts_keystore_opens_here():
    keystore = Account.encrypt(PRIVATE_KEY, "pw", kdf="scrypt", iterations=16)
    assert web3_keystore.decrypt_account(keystore, "pw") == PRIVATE_KEY


def broken_bls_keystores():
    base = bls_keystore.encrypt_keystore(SECRET, "pw", kdf=Pbkdf2(c=10))
    other = bls.public_key(bls.SecretKey(bytes(31) + b"\x07")).hex()
    for path, value in [
        (("version",), 3),
        (("pubkey",), other),
        (("pubkey",), "zz"),
        (("crypto",), None),
        (("crypto", "kdf", "function"), "argon2"),
        (("crypto", "kdf", "params", "dklen"), 64),
        (("crypto", "kdf", "params", "c"), 10**9),
        (("crypto", "kdf", "params", "c"), 0),
        (("crypto", "kdf", "params", "c"), True),
        (("crypto", "kdf", "params", "prf"), "hmac-sha512"),
        (("crypto", "kdf", "params", "salt"), 5),
        (("crypto", "checksum", "function"), "md5"),
        (("crypto", "cipher", "function"), "aes-256-gcm"),
        (("crypto", "cipher", "params", "iv"), "00"),
        (("crypto", "cipher", "message"), "00" * 2000),
    ]:
        keystore = copy.deepcopy(base)
        target = keystore
        for name in path[:-1]:
            target = target[name]
        target[path[-1]] = value
        yield pytest.param(keystore, id=f"{'.'.join(path)}={str(value)[:12]}")


@pytest.mark.parametrize("keystore", list(broken_bls_keystores()))
def test_a_broken_keystore_is_told_apart_from_a_wrong_password(keystore):
    with pytest.raises(KeystoreError) as caught:
        bls_keystore.decrypt_keystore(keystore, "pw")
    assert not isinstance(caught.value, WrongPassword)


@pytest.mark.parametrize("params", [(2**30, 8, 1), (3, 8, 1), (1, 8, 1), (2**18, 10**6, 1), (2**18, 8, 10**6)])
def test_scrypt_parameters_that_would_exhaust_the_machine_are_refused(params):
    n, r, p = params
    keystore = web3_keystore.encrypt_account(PRIVATE_KEY, "pw", kdf=Scrypt(n=16))
    keystore["crypto"]["kdfparams"].update(n=n, r=r, p=p)
    with pytest.raises(KeystoreError, match="scrypt"):
        web3_keystore.decrypt_account(keystore, "pw")


def test_an_account_keystore_that_claims_another_address_is_refused():
    keystore = web3_keystore.encrypt_account(PRIVATE_KEY, "pw", kdf=Scrypt(n=16))
    with pytest.raises(KeystoreError, match="claims"):
        web3_keystore.decrypt_account({**keystore, "address": "00" * 20}, "pw")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "m",
        "m/12381/60/0",
        "m/44/60/0/0",
        "m/12381/60/x/0",
        "m/12381/60/-1/0",
        "m/12381/60/4294967296/0",
        "12381/60/0/0",
    ],
)
def test_a_path_that_is_not_eip_2334_is_refused(path):
    with pytest.raises(InvalidPath):
        parse_path(path)


def test_voting_keys_of_one_seed_differ_by_account():
    seed = seed_of(JUNK_MNEMONIC)
    first, second = (derive_key(seed, voting_key_path(account)) for account in (0, 1))
    assert first != second
    assert parse_path(voting_key_path(1)) == (12381, 60, 1, 0)


def test_the_developers_mnemonic_gives_the_accounts_that_tools_expect():
    keys = account_private_keys(JUNK_MNEMONIC, 2)
    assert [checksum_address(address_of(key)) for key in keys] == [
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    ]


@pytest.mark.parametrize("words", ["", "test " * 12, "secretword " * 12, JUNK_MNEMONIC + " test"])
def test_a_wrong_phrase_is_refused_without_being_repeated(words):
    with pytest.raises(InvalidMnemonic) as caught:
        seed_of(words)
    assert "secretword" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_new_phrase_has_24_valid_words():
    words = generate_mnemonic()
    assert len(words.split()) == 24
    assert len(seed_of(words)) == 64
    assert words != generate_mnemonic()


def test_a_secret_file_is_private_whole_and_never_overwritten(tmp_path):
    path = tmp_path / "keys" / "secret.json"
    create_json_file(path, {"a": 1})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with pytest.raises(SecretFileExists):
        create_secret_file(path, b"other")
    assert read_json_file(path) == {"a": 1}
    assert os.listdir(path.parent) == ["secret.json"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"x" * 70_000], ids=["empty", "list", "cut", "large"])
def test_a_file_that_is_no_keystore_is_named(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableSecretFile, match=r"file\.json"):
        read_json_file(path)
    with pytest.raises(UnreadableSecretFile, match="No such file"):
        read_json_file(tmp_path / "absent")


def test_a_mistyped_checksum_address_is_refused():
    good = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert checksum_address(parse_address(good)) == good
    assert parse_address(good.lower()) == parse_address(good)
    for bad in (good.replace("Fd6", "fd6"), good[:-1], good + "0", "0x" + "g" * 40, "0x" + " " * 40):
        with pytest.raises(InvalidAddress):
            parse_address(bad)
