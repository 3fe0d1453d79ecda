"""EIP-712: what eth_signTypedData_v4 signs, from the JSON that wallets send.

Pure. Where EIP-712 is silent this does what MetaMask's v4 does: arrays and nested structs are hashed, a struct that is
null counts as 32 zero bytes, and fields of a message that its type does not name are passed over. Whatever may grow is
bounded; at the bounds it takes up to 200 ms, beside the event loop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from astralink_node.crypto.keccak import keccak256
from astralink_node.gateway.parameters import BadValue, address, byte_string, json_object, picture

DOMAIN = "EIP712Domain"
MAX_DEPTH = 32
"""Structs and arrays within one another; deeper data is refused, for a type may contain itself."""
MAX_VALUES = 10_000
"""Hashed for one message, in structs and arrays at any depth."""
MAX_TYPES = 64
MAX_FIELDS = 512
"""Of all types together."""
MAX_NAME_LENGTH = 256
"""Of a type, of a field, and of a field's type."""
MAX_TYPES_LENGTH = 16_384
"""Of all names together: each type's hash covers those that it refers to."""
_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_ARRAY = re.compile(r"(.+)\[([0-9]{0,9})\]")
_INTEGER = re.compile(r"(u?)int([0-9]{1,3})")
_FIXED_BYTES = re.compile(r"bytes([0-9]{1,2})")
_DECIMAL = re.compile(r"-?[0-9]{1,80}")
_HEX = re.compile(r"-?0x[0-9a-fA-F]{1,64}")

Types = Mapping[str, Sequence[tuple[str, str]]]
"""Struct -> its (field, type) in order."""


def typed_data_digest(path: str, value: object) -> bytes:
    """The 32 bytes to sign. Raises BadValue, which names the field that does not fit its type."""
    fields = json_object(path, value)
    types = _types(f"{path}.types", fields.get("types"))
    primary = fields.get("primaryType")
    if not isinstance(primary, str) or primary not in types:
        raise BadValue(f"{path}.primaryType", "expected the name of one of the types")
    if DOMAIN not in types:
        raise BadValue(f"{path}.types", f"expected {DOMAIN} among them")
    hashing = _Hashing(types)
    digest = b"\x19\x01" + hashing.struct(f"{path}.domain", DOMAIN, fields.get("domain"), 0)
    if primary != DOMAIN:
        digest += hashing.struct(f"{path}.message", primary, fields.get("message"), 0)
    return keccak256(digest)


def encode_type(name: str, types: Types) -> str:
    """EIP-712's encodeType: the struct, then those that it refers to in alphabetical order."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            bases = [kind.split("[", 1)[0] for _, kind in types[current]]
            waiting += [base for base in bases if base in types]
    ordered = [name, *sorted(found - {name})]
    return "".join(f"{each}({','.join(f'{kind} {field}' for field, kind in types[each])})" for each in ordered)


class _Hashing:
    """Of one message: its types, each of which is hashed once, and how many more values it may have."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._type_hashes: dict[str, bytes] = {}
        self._values_left = MAX_VALUES

    def struct(self, path: str, name: str, value: object, depth: int) -> bytes:
        if depth > MAX_DEPTH:
            raise BadValue(path, f"nested deeper than {MAX_DEPTH}")
        fields = json_object(path, value)
        encoded = [self._type_hash(name)]
        encoded += [
            self._word(f"{path}.{field}", kind, fields.get(field), depth + 1) for field, kind in self._types[name]
        ]
        return keccak256(b"".join(encoded))

    def _type_hash(self, name: str) -> bytes:
        known = self._type_hashes.get(name)
        if known is None:
            known = self._type_hashes[name] = keccak256(encode_type(name, self._types).encode())
        return known

    def _word(self, path: str, kind: str, value: object, depth: int) -> bytes:
        """encodeData of one value: 32 bytes."""
        if not self._values_left:
            raise BadValue(path, f"more than {MAX_VALUES} values")
        self._values_left -= 1
        array = _ARRAY.fullmatch(kind)
        if array is not None:
            if not isinstance(value, list):
                raise BadValue(path, f"expected an array for {kind}, found {picture(value)}")
            if array[2] and len(value) != int(array[2]):
                raise BadValue(path, f"expected {array[2]} items for {kind}, found {len(value)}")
            if depth > MAX_DEPTH:
                raise BadValue(path, f"nested deeper than {MAX_DEPTH}")
            items = [self._word(f"{path}[{index}]", array[1], item, depth + 1) for index, item in enumerate(value)]
            return keccak256(b"".join(items))
        if kind in self._types:
            return bytes(32) if value is None else self.struct(path, kind, value, depth)
        return _atom(path, kind, value)


def _atom(path: str, kind: str, value: object) -> bytes:
    if kind == "string":
        if not isinstance(value, str):
            raise BadValue(path, f"expected a string, found {picture(value)}")
        return keccak256(value.encode("utf-8", errors="surrogatepass"))
    if kind == "bytes":
        return keccak256(byte_string(path, value))
    if kind == "bool":
        if not isinstance(value, bool):
            raise BadValue(path, f"expected true or false, found {picture(value)}")
        return int(value).to_bytes(32, "big")
    if kind == "address":
        return bytes(12) + address(path, value)
    fixed = _FIXED_BYTES.fullmatch(kind)
    if fixed is not None and 1 <= int(fixed[1]) <= 32:
        raw = byte_string(path, value)
        if len(raw) != int(fixed[1]):
            raise BadValue(path, f"expected {fixed[1]} bytes, found {len(raw)}")
        return raw.ljust(32, b"\0")
    integer = _INTEGER.fullmatch(kind)
    if integer is not None and 8 <= int(integer[2]) <= 256 and not int(integer[2]) % 8:
        return _integer(path, value, bits=int(integer[2]), signed=not integer[1])
    raise BadValue(path, f"unknown type {kind[:100]!r}")


def _integer(path: str, value: object, *, bits: int, signed: bool) -> bytes:
    """A JSON number, or text in decimal or hex, as wallets write those that JavaScript cannot hold."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = int(value)
    elif isinstance(value, str) and _HEX.fullmatch(value):
        number = int(value, 16)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise BadValue(path, f"expected a whole number, found {picture(value)}")
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    if not low <= number < high:
        raise BadValue(path, f"does not fit {bits} bits")
    return (number % (1 << 256)).to_bytes(32, "big")


# --- Parsing -------------------------------------------------------------------------------------------------------


def _types(path: str, value: object) -> Types:
    given = json_object(path, value)
    if len(given) > MAX_TYPES:
        raise BadValue(path, f"expected at most {MAX_TYPES} types")
    types: dict[str, list[tuple[str, str]]] = {}
    fields_left, length_left = MAX_FIELDS, MAX_TYPES_LENGTH
    for name, fields in given.items():
        if not _is_name(name) or not isinstance(fields, list):
            raise BadValue(f"{path}.{name[:100]}", "expected a type's name and an array of its fields")
        fields_left -= len(fields)
        if fields_left < 0:
            raise BadValue(path, f"expected at most {MAX_FIELDS} fields")
        types[name] = _fields(f"{path}.{name}", fields)
        length_left -= len(name) + sum(len(field) + len(kind) for field, kind in types[name])
        if length_left < 0:
            raise BadValue(path, f"expected at most {MAX_TYPES_LENGTH} characters of names")
    return types


def _fields(path: str, value: list[object]) -> list[tuple[str, str]]:
    fields = [_field(f"{path}[{index}]", field) for index, field in enumerate(value)]
    names: set[str] = set()
    for index, (name, _) in enumerate(fields):
        if name in names:
            # Both would be read from the same place of the message.
            raise BadValue(f"{path}[{index}]", "the name of another field")
        names.add(name)
    return fields


def _field(path: str, value: object) -> tuple[str, str]:
    fields = json_object(path, value)
    name, kind = fields.get("name"), fields.get("type")
    if not isinstance(name, str) or not isinstance(kind, str):
        raise BadValue(path, "expected a name and a type")
    if max(len(name), len(kind)) > MAX_NAME_LENGTH:
        raise BadValue(path, f"expected a name and a type of at most {MAX_NAME_LENGTH} characters")
    return name, kind


def _is_name(name: str) -> bool:
    return len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name) is not None
