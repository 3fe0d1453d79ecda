"""EIP-712: what eth_signTypedData_v4 signs, from the JSON that wallets send.

Pure. Where EIP-712 is silent this does what MetaMask's v4 does: arrays and nested structs are hashed, a struct that is
null counts as 32 zero bytes, and fields of a message that its type does not name are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from astralink_node.crypto.keccak import keccak256
from astralink_node.gateway.parameters import BadValue, address, byte_string, json_object, picture

DOMAIN = "EIP712Domain"
MAX_DEPTH = 64
"""Structs and arrays within one another; deeper data is refused, for a type may contain itself."""
MAX_TYPES = 256
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
    digest = b"\x19\x01" + _hash_struct(f"{path}.domain", DOMAIN, fields.get("domain"), types, 0)
    if primary != DOMAIN:
        digest += _hash_struct(f"{path}.message", primary, fields.get("message"), types, 0)
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


def _hash_struct(path: str, name: str, value: object, types: Types, depth: int) -> bytes:
    if depth > MAX_DEPTH:
        raise BadValue(path, f"nested deeper than {MAX_DEPTH}")
    fields = json_object(path, value)
    encoded = [keccak256(encode_type(name, types).encode())]
    encoded += [_word(f"{path}.{field}", kind, fields.get(field), types, depth + 1) for field, kind in types[name]]
    return keccak256(b"".join(encoded))


def _word(path: str, kind: str, value: object, types: Types, depth: int) -> bytes:
    """encodeData of one value: 32 bytes."""
    array = _ARRAY.fullmatch(kind)
    if array is not None:
        if not isinstance(value, list):
            raise BadValue(path, f"expected an array for {kind}, found {picture(value)}")
        if array[2] and len(value) != int(array[2]):
            raise BadValue(path, f"expected {array[2]} items for {kind}, found {len(value)}")
        if depth > MAX_DEPTH:
            raise BadValue(path, f"nested deeper than {MAX_DEPTH}")
        items = [_word(f"{path}[{index}]", array[1], item, types, depth + 1) for index, item in enumerate(value)]
        return keccak256(b"".join(items))
    if kind in types:
        return bytes(32) if value is None else _hash_struct(path, kind, value, types, depth)
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
    for name, fields in given.items():
        if not _NAME.fullmatch(name) or not isinstance(fields, list):
            raise BadValue(f"{path}.{name[:100]}", "expected a type's name and an array of its fields")
        types[name] = [_field(f"{path}.{name}[{index}]", field) for index, field in enumerate(fields)]
    return types


def _field(path: str, value: object) -> tuple[str, str]:
    fields = json_object(path, value)
    name, kind = fields.get("name"), fields.get("type")
    if not isinstance(name, str) or not isinstance(kind, str):
        raise BadValue(path, "expected a name and a type")
    return name, kind
