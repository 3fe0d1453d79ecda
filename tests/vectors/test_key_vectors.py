"""EIP-2333 and EIP-2335, Web3 Secret Storage and ML-DSA-65 against their published vectors."""

import json
from pathlib import Path

import pytest

from astralink_node.crypto import ml_dsa
from astralink_node.crypto.bls_keys import child_key, master_key
from astralink_node.crypto.bls_keystore import decrypt_keystore
from astralink_node.crypto.web3_keystore import decrypt_account

UNPACKED = Path(__file__).parents[1] / "fixtures" / "unpacked"
EIP2335_PASSWORD = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑"
EIP2335_SECRET = bytes.fromhex("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f")


def load(path: str):
    return json.loads((UNPACKED / path).read_text())


@pytest.mark.parametrize("case", load("erc/eip2333-vectors.json"), ids=lambda case: case["seed"][:12])
def test_eip_2333_derives_the_published_keys(case):
    master = master_key(bytes.fromhex(case["seed"][2:]))
    assert int.from_bytes(master.reveal(), "big") == int(case["master_SK"])
    child = child_key(master, int(case["child_index"]))
    assert int.from_bytes(child.reveal(), "big") == int(case["child_SK"])


@pytest.mark.parametrize("case", load("erc/eip2335-keystores.json"), ids=["scrypt", "pbkdf2"])
def test_eip_2335_decrypts_the_published_keystores(case):
    assert decrypt_keystore(case, EIP2335_PASSWORD).reveal() == EIP2335_SECRET


@pytest.mark.parametrize("name", sorted(load("ethereum_tests/KeyStoreTests/basic_tests.json")))
def test_web3_keystores_decrypt_to_the_published_keys(name):
    case = load("ethereum_tests/KeyStoreTests/basic_tests.json")[name]
    assert decrypt_account(case["json"], case["password"]).hex() == case["priv"]


def test_ml_dsa_65_verification_agrees_with_wycheproof():
    checked = 0
    for group in load("wycheproof/mldsa_65_verify_test.json")["testGroups"]:
        key = bytes.fromhex(group["publicKey"])
        for case in group["tests"]:
            context = bytes.fromhex(case.get("ctx", ""))
            found = ml_dsa.verify(key, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]), context)
            assert found is (case["result"] == "valid"), f"tcId {case['tcId']}: {case['comment']}"
            checked += 1
    assert checked > 50


def test_ml_dsa_65_expands_the_published_seeds():
    checked = 0
    for group in load("wycheproof/mldsa_65_sign_seed_test.json")["testGroups"]:
        value = bytes.fromhex(group["privateSeed"])
        if len(value) != 32:
            with pytest.raises(ml_dsa.InvalidKey):
                ml_dsa.Seed(value)
            continue
        seed = ml_dsa.Seed(value)
        key = ml_dsa.public_key(seed)
        if group.get("publicKey"):
            assert key.hex() == group["publicKey"]
        for case in group["tests"]:
            # Signing is hedged, so the published signatures are verified, and ours made once a group.
            if case["result"] == "valid" and "msg" in case:
                context = bytes.fromhex(case.get("ctx", ""))
                assert ml_dsa.verify(key, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]), context)
                checked += 1
        assert ml_dsa.verify(key, b"checkpoint", ml_dsa.sign(seed, b"checkpoint"))
    assert checked > 10
