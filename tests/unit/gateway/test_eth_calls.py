"""eth_call, eth_estimateGas and eth_createAccessList as clients see them: overrides, and geth's codes and words."""

from __future__ import annotations

from typing import Any

import pytest

from astralink_node.crypto.addresses import checksum_address
from astralink_node.gateway.rpc_errors import SERVER_ERROR
from tests.support.gateways import ALICE, BOB, COUNTER, ECHO, REVERTER, Client, hexed, with_client

GAS_CAP = 50_000_000
A = hexed(ALICE.address)
POOR = "0x" + "77" * 20
POOR_CHECKSUM = checksum_address(b"\x77" * 20)
IDENTITY = "0x" + f"{4:040x}"
FREE = "0x" + "99" * 20
PROBE = hexed(BOB.address)
WORDS = "5f5260205ff3"


def probing(code: str) -> dict[str, dict[str, str]]:
    return {PROBE: {"code": "0x" + code + WORDS}}


@pytest.mark.parametrize(
    ("name", "value", "opcode", "seen"),
    [
        ("number", "0x4d", "43", 0x4D),
        ("time", "0x58", "42", 0x58),
        ("gasLimit", "0x11170", "45", 70_000),
        ("feeRecipient", FREE, "41", int(FREE, 16)),
        ("prevRandao", "0x" + "0d" * 32, "44", int("0d" * 32, 16)),
        ("blobBaseFee", "0xc", "4a", 12),
        ("difficulty", "0x5", "4a", 1),
    ],
)
def test_a_block_override_is_what_the_call_sees(name: str, value: str, opcode: str, seen: int) -> None:
    async def body(client: Client) -> None:
        answer = await client.call("eth_call", {"to": PROBE}, "latest", probing(opcode), {name: value})
        assert int(answer, 16) == seen

    with_client(body)


def test_an_overridden_base_fee_counts_where_fees_are_given() -> None:
    async def body(client: Client) -> None:
        block = {"baseFeePerGas": hex(10**9)}
        request = {"to": PROBE, "from": A, "maxFeePerGas": hex(2 * 10**9)}
        assert int(await client.call("eth_call", request, "latest", probing("48"), block), 16) == 10**9
        assert int(await client.call("eth_call", {"to": PROBE}, "latest", probing("48"), block), 16) == 0

    with_client(body)


@pytest.mark.parametrize(("name", "value"), [("beaconRoot", "0x" + "11" * 32), ("withdrawals", [])])
def test_what_only_whole_blocks_have_is_refused(name: str, value: object) -> None:
    async def body(client: Client) -> None:
        for method in ("eth_call", "eth_estimateGas", "eth_createAccessList"):
            error = await client.error(method, {"to": PROBE}, "latest", {}, {name: value})
            message = f'block override "{name}" is not supported for this RPC method'
            assert error == {"code": SERVER_ERROR, "message": message}

    with_client(body)


def test_a_precompile_moves_for_one_call() -> None:
    async def body(client: Client) -> None:
        moved = {IDENTITY: {"movePrecompileToAddress": FREE}}
        assert await client.call("eth_call", {"to": FREE, "data": "0x1234"}, "latest", moved) == "0x1234"
        assert await client.call("eth_call", {"to": IDENTITY, "data": "0x1234"}, "latest", moved) == "0x"
        assert await client.call("eth_call", {"to": IDENTITY, "data": "0x1234"}) == "0x1234"

    with_client(body)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({POOR: {"movePrecompileToAddress": FREE}}, f"account {POOR_CHECKSUM} is not a precompile"),
        ({IDENTITY: {"movePrecompileToAddress": IDENTITY}}, f"account {IDENTITY} is already overridden"),
        ({POOR: {"state": {}, "stateDiff": {}}}, f"account {POOR_CHECKSUM} has both 'state' and 'stateDiff'"),
    ],
)
def test_state_overrides_that_contradict_themselves_are_refused(overrides: Any, message: str) -> None:
    async def body(client: Client) -> None:
        for method in ("eth_call", "eth_estimateGas", "eth_createAccessList"):
            assert await client.error(method, {}, "latest", overrides) == {"code": SERVER_ERROR, "message": message}

    with_client(body)


def test_an_access_list_is_made_under_overrides() -> None:
    async def body(client: Client) -> None:
        reading = {PROBE: {"code": "0x43545f5500"}}
        answer = await client.call("eth_createAccessList", {"to": PROBE}, "latest", reading, {"number": "0x4d"})
        assert answer["accessList"] == [
            {"address": PROBE, "storageKeys": ["0x" + f"{0:064x}", "0x" + f"{0x4D:064x}"]},
        ]

    with_client(body)


def test_pending_is_the_next_block_on_the_heads_state() -> None:
    async def body(client: Client) -> None:
        for _ in range(3):
            client.node.produce()
        assert int(await client.call("eth_call", {"to": PROBE}, "latest", probing("43")), 16) == 3
        assert int(await client.call("eth_call", {"to": PROBE}, "pending", probing("43")), 16) == 4
        assert await client.call("eth_estimateGas", {"from": A, "to": PROBE, "value": "0x1"}, "pending") == "0x5208"

    with_client(body)


# --- What cannot be done, in geth's codes and words --------------------------------------------------------------

REASON = "08c379a0" + f"{32:064x}" + f"{5:064x}" + b"sorry".hex().ljust(64, "0")
CUSTOM = "e450d38c" + "11" * 32
PANIC = "4e487b71" + f"{0x11:064x}"


def in_a_call(message: str, gas: int = GAS_CAP) -> str:
    return f"err: {message} (supplied gas {gas})"


REVERTS = [
    ({"to": hexed(REVERTER), "data": "0x" + REASON}, "execution reverted: sorry", "0x" + REASON),
    ({"to": hexed(REVERTER), "data": "0x" + CUSTOM}, "execution reverted", "0x" + CUSTOM),
    (
        {"to": hexed(REVERTER), "data": "0x" + PANIC},
        "execution reverted: arithmetic underflow or overflow",
        "0x" + PANIC,
    ),
    ({"to": hexed(REVERTER)}, "execution reverted", "0x"),
]


@pytest.mark.parametrize(("request_", "message", "data"), REVERTS, ids=["reason", "custom error", "panic", "bare"])
def test_a_revert_is_code_3_with_its_data(request_: Any, message: str, data: str) -> None:
    async def body(client: Client) -> None:
        for method in ("eth_call", "eth_estimateGas"):
            assert await client.error(method, request_) == {"code": 3, "message": message, "data": data}

    with_client(body)


REFUSALS = [
    (
        "no funds",
        {"from": POOR, "to": PROBE, "value": "0x1"},
        in_a_call(f"insufficient funds for gas * price + value: address {POOR_CHECKSUM} have 0 want 1"),
        f"failed with 16777216 gas: insufficient funds for gas * price + value: address {POOR_CHECKSUM} have 0 want 1",
    ),
    (
        "no funds for gas",
        {"from": POOR, "to": PROBE, "gas": "0x5208", "gasPrice": hex(2 * 10**9)},
        in_a_call(
            f"insufficient funds for gas * price + value: address {POOR_CHECKSUM} have 0 want {21_000 * 2 * 10**9}",
            21_000,
        ),
        "gas required exceeds allowance (0)",
    ),
    (
        "fee cap below the base fee",
        {"from": A, "to": hexed(ECHO), "gas": "0x7530", "maxFeePerGas": "0x1"},
        "max fee per gas less than block base fee",
        "max fee per gas less than block base fee",
    ),
    (
        "too little gas to start",
        {"from": A, "to": hexed(ECHO), "gas": "0x5207"},
        in_a_call("intrinsic gas too low: have 20999, want 21000", 20_999),
        None,
    ),
    (
        "out of gas",
        {"from": A, "to": hexed(COUNTER), "gas": "0x526c"},
        "out of gas",
        "gas required exceeds allowance (21100)",
    ),
    (
        "initcode too long",
        {"from": A, "data": "0x" + "00" * 49_153},
        in_a_call("max initcode size exceeded: code size 49153 limit 49152"),
        "max initcode size exceeded: code size 49153 limit 49152",
    ),
]


@pytest.mark.parametrize(
    ("request_", "in_call", "in_estimate"),
    [pytest.param(request, call, estimate, id=name) for name, request, call, estimate in REFUSALS],
)
def test_a_call_that_cannot_be_made_is_a_server_error_in_geths_words(
    request_: Any, in_call: str, in_estimate: str | None
) -> None:
    async def body(client: Client) -> None:
        error = await client.error("eth_call", request_)
        assert error["code"] == SERVER_ERROR
        assert in_call in error["message"]
        if in_estimate is not None:
            error = await client.error("eth_estimateGas", request_)
            assert error["code"] == SERVER_ERROR
            assert in_estimate in error["message"]

    with_client(body)


def test_an_invalid_opcode_is_named_as_geth_names_it() -> None:
    async def body(client: Client) -> None:
        for code, name in (("fe", "INVALID"), ("0c", "opcode 0xc not defined")):
            for method in ("eth_call", "eth_estimateGas"):
                error = await client.error(method, {"to": PROBE}, "latest", {PROBE: {"code": "0x" + code}})
                assert error == {"code": SERVER_ERROR, "message": f"invalid opcode: {name}"}

    with_client(body)


def test_a_nonce_does_not_matter_to_one_call() -> None:
    async def body(client: Client) -> None:
        assert await client.call("eth_call", {"from": A, "to": hexed(ECHO), "nonce": "0x99"}) == "0x"
        assert await client.call("eth_estimateGas", {"from": A, "to": PROBE, "nonce": "0x99"}) == "0x5208"

    with_client(body)
