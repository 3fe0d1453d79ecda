"""The gossipsub RPC as bytes: protobuf written and read by hand. Its stream frames it (p2p.streams).

Fields and numbers are those of the gossipsub 1.2 specification (libp2p/specs, pubsub/gossipsub). Encoding gives the
one canonical form: fields in the order of their numbers, lists of ids in one entry. Decoding takes whatever protobuf
allows (fields in any order, repeated, unknown ones skipped), is bounded in bytes and in fields, and raises nothing
but `GossipWireError`. Of a peer exchange in PRUNE only the backoff is read; of a message's author only that it has one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_RPC_BYTES: Final = 1 << 20
"""One RPC; the limit of go-libp2p. A longer one is refused by its length alone."""
MAX_FIELDS: Final = 32_768
"""Of one RPC, at any depth, unknown ones too: what bounds the time that decoding takes."""
MAX_TOPIC_BYTES: Final = 128
MAX_ID_BYTES: Final = 64
MAX_GROUP_DEPTH: Final = 16
"""Of nested groups in unknown fields."""

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_MAX_FIELD_NUMBER: Final = (1 << 29) - 1


class GossipWireError(ValueError):
    """Bytes that are no RPC, or more of it than is taken."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(f"{what}: expected {expected}, found {found}")
        self.what = what
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class Subscription:
    topic: str
    subscribes: bool
    """False: it leaves the topic."""


@dataclass(frozen=True, slots=True)
class GossipMessage:
    topic: str
    data: bytes
    is_authored: bool = False
    """It carries an author, a sequence number, a signature or a key, which nothing here ever sends."""


@dataclass(frozen=True, slots=True)
class IHave:
    topic: str
    message_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Prune:
    topic: str
    backoff_s: int | None
    """How long the receiver must not graft; None: it was not said (gossipsub 1.0)."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """Everything that one frame says. The wire may spread iwant and idontwant over entries; that has no meaning."""

    subscriptions: tuple[Subscription, ...] = ()
    publish: tuple[GossipMessage, ...] = ()
    ihave: tuple[IHave, ...] = ()
    iwant: tuple[bytes, ...] = ()
    graft: tuple[str, ...] = ()
    prune: tuple[Prune, ...] = ()
    idontwant: tuple[bytes, ...] = ()


# --- Encoding ----------------------------------------------------------------------------------------------------


def encode_varint(value: int) -> bytes:
    """`value` in groups of seven bits, lowest first."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_rpc(rpc: Rpc) -> bytes:
    """The canonical protobuf of `rpc`; fields without content are left out."""
    parts = [_field(1, _unsigned(1, entry.subscribes) + _text(2, entry.topic)) for entry in rpc.subscriptions]
    for message in rpc.publish:
        if message.is_authored:
            raise ValueError("messages are sent without author, sequence number, signature and key")
        parts.append(_field(2, _field(2, message.data) + _text(4, message.topic)))
    control = _encode_control(rpc)
    if control:
        parts.append(_field(3, control))
    return b"".join(parts)


def _encode_control(rpc: Rpc) -> bytes:
    parts = [_field(1, _text(1, entry.topic) + _ids(2, entry.message_ids)) for entry in rpc.ihave]
    if rpc.iwant:
        parts.append(_field(2, _ids(1, rpc.iwant)))
    parts += [_field(3, _text(1, topic)) for topic in rpc.graft]
    for entry in rpc.prune:
        backoff = b"" if entry.backoff_s is None else _unsigned(3, entry.backoff_s)
        parts.append(_field(4, _text(1, entry.topic) + backoff))
    if rpc.idontwant:
        parts.append(_field(5, _ids(1, rpc.idontwant)))
    return b"".join(parts)


def _field(number: int, content: bytes) -> bytes:
    # Field numbers are below 16, so a tag is one byte.
    return bytes([number << 3 | _BYTES]) + encode_varint(len(content)) + content


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _ids(number: int, message_ids: tuple[bytes, ...]) -> bytes:
    return b"".join([_field(number, message_id) for message_id in message_ids])


def _unsigned(number: int, value: int) -> bytes:
    return bytes([number << 3 | _VARINT]) + encode_varint(value)


# --- Decoding ----------------------------------------------------------------------------------------------------

# The kind of each field that is read, by number. A known field of another kind is refused, as go-libp2p does.
_RPC_FIELDS: Final = {1: _BYTES, 2: _BYTES, 3: _BYTES}
_SUBSCRIPTION_FIELDS: Final = {1: _VARINT, 2: _BYTES}
_MESSAGE_FIELDS: Final = {1: _BYTES, 2: _BYTES, 3: _BYTES, 4: _BYTES, 5: _BYTES, 6: _BYTES}
_CONTROL_FIELDS: Final = {1: _BYTES, 2: _BYTES, 3: _BYTES, 4: _BYTES, 5: _BYTES}
_IHAVE_FIELDS: Final = {1: _BYTES, 2: _BYTES}
_IDS_FIELDS: Final = {1: _BYTES}
_GRAFT_FIELDS: Final = {1: _BYTES}
_PRUNE_FIELDS: Final = {1: _BYTES, 2: _BYTES, 3: _VARINT}
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}


def decode_rpc(data: bytes) -> Rpc:
    """What the bytes say; `GossipWireError` if they are not protobuf, name a known field wrongly, or hold too much."""
    if len(data) > MAX_RPC_BYTES:
        raise GossipWireError("RPC", f"at most {MAX_RPC_BYTES} bytes", str(len(data)))
    return _RpcReader().read(data)


class _RpcReader:
    """Reads one RPC. An embedded message that comes in pieces is merged, as protobuf asks."""

    def __init__(self) -> None:
        self._fields_read = 0
        self._ihave: list[IHave] = []
        self._iwant: list[bytes] = []
        self._graft: list[str] = []
        self._prune: list[Prune] = []
        self._idontwant: list[bytes] = []

    def read(self, data: bytes) -> Rpc:
        subscriptions: list[Subscription] = []
        publish: list[GossipMessage] = []
        for number, value, _ in self._fields(data, _RPC_FIELDS):
            if number == 1:
                subscriptions.append(self._subscription(value))
            elif number == 2:
                publish.append(self._message(value))
            else:
                self._read_control(value)
        return Rpc(
            tuple(subscriptions),
            tuple(publish),
            tuple(self._ihave),
            tuple(self._iwant),
            tuple(self._graft),
            tuple(self._prune),
            tuple(self._idontwant),
        )

    def _read_control(self, data: bytes) -> None:
        for number, value, _ in self._fields(data, _CONTROL_FIELDS):
            if number == 1:
                self._ihave.append(self._ihave_entry(value))
            elif number == 2:
                self._iwant += self._ids(value)
            elif number == 3:
                self._graft.append(self._graft_topic(value))
            elif number == 4:
                self._prune.append(self._prune_entry(value))
            else:
                self._idontwant += self._ids(value)

    def _subscription(self, data: bytes) -> Subscription:
        subscribes, topic = False, ""
        for number, value, integer in self._fields(data, _SUBSCRIPTION_FIELDS):
            if number == 1:
                subscribes = integer != 0
            else:
                topic = _topic(value)
        return Subscription(topic, subscribes)

    def _message(self, data: bytes) -> GossipMessage:
        topic, content, is_authored = "", b"", False
        for number, value, _ in self._fields(data, _MESSAGE_FIELDS):
            if number == 2:
                content = value
            elif number == 4:
                topic = _topic(value)
            else:
                is_authored = True
        return GossipMessage(topic, content, is_authored)

    def _ihave_entry(self, data: bytes) -> IHave:
        topic, message_ids = "", []
        for number, value, _ in self._fields(data, _IHAVE_FIELDS):
            if number == 1:
                topic = _topic(value)
            else:
                message_ids.append(_message_id(value))
        return IHave(topic, tuple(message_ids))

    def _ids(self, data: bytes) -> list[bytes]:
        return [_message_id(value) for _, value, _ in self._fields(data, _IDS_FIELDS)]

    def _graft_topic(self, data: bytes) -> str:
        topic = ""
        for _, value, _ in self._fields(data, _GRAFT_FIELDS):
            topic = _topic(value)
        return topic

    def _prune_entry(self, data: bytes) -> Prune:
        topic, backoff_s = "", None
        for number, value, integer in self._fields(data, _PRUNE_FIELDS):
            if number == 1:
                topic = _topic(value)
            elif number == 3:
                backoff_s = integer
        return Prune(topic, backoff_s)

    def _fields(self, data: bytes, kinds: dict[int, int]) -> Iterator[tuple[int, bytes, int]]:
        """(number, its bytes, its integer) of the fields that `kinds` names; the others are passed over."""
        at, end = 0, len(data)
        while at < end:
            number, kind, at = self._tag(data, at)
            expected = kinds.get(number)
            if expected is None:
                at = self._skip(data, at, number, kind)
            elif kind != expected:
                raise GossipWireError(f"field {number}", f"wire type {expected}", str(kind))
            elif kind == _BYTES:
                start, at = _bounds(data, at)
                yield number, data[start:at], 0
            else:
                value, at = _read_varint(data, at)
                yield number, b"", value

    def _tag(self, data: bytes, at: int) -> tuple[int, int, int]:
        """(field number, wire type, position behind them)"""
        self._fields_read += 1
        if self._fields_read > MAX_FIELDS:
            raise GossipWireError("RPC", f"at most {MAX_FIELDS} fields", "more")
        tag, at = _read_varint(data, at)
        number = tag >> 3
        if not 1 <= number <= _MAX_FIELD_NUMBER:
            raise GossipWireError("field number", f"1 to {_MAX_FIELD_NUMBER}", str(number))
        return number, tag & 7, at

    def _skip(self, data: bytes, at: int, number: int, kind: int) -> int:
        """The position behind an unknown field's value; a group ends with the number that began it."""
        open_groups: list[int] = []
        while True:
            if kind == _VARINT:
                _, at = _read_varint(data, at)
            elif kind == _BYTES:
                _, at = _bounds(data, at)
            elif kind in _FIXED_BYTES:
                at += _FIXED_BYTES[kind]
            elif kind == _GROUP:
                open_groups.append(number)
                if len(open_groups) > MAX_GROUP_DEPTH:
                    raise GossipWireError("groups", f"at most {MAX_GROUP_DEPTH} in one another", "more")
            elif kind == _END_GROUP and open_groups and open_groups[-1] == number:
                open_groups.pop()
            else:
                raise GossipWireError("wire type", "a value, or the end of the group", f"{kind} of field {number}")
            if at > len(data):
                raise GossipWireError("field", f"{at - len(data)} bytes more", "the end")
            if not open_groups:
                return at
            number, kind, at = self._tag(data, at)


def _topic(value: bytes) -> str:
    if len(value) > MAX_TOPIC_BYTES:
        raise GossipWireError("topic", f"at most {MAX_TOPIC_BYTES} bytes", str(len(value)))
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise GossipWireError("topic", "UTF-8", value.hex()) from error


def _message_id(value: bytes) -> bytes:
    if len(value) > MAX_ID_BYTES:
        raise GossipWireError("message id", f"at most {MAX_ID_BYTES} bytes", str(len(value)))
    return value


def _bounds(data: bytes, at: int) -> tuple[int, int]:
    """Where the bytes that are announced at `at` start and end."""
    length, start = _read_varint(data, at)
    if length > len(data) - start:
        raise GossipWireError("length", f"at most the {len(data) - start} bytes that are left", str(length))
    return start, start + length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, position behind it): at most ten bytes, and of them 64 bits."""
    if at < len(data) and data[at] < 0x80:
        return data[at], at + 1  # most tags and lengths
    value = shift = 0
    while True:
        if at >= len(data):
            raise GossipWireError("varint", "another byte", "the end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift >= 70:
            raise GossipWireError("varint", "at most 10 bytes", "more")
