"""Who may talk to whom between a node and a signer on two machines: each side pins the other's own certificate.

There is no authority and no host name: a certificate is a wrapping for an Ed25519 key, made once on each side, and
the operator carries it to the other side. TLS 1.3 proves that the peer holds the key; beyond what OpenSSL checks, the
certificate that it showed must be, byte for byte, the one pinned.
"""

import datetime
import hashlib
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from astralink_node.crypto.secret_files import SecretFileExists, create_secret_file
from astralink_node.errors import AstraLinkError, UserError

CERTIFICATE_FILE: Final = "certificate.pem"
KEY_FILE: Final = "key.pem"
PEER_FILE: Final = "peer.pem"

_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AstraLink signer link")])
_MAX_FILE_BYTES: Final = 65_536
# A pinned certificate is withdrawn by removing the pin, not by a date; no clock shall cut a validator off.
_VALID_FROM: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_VALID_TO: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
"""RFC 5280, 4.1.2.5: this moment means that there is no end."""


class UnusableCertificate(UserError):
    """A file of the TLS folder is missing, readable by others, or not what it should be."""


class PeerNotPinned(AstraLinkError):
    """The other side showed no certificate, or another one than the one pinned here."""


@dataclass(frozen=True, slots=True)
class Identity:
    """This side's key and the one certificate that the other side may show."""

    context: ssl.SSLContext
    peer_certificate: bytes
    """DER."""

    def check_peer(self, connection: ssl.SSLSocket) -> None:
        """After the handshake. Raises PeerNotPinned."""
        shown = connection.getpeercert(binary_form=True)
        if shown != self.peer_certificate:
            found = "none" if shown is None else fingerprint(shown)
            raise PeerNotPinned(f"expected the certificate {fingerprint(self.peer_certificate)}, found {found}")


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a DER certificate, for people to compare."""
    return hashlib.sha256(certificate).hexdigest()


def create_certificate(folder: Path) -> bytes:
    """Make key.pem and certificate.pem; returns the certificate as DER. Raises SecretFileExists.

    The certificate follows from the key alone: if an earlier run was cut short after the key, it is completed.
    """
    path, key_path = folder / CERTIFICATE_FILE, folder / KEY_FILE
    if path.exists():
        raise SecretFileExists(f"{path}: exists already; a certificate is never overwritten, because others pin it")
    if not key_path.exists():
        new_key = Ed25519PrivateKey.generate()
        pem = new_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        create_secret_file(key_path, pem)
    certificate = _certify(_load_key(key_path))
    create_secret_file(path, certificate.public_bytes(Encoding.PEM))
    return certificate.public_bytes(Encoding.DER)


def load_identity(folder: Path, *, is_server: bool) -> Identity:
    """The TLS side of a signer (`is_server`) or of a node. Raises UnusableCertificate."""
    own = _load_certificate(folder / CERTIFICATE_FILE, "make it with `astralink-node signer certificate`")
    peer = _load_certificate(folder / PEER_FILE, f"copy the other side's {CERTIFICATE_FILE} to this place")
    if peer == own:
        raise UnusableCertificate(f"{folder / PEER_FILE}: this side's own certificate; the other side's belongs here")
    if _load_key(folder / KEY_FILE).public_key() != own.public_key():
        raise UnusableCertificate(f"{folder / KEY_FILE}: not the key of {CERTIFICATE_FILE} beside it")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if is_server:
        # A resumed session would skip the proof that the peer holds its key now.
        context.num_tickets = 0
    context.load_cert_chain(folder / CERTIFICATE_FILE, folder / KEY_FILE)
    context.load_verify_locations(cadata=peer.public_bytes(Encoding.DER))
    return Identity(context, peer.public_bytes(Encoding.DER))


def _certify(key: Ed25519PrivateKey) -> x509.Certificate:
    public = key.public_key()
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    serial = int.from_bytes(hashlib.sha256(raw).digest()[:16], "big") | 1
    return (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_TO)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )


def _load_key(path: Path) -> Ed25519PrivateKey:
    data = _read(path, "make it with `astralink-node signer certificate`")
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UnusableCertificate(f"{path}: other users may open this key: chmod 600 {path}, or make a new one")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        # The library's own words could quote the file.
        raise UnusableCertificate(f"{path}: not a private key in PEM without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UnusableCertificate(f"{path}: expected an Ed25519 key, found {type(key).__name__}")
    return key


def _load_certificate(path: Path, advice: str) -> x509.Certificate:
    data = _read(path, advice)
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise UnusableCertificate(f"{path}: not a certificate in PEM") from error
    if len(found) != 1:
        raise UnusableCertificate(f"{path}: expected one certificate, found {len(found)}")
    return found[0]


def _read(path: Path, advice: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise UnusableCertificate(f"{path} is missing: {advice}") from error
    except OSError as error:
        raise UnusableCertificate(f"{path}: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise UnusableCertificate(f"{path}: larger than {_MAX_FILE_BYTES} bytes")
    return data
