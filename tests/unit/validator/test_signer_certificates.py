"""Certificates of a signer's link: private, never overwritten, pinned byte for byte."""

import os
import stat
from shutil import copyfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from astralink_node.crypto.secret_files import SecretFileExists
from astralink_node.validator.signer_certificates import (
    UnusableCertificate,
    create_certificate,
    fingerprint,
    load_identity,
)
from tests.support.signer_servers import pair


def test_the_key_is_private_and_nothing_is_overwritten(tmp_path):
    folder = tmp_path / "tls"
    first = create_certificate(folder)
    assert sorted(os.listdir(folder)) == ["certificate.pem", "key.pem"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    with pytest.raises(SecretFileExists):
        create_certificate(folder)
    assert first != create_certificate(tmp_path / "other")


def test_a_run_cut_short_after_the_key_is_completed_with_the_same_certificate(tmp_path):
    first = create_certificate(tmp_path)
    (tmp_path / "certificate.pem").unlink()
    assert create_certificate(tmp_path) == first
    assert len(fingerprint(first)) == 64


def test_a_pair_loads_on_both_sides(tmp_path):
    pair(tmp_path)
    signer = load_identity(tmp_path / "signer-side", is_server=True)
    node = load_identity(tmp_path / "node-side", is_server=False)
    assert signer.peer_certificate != node.peer_certificate


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("certificate.pem", "astralink-node signer certificate"),
        ("key.pem", "astralink-node signer certificate"),
        ("peer.pem", "copy the other side's certificate.pem"),
    ],
)
def test_a_missing_file_is_named_with_what_to_do(tmp_path, name, message):
    pair(tmp_path)
    (tmp_path / "node-side" / name).unlink()
    with pytest.raises(UnusableCertificate, match=f"{name} is missing: .*{message}"):
        load_identity(tmp_path / "node-side", is_server=False)


@pytest.mark.parametrize("name", ["certificate.pem", "key.pem", "peer.pem"])
@pytest.mark.parametrize("content", [b"", b"-----BEGIN nothing-----", b"\xff" * 70_000])
def test_a_file_that_is_something_else_is_refused(tmp_path, name, content):
    pair(tmp_path)
    (tmp_path / "node-side" / name).write_bytes(content)
    with pytest.raises(UnusableCertificate, match=name):
        load_identity(tmp_path / "node-side", is_server=False)


def test_own_certificate_as_the_peers_is_refused(tmp_path):
    pair(tmp_path)
    copyfile(tmp_path / "node-side" / "certificate.pem", tmp_path / "node-side" / "peer.pem")
    with pytest.raises(UnusableCertificate, match="this side's own certificate"):
        load_identity(tmp_path / "node-side", is_server=False)


def test_two_certificates_to_pin_are_one_too_many(tmp_path):
    pair(tmp_path)
    peer = tmp_path / "node-side" / "peer.pem"
    peer.write_bytes(peer.read_bytes() + (tmp_path / "node-side" / "certificate.pem").read_bytes())
    with pytest.raises(UnusableCertificate, match="expected one certificate, found 2"):
        load_identity(tmp_path / "node-side", is_server=False)


def test_a_key_that_others_may_read_is_refused(tmp_path):
    pair(tmp_path)
    (tmp_path / "node-side" / "key.pem").chmod(0o640)
    with pytest.raises(UnusableCertificate, match="chmod 600"):
        load_identity(tmp_path / "node-side", is_server=False)


def test_a_key_of_another_certificate_or_kind_is_refused(tmp_path):
    pair(tmp_path)
    key = tmp_path / "node-side" / "key.pem"
    key.write_bytes((tmp_path / "signer-side" / "key.pem").read_bytes())
    with pytest.raises(UnusableCertificate, match="not the key of"):
        load_identity(tmp_path / "node-side", is_server=False)
    other = generate_private_key(SECP256R1())
    key.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(UnusableCertificate, match="expected an Ed25519 key"):
        load_identity(tmp_path / "node-side", is_server=False)
