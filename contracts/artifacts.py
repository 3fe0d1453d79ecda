"""Compiled contracts as committed, and the ABI encoding of calls, results, events and errors.

Needs no compiler: `contracts.build` writes the artifacts, and a test keeps them equal to their sources. Addresses
are 20 bytes throughout, structs are dictionaries by field name, arrays are tuples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from consensus.hashing import keccak256

ARTIFACTS: Final = Path(__file__).parent.joinpath("staking", "artifacts")

_ERROR_SELECTOR: Final = keccak256(b"Error(string)")[:4]


class AbiError(ValueError):
    """A name that the ABI lacks, values that do not fit it, or data that it did not write."""


@dataclass(frozen=True, slots=True)
class AbiType:
    """One parameter: `kind` as in signatures, e.g. ``(address,uint256)[]``."""

    name: str
    kind: str
    components: tuple[AbiType, ...]
    """Fields of a struct; empty for anything else."""
    is_array: bool
    is_indexed: bool


@dataclass(frozen=True, slots=True)
class AbiFunction:
    name: str
    selector: bytes
    inputs: tuple[AbiType, ...]
    outputs: tuple[AbiType, ...]


@dataclass(frozen=True, slots=True)
class AbiEvent:
    name: str
    topic: bytes
    indexed: tuple[AbiType, ...]
    plain: tuple[AbiType, ...]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract."""

    name: str
    abi: tuple[Mapping[str, Any], ...]
    """Entries in Solidity's JSON form."""
    runtime_code: bytes
    """What stands at the contract's address; there is no constructor."""
    source_hash: bytes
    """keccak-256 over the names and texts of all sources that it was compiled from."""
    compiler: str
    functions: Mapping[str, AbiFunction] = field(repr=False, compare=False)
    events: Mapping[bytes, AbiEvent] = field(repr=False, compare=False)
    """By first topic."""


@lru_cache
def load(name: str) -> Artifact:
    """The committed artifact. Raises `FileNotFoundError` for a contract that there is none of."""
    fields = json.loads(ARTIFACTS.joinpath(f"{name}.json").read_text())
    abi: tuple[Mapping[str, Any], ...] = tuple(fields["abi"])
    functions = [_function(entry) for entry in abi if entry["type"] == "function"]
    events = [_event(entry) for entry in abi if entry["type"] == "event"]
    return Artifact(
        name=fields["name"],
        abi=abi,
        runtime_code=bytes.fromhex(fields["runtimeCode"].removeprefix("0x")),
        source_hash=bytes.fromhex(fields["sourceHash"].removeprefix("0x")),
        compiler=fields["compiler"],
        functions={function.name: function for function in functions},
        events={event.topic: event for event in events},
    )


def encode_call(artifact: Artifact, function: str, args: Sequence[object] = ()) -> bytes:
    """Selector and arguments. Structs are given as sequences of their fields. Raises `AbiError`."""
    entry = _find(artifact, function)
    if len(args) != len(entry.inputs):
        raise AbiError(f"{artifact.name}.{function}: expected {len(entry.inputs)} arguments, found {len(args)}")
    from eth_abi.abi import encode  # with pydantic, as below: a tenth of a second that a gateway's start is spared
    from eth_abi.exceptions import EncodingError

    try:
        return entry.selector + encode([item.kind for item in entry.inputs], list(args))
    except EncodingError as error:
        raise AbiError(f"{artifact.name}.{function}: {error}") from error


def decode_result(artifact: Artifact, function: str, data: bytes) -> tuple[Any, ...]:
    """What the function returned, one value an output. Raises `AbiError` for anything but its encoding."""
    entry = _find(artifact, function)
    return _decode(f"{artifact.name}.{function}", entry.outputs, data)


def decode_call(artifact: Artifact, data: bytes) -> tuple[str, tuple[Any, ...]] | None:
    """Function and arguments of a call, or None if it is for none of the contract's functions."""
    for entry in artifact.functions.values():
        if entry.selector == data[:4]:
            return entry.name, _decode(f"{artifact.name}.{entry.name}", entry.inputs, data[4:])
    return None


def decode_event(artifact: Artifact, topics: Sequence[bytes], data: bytes) -> tuple[str, dict[str, Any]] | None:
    """Name and fields of a log, or None if it is none of the contract's events. Raises `AbiError` if malformed."""
    event = artifact.events.get(bytes(topics[0])) if topics else None
    if event is None:
        return None
    if len(topics) != 1 + len(event.indexed):
        raise AbiError(f"{event.name}: expected {1 + len(event.indexed)} topics, found {len(topics)}")
    values = {
        item.name: _decode(event.name, (item,), bytes(topic))[0]
        for item, topic in zip(event.indexed, topics[1:], strict=True)
    }
    values |= zip((item.name for item in event.plain), _decode(event.name, event.plain, data), strict=True)
    return event.name, values


def decode_error(data: bytes) -> str | None:
    """The reason in revert data, or None where there is none (a panic, an assertion without a reason, no gas)."""
    if data[:4] != _ERROR_SELECTOR:
        return None
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    try:
        (reason,) = decode(["string"], data[4:])
    except (DecodingError, UnicodeDecodeError):
        return None
    return str(reason)


def _find(artifact: Artifact, function: str) -> AbiFunction:
    entry = artifact.functions.get(function)
    if entry is None:
        raise AbiError(f"{artifact.name}: expected one of {', '.join(sorted(artifact.functions))}, found {function}")
    return entry


def _decode(what: str, items: tuple[AbiType, ...], data: bytes) -> tuple[Any, ...]:
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    try:
        values = decode([item.kind for item in items], data)
    except (DecodingError, UnicodeDecodeError) as error:
        raise AbiError(f"{what}: {error}") from error
    return tuple(_plain(item, value) for item, value in zip(items, values, strict=True))


def _plain(item: AbiType, value: Any) -> Any:
    """eth_abi writes addresses in hexadecimal and structs as tuples."""
    if item.is_array:
        kind = item.kind[: item.kind.rindex("[")]
        single = replace(item, kind=kind, is_array=kind.endswith("]"))
        return tuple(_plain(single, element) for element in value)
    if item.components:
        return {part.name: _plain(part, element) for part, element in zip(item.components, value, strict=True)}
    return bytes.fromhex(value[2:]) if item.kind == "address" else value


def _function(entry: Mapping[str, Any]) -> AbiFunction:
    inputs = tuple(_type(item) for item in entry["inputs"])
    outputs = tuple(_type(item) for item in entry["outputs"])
    return AbiFunction(entry["name"], keccak256(_signature(entry["name"], inputs))[:4], inputs, outputs)


def _event(entry: Mapping[str, Any]) -> AbiEvent:
    items = tuple(_type(item) for item in entry["inputs"])
    return AbiEvent(
        entry["name"],
        keccak256(_signature(entry["name"], items)),
        tuple(item for item in items if item.is_indexed),
        tuple(item for item in items if not item.is_indexed),
    )


def _signature(name: str, items: tuple[AbiType, ...]) -> bytes:
    return f"{name}({','.join(item.kind for item in items)})".encode()


def _type(entry: Mapping[str, Any]) -> AbiType:
    components = tuple(_type(part) for part in entry.get("components", ()))
    kind = str(entry["type"])
    if components:
        kind = f"({','.join(part.kind for part in components)}){kind.removeprefix('tuple')}"
    return AbiType(entry["name"], kind, components, kind.endswith("]"), bool(entry.get("indexed", False)))
