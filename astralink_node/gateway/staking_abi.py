"""How the staking contract is called and understood, by whoever reads it over JSON-RPC or sends to it.

A thin layer over :mod:`contracts.artifacts`: its address, its ABI, and errors that say what happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from astralink_node.gateway.encoding import JsonObject, data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.types import Address
from contracts.artifacts import decode_event, decode_result, encode_call, load
from contracts.places import STAKING
from genesis.fields import camel_case

STAKING_ADDRESS: Final = Address(STAKING)
_NAME: Final = "Staking"


def call_data(function: str, *arguments: object) -> bytes:
    """Raises `AbiError` for arguments that do not fit the function."""
    return encode_call(load(_NAME), function, arguments)


def values_of(function: str, output: bytes) -> tuple[Any, ...]:
    """One value an output; structs by field name. Raises `AbiError`."""
    return decode_result(load(_NAME), function, output)


def event_of(topics: Sequence[bytes], payload: bytes) -> tuple[str, dict[str, Any]] | None:
    """(Name, fields), or None for an event that this version does not know. Raises `AbiError` for a broken one."""
    return decode_event(load(_NAME), topics, payload)


def event_fields(fields: Mapping[str, Any]) -> JsonObject:
    """An event's fields as JSON-RPC writes values, under names in its style."""
    return {camel_case(name): _json(value) for name, value in fields.items()}


def _json(value: object) -> Json:
    match value:
        case bool() | str():
            return value
        case int():
            return quantity(value)
        case bytes():
            return data(value)
        case list() | tuple():
            return [_json(each) for each in value]
        case _:
            raise TypeError(f"expected a value of an event, found {type(value).__name__}")
