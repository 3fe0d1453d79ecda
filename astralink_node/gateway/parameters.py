"""Parsers of JSON-RPC parameters: each turns one JSON value into a typed one or says what is wrong with it.

Pure. Accepts what geth accepts and words refusals as geth does (``hex string without 0x prefix``). Call objects
and log filters, which are larger, have modules of their own beside this one.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping

from astralink_node.chain.messages import AtHash, AtHeight, AtLatest, AtPending, BlockSelector
from astralink_node.gateway.rpc_errors import invalid_params

MAX_UINT64 = 2**64 - 1
MAX_UINT256 = 2**256 - 1
MAX_INT64 = 2**63 - 1
MAX_ADDRESSES = 64
"""In a parameter that is a list of them."""

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_TAGS: dict[str, BlockSelector] = {
    "earliest": AtHeight(0),
    "latest": AtLatest(),
    "safe": AtLatest(),
    "finalized": AtLatest(),
    "pending": AtPending(),
}
"""A committed block is final, so three of Ethereum's tags name the same block."""


class BadValue(ValueError):
    """A parameter that cannot be understood; ``path`` leads to the offending part of it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


class _JsonPicture(reprlib.Repr):
    """Values look as their client wrote them: true, null and "text", not Python's True, None and 'text'."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = 60

    def repr_str(self, x: str, _level: int) -> str:
        return json.dumps(x[: self.maxstring], ensure_ascii=False)

    def repr_bool(self, x: bool, _level: int) -> str:
        return json.dumps(x)

    def repr_NoneType(self, x: None, _level: int) -> str:  # noqa: N802 - reprlib finds it by the type's name
        return json.dumps(x)


_PICTURE = _JsonPicture()


def picture(value: object) -> str:
    """A bounded picture of a client's value for an error message, however large or deep it is."""
    text = _PICTURE.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def json_object(path: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadValue(path, f"expected an object, found {picture(value)}")
    return value


def array(path: str, value: object, what: str = "", *, maximum: int | None = None) -> list[object]:
    """A list of at most so many `what`; without a maximum the message's bounds are enough."""
    if not isinstance(value, list):
        raise BadValue(path, f"expected an array{what and f' of {what}'}, found {picture(value)}")
    if maximum is not None and len(value) > maximum:
        raise BadValue(path, f"expected at most {maximum} {what}, found {len(value)}")
    return value


def optional_array(path: str, value: object) -> list[object]:
    return [] if value is None else array(path, value)


def flag(path: str, fields: Mapping[str, object], name: str) -> bool:
    """A field of an object that is false if it is not there."""
    value = fields.get(name)
    return False if value is None else boolean(f"{path}.{name}", value)


def hex_digits(path: str, value: object) -> str:
    """The digits of a 0x-prefixed string; there may be none."""
    if not isinstance(value, str):
        raise BadValue(path, f"expected a hex string, found {picture(value)}")
    if not value:
        raise BadValue(path, "empty hex string")
    if value[:2] not in ("0x", "0X"):
        raise BadValue(path, "hex string without 0x prefix")
    return value[2:]


def _require_hex(path: str, digits: str) -> None:
    # int(x, 16) and bytes.fromhex accept signs, underscores and spaces.
    if not _HEX_DIGITS.issuperset(digits):
        raise BadValue(path, "invalid hex string")


def quantity(path: str, value: object, *, maximum: int = MAX_UINT256) -> int:
    """Ethereum's QUANTITY: hex without leading zeros."""
    digits = hex_digits(path, value)
    if not digits:
        raise BadValue(path, 'hex string "0x"')
    if len(digits) > 1 and digits[0] == "0":
        raise BadValue(path, "hex number with leading zero digits")
    if len(digits) > 64:
        raise BadValue(path, f"hex number > {maximum.bit_length()} bits")
    _require_hex(path, digits)
    number = int(digits, 16)
    if number > maximum:
        raise BadValue(path, f"hex number > {maximum.bit_length()} bits")
    return number


def quantity64(path: str, value: object) -> int:
    return quantity(path, value, maximum=MAX_UINT64)


def whole_number(path: str, value: object, *, maximum: int = MAX_UINT64) -> int:
    """A JSON number, as Otterscan, OpenEthereum and geth's configuration objects write it, or a QUANTITY."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else quantity64(path, value)
    if not 0 <= number <= maximum:
        raise BadValue(path, f"expected a number from 0 to {maximum}, found {picture(value)}")
    return number


def byte_string(path: str, value: object) -> bytes:
    """Ethereum's DATA: two hex digits a byte."""
    digits = hex_digits(path, value)
    if len(digits) % 2:
        raise BadValue(path, "hex string of odd length")
    _require_hex(path, digits)
    return bytes.fromhex(digits)


def _fixed_bytes(path: str, value: object, size: int, what: str) -> bytes:
    digits = hex_digits(path, value)
    if len(digits) != 2 * size:
        raise BadValue(path, f"hex string has length {len(digits)}, want {2 * size} for {what}")
    _require_hex(path, digits)
    return bytes.fromhex(digits)


def address(path: str, value: object) -> bytes:
    """20 bytes. Upper and lower case are alike: an EIP-55 checksum is the wallet's to check."""
    return _fixed_bytes(path, value, 20, "an address")


def addresses(path: str, value: object, *, maximum: int = MAX_ADDRESSES) -> tuple[bytes, ...]:
    given = array(path, value, "addresses", maximum=maximum)
    return tuple(address(f"{path}[{index}]", each) for index, each in enumerate(given))


def hash32(path: str, value: object) -> bytes:
    return _fixed_bytes(path, value, 32, "a hash")


def boolean(path: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadValue(path, f"expected true or false, found {picture(value)}")
    return value


def block_number(path: str, value: object) -> BlockSelector:
    """A tag or a height."""
    if isinstance(value, str):
        tagged = _TAGS.get(value)
        if tagged is not None:
            return tagged
        if len(value) == 66 and value[:2] == "0x":
            raise BadValue(path, "hex number > 64 bits")
    return AtHeight(_height(path, value))


def block_number_or_number(path: str, value: object) -> BlockSelector:
    """As :func:`block_number`; Erigon takes JSON numbers, too."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INT64:
        return AtHeight(value)
    return block_number(path, value)


def _height(path: str, value: object) -> int:
    number = quantity64(path, value)
    if number > MAX_INT64:
        raise BadValue(path, "block number larger than int64")
    return number


def block(path: str, value: object) -> BlockSelector:
    """A tag, a height, a hash, or EIP-1898's object of one of them.

    ``requireCanonical`` asks for nothing here: this chain has no blocks beside the canonical ones.
    """
    if isinstance(value, dict):
        return _block_object(path, value)
    if isinstance(value, str) and len(value) == 66 and value[:2] == "0x":
        return AtHash(hash32(path, value))
    return block_number(path, value)


def block_or_number(path: str, value: object) -> BlockSelector:
    """As :func:`block`, and JSON numbers."""
    return block_number_or_number(path, value) if isinstance(value, int) else block(path, value)


def _block_object(path: str, value: dict[str, object]) -> BlockSelector:
    number, block_hash = value.get("blockNumber"), value.get("blockHash")
    if number is not None and block_hash is not None:
        raise BadValue(path, "cannot specify both BlockHash and BlockNumber, choose one or the other")
    if value.get("requireCanonical") is not None:
        boolean(f"{path}.requireCanonical", value["requireCanonical"])
    if block_hash is not None:
        return AtHash(hash32(f"{path}.blockHash", block_hash))
    if number is not None:
        return block_number(f"{path}.blockNumber", number)
    raise BadValue(path, "expected blockNumber or blockHash")


def epoch(path: str, value: object) -> int | None:
    """An epoch's number; None for `latest`."""
    return None if value == "latest" else quantity64(path, value)


def storage_key(path: str, value: object) -> tuple[int, bool]:
    """A storage slot as geth reads it: any number of digits up to 64. Also says whether all 64 were given."""
    if not isinstance(value, str):
        raise BadValue(path, f"expected a hex string, found {picture(value)}")
    digits = value[2:] if value[:2] in ("0x", "0X") else value
    if len(digits) > 64:
        key = value if len(value) <= 140 else value[:137] + "..."
        raise invalid_params(f'storage key too long (want at most 32 bytes): "{key}"')
    if not _HEX_DIGITS.issuperset(digits):
        raise invalid_params(f'invalid hex in storage key: "{value}"')
    return int(digits or "0", 16), len(digits) > 62


def storage_keys(path: str, value: object) -> tuple[tuple[int, bool], ...]:
    if value is None:
        return ()
    given = array(path, value, "storage keys")
    return tuple(storage_key(f"{path}[{index}]", item) for index, item in enumerate(given))


def storage_request(path: str, value: object) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
    """eth_getStorageValues' object of address to storage keys, in the order given."""
    if not isinstance(value, dict):
        raise BadValue(path, f"expected an object of address to storage keys, found {picture(value)}")
    if not value:
        raise invalid_params("empty request")
    return tuple(
        (address(f"{path}.{account}", account), tuple(slot for slot, _ in storage_keys(f"{path}.{account}", keys)))
        for account, keys in value.items()
    )


def block_count(path: str, value: object) -> int:
    """eth_feeHistory's count: hex, or decimal as a number or a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        return int(value)
    return whole_number(path, value)


def percentiles(path: str, value: object) -> tuple[float, ...]:
    numbers = []
    for index, item in enumerate(array(path, value, "numbers")):
        if isinstance(item, bool) or not isinstance(item, int | float):
            raise BadValue(f"{path}[{index}]", f"expected a number, found {picture(item)}")
        numbers.append(float(item))
    return tuple(numbers)


def text(path: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadValue(path, f"expected a string, found {picture(value)}")
    return value


def anything(path: str, value: object) -> object:
    """For methods that refuse whatever they are given."""
    del path
    return value
