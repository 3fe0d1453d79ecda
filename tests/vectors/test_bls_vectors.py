"""ethereum/bls12-381-tests against crypto.bls: every folder, every file."""

import json
from pathlib import Path

import pytest
from py_arkworks_bls12381 import G2Point

from astralink_node.crypto import bls

ROOT = Path(__file__).parents[1] / "fixtures" / "unpacked" / "bls12-381-tests" / "bls"


def cases(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).glob("*.json"))
    if not found:
        raise FileNotFoundError(f"no vectors in {ROOT / folder}: unpack tests/fixtures/vectors.tar.xz")
    return found


def parametrize(folder: str):
    return pytest.mark.parametrize("path", cases(folder), ids=lambda path: path.stem)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def load(path: Path):
    case = json.loads(path.read_text())
    return case["input"], case["output"]


@parametrize("sign")
def test_signing_gives_the_published_signature_or_refuses_the_key(path):
    given, output = load(path)
    if output is None:
        with pytest.raises(bls.InvalidSecretKey):
            bls.SecretKey(unhex(given["privkey"]))
        return
    secret = bls.SecretKey(unhex(given["privkey"]))
    signature = bls.sign(secret, unhex(given["message"]))
    assert signature == unhex(output)
    assert bls.verify(bls.public_key(secret), unhex(given["message"]), signature)


@parametrize("verify")
def test_verification_agrees(path):
    given, output = load(path)
    assert bls.verify(unhex(given["pubkey"]), unhex(given["message"]), unhex(given["signature"])) is output


@parametrize("aggregate")
def test_aggregation_agrees(path):
    given, output = load(path)
    signatures = [unhex(item) for item in given]
    if output is None:
        with pytest.raises(bls.InvalidPoint):
            bls.aggregate(signatures)
    else:
        assert bls.aggregate(signatures) == unhex(output)


@parametrize("fast_aggregate_verify")
def test_fast_aggregate_verification_agrees(path):
    given, output = load(path)
    keys = [unhex(key) for key in given["pubkeys"]]
    assert bls.fast_aggregate_verify(keys, unhex(given["message"]), unhex(given["signature"])) is output


@parametrize("aggregate_verify")
def test_aggregate_verification_agrees(path):
    given, output = load(path)
    keys = [unhex(key) for key in given["pubkeys"]]
    messages = [unhex(message) for message in given["messages"]]
    assert bls.aggregate_verify(keys, messages, unhex(given["signature"])) is output


@parametrize("batch_verify")
def test_batch_verification_agrees(path):
    given, output = load(path)
    keys = [unhex(key) for key in given["pubkeys"]]
    messages = [unhex(message) for message in given["messages"]]
    signatures = [unhex(signature) for signature in given["signatures"]]
    assert bls.batch_verify(keys, messages, signatures) is output


@parametrize("deserialization_G1")
def test_public_keys_decode_only_when_canonical_and_not_the_identity(path):
    given, output = load(path)
    key = unhex(given["pubkey"])
    # The vectors accept the identity as a point; as somebody's key it is refused.
    if output and key != b"\xc0" + bytes(47):
        bls.decode_public_key(key)
    else:
        with pytest.raises(bls.InvalidPoint):
            bls.decode_public_key(key)


@parametrize("deserialization_G2")
def test_signatures_decode_only_when_canonical(path):
    given, output = load(path)
    signature = unhex(given["signature"])
    if output:
        assert bls.aggregate([signature]) == signature
    else:
        with pytest.raises(bls.InvalidPoint):
            bls.aggregate([signature])


@parametrize("hash_to_G2")
def test_the_library_hashes_to_the_published_points(path):
    """These use RFC 9380's own domain tag (appendix J.10.1), hence the library directly."""
    given, output = load(path)
    tag = b"QUUX-V01-CS02-with-BLS12381G2_XMD:SHA-256_SSWU_RO_"
    coordinates = bytes(G2Point.hash_to_curve(given["msg"].encode(), tag).to_xy_bytes_be())
    parts = [unhex(part) for axis in ("x", "y") for part in output[axis].split(",")]
    assert coordinates == b"".join(parts)
