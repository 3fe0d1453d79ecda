"""A small node with contracts that call each other, and transactions worth tracing."""

from __future__ import annotations

from astralink_node.types import Address
from genesis.schema import GenesisAccount
from tests.support.gateways import ALICE, BOB, COUNTER, REVERTER, SmallNode, signed

CALLER = Address(bytes.fromhex("ca11" * 10))
"""Calls the counter, the reverter, and the identity precompile; delegates to the counter; creates an empty contract."""
LOOPER = Address(bytes.fromhex("1009" * 10))
"""Runs until its gas is gone."""
DESTROYER = Address(bytes.fromhex("de57" * 10))
"""Sends its balance of 5 to Bob and destroys itself (EIP-6780: it stays)."""

HOARDER = Address(bytes.fromhex("40a2" * 10))
"""Passes a megabyte on with each of many calls to nobody: cheap to run, too much to keep."""
HOARDER_GAS = 2_235_000


def _call(opcode: str, target: bytes, *, zeros: int) -> str:
    return "5f" * zeros + "73" + target.hex() + "5a" + opcode + "50"


_CALLER_CODE = bytes.fromhex(
    _call("f1", COUNTER, zeros=5)
    + _call("f1", REVERTER, zeros=5)
    + _call("fa", bytes(19) + b"\x04", zeros=4)
    + _call("f4", COUNTER, zeros=4)
    + "5f5f5ff050"
    + "00"
)
_CONTRACTS = {
    CALLER: GenesisAccount(0, 1, _CALLER_CODE, ()),
    HOARDER: GenesisAccount(0, 1, bytes.fromhex("5b5f5f621000005f5f60995ff1505f56"), ()),
    LOOPER: GenesisAccount(0, 1, bytes.fromhex("5b5f56"), ()),
    DESTROYER: GenesisAccount(5, 1, bytes.fromhex("73" + BOB.address.hex() + "ff"), ()),
}


def traced_node(*, explorer_index: bool = False) -> SmallNode:
    return SmallNode(contracts=_CONTRACTS, explorer_index=explorer_index)


def traced_block(node: SmallNode) -> list[bytes]:
    """A block of a transfer, a tree of calls, a revert, a creation and a self-destruction; their hashes."""
    given: list[dict[str, object]] = [
        {"to": BOB.address, "value": 7},
        {"to": CALLER, "gas": 300_000},
        {"to": REVERTER, "data": bytes.fromhex("08c379a0") + _abi_text(b"not today")},
        {"to": "", "data": bytes.fromhex("60fe5f5360015ff3")},
        {"to": DESTROYER},
    ]
    hashes = [node.add(signed(ALICE, nonce=nonce, **fields)) for nonce, fields in enumerate(given)]
    node.produce()
    return hashes


def _abi_text(text: bytes) -> bytes:
    return (32).to_bytes(32, "big") + len(text).to_bytes(32, "big") + text.ljust(32, b"\0")
