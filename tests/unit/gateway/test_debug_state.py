"""debug_*: storage within a block, accounts, roots and what changed, in geth's shapes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from astralink_node.crypto.keccak import keccak256
from astralink_node.gateway.rpc_errors import INVALID_PARAMS, SERVER_ERROR
from astralink_node.types import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, Address
from genesis.schema import GenesisAccount
from tests.support.gateways import ALICE, BOB, COUNTER, Client, SmallNode, checksummed, hexed, signed, with_client

STRANGER = bytes(19) + b"\x99"
KEEPER = Address(bytes.fromhex("5e" * 20))
"""Stores the second word of its input in the slot that the first names."""
HIGH = 2**200


def word(value: int) -> str:
    return f"0x{value:064x}"


def hash_of(slot: int) -> str:
    return hexed(keccak256(slot.to_bytes(32, "big")))


def with_blocks(body: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
    """Block 1: two counts and a transfer to a stranger. Block 2: two slots are stored."""
    keeper = GenesisAccount(0, 1, bytes.fromhex("6020355f355500"), ())
    node = SmallNode(contracts={KEEPER: keeper})
    node.add(signed(ALICE, nonce=0, to=COUNTER))
    node.add(signed(ALICE, nonce=1, to=COUNTER))
    node.add(signed(BOB, nonce=0, to=STRANGER, value=5))
    node.produce()
    for nonce, (slot, value) in enumerate([(HIGH, 256), (3, 1)], start=2):
        node.add(signed(ALICE, nonce=nonce, to=KEEPER, data=slot.to_bytes(32, "big") + value.to_bytes(32, "big")))
    node.produce()
    with_client(body, node=node, apis=("eth", "debug"))


def test_storage_is_as_it_was_before_the_transaction() -> None:
    async def body(client: Client) -> None:
        block = await client.call("eth_getBlockByNumber", "0x1", False)
        for index, count in enumerate((56, 57, 58)):
            found = await client.call("debug_storageRangeAt", block["hash"], index, hexed(COUNTER), "0x", 1000)
            assert found == {
                "storage": {hash_of(0): {"key": word(0), "value": word(count)}},
                "nextKey": None,
            }
            by_number = await client.call("debug_storageRangeAt", "0x1", index, hexed(COUNTER), "0x00", 10)
            assert by_number == found

    with_blocks(body)


def test_storage_comes_in_pages_by_hash_and_its_keys_are_named_where_they_are_known() -> None:
    async def body(client: Client) -> None:
        first, second = sorted((hash_of(3), hash_of(HIGH)))
        values = {hash_of(3): (word(3), word(1)), hash_of(HIGH): (word(HIGH), word(256))}
        client.node.add(signed(ALICE, nonce=4, to=KEEPER, data=bytes(64)))
        client.node.produce()
        page = await client.call("debug_storageRangeAt", "0x3", 0, hexed(KEEPER), "0x" + "00" * 32, 1)
        assert list(page["storage"]) == [first]
        assert page["nextKey"] == second
        rest = await client.call("debug_storageRangeAt", "0x3", 0, hexed(KEEPER), second, 1)
        assert list(rest["storage"]) == [second]
        assert rest["nextKey"] is None
        for key, entry in {**page["storage"], **rest["storage"]}.items():
            name, value = values[key]
            assert entry == {"key": name if key == hash_of(3) else None, "value": value}
        nothing = await client.call("debug_storageRangeAt", "0x3", 0, hexed(ALICE.address), "0x", 1)
        assert nothing == {"storage": {}, "nextKey": None}

    with_blocks(body)


def test_accounts_have_geths_shape_and_pages() -> None:
    async def body(client: Client) -> None:
        found = await client.call("debug_accountRange", "latest", "0x", 256, False, False, True)
        head = await client.call("eth_getBlockByNumber", "latest", False)
        assert found["root"] == head["stateRoot"][2:]
        assert "next" not in found
        proof = await client.call("eth_getProof", hexed(KEEPER), [], "latest")
        assert found["accounts"][checksummed(KEEPER)] == {
            "balance": "0",
            "nonce": 1,
            "root": proof["storageHash"],
            "codeHash": proof["codeHash"],
            "code": "0x6020355f355500",
            "storage": {word(3): "01", f"pre({hash_of(HIGH)})": "0100"},
            "address": hexed(KEEPER),
            "key": hexed(keccak256(KEEPER)),
        }
        key = hexed(keccak256(STRANGER))
        assert found["accounts"][f"pre({key})"] == {
            "balance": "5",
            "nonce": 0,
            "root": hexed(EMPTY_TRIE_ROOT),
            "codeHash": hexed(EMPTY_CODE_HASH),
            "key": key,
        }
        assert len(found["accounts"]) > 10
        whole: dict[str, Any] = {}
        start = "0x"
        while True:
            page = await client.call("debug_accountRange", head["hash"], start, 3, False, False, True)
            whole |= page["accounts"]
            if "next" not in page:
                break
            assert len(page["accounts"]) == 3
            start = page["next"]
            assert len(base64.b64decode(start)) == 32
        assert whole == found["accounts"]
        hexadecimal = await client.call("debug_accountRange", "latest", key, 1, True, True, True)
        assert list(hexadecimal["accounts"]) == [f"pre({key})"]

    with_blocks(body)


def test_what_is_left_out_of_accounts() -> None:
    async def body(client: Client) -> None:
        known = await client.call("debug_accountRange", "latest", "0x", 0, True, True, False)
        assert not any(name.startswith("pre(") for name in known["accounts"])
        assert not any("code" in each or "storage" in each for each in known["accounts"].values())
        assert await client.call("debug_accountRange", "latest", "0x", 1000, True, True, False) == known
        assert await client.call("debug_accountRange", "pending", "0x", -1, True, True) == known
        dumped = await client.call("debug_dumpBlock", "latest")
        assert list(dumped["accounts"]) == list(known["accounts"])
        assert dumped["accounts"][checksummed(COUNTER)]["storage"] == {word(0): "3a"}
        before = await client.call("debug_dumpBlock", "0x0")
        assert before["accounts"][checksummed(COUNTER)]["storage"] == {word(0): "38"}
        assert before == await client.call("debug_accountRange", "earliest")

    with_blocks(body)


def test_roots_between_transactions_lead_from_block_to_block() -> None:
    async def body(client: Client) -> None:
        for height, transactions in (("0x1", 3), ("0x2", 2)):
            block = await client.call("eth_getBlockByNumber", height, False)
            roots = await client.call("debug_intermediateRoots", block["hash"], {"reexec": 1})
            assert len(set(roots)) == transactions
            assert roots[-1] == block["stateRoot"]

    with_blocks(body)


def test_modified_accounts_by_number_and_by_hash() -> None:
    async def body(client: Client) -> None:
        hashes = [(await client.call("eth_getBlockByNumber", hex(height), False))["hash"] for height in range(3)]
        second = await client.call("debug_getModifiedAccountsByNumber", 2)
        assert hexed(KEEPER) in second
        assert hexed(STRANGER) not in second
        both = await client.call("debug_getModifiedAccountsByNumber", 0, "0x2")
        assert {hexed(each) for each in (KEEPER, STRANGER, COUNTER, ALICE.address, BOB.address)} <= set(both)
        assert both == sorted(both, key=lambda each: keccak256(bytes.fromhex(each[2:])))
        assert await client.call("debug_getModifiedAccountsByHash", hashes[2]) == second
        assert await client.call("debug_getModifiedAccountsByHash", hashes[1], hashes[2]) == second
        assert await client.call("debug_getModifiedAccountsByHash", hashes[0], hashes[2]) == both

    with_blocks(body)


NOBODY = "0x" + "01" * 32


@pytest.mark.parametrize(
    ("method", "params", "code", "message"),
    [
        ("debug_storageRangeAt", ["0x0", 0, "0x" + "00" * 20, "0x", 1], SERVER_ERROR, "no transaction in genesis"),
        ("debug_storageRangeAt", ["0x9", 0, "0x" + "00" * 20, "0x", 1], SERVER_ERROR, "block #9 not found"),
        ("debug_storageRangeAt", [NOBODY, 0, "0x" + "00" * 20, "0x", 1], SERVER_ERROR, f"block {NOBODY} not found"),
        (
            "debug_storageRangeAt",
            ["0x1", 3, "0x" + "00" * 20, "0x", 1],
            SERVER_ERROR,
            "transaction index 3 out of range for block 0x",
        ),
        (
            "debug_storageRangeAt",
            ["0x1", 0, "0x" + "00" * 20, "0x" + "00" * 33, 1],
            INVALID_PARAMS,
            "invalid argument 3: keyStart: expected at most 32 bytes, found 33",
        ),
        ("debug_accountRange", ["0x9"], SERVER_ERROR, "block #9 not found"),
        (
            "debug_accountRange",
            ["latest", "not/base64!"],
            INVALID_PARAMS,
            'invalid argument 1: start: expected hex that begins with 0x, or base64, found "not/base64!"',
        ),
        ("debug_dumpBlock", ["0x9"], SERVER_ERROR, "block #9 not found"),
        ("debug_intermediateRoots", [NOBODY], SERVER_ERROR, f"block {NOBODY} not found"),
        ("debug_getModifiedAccountsByNumber", [31], SERVER_ERROR, "start block 1f not found"),
        ("debug_getModifiedAccountsByNumber", [1, 31], SERVER_ERROR, "end block 31 not found"),
        ("debug_getModifiedAccountsByNumber", [0], SERVER_ERROR, "block 0 has no parent"),
        (
            "debug_getModifiedAccountsByNumber",
            [2, 2],
            SERVER_ERROR,
            "start block height (2) must be less than end block height (2)",
        ),
        ("debug_getModifiedAccountsByHash", [NOBODY], SERVER_ERROR, f"start block {NOBODY[2:]} not found"),
    ],
)
def test_what_is_not_there_is_named_in_geths_words(method: str, params: list[Any], code: int, message: str) -> None:
    async def body(client: Client) -> None:
        error = await client.error(method, *params)
        assert error["code"] == code
        assert error["message"].startswith(message)

    with_blocks(body)


def test_genesis_has_no_roots_between_transactions_and_the_end_may_be_unknown_by_hash() -> None:
    async def body(client: Client) -> None:
        genesis = (await client.call("eth_getBlockByNumber", "0x0", False))["hash"]
        error = await client.error("debug_intermediateRoots", genesis)
        assert error == {"code": SERVER_ERROR, "message": "genesis is not traceable"}
        error = await client.error("debug_getModifiedAccountsByHash", genesis, NOBODY)
        assert error == {"code": SERVER_ERROR, "message": f"end block {NOBODY[2:]} not found"}

    with_blocks(body)
