"""The canonical binary form of the messages between processes, derived once from their annotations.

A message is a frozen dataclass made of ints, bools, bytes, strings, tuples, optionals and further dataclasses
(chain.messages, gateway.link_messages). Both ends run the same version of this program, so the format is
private to it: no version negotiation, and a class that changed its shape changes its tag and is refused. It is
strict all the same, because canonical bytes make property tests sharp and bugs loud: every value has exactly
one encoding, and short, trailing or oversized input is a :class:`CodecError`, never a partial value.

Layout: an int is a length byte (0 to 33) and the minimal big-endian zigzag magnitude; a bool is one byte; bytes
and str are a 4-byte length and the content; ``tuple[T, ...]`` is a 4-byte count and the items; a fixed tuple is
its items; an optional is a presence byte and the value; a dataclass is its fields in order, and where a choice
is possible (a union, or the outermost message) its 4-byte tag stands before them.
"""

import hashlib
import struct
import types
import typing
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from functools import cache

from astralink_node.errors import AstraLinkError

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A block is at most 10 MiB and its receipts somewhat more; the rest is headroom for JSON-sized answers."""

MAX_INT_BYTES = 33
"""A 256-bit value needs 33 bytes once its sign is folded in."""

TAG_BYTES = 4

PAUSE_ITEMS = 256
"""Items of a sequence between two pauses."""

Pause = Callable[[], None]


class _Parts(list[bytes]):
    """Of a message in the making."""

    def __init__(self, pause: Pause | None) -> None:
        self.pause = pause


Encode = Callable[[typing.Any, _Parts], None]  # values of arbitrary message types: see _encoder
Decode = Callable[[bytes, int], tuple[typing.Any, int]]

_U32 = struct.Struct(">I")


class CodecError(AstraLinkError):
    """Bytes that are not the canonical encoding of an expected message, or a value that has no encoding."""


def encode(message: object, pause: Pause | None = None) -> bytes:
    """The canonical bytes of a message, its tag first. Raises CodecError when a field does not fit its type.

    `pause` is called now and then while a long sequence is encoded: what it raises ends the work.
    """
    kind: type = type(message)
    parts = _Parts(pause)
    parts.append(_tag(kind))
    try:
        _encoder(kind)(message, parts)
    except (TypeError, AttributeError, OverflowError, struct.error) as error:
        raise CodecError(f"{kind.__name__} cannot be encoded: {error}") from error
    encoded = b"".join(parts)
    if len(encoded) > MAX_MESSAGE_BYTES:
        raise CodecError(f"{kind.__name__} is {len(encoded)} bytes long, the limit is {MAX_MESSAGE_BYTES}")
    return encoded


def decode(expected: Hashable, data: bytes) -> typing.Any:
    """The message in `data`, which must be one of `expected`: a dataclass or a union of dataclasses."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise CodecError(f"message is {len(data)} bytes long, the limit is {MAX_MESSAGE_BYTES}")
    data = bytes(data)
    value, end = _union_decoder(expected)(data, 0)
    if end != len(data):
        raise CodecError(f"{type(value).__name__} is followed by {len(data) - end} surplus bytes")
    return value


# --- Deriving: one encoder and one decoder for each annotation, made once --------------------------------------


@cache
def _tag(kind: type) -> bytes:
    """Names the class and its whole shape, so that two versions of it can never be mistaken for each other."""
    return hashlib.sha256(_shape(kind).encode()).digest()[:TAG_BYTES]


def _shape(annotation: object) -> str:
    if is_dataclass(annotation) and isinstance(annotation, type):
        inside = ",".join(f"{name}:{_shape(inner)}" for name, inner in _field_types(annotation))
        return f"{annotation.__name__}({inside})"
    arguments = typing.get_args(annotation)
    if arguments:
        kind = "union" if _is_union(annotation) else "tuple"
        return f"{kind}[{','.join(_shape(argument) for argument in arguments)}]"
    return getattr(_plain(annotation), "__name__", str(annotation))


def _plain(annotation: Hashable) -> Hashable:
    """A NewType stands for the type below it."""
    while isinstance(annotation, typing.NewType):
        annotation = annotation.__supertype__
    return annotation


def _is_union(annotation: object) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


@cache
def _field_types(kind: type) -> tuple[tuple[str, Hashable], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((field.name, hints[field.name]) for field in fields(kind))


def _members(union: object) -> tuple[type, ...]:
    return typing.get_args(union) if _is_union(union) else (typing.cast(type, union),)


@cache
def _encoder(annotation: Hashable) -> Encode:
    annotation = _plain(annotation)
    simple = _SIMPLE_ENCODERS.get(annotation)
    if simple is not None:
        return simple
    if is_dataclass(annotation) and isinstance(annotation, type):
        return _fields_encoder(annotation)
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _sequence_encoder(_encoder(arguments[0]))
        return _fixed_tuple_encoder(tuple(_encoder(argument) for argument in arguments))
    if _is_union(annotation):
        if type(None) in arguments:
            return _optional_encoder(_encoder(_without_none(annotation)))
        return _union_encoder(arguments)
    raise TypeError(f"messages cannot hold {annotation}")


@cache
def _decoder(annotation: Hashable) -> Decode:
    annotation = _plain(annotation)
    simple = _SIMPLE_DECODERS.get(annotation)
    if simple is not None:
        return simple
    if is_dataclass(annotation) and isinstance(annotation, type):
        return _fields_decoder(annotation)
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _sequence_decoder(_decoder(arguments[0]))
        return _fixed_tuple_decoder(tuple(_decoder(argument) for argument in arguments))
    if _is_union(annotation):
        if type(None) in arguments:
            return _optional_decoder(_decoder(_without_none(annotation)))
        return _union_decoder(annotation)
    raise TypeError(f"messages cannot hold {annotation}")


def _without_none(annotation: Hashable) -> Hashable:
    rest = tuple(argument for argument in typing.get_args(annotation) if argument is not type(None))
    return rest[0] if len(rest) == 1 else typing.Union[rest]  # noqa: UP007 - built from a tuple at run time


# --- Encoders --------------------------------------------------------------------------------------------------


def _encode_int(value: int, parts: _Parts) -> None:
    if type(value) is not int:
        raise TypeError(f"expected int, found {type(value).__name__}")
    zigzag = value << 1 if value >= 0 else (-value << 1) - 1
    length = (zigzag.bit_length() + 7) >> 3
    if length > MAX_INT_BYTES:
        raise OverflowError(f"an integer of {length} bytes exceeds {MAX_INT_BYTES}")
    parts.append(length.to_bytes(1, "big") + zigzag.to_bytes(length, "big"))


def _encode_bool(value: bool, parts: _Parts) -> None:
    if type(value) is not bool:
        raise TypeError(f"expected bool, found {type(value).__name__}")
    parts.append(b"\x01" if value else b"\x00")


def _encode_bytes(value: bytes, parts: _Parts) -> None:
    if not isinstance(value, bytes):
        raise TypeError(f"expected bytes, found {type(value).__name__}")
    parts.append(_U32.pack(len(value)))
    parts.append(value)


def _encode_str(value: str, parts: _Parts) -> None:
    if not isinstance(value, str):
        raise TypeError(f"expected str, found {type(value).__name__}")
    # A reason text may quote something that is not valid Unicode; it must not make the answer unsendable.
    _encode_bytes(value.encode("utf-8", "replace"), parts)


def _fields_encoder(kind: type) -> Encode:
    steps = tuple((name, _encoder(annotation)) for name, annotation in _field_types(kind))

    def encode_fields(value: object, parts: _Parts) -> None:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
        for name, step in steps:
            step(getattr(value, name), parts)

    return encode_fields


def _sequence_encoder(item: Encode) -> Encode:
    def encode_sequence(values: tuple[object, ...], parts: _Parts) -> None:
        if not isinstance(values, tuple):
            raise TypeError(f"expected tuple, found {type(values).__name__}")
        parts.append(_U32.pack(len(values)))
        for count, value in enumerate(values, 1):
            item(value, parts)
            if not count % PAUSE_ITEMS and parts.pause is not None:
                parts.pause()

    return encode_sequence


def _fixed_tuple_encoder(items: tuple[Encode, ...]) -> Encode:
    def encode_tuple(values: tuple[object, ...], parts: _Parts) -> None:
        if len(values) != len(items):
            raise TypeError(f"expected a tuple of {len(items)}")
        for item, value in zip(items, values, strict=True):
            item(value, parts)

    return encode_tuple


def _optional_encoder(inner: Encode) -> Encode:
    def encode_optional(value: object, parts: _Parts) -> None:
        if value is None:
            parts.append(b"\x00")
        else:
            parts.append(b"\x01")
            inner(value, parts)

    return encode_optional


def _union_encoder(members: tuple[type, ...]) -> Encode:
    steps = {member: (_tag(member), _encoder(member)) for member in members}

    def encode_union(value: object, parts: _Parts) -> None:
        found = steps.get(type(value))
        if found is None:
            raise TypeError(f"{type(value).__name__} is none of {', '.join(member.__name__ for member in members)}")
        parts.append(found[0])
        found[1](value, parts)

    return encode_union


# --- Decoders --------------------------------------------------------------------------------------------------


def _decode_int(data: bytes, offset: int) -> tuple[int, int]:
    start = offset + 1
    if start > len(data):
        raise _cut_short(data)
    length = data[offset]
    if length == 0:
        return 0, start
    end = start + length
    if length > MAX_INT_BYTES or end > len(data) or data[start] == 0:
        raise CodecError(f"no canonical integer at byte {offset}")
    zigzag = int.from_bytes(data[start:end], "big")
    return (-(zigzag + 1 >> 1) if zigzag & 1 else zigzag >> 1), end


def _decode_bool(data: bytes, offset: int) -> tuple[bool, int]:
    if offset >= len(data):
        raise _cut_short(data)
    value = data[offset]
    if value > 1:
        raise CodecError(f"no boolean at byte {offset}: found {value}")
    return value == 1, offset + 1


def _decode_bytes(data: bytes, offset: int) -> tuple[bytes, int]:
    start = offset + 4
    end = start + int.from_bytes(data[offset:start], "big")
    if start > len(data):
        raise _cut_short(data)
    if end > len(data):
        raise CodecError(f"bytes at {offset} reach to {end}, the message ends at {len(data)}")
    return data[start:end], end


def _decode_str(data: bytes, offset: int) -> tuple[str, int]:
    raw, end = _decode_bytes(data, offset)
    try:
        return raw.decode(), end
    except UnicodeDecodeError as error:
        raise CodecError(f"the text at byte {offset} is not UTF-8") from error


def _fields_decoder(kind: type) -> Decode:
    steps = tuple(_decoder(annotation) for _, annotation in _field_types(kind))

    def decode_fields(data: bytes, offset: int) -> tuple[object, int]:
        values = []
        for step in steps:
            value, offset = step(data, offset)
            values.append(value)
        return kind(*values), offset

    return decode_fields


def _sequence_decoder(item: Decode) -> Decode:
    def decode_sequence(data: bytes, offset: int) -> tuple[tuple[object, ...], int]:
        start = offset + 4
        if start > len(data):
            raise _cut_short(data)
        count = int.from_bytes(data[offset:start], "big")
        offset = start
        if count > len(data) - offset:  # every item takes at least a byte: bounds the loop before it starts
            raise CodecError(f"{count} items announced before byte {offset}, {len(data) - offset} bytes remain")
        values = []
        for _ in range(count):
            value, offset = item(data, offset)
            values.append(value)
        return tuple(values), offset

    return decode_sequence


def _fixed_tuple_decoder(items: tuple[Decode, ...]) -> Decode:
    def decode_tuple(data: bytes, offset: int) -> tuple[tuple[object, ...], int]:
        values = []
        for item in items:
            value, offset = item(data, offset)
            values.append(value)
        return tuple(values), offset

    return decode_tuple


def _optional_decoder(inner: Decode) -> Decode:
    def decode_optional(data: bytes, offset: int) -> tuple[object, int]:
        present, offset = _decode_bool(data, offset)
        return inner(data, offset) if present else (None, offset)

    return decode_optional


@cache
def _union_decoder(union: Hashable) -> Decode:
    steps = {_tag(member): _decoder(member) for member in _members(union)}
    if len(steps) != len(_members(union)):
        raise TypeError(f"two members of {union} share a tag: rename one")

    def decode_union(data: bytes, offset: int) -> tuple[object, int]:
        tag = data[offset : offset + TAG_BYTES]
        step = steps.get(tag)
        if step is None:
            names = ", ".join(member.__name__ for member in _members(union))
            raise CodecError(f"tag {tag.hex()} at byte {offset} is none of {names}")
        return step(data, offset + TAG_BYTES)

    return decode_union


def _cut_short(data: bytes) -> CodecError:
    return CodecError(f"the message ends at byte {len(data)}, in the middle of a value")


_SIMPLE_ENCODERS: dict[object, Encode] = {
    int: _encode_int,
    bool: _encode_bool,
    bytes: _encode_bytes,
    str: _encode_str,
}
_SIMPLE_DECODERS: dict[object, Decode] = {
    int: _decode_int,
    bool: _decode_bool,
    bytes: _decode_bytes,
    str: _decode_str,
}
