"""A signer behind a socket: the same signatures and refusals as a local one, and every way to lose or fool it."""

import dataclasses
import socket
import ssl
import stat
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from astralink_node.config import SignerConfig, TlsAddress, UnixAddress
from astralink_node.crypto import bls, ml_dsa
from astralink_node.errors import EXIT_STORAGE, UserError
from astralink_node.listening import CannotListen
from astralink_node.validator.keys import random_keys
from astralink_node.validator.local_signer import LocalSigner, RefusedToSign, SignerUnavailable
from astralink_node.validator.remote_signer import SignerFailed, open_remote_signer
from astralink_node.validator.signer_certificates import (
    PeerNotPinned,
    UnusableCertificate,
    create_certificate,
    load_identity,
)
from astralink_node.validator.signer_protocol import Failed, Keys, decode_answer, encode_answer, frame
from astralink_node.validator.signer_server import MAX_CONNECTIONS
from astralink_node.validator.signer_transport import accept_peer, listen
from astralink_node.validator.signing_history import HistoryUnwritable, SigningHistory
from astralink_node.validator.signing_rules import HistoryState
from consensus.messages import (
    VoteMessage,
    VoteType,
    checkpoint_sign_bytes,
    reveal_sign_bytes,
    signing_root,
)
from tests.support.node_process import await_that
from tests.support.signer_servers import GENESIS, KEYS, MemoryStorage, new_storage, pair, serving

A, B = b"a" * 32, b"b" * 32
WAIT_S = 20


@pytest.fixture(params=["unix", "tls"])
def address(request, tmp_path):
    if request.param == "unix":
        return UnixAddress(str(tmp_path / "s" / "signer.sock"))
    pair(tmp_path)
    return TlsAddress("127.0.0.1", 0)


@pytest.fixture
def unix(tmp_path):
    return UnixAddress(str(tmp_path / "s" / "signer.sock"))


# --- What a node gets ----------------------------------------------------------------------------------------------


def test_signatures_are_those_of_a_local_signer(tmp_path, address):
    local = LocalSigner(KEYS, SigningHistory(new_storage(), KEYS.public.voting_key), GENESIS)
    with serving(tmp_path, address) as served, closing(served.client()) as signer:
        assert signer.public == KEYS.public
        for one in (lambda it: it.sign_reveal(4), lambda it: it.sign_proposal(4, 0, A, -1)):
            assert one(signer) == one(local)
        for vote_type in VoteType:
            assert signer.sign_vote(vote_type, 4, 0, A, -1) == local.sign_vote(vote_type, 4, 0, A, -1)
        assert bls.verify(KEYS.public.voting_key, signing_root(reveal_sign_bytes(GENESIS, 4)), signer.sign_reveal(4))
        checkpoint = signer.sign_checkpoint(0, 4, A, B)
        root = signing_root(checkpoint_sign_bytes(GENESIS, 0, 4, A, B))
        assert ml_dsa.verify(KEYS.public.checkpoint_key, root, checkpoint)
        assert signer.sign_checkpoint(0, 4, A, B) == checkpoint
        assert signer.history_state() == HistoryState(floor=1, height=4) == served.history.state(GENESIS)


def test_a_refusal_comes_with_its_reason_and_the_connection_goes_on(tmp_path, address):
    with serving(tmp_path, address) as served, closing(served.client()) as signer:
        signer.sign_vote(VoteType.PRECOMMIT, 4, 0, A, -1)
        with pytest.raises(RefusedToSign) as caught:
            signer.sign_vote(VoteType.PREVOTE, 4, 1, B, -1)
        assert "locked in round 0" in caught.value.reason
        signer.sign_vote(VoteType.PREVOTE, 4, 1, B, 0)


def test_foreign_votes_are_told(tmp_path, unix):
    with serving(tmp_path, unix) as served, closing(served.client()) as signer:
        signer.sign_vote(VoteType.PREVOTE, 4, 0, A, -1)
        assert not signer.is_foreign(VoteMessage(GENESIS, 4, 0, VoteType.PREVOTE, A, -1))
        assert signer.is_foreign(VoteMessage(GENESIS, 4, 0, VoteType.PREVOTE, B, -1))
        assert signer.is_foreign(VoteMessage(GENESIS, 5, 0, VoteType.PREVOTE, B, -1))


def test_only_the_signers_operator_lets_a_floor_be_set(tmp_path, unix):
    lost = new_storage(key_is_new=False)
    with serving(tmp_path, unix, storage=lost) as served, closing(served.client()) as signer:
        assert not signer.history_state().is_intact
        with pytest.raises(RefusedToSign, match="--new-signing-history"):
            signer.set_floor(102)
        with pytest.raises(RefusedToSign, match="no certified head"):
            signer.sign_reveal(102)
    with serving(tmp_path, unix, storage=lost, may_set_floor=True) as served, closing(served.client()) as signer:
        signer.set_floor(102)
        assert signer.history_state() == HistoryState(floor=102, height=0)
    with serving(tmp_path, unix, storage=lost) as served, closing(served.client()) as signer:
        assert signer.history_state().is_intact
        with pytest.raises(RefusedToSign, match="below height 102"):
            signer.sign_reveal(101)
        signer.sign_reveal(102)


def test_chains_are_told_apart_by_the_clients_genesis_hash(tmp_path, unix):
    with serving(tmp_path, unix) as served, closing(served.client()) as one:
        one.sign_vote(VoteType.PREVOTE, 50, 0, A, -1)
        with closing(served.client(genesis_hash=b"h" * 32)) as other:
            assert other.history_state() == HistoryState(floor=1, height=0)
            other.sign_vote(VoteType.PREVOTE, 1, 0, A, -1)


# --- Losing it -----------------------------------------------------------------------------------------------------


def test_a_restarted_signer_is_found_again_and_gives_the_same_signature(tmp_path, unix):
    storage = new_storage()
    with serving(tmp_path, unix, storage=storage) as served:
        signer = served.client()
        first = signer.sign_vote(VoteType.PREVOTE, 4, 0, A, -1)
    with pytest.raises(SignerUnavailable, match="No such file"):
        signer.sign_vote(VoteType.PREVOTE, 4, 0, A, -1)
    with serving(tmp_path, unix, storage=storage):
        assert signer.sign_vote(VoteType.PREVOTE, 4, 0, A, -1) == first
    with serving(tmp_path, unix, storage=storage), closing(signer):
        assert signer.sign_vote(VoteType.PREVOTE, 4, 0, A, -1) == first, "a stale connection costs no call"


def test_a_signer_that_comes_back_with_other_keys_is_refused(tmp_path, unix):
    with serving(tmp_path, unix) as served:
        signer = served.client()
    keys = random_keys()
    other = MemoryStorage()
    other.data = new_storage().data.replace(KEYS.public.voting_key, keys.public.voting_key)
    other.data = other.data[:-4] + _crc(other.data[:-4])
    with serving(tmp_path, unix, storage=other, keys=keys):
        with pytest.raises(SignerFailed, match="other keys"):
            signer.sign_reveal(4)
        with pytest.raises(SignerFailed, match="other keys"):
            signer.sign_reveal(4)
    assert SigningHistory(other, keys.public.voting_key).chain(GENESIS).height == 0


def _crc(data):
    return zlib.crc32(data).to_bytes(4, "big")


@contextmanager
def impostor(path: Path, talk):
    """A listener at `path`; each connection is given to `talk`, in one thread."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def run():
            try:
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        talk(connection)
            except OSError:
                return

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(WAIT_S)
            path.unlink()
            assert not thread.is_alive()


def receive_request(connection):
    length = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
    return connection.recv(length, socket.MSG_WAITALL)


def test_a_signer_that_does_not_answer_is_unavailable_in_time_and_its_late_answer_is_never_read(tmp_path, unix):
    asked = []

    def talk(connection):
        asked.append(receive_request(connection))
        if len(asked) == 1:
            connection.sendall(frame(encode_answer(Keys(KEYS.public))))
            asked.append(receive_request(connection))
        connection.recv(1)  # until the client gives up

    config = SignerConfig(address=str(unix), timeout_ms=400)
    with impostor(Path(unix.path), talk):
        with closing(open_remote_signer(config, tmp_path, GENESIS)) as signer:
            for _ in range(2):
                with pytest.raises(SignerUnavailable, match=r"no answer within 0\.4 s"):
                    signer.sign_reveal(4)
        with pytest.raises(SignerUnavailable):
            open_remote_signer(config, tmp_path, GENESIS)
    assert len(asked) == 4, "each call after a time-out has a connection of its own"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (frame(b"\x09"), "kind: expected 1 to 7"),
        (b"\xff\xff\xff\xff", "expected a message of 1 to 4096 bytes"),
        (frame(encode_answer(Failed("the disk is gone"))), "the disk is gone"),
        (frame(b"\x07"), "expected the answer Keys, found FloorSet"),
    ],
)
def test_what_is_no_answer_of_a_signer_is_a_failure(tmp_path, unix, answer, message):
    def talk(connection):
        receive_request(connection)
        connection.sendall(answer)

    with impostor(Path(unix.path), talk), pytest.raises(SignerFailed, match=message):
        open_remote_signer(SignerConfig(address=str(unix)), tmp_path, GENESIS)


def test_a_connection_cut_in_the_middle_of_an_answer_is_unavailable(tmp_path, unix):
    def talk(connection):
        receive_request(connection)
        connection.sendall(frame(encode_answer(Keys(KEYS.public)))[:50])

    with impostor(Path(unix.path), talk), pytest.raises(SignerUnavailable, match="closed the connection"):
        open_remote_signer(SignerConfig(address=str(unix)), tmp_path, GENESIS)


def test_without_an_address_there_is_no_remote_signer(tmp_path):
    with pytest.raises(UserError, match=r"signer\.address"):
        open_remote_signer(SignerConfig(), tmp_path, GENESIS)


# --- The server ----------------------------------------------------------------------------------------------------


def test_two_nodes_that_share_a_signer_by_mistake_get_no_conflicting_signatures(tmp_path, address):
    with serving(tmp_path, address) as served, closing(served.client()) as one, closing(served.client()) as other:
        both = threading.Barrier(2)

        def ask(signer, block_hash, height):
            both.wait(WAIT_S)
            try:
                return signer.sign_vote(VoteType.PREVOTE, height, 0, block_hash, -1)
            except RefusedToSign as refusal:
                return refusal.reason

        with ThreadPoolExecutor(2) as threads:
            for height in range(1, 31):
                asked = [threads.submit(ask, one, A, height), threads.submit(ask, other, B, height)]
                kinds = sorted(type(answer.result(WAIT_S)).__name__ for answer in asked)
                assert kinds == ["bytes", "str"], "one is signed and the other refused"


class FailingStorage(MemoryStorage):
    def __init__(self) -> None:
        super().__init__()
        self.data = new_storage().data
        self.is_full = False

    def append(self, data):
        if self.is_full:
            raise OSError(28, "No space left on device")
        super().append(data)


def test_a_failing_disk_ends_the_signer_after_it_has_said_so(tmp_path, unix):
    storage = FailingStorage()
    with serving(tmp_path, unix, storage=storage) as served, closing(served.client()) as signer:
        signer.sign_reveal(4)
        storage.is_full = True
        with pytest.raises(SignerFailed, match="No space left on device"):
            signer.sign_vote(VoteType.PREVOTE, 4, 0, A, -1)
    assert isinstance(served.ended_with, HistoryUnwritable)
    assert served.ended_with.exit_code == EXIT_STORAGE


class SlowStorage(MemoryStorage):
    """Its sync lasts until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.data = new_storage().data
        self.began, self.may_end = threading.Event(), threading.Event()

    def sync(self):
        self.began.set()
        assert self.may_end.wait(WAIT_S)


def test_a_request_at_work_is_answered_before_the_signer_stops(tmp_path, address):
    storage = SlowStorage()
    with (
        serving(tmp_path, address, storage=storage) as served,
        closing(served.client()) as signer,
        ThreadPoolExecutor(1) as threads,
    ):
        asked = threads.submit(signer.sign_reveal, 4)
        assert storage.began.wait(WAIT_S)
        served.server.stop()
        storage.may_end.set()
        assert len(asked.result(WAIT_S)) == 96


def test_closing_the_client_ends_a_call_that_waits(tmp_path, address):
    storage = SlowStorage()
    with serving(tmp_path, address, storage=storage) as served, ThreadPoolExecutor(1) as threads:
        signer = served.client()
        asked = threads.submit(signer.sign_reveal, 4)
        assert storage.began.wait(WAIT_S)
        signer.close()
        with pytest.raises(SignerUnavailable, match="closed by this node"):
            asked.result(WAIT_S)
        with pytest.raises(SignerUnavailable, match="closed by this node"):
            signer.sign_reveal(4)
        storage.may_end.set()


def test_what_is_no_request_is_told_and_the_connection_closed(tmp_path, unix):
    with serving(tmp_path, unix):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(unix.path)
            raw.sendall(frame(b"\x01\x03" + b"\x11" * 32))
            answer = decode_answer(receive_request(raw))
            assert isinstance(answer, Failed)
            assert "not a request" in answer.reason
            assert raw.recv(1) == b""
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(unix.path)
            raw.sendall((257).to_bytes(4, "big"))
            assert raw.recv(1) == b""


def test_a_connection_above_the_bound_is_turned_away_until_another_ends(tmp_path, unix):
    with serving(tmp_path, unix) as served:
        clients = [served.client() for _ in range(MAX_CONNECTIONS)]
        with pytest.raises(SignerUnavailable):
            served.client()
        clients.pop().close()

        def is_let_in():
            with suppress(SignerUnavailable):  # until its thread has seen the end
                clients.append(served.client())
            return len(clients) == MAX_CONNECTIONS

        await_that(is_let_in, lambda: "the place never became free")
        for client in clients:
            client.close()


# --- Unix sockets --------------------------------------------------------------------------------------------------


def test_the_socket_and_its_folder_are_private_and_go_with_the_signer(tmp_path, unix):
    path = Path(unix.path)
    with serving(tmp_path, unix):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


def test_a_socket_in_use_is_not_taken_and_one_left_behind_is(tmp_path, unix):
    with serving(tmp_path, unix) as served:
        with pytest.raises(CannotListen, match="already in use"), listen(unix, tmp_path):
            pass
        served.client().close()
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(unix.path)
    left_behind.close()
    with serving(tmp_path, unix) as served:
        served.client().close()


def test_a_file_in_the_sockets_place_stays(tmp_path, unix):
    path = Path(unix.path)
    path.parent.mkdir(mode=0o700)
    path.write_text("precious")
    with pytest.raises(CannotListen, match="found something else"), listen(unix, tmp_path):
        pass
    assert path.read_text() == "precious"


def test_a_folder_that_others_may_open_and_a_path_too_long_are_refused(tmp_path, unix):
    Path(unix.path).parent.mkdir(mode=0o755)
    with pytest.raises(CannotListen, match="mode 700"), listen(unix, tmp_path):
        pass
    with pytest.raises(CannotListen, match="107 bytes"), listen(UnixAddress("/tmp/" + "x" * 120), tmp_path):
        pass


# --- TLS -----------------------------------------------------------------------------------------------------------

LOOPBACK = TlsAddress("127.0.0.1", 0)


def test_a_node_whose_certificate_is_not_pinned_gets_nothing(tmp_path):
    pair(tmp_path)
    with serving(tmp_path, LOOPBACK) as served:
        (tmp_path / "node-side" / "key.pem").unlink()
        (tmp_path / "node-side" / "certificate.pem").unlink()
        create_certificate(tmp_path / "node-side")
        with pytest.raises(SignerFailed, match="refused this node's certificate"):
            served.client()


def test_a_signer_whose_certificate_is_not_pinned_is_not_asked(tmp_path):
    pair(tmp_path)
    create_certificate(tmp_path / "third")
    with serving(tmp_path, LOOPBACK) as served:
        peer = tmp_path / "node-side" / "peer.pem"
        peer.write_bytes((tmp_path / "third" / "certificate.pem").read_bytes())
        with pytest.raises(SignerFailed, match=r"not the one in peer\.pem"):
            served.client()


def test_a_certificate_that_openssl_would_accept_must_still_be_the_pinned_one(tmp_path):
    pair(tmp_path)
    identity = dataclasses.replace(load_identity(tmp_path / "signer-side", is_server=True), peer_certificate=b"other")
    node = load_identity(tmp_path / "node-side", is_server=False)
    ours, theirs = socket.socketpair()
    with ThreadPoolExecutor(1) as threads:
        handshake = threads.submit(node.context.wrap_socket, theirs)
        with pytest.raises(PeerNotPinned, match="expected the certificate"):
            accept_peer(_NoOptions(ours), identity, WAIT_S)
        handshake.result(WAIT_S).close()


class _NoOptions(socket.socket):
    """A Unix socket pair has no TCP options."""

    def __init__(self, other: socket.socket) -> None:
        super().__init__(other.family, other.type, other.proto, other.detach())

    def setsockopt(self, *_arguments) -> None:
        pass


@contextmanager
def raw_connection(address):
    with socket.create_connection((address.host, address.port), WAIT_S) as raw:
        yield raw


def refuses_everything(signer_side: socket.socket) -> bool:
    try:
        signer_side.sendall(frame(b"\x01\x01"))
        while data := signer_side.recv(4096):
            assert KEYS.public.voting_key not in data
    except (ssl.SSLError, ConnectionError):
        return True
    return True


def test_plain_tcp_an_older_tls_and_a_client_without_certificate_get_nothing(tmp_path):
    pair(tmp_path)
    contexts = {"no certificate": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
    contexts["TLS 1.2"] = load_identity(tmp_path / "node-side", is_server=False).context
    contexts["TLS 1.2"].minimum_version = ssl.TLSVersion.TLSv1_2
    contexts["TLS 1.2"].maximum_version = ssl.TLSVersion.TLSv1_2
    contexts["no certificate"].check_hostname = False
    contexts["no certificate"].verify_mode = ssl.CERT_NONE
    with serving(tmp_path, LOOPBACK) as served:
        with raw_connection(served.address) as raw:
            assert refuses_everything(raw)
        with raw_connection(served.address) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
            contexts["TLS 1.2"].wrap_socket(raw)
        with raw_connection(served.address) as raw, contexts["no certificate"].wrap_socket(raw) as secured:
            assert refuses_everything(secured)
        with closing(served.client()) as signer:
            assert signer.public == KEYS.public, "and the pinned node is served as before"


def test_without_certificates_nothing_listens_on_tcp(tmp_path):
    with pytest.raises(UnusableCertificate, match="signer certificate"), listen(LOOPBACK, tmp_path / "nowhere"):
        pass
    with pytest.raises(UnusableCertificate, match="signer certificate"):
        open_remote_signer(SignerConfig(address="tls:127.0.0.1:1"), tmp_path, GENESIS)


def test_a_port_in_use_is_named(tmp_path):
    pair(tmp_path)
    with serving(tmp_path, LOOPBACK) as served:
        message = f"port {served.address.port} on 127.0.0.1 is already in use"
        with pytest.raises(CannotListen, match=message), listen(served.address, tmp_path / "signer-side"):
            pass


def test_nobody_listening_is_unavailable(tmp_path, unix):
    pair(tmp_path)
    with serving(tmp_path, LOOPBACK) as served:
        config = served.config()
    with pytest.raises(SignerUnavailable, match="refused"):
        open_remote_signer(config, tmp_path, GENESIS)
    with pytest.raises(SignerUnavailable, match="No such file"):
        open_remote_signer(SignerConfig(address=str(unix)), tmp_path, GENESIS)
