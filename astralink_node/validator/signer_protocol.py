"""What a node and its signer say to one another: requests and answers as bytes. Sans-IO.

One request is answered by one message before the next is sent (layout: docs/specification.md, "Signer protocol").
A request to sign carries the canonical sign bytes of a message, never a hash: the signer decodes them and decides by
what they say.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from astralink_node.crypto import ml_dsa
from astralink_node.types import Address
from astralink_node.validator.keys import PublicKeys
from astralink_node.validator.signing_rules import HistoryState
from consensus.messages import (
    CheckpointMessage,
    ProposalMessage,
    SignedMessage,
    VoteMessage,
    decode_message,
    encode_message,
)
from consensus.params import MAX_HEIGHT
from consensus.wire import DecodeError, WireReader, encode_unsigned, exact_bytes

PROTOCOL_VERSION: Final = 1
MAX_REQUEST_BYTES: Final = 256
"""The longest is a checkpoint's 128 sign bytes behind a head of 2."""
MAX_ANSWER_BYTES: Final = 4_096
"""The longest is an ML-DSA-65 signature of 3,309 bytes."""
MAX_REASON_BYTES: Final = 1_024
"""A longer reason is cut."""
LENGTH_BYTES: Final = 4


class FrameTooLong(ValueError):
    """A peer announced a message above the bound; the connection cannot be used any more."""


@dataclass(frozen=True, slots=True)
class AskPublicKeys:
    """Whose signer is this?"""


@dataclass(frozen=True, slots=True)
class AskHistory:
    """Where does the history of this chain stand?"""

    genesis_hash: bytes


@dataclass(frozen=True, slots=True)
class Sign:
    message: SignedMessage


@dataclass(frozen=True, slots=True)
class AskForeign:
    """Does the history lack this message, which bears our valid signature?"""

    message: ProposalMessage | VoteMessage


@dataclass(frozen=True, slots=True)
class SetFloor:
    genesis_hash: bytes
    height: int


Request = AskPublicKeys | AskHistory | Sign | AskForeign | SetFloor


@dataclass(frozen=True, slots=True)
class Signature:
    signature: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Signing this might contradict an earlier signature, or the operator did not allow it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The signer cannot answer: its disk failed, or the request was no request."""

    reason: str


@dataclass(frozen=True, slots=True)
class Keys:
    public: PublicKeys


@dataclass(frozen=True, slots=True)
class History:
    state: HistoryState


@dataclass(frozen=True, slots=True)
class Foreign:
    is_foreign: bool


@dataclass(frozen=True, slots=True)
class FloorSet:
    """The floor is on disk."""


Answer = Signature | Refused | Failed | Keys | History | Foreign | FloorSet


class _Asks(IntEnum):
    PUBLIC_KEYS = 1
    HISTORY = 2
    SIGN = 3
    FOREIGN = 4
    SET_FLOOR = 5


class _Answers(IntEnum):
    SIGNATURE = 1
    REFUSED = 2
    FAILED = 3
    KEYS = 4
    HISTORY = 5
    FOREIGN = 6
    FLOOR_SET = 7


_Kind = TypeVar("_Kind", _Asks, _Answers)


def frame(payload: bytes) -> bytes:
    """The payload behind its length, as it travels."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def payload_length(prefix: bytes, maximum: int) -> int:
    """The length that a frame's first four bytes announce. Raises FrameTooLong."""
    length = int.from_bytes(prefix, "big")
    if not 1 <= length <= maximum:
        raise FrameTooLong(f"expected a message of 1 to {maximum} bytes, found one of {length}")
    return length


def encode_request(request: Request) -> bytes:
    """Version 1, kind 1, body."""
    match request:
        case AskPublicKeys():
            kind, body = _Asks.PUBLIC_KEYS, b""
        case AskHistory(genesis_hash):
            kind, body = _Asks.HISTORY, exact_bytes(genesis_hash, 32, "genesis_hash")
        case Sign(message):
            kind, body = _Asks.SIGN, encode_message(message)
        case AskForeign(message):
            kind, body = _Asks.FOREIGN, encode_message(message)
        case SetFloor(genesis_hash, height):
            kind = _Asks.SET_FLOOR
            body = exact_bytes(genesis_hash, 32, "genesis_hash") + encode_unsigned(height, 8, "height")
    return bytes([PROTOCOL_VERSION, kind]) + body


def decode_request(payload: bytes) -> Request:
    """The inverse of `encode_request`. Raises DecodeError."""
    reader = WireReader(payload)
    version = reader.unsigned(1, "version")
    if version != PROTOCOL_VERSION:
        raise DecodeError("version", str(PROTOCOL_VERSION), str(version))
    kind = _kind(_Asks, reader)
    match kind:
        case _Asks.PUBLIC_KEYS:
            request: Request = AskPublicKeys()
        case _Asks.HISTORY:
            request = AskHistory(reader.take(32, "genesis_hash"))
        case _Asks.SIGN:
            request = Sign(decode_message(reader.rest()))
        case _Asks.FOREIGN:
            request = AskForeign(_vote_or_proposal(decode_message(reader.rest())))
        case _Asks.SET_FLOOR:
            request = SetFloor(reader.take(32, "genesis_hash"), reader.unsigned(8, "height", maximum=MAX_HEIGHT))
    reader.finish()
    return request


def encode_answer(answer: Answer) -> bytes:
    """Kind 1, body."""
    match answer:
        case Signature(signature):
            return bytes([_Answers.SIGNATURE]) + signature
        case Refused(reason):
            return bytes([_Answers.REFUSED]) + _encode_reason(reason)
        case Failed(reason):
            return bytes([_Answers.FAILED]) + _encode_reason(reason)
        case Keys(public):
            return bytes([_Answers.KEYS]) + _encode_keys(public)
        case History(state):
            floor = bytes(9) if state.floor is None else b"\x01" + encode_unsigned(state.floor, 8, "floor")
            return bytes([_Answers.HISTORY]) + floor + encode_unsigned(state.height, 8, "height")
        case Foreign(is_foreign):
            return bytes([_Answers.FOREIGN, is_foreign])
        case FloorSet():
            return bytes([_Answers.FLOOR_SET])


def decode_answer(payload: bytes) -> Answer:
    """The inverse of `encode_answer`. Raises DecodeError."""
    reader = WireReader(payload)
    kind = _kind(_Answers, reader)
    match kind:
        case _Answers.SIGNATURE:
            answer: Answer = Signature(reader.rest())
        case _Answers.REFUSED:
            answer = Refused(_decode_reason(reader))
        case _Answers.FAILED:
            answer = Failed(_decode_reason(reader))
        case _Answers.KEYS:
            answer = Keys(_decode_keys(reader))
        case _Answers.HISTORY:
            has_floor, floor = _flag(reader, "has_floor"), reader.unsigned(8, "floor", maximum=MAX_HEIGHT)
            if not has_floor and floor:
                raise DecodeError("floor", "0 where there is none", str(floor))
            height = reader.unsigned(8, "height", maximum=MAX_HEIGHT)
            answer = History(HistoryState(floor if has_floor else None, height))
        case _Answers.FOREIGN:
            answer = Foreign(_flag(reader, "is_foreign"))
        case _Answers.FLOOR_SET:
            answer = FloorSet()
    reader.finish()
    return answer


def signature_bytes(message: SignedMessage) -> int:
    """How long the signature on `message` is."""
    return ml_dsa.SIGNATURE_BYTES if isinstance(message, CheckpointMessage) else 96


def _kind(kinds: type[_Kind], reader: WireReader) -> _Kind:
    code = reader.unsigned(1, "kind")
    try:
        return kinds(code)
    except ValueError as error:
        raise DecodeError("kind", f"1 to {len(kinds)}", str(code)) from error


def _flag(reader: WireReader, field: str) -> bool:
    return bool(reader.unsigned(1, field, maximum=1))


def _vote_or_proposal(message: SignedMessage) -> ProposalMessage | VoteMessage:
    if not isinstance(message, ProposalMessage | VoteMessage):
        raise DecodeError("message", "a proposal or a vote", type(message).__name__)
    return message


def _encode_reason(reason: str) -> bytes:
    """Cut between characters, not inside one."""
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()


def _decode_reason(reader: WireReader) -> str:
    raw = reader.rest()
    if len(raw) > MAX_REASON_BYTES:
        raise DecodeError("reason", f"at most {MAX_REASON_BYTES} bytes", str(len(raw)))
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("reason", "UTF-8", str(error)) from error


def _encode_keys(public: PublicKeys) -> bytes:
    """Voting key 48, proof of possession 96, checkpoint key 1,952, operator 20 if it is known."""
    return (
        exact_bytes(public.voting_key, 48, "voting_key")
        + exact_bytes(public.proof_of_possession, 96, "proof_of_possession")
        + exact_bytes(public.checkpoint_key, ml_dsa.PUBLIC_KEY_BYTES, "checkpoint_key")
        + (public.operator or b"")
    )


def _decode_keys(reader: WireReader) -> PublicKeys:
    voting_key = reader.take(48, "voting_key")
    proof_of_possession = reader.take(96, "proof_of_possession")
    checkpoint_key = reader.take(ml_dsa.PUBLIC_KEY_BYTES, "checkpoint_key")
    operator = reader.rest()
    if len(operator) not in (0, 20):
        raise DecodeError("operator", "0 or 20 bytes", str(len(operator)))
    return PublicKeys(voting_key, proof_of_possession, checkpoint_key, Address(operator) if operator else None)
