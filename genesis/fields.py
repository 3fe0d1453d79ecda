"""Reading JSON with a name for every mistake: which field, what was expected, what was found.

A :class:`Field` is a JSON value and its path (``astralink.validators[0].votingKey``). Each reader method checks
one kind of value and raises :class:`GenesisError` with that path. Numbers are accepted the way geth's genesis
accepts them: a JSON integer, a decimal string, or a 0x-prefixed hex string.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from astralink_node.errors import UserError

MAX_FILE_BYTES = 64 * 1024 * 1024
"""An alloc of several hundred thousand accounts; the file is read whole."""

MAX_DEPTH = 32
"""Nested objects and lists. The JSON parser recurses, and the stack it uses is not bounded by Python's limit."""

_BRACKET_OR_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_HEX = re.compile(r"(0x|0X)?([0-9a-fA-F]*)")
_MAX_SHOWN = 60
_MAX_PATH_SHOWN = 200
_MAX_DIGITS = 80
"""A 256-bit number has 78 decimal digits; no field is larger."""


class GenesisError(UserError):
    """A genesis file that cannot be used. `path` names the field; empty when the file as a whole is meant."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        where = f"{_one_line(path)}: " if path else ""
        super().__init__(f"{where}expected {expected}, found {found}")
        self.path = path
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True)
class Field:
    path: str
    value: object

    def fail(self, expected: str, found: str | None = None) -> GenesisError:
        return GenesisError(self.path, expected, _shown(self.value) if found is None else found)

    def entries(self) -> dict[str, "Field"]:
        """The members of an object, in the order of the file."""
        if not isinstance(self.value, dict):
            raise self.fail("an object")
        prefix = f"{self.path}." if self.path else ""
        return {key: Field(f"{prefix}{key}", value) for key, value in self.value.items()}

    def record(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, "Field"]:
        """The members of an object whose keys are all known; every required one is present."""
        entries = self.entries()
        known = (*required, *optional)
        for key, field in entries.items():
            if key not in known:
                close = get_close_matches(key, known, 1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise GenesisError(field.path, f"one of {', '.join(known)}", f"an unknown key{hint}")
        for key in required:
            if key not in entries:
                raise GenesisError(f"{self.path}.{key}" if self.path else key, "a value", "nothing")
        return entries

    def items(self) -> Iterator["Field"]:
        if not isinstance(self.value, list):
            raise self.fail("a list")
        for index, value in enumerate(self.value):
            yield Field(f"{self.path}[{index}]", value)

    def text(self, *, max_length: int) -> str:
        if not isinstance(self.value, str):
            raise self.fail("a text")
        if not 1 <= len(self.value) <= max_length:
            raise self.fail(f"1 to {max_length} characters", f"{len(self.value)}")
        if not self.value.isprintable():
            raise self.fail("printable characters")
        return self.value

    def number(self, minimum: int, maximum: int) -> int:
        """An integer within bounds, as a JSON integer, a decimal string or a 0x hex string."""
        expected = f"a whole number from {minimum} to {maximum}"
        value = self.value
        if isinstance(value, str):
            value = _parse_number(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail(expected)
        if not minimum <= value <= maximum:
            raise self.fail(expected)
        return value

    def hex_bytes(self, length: int | None = None, *, max_length: int | None = None) -> bytes:
        """Bytes as hex, the 0x optional as in geth's alloc; of exactly `length`, or of at most `max_length`."""
        expected = "0x hex" if length is None else f"{length} bytes as 0x hex"
        if not isinstance(self.value, str):
            raise self.fail(expected)
        match = _HEX.fullmatch(self.value)
        if match is None:
            raise self.fail(expected, "characters that are not hex digits")
        digits = match[2]
        if len(digits) % 2:
            raise self.fail(expected, f"an odd number of hex digits ({len(digits)})")
        value = bytes.fromhex(digits)
        if length is not None and len(value) != length:
            raise self.fail(expected, f"{len(value)}")
        if max_length is not None and len(value) > max_length:
            raise self.fail(f"at most {max_length} bytes as 0x hex", f"{len(value)}")
        return value

    def word(self) -> int:
        """A storage key or value: at most 32 bytes of hex."""
        return int.from_bytes(self.hex_bytes(max_length=32), "big")


def camel_case(name: str) -> str:
    """A field's name as the file spells it."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def parse_json(data: bytes) -> Field:
    """The whole file. Refuses duplicate keys (which one would count?), floats and anything that is not JSON.

    JSON is UTF-8 without a byte order mark (RFC 8259, 8.1); other encodings, which Python would guess, are refused.
    """
    if len(data) > MAX_FILE_BYTES:
        raise GenesisError("", f"a file of at most {MAX_FILE_BYTES} bytes", f"{len(data)}")
    _check_depth(data)
    hooks = _Hooks()
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=hooks.members,
            parse_int=hooks.integer,
            parse_float=hooks.not_whole,
            parse_constant=hooks.not_whole,
        )
    except UnicodeDecodeError as error:
        raise GenesisError("", "a JSON file in UTF-8", f"an undecodable byte at {error.start}") from error
    except json.JSONDecodeError as error:
        raise GenesisError("", "JSON", f"{error.msg} at line {error.lineno} column {error.colno}") from error
    top = Field("", value)
    if hooks.marked:
        _check_usable(top)
    return top


def _check_depth(data: bytes) -> None:
    depth = 0
    for match in _BRACKET_OR_TEXT.finditer(data):
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise GenesisError("", f"JSON nested at most {MAX_DEPTH} deep", "deeper nesting")
        elif token in b"]}":
            depth -= 1


@dataclass(frozen=True, slots=True)
class _Unusable:
    """Stands in a parsed document where the parser's hooks, which know no path, found something to refuse."""

    expected: str
    found: str


class _Hooks:
    """For the JSON parser; `marked` says whether any value has to be refused."""

    def __init__(self) -> None:
        self.marked = False

    def members(self, pairs: list[tuple[str, object]]) -> object:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        return self._mark("every key of an object once", f"the key {_cut(repr(twice))} twice")

    def not_whole(self, text: str) -> object:
        return self._mark("whole numbers only", _cut(text))

    def integer(self, text: str) -> object:
        if len(text) > _MAX_DIGITS:  # Python itself raises a bare ValueError beyond some thousands of digits
            return self._mark(f"numbers of at most {_MAX_DIGITS} digits", f"one of {len(text)}: {_cut(text)}")
        return int(text)

    def _mark(self, expected: str, found: str) -> _Unusable:
        self.marked = True
        return _Unusable(expected, found)


def _check_usable(field: Field) -> None:
    """Raises for the first mark in the document, with its path."""
    match field.value:
        case _Unusable(expected, found):
            raise field.fail(expected, found)
        case dict():
            for member in field.entries().values():
                _check_usable(member)
        case list():
            for item in field.items():
                _check_usable(item)
        case _:
            pass


def _parse_number(text: str) -> object:
    """The number that a text spells, or the text itself when it spells none."""
    if len(text) > _MAX_DIGITS:
        return text
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", text):
        return int(text, 16)
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    return text


def _shown(value: object) -> str:
    match value:
        case None:
            return "null"
        case dict():
            return "an object"
        case list():
            return "a list"
        case _:
            return _cut(json.dumps(value))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _one_line(path: str) -> str:
    """A path as it is printed: keys come from the file, and may hold line ends, control codes or megabytes."""
    shown = path if path.isprintable() else json.dumps(path)[1:-1]
    return shown if len(shown) <= _MAX_PATH_SHOWN else f"{shown[:_MAX_PATH_SHOWN]}..."
