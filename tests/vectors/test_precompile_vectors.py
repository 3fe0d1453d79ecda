"""Published vectors against the precompiles: EIP-152, EIP-2537, c-kzg-4844, Wycheproof, execution-spec-tests."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.precompiles import kzg, modexp, p256, standard
from astralink_node.evm.precompiles.call_data import PrecompileFailure
from astralink_node.evm.precompiles.registry import OSAKA, PRAGUE

ROOT = Path(__file__).parents[1] / "fixtures" / "unpacked"
EIP_2537 = ROOT / "eips" / "assets" / "eip-2537"
KZG = ROOT / "ckzg" / "verify_kzg_proof" / "kzg-mainnet"
STATE_TESTS = ROOT / "eest" / "state_tests"
BY_NAME = {fork: {entry.name: entry for entry in entries} for fork, entries in (("Prague", PRAGUE), ("Osaka", OSAKA))}


def unhex(text):
    return bytes.fromhex(text.removeprefix("0x"))


def found(paths, least):
    paths = sorted(paths)
    if len(paths) < least:
        raise FileNotFoundError(f"expected at least {least} vector files, found {len(paths)}: unpack tests/fixtures")
    return paths


# EIP-2537 ------------------------------------------------------------------------------------------------------------

EIP_2537_NAMES = {
    "add_G1_bls": "BLS12_G1ADD",
    "mul_G1_bls": "BLS12_G1MSM",
    "msm_G1_bls": "BLS12_G1MSM",
    "add_G2_bls": "BLS12_G2ADD",
    "mul_G2_bls": "BLS12_G2MSM",
    "msm_G2_bls": "BLS12_G2MSM",
    "pairing_check_bls": "BLS12_PAIRING_CHECK",
    "map_fp_to_G1_bls": "BLS12_MAP_FP_TO_G1",
    "map_fp2_to_G2_bls": "BLS12_MAP_FP2_TO_G2",
}


def eip_2537_cases(*, failing):
    paths = [path for path in EIP_2537.glob("*.json") if path.stem.startswith("fail-") == failing]
    for path in found(paths, 8):
        entry = BY_NAME["Prague"][EIP_2537_NAMES[path.stem.removeprefix("fail-")]]
        for case in json.loads(path.read_text()):
            yield pytest.param(entry, case, id=f"{path.stem}-{case['Name']}")


@pytest.mark.parametrize(("entry", "case"), list(eip_2537_cases(failing=False)))
def test_eip_2537_gives_the_published_output_and_price(entry, case):
    data = unhex(case["Input"])
    assert entry.run(data).hex() == case["Expected"]
    assert entry.gas(data) == case["Gas"]


@pytest.mark.parametrize(("entry", "case"), list(eip_2537_cases(failing=True)))
def test_eip_2537_refuses_the_published_bad_input(entry, case):
    with pytest.raises(PrecompileFailure):
        entry.run(unhex(case["Input"]))


# EIP-152 -------------------------------------------------------------------------------------------------------------

BLAKE2_STATE = (
    "48c9bdf267e6096a3ba7ca8485ae67bb2bf894fe72f36e3cf1361d5f3af54fa5"
    "d182e6ad7f520e511f6c3e2b8c68059b6bbd41fbabd9831f79217e1319cde05b"
)
BLAKE2_REST = "616263" + "00" * 125 + "0300000000000000" + "00" * 8


@pytest.mark.parametrize(
    ("rounds", "final", "expected"),
    [
        pytest.param(
            "00000000",
            "01",
            "08c9bcf367e6096a3ba7ca8485ae67bb2bf894fe72f36e3cf1361d5f3af54fa5"
            "d282e6ad7f520e511f6c3e2b8c68059b9442be0454267ce079217e1319cde05b",
            id="vector 4: no round",
        ),
        pytest.param("0000000c", "01", hashlib.blake2b(b"abc").hexdigest(), id="vector 5: BLAKE2b itself"),
        pytest.param(
            "0000000c",
            "00",
            "75ab69d3190a562c51aef8d88f1c2775876944407270c42c9844252c26d28752"
            "98743e7f6d5ea2f2d3e8d226039cd31b4e426ac4f2d3d666a610c2116fde4735",
            id="vector 6: not the final block",
        ),
        pytest.param(
            "00000001",
            "01",
            "b63a380cb2897d521994a85234ee2c181b5f844d2c624c002677e9703449d2fb"
            "a551b3a8333bcdf5f2f7e08993d53923de3d64fcc68c034e717b9293fed7a421",
            id="vector 7: one round",
        ),
    ],
)
def test_eip_152_gives_the_published_state_at_one_gas_a_round(rounds, final, expected):
    entry = BY_NAME["Prague"]["BLAKE2F"]
    data = unhex(rounds + BLAKE2_STATE + BLAKE2_REST + final)
    assert entry.run(data).hex() == expected
    assert entry.gas(data) == int(rounds, 16)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="vector 0: empty"),
        pytest.param("00000c" + BLAKE2_STATE + BLAKE2_REST + "01", id="vector 1: short"),
        pytest.param("000000000c" + BLAKE2_STATE + BLAKE2_REST + "01", id="vector 2: long"),
        pytest.param("0000000c" + BLAKE2_STATE + BLAKE2_REST + "02", id="vector 3: bad flag"),
    ],
)
def test_eip_152_refuses_the_published_bad_input(data):
    entry = BY_NAME["Prague"]["BLAKE2F"]
    for function in (entry.gas, entry.run):
        with pytest.raises(PrecompileFailure):
            function(unhex(data))


# Point evaluation ----------------------------------------------------------------------------------------------------


def kzg_case(path):
    text = path.read_text()
    fields = dict(re.findall(r"(commitment|z|y|proof): '0x([0-9a-f]*)'", text))
    verdict = re.search(r"^output: (true|false|null)$", text, re.MULTILINE)
    return {name: bytes.fromhex(fields[name]) for name in ("commitment", "z", "y", "proof")}, verdict[1]


@pytest.mark.parametrize("path", found(KZG.glob("*/data.yaml"), 100), ids=lambda path: path.parent.name)
def test_point_evaluation_agrees_with_the_published_verdict(path):
    case, verdict = kzg_case(path)
    versioned_hash = b"\x01" + hashlib.sha256(case["commitment"]).digest()[1:]
    data = versioned_hash + case["z"] + case["y"] + case["commitment"] + case["proof"]
    if verdict == "true":
        assert kzg.point_evaluation(data) == (4096).to_bytes(32, "big") + kzg.SCALAR_FIELD.to_bytes(32, "big")
        return
    with pytest.raises(PrecompileFailure):
        kzg.point_evaluation(data)


# ECRECOVER -----------------------------------------------------------------------------------------------------------


R_X_ABOVE_ORDER = {350, 471}
"""Wycheproof cases "k*G has a large x-coordinate" and "x = n + 2 is the smallest possible x with a reduction"."""


def strict_der_signature(data):
    """(r, s) of a DER signature that ECRECOVER's words can hold, else None."""
    match data:
        case [0x30, length, *rest] if length == len(rest) < 0x80:
            numbers = []
            while rest:
                match rest:
                    case [0x02, size, 0x00, next_, *_] if size > 1 and next_ < 0x80:
                        return None  # more zeros than the sign needs
                    case [0x02, size, *tail] if 0 < size <= len(tail):
                        numbers.append(int.from_bytes(bytes(tail[:size]), "big", signed=True))
                        rest = tail[size:]
                    case _:
                        return None
            return tuple(numbers) if len(numbers) == 2 and all(0 <= n < 2**256 for n in numbers) else None
        case _:
            return None


def test_ecrecover_finds_the_signer_of_every_valid_wycheproof_signature_and_of_no_invalid_one():
    groups = json.loads((ROOT / "wycheproof" / "ecdsa_secp256k1_sha256_test.json").read_text())["testGroups"]
    tried = {"valid": 0, "invalid": 0}
    for group in groups:
        key = bytes.fromhex(group["publicKey"]["uncompressed"])[1:]
        signer = bytes(12) + keccak256(key)[12:]
        for test in group["tests"]:
            signature = strict_der_signature(list(bytes.fromhex(test["sig"])))
            if signature is None:
                continue
            digest = hashlib.sha256(bytes.fromhex(test["msg"])).digest()
            words = b"".join(number.to_bytes(32, "big") for number in signature)
            recovered = {standard.ecrecover(digest + v.to_bytes(32, "big") + words) for v in (27, 28)}
            # R.x = r + n is valid ECDSA, but ECRECOVER's v has no value for it (Yellow Paper, appendix F).
            recoverable = test["result"] == "valid" and test["tcId"] not in R_X_ABOVE_ORDER
            assert (signer in recovered) == recoverable, test["tcId"]
            tried[test["result"]] += 1
    assert tried["valid"] > 150
    assert tried["invalid"] > 50


# execution-spec-tests ------------------------------------------------------------------------------------------------
# These state tests forward their call data to one precompile and store what came back; read as vectors, they say
# which output and gas belong to an input, without an EVM.

MODEXP_CALLER = re.compile(r"^0x3660006000375a60006000366000600060056[0-3](?P<gas>\w+)f15a906000553d6001556100")
P256_CALLER = re.compile(r"^0x3660006000376000600036600060006101006[0-3](?P<gas>\w+)f13d6001556000553d600060003e")


def state_test_vectors(folder, caller):
    """(fork, call data, gas offered, slots of the caller afterwards)."""
    for path in found((STATE_TESTS / folder).glob("*.json"), 1):
        for name, case in json.loads(path.read_text()).items():
            account = case["pre"].get(case["transaction"]["to"], {"code": ""})
            match = caller.match(account["code"])
            if match is None:
                continue
            for fork, (post,) in case["post"].items():
                storage = post["state"][case["transaction"]["to"]]["storage"]
                slots = {int(slot, 16): int(value, 16) for slot, value in storage.items()}
                data = unhex(case["transaction"]["data"][0])
                yield pytest.param(fork, data, int(match["gas"], 16), slots, id=name.split("::")[1])


MODEXP_VECTORS = list(state_test_vectors("osaka/eip7883_modexp_gas_increase", MODEXP_CALLER))
P256_VECTORS = list(state_test_vectors("osaka/eip7951_p256verify_precompiles", P256_CALLER))


@pytest.mark.parametrize(("fork", "data", "offered", "slots"), MODEXP_VECTORS)
def test_modexp_agrees_with_the_execution_spec_tests(fork, data, offered, slots):
    entry = BY_NAME[fork]["MODEXP"]
    try:
        price = entry.gas(data)
        output = entry.run(data) if price <= offered else None
    except PrecompileFailure:
        output = None
    if output is None:
        assert 0 not in slots
        return
    assert slots[0] == 1
    assert slots.get(1, 0) == len(output)
    assert slots[2] == price
    assert slots[3].to_bytes(32, "big") == keccak256(output)


@pytest.mark.parametrize(("fork", "data", "offered", "slots"), P256_VECTORS)
def test_p256verify_agrees_with_the_execution_spec_tests(fork, data, offered, slots):
    assert offered >= p256.p256verify_gas(data)
    output = p256.p256verify(data) if fork == "Osaka" else b""
    assert slots[0] == 1
    assert slots.get(1, 0) == len(output)
    assert slots[2].to_bytes(32, "big") == keccak256(output)


def test_the_state_tests_hold_vectors_for_both_precompiles():
    assert len(MODEXP_VECTORS) >= 24
    assert len(P256_VECTORS) >= 12


# EIP-2565, table of test vectors -------------------------------------------------------------------------------------


def operands(base, exponent, modulus):
    return b"".join(len(part).to_bytes(32, "big") for part in (base, exponent, modulus)) + base + exponent + modulus


@pytest.mark.parametrize(
    ("length", "exponent", "eip_2565", "eip_7883"),
    [
        # EIP-7883 repeats EIP-2565's "nagydani" family: square, cube-like 3-byte exponent 65537, full exponent.
        (64, "02", 200, 500),
        (64, "010001", 341, 2_048),
        (128, "02", 200, 512),
        (128, "010001", 1_365, 8_192),
        (256, "02", 341, 2_048),
        (256, "010001", 5_461, 32_768),
        (512, "02", 1_365, 8_192),
        (512, "010001", 21_845, 131_072),
        (1024, "02", 5_461, 32_768),
        (1024, "010001", 87_381, 524_288),
    ],
)
def test_modexp_prices_follow_both_eips(length, exponent, eip_2565, eip_7883):
    data = operands(b"\x07" * length, bytes.fromhex(exponent), b"\x0b" * length)
    assert modexp.prague_gas(data) == eip_2565
    assert modexp.osaka_gas(data) == eip_7883
    expected = pow(int.from_bytes(b"\x07" * length), int(exponent, 16), int.from_bytes(b"\x0b" * length))
    assert modexp.modexp(data) == expected.to_bytes(length, "big")
