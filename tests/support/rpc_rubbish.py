"""Rubbish for a JSON-RPC server, from a seed: valid calls with parts exchanged, bytes damaged, and plain noise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import orjson

from astralink_node.gateway.methods.namespaces import NAMESPACES
from tests.support.gateways import ALICE, BOB, COUNTER, ECHO, REVERTER, hexed, signed

METHODS = [(method.name, len(method.parameters)) for methods in NAMESPACES.values() for method in methods]
CALL = {"from": hexed(ALICE.address), "to": hexed(ECHO), "gas": "0xffff", "value": "0x0", "data": "0x" + "07" * 32}
VALUES: list[Any] = [
    hexed(ALICE.address),
    hexed(COUNTER),
    hexed(REVERTER),
    "0x" + "5e" * 32,
    "latest",
    "pending",
    "earliest",
    "finalized",
    "0x0",
    "0x1",
    "0x7fffffffffffffff",
    "0xffffffffffffffffffffffff",
    "newHeads",
    "logs",
    True,
    None,
    [],
    {},
    CALL,
    {"fromBlock": "0x0", "toBlock": "latest", "address": [hexed(ECHO)], "topics": [None, ["0x" + "07" * 32]]},
    {hexed(COUNTER): {"balance": "0x1", "stateDiff": {"0x" + "00" * 32: "0x" + "11" * 32}}},
    {hexed(ALICE.address): ["0x0", "0x" + "01" * 32]},
    {"blockHash": "0x" + "5e" * 32, "requireCanonical": True},
    [25.0, 50.0, 75.0],
    hexed(signed(ALICE, to=BOB.address, nonce=0)),
    hexed(signed(ALICE, to=ECHO, nonce=1, data=b"\x01" * 100)),
]
STRANGE: list[Any] = [
    -1,
    0,
    2**63,
    2**64 - 1,
    1.5,
    1e300,
    "",
    "0x",
    "0X1",
    "0x_1",
    "\x00",
    "é" * 100,
    "x" * 10_000,
    "0x" + "f" * 20_000,
    [[[[[]]]]],
    [None] * 100,
    {"": ""},
    {"x": {"x": {"x": {}}}},
    False,
]


def messages(seed: int, count: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    for _ in range(count):
        message = orjson.dumps(_message(chance))
        kind = chance.randrange(10)
        if kind < 6:
            yield message
        elif kind < 9:
            yield damaged(chance, message)
        else:
            yield chance.randbytes(chance.randrange(200))


def damaged(chance: random.Random, data: bytes) -> bytes:
    """Some bytes exchanged, cut out, said twice or put in."""
    for _ in range(chance.randrange(1, 4)):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.randrange(1, 12))
        put = chance.choice((b"", chance.randbytes(3), data[start:end] * 2, b"[" * 50, b'"', b"\\u0000", b"\xff", b"}"))
        data = data[:start] + put + data[end:]
    return data


def _message(chance: random.Random) -> Any:
    if chance.random() < 0.1:
        return [_call(chance) for _ in range(chance.randrange(20))]
    return _call(chance)


def _call(chance: random.Random) -> Any:
    method, parameters = chance.choice(METHODS)
    count = max(0, parameters + chance.choice((0, 0, 0, 0, -1, 1)))
    call: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": chance.choice((1, "a", None, 1.5)),
        "method": method,
        "params": [_value(chance) for _ in range(count)],
    }
    if chance.random() < 0.1:
        call[chance.choice(("jsonrpc", "id", "method", "params"))] = chance.choice(STRANGE)
    if chance.random() < 0.05:
        del call[chance.choice(("jsonrpc", "id", "method", "params"))]
    return call


def _value(chance: random.Random) -> Any:
    value = chance.choice(VALUES if chance.random() < 0.8 else STRANGE)
    if isinstance(value, dict) and value and chance.random() < 0.4:
        value = dict(value)
        value[chance.choice(list(value))] = chance.choice(STRANGE + VALUES)
    return value
