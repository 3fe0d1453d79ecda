"""A `Signer` whose keys and history are in another process: `astralink-node signer`.

Its calls block, and are serial: one request is on the way at a time. A connection that broke is made anew by the next
call. Asking again for the same bytes is always safe, because the signer's history returns the signature it stored.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from astralink_node.config import SignerConfig
from astralink_node.errors import AstraLinkError, UserError
from astralink_node.validator.keys import PublicKeys
from astralink_node.validator.local_signer import RefusedToSign, SignerUnavailable
from astralink_node.validator.signer_certificates import PeerNotPinned
from astralink_node.validator.signer_protocol import (
    MAX_ANSWER_BYTES,
    Answer,
    AskForeign,
    AskHistory,
    AskPublicKeys,
    Failed,
    FloorSet,
    Foreign,
    FrameTooLong,
    History,
    Keys,
    Refused,
    Request,
    SetFloor,
    Sign,
    Signature,
    decode_answer,
    encode_request,
    signature_bytes,
)
from astralink_node.validator.signer_transport import FrameSocket, connector, tls_folder
from astralink_node.validator.signing_rules import HistoryState
from consensus.messages import (
    CheckpointMessage,
    ProposalMessage,
    RevealMessage,
    SignedMessage,
    VoteMessage,
    VoteType,
)
from consensus.wire import DecodeError

_Expected = TypeVar("_Expected", Signature, Keys, History, Foreign, FloorSet)


class SignerFailed(AstraLinkError):
    """The signer cannot sign, or broke the protocol: asking again does not help, an operator has to look."""


class _Stale(Exception):
    """A connection that was open before this call turned out to be closed."""


def open_remote_signer(config: SignerConfig, data_folder: Path, genesis_hash: bytes) -> "RemoteSigner":
    """The signer that the settings name, connected. Raises UserError, SignerUnavailable or SignerFailed."""
    if config.endpoint is None:
        raise UserError("signer.address: expected unix:PATH or tls:HOST:PORT, found nothing")
    connect = connector(config.endpoint, tls_folder(config, data_folder))
    return RemoteSigner(connect, str(config.endpoint), genesis_hash, config.timeout_ms / 1000)


class RemoteSigner:
    """One validator on one chain. Safe to call from several threads.

    Every method but `close` may raise SignerUnavailable or SignerFailed, the constructor too: it asks for the keys.
    """

    def __init__(
        self, connect: Callable[[float], socket.socket], name: str, genesis_hash: bytes, timeout_s: float
    ) -> None:
        self._connect = connect
        self._name = name
        self._genesis_hash = genesis_hash
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._frames: FrameSocket | None = None
        self._is_closed = False
        self._public: PublicKeys | None = None
        self._public = self._ask(AskPublicKeys(), Keys).public

    @property
    def public(self) -> PublicKeys:
        """Never changes: a signer that comes back with other keys is refused."""
        if self._public is None:
            raise SignerFailed(f"signer {self._name}: its keys are not known")
        return self._public

    def sign_proposal(self, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes:
        """As `LocalSigner.sign_proposal`, and so on."""
        return self._sign(ProposalMessage(self._genesis_hash, height, round_, block_hash, valid_round))

    def sign_vote(self, vote_type: VoteType, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes:
        return self._sign(VoteMessage(self._genesis_hash, height, round_, vote_type, block_hash, valid_round))

    def sign_reveal(self, height: int) -> bytes:
        return self._sign(RevealMessage(self._genesis_hash, height))

    def sign_checkpoint(self, epoch: int, height: int, block_hash: bytes, next_set_hash: bytes) -> bytes:
        return self._sign(CheckpointMessage(self._genesis_hash, epoch, height, block_hash, next_set_hash))

    def history_state(self) -> HistoryState:
        return self._ask(AskHistory(self._genesis_hash), History).state

    def set_floor(self, height: int) -> None:
        """Refused unless the signer was started with --new-signing-history."""
        self._ask(SetFloor(self._genesis_hash, height), FloorSet)

    def is_foreign(self, message: ProposalMessage | VoteMessage) -> bool:
        return self._ask(AskForeign(message), Foreign).is_foreign

    def close(self) -> None:
        """A call that waits for its answer ends with SignerUnavailable, and so does every later one."""
        self._is_closed = True
        frames = self._frames
        if frames is not None:
            frames.interrupt()
        with self._lock:
            self._disconnect()

    def _sign(self, message: SignedMessage) -> bytes:
        signature = self._ask(Sign(message), Signature).signature
        expected = signature_bytes(message)
        if len(signature) != expected:
            raise SignerFailed(f"signer {self._name}: expected a signature of {expected} bytes, found {len(signature)}")
        return signature

    def _ask(self, request: Request, expected: type[_Expected]) -> _Expected:
        """One request and its answer, within the time limit. Raises RefusedToSign too."""
        deadline = time.monotonic() + self._timeout_s
        if not self._lock.acquire(timeout=self._timeout_s):
            raise SignerUnavailable(f"signer {self._name}: still busy with another request after {self._timeout_s} s")
        try:
            answer = self._exchange_reconnecting(request, deadline)
            if not isinstance(answer, Refused | expected):
                self._disconnect()
        finally:
            self._lock.release()
        if isinstance(answer, Refused):
            raise RefusedToSign(answer.reason)
        if isinstance(answer, Failed):
            raise SignerFailed(f"signer {self._name}: {answer.reason}")
        if not isinstance(answer, expected):
            raise SignerFailed(
                f"signer {self._name}: expected the answer {expected.__name__}, found {type(answer).__name__}"
            )
        return answer

    def _exchange_reconnecting(self, request: Request, deadline: float) -> Answer:
        try:
            return self._exchange(request, deadline)
        except _Stale:
            # The signer was restarted since the last call.
            return self._exchange(request, deadline)

    def _exchange(self, request: Request, deadline: float) -> Answer:
        """Any failure ends the connection: a late answer must not pass for that to the next request."""
        was_open = self._frames is not None
        try:
            frames = self._connected(deadline)
            answer = _round_trip(frames, request, deadline)
        except (OSError, PeerNotPinned, FrameTooLong, DecodeError) as error:
            self._disconnect()
            raise self._told(error, was_open=was_open) from error
        except BaseException:
            self._disconnect()
            raise
        return answer

    def _connected(self, deadline: float) -> FrameSocket:
        if self._is_closed:
            raise ConnectionAbortedError
        if self._frames is not None:
            return self._frames
        self._frames = FrameSocket(self._connect(_time_left(deadline)), MAX_ANSWER_BYTES)
        if self._public is not None:
            self._check_same_keys(_round_trip(self._frames, AskPublicKeys(), deadline), self._public)
        return self._frames

    def _check_same_keys(self, answer: Answer, known: PublicKeys) -> None:
        if not isinstance(answer, Keys) or answer.public != known:
            raise SignerFailed(f"signer {self._name}: it came back with other keys than 0x{known.voting_key.hex()}")

    def _told(self, error: Exception, *, was_open: bool) -> Exception:
        """What the caller is told of a failed exchange."""
        match error:
            case TimeoutError():
                return SignerUnavailable(f"signer {self._name}: no answer within {self._timeout_s} s")
            case PeerNotPinned():
                return SignerFailed(f"signer {self._name}: {error}")
            case ssl.SSLCertVerificationError():
                return SignerFailed(f"signer {self._name}: its certificate is not the one in peer.pem")
            case ssl.SSLError() if error.reason in _REFUSED_OURS:
                return SignerFailed(
                    f"signer {self._name}: it refused this node's certificate; does its peer.pem hold it?"
                )
            case FrameTooLong() | DecodeError():
                return SignerFailed(f"signer {self._name}: not an answer of a signer: {error}")
            case _ if self._is_closed:
                return SignerUnavailable(f"signer {self._name}: closed by this node")
            case _ if was_open:
                return _Stale()
            case OSError():
                return SignerUnavailable(f"signer {self._name}: {error.strerror or error}")
            case _:
                return error

    def _disconnect(self) -> None:
        if self._frames is not None:
            self._frames.close()
            self._frames = None


_REFUSED_OURS = frozenset(
    {"TLSV1_ALERT_UNKNOWN_CA", "TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE"}
)


def _round_trip(frames: FrameSocket, request: Request, deadline: float) -> Answer:
    frames.send(encode_request(request), _time_left(deadline))
    payload = frames.receive(_time_left(deadline))
    if payload is None:
        raise ConnectionResetError("the signer closed the connection")
    return decode_answer(payload)


def _time_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
