"""eth_simulateV1 against every recorded request of geth (execution-apis, CC0), on a chain as like it as ours can be.

Height, time, gas limit and chain id are the recorded chain's, so that all of an answer must be equal but what follows
from its state and its fees: block hashes, state roots, and the fee parameters that our headers hold.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import pytest

from tests.support.gateways import Client, SmallNode, with_client
from tests.support.json_schema import violations
from tests.vectors.test_rpc_vectors import EXAMPLES, RECORDED_CHAIN_ID, schemas

NAMES = sorted(path.stem.removeprefix("ethSimulate-") for path in EXAMPLES.glob("eth_simulateV1/*.io"))

OF_THE_STATE = {"hash", "parentHash", "stateRoot", "blockHash", "extraData", "size"}
"""Fields that differ from the recorded ones everywhere, ``size`` by the length of ``extraData``."""
EXTRA_DATA_BYTES = 18

OF_THE_FEES = {
    "check-invalid-nonce",
    "empty-validation",
    "simple-no-funds-with-validation",
    "simple-no-funds-with-validation-without-nonces",
}
"""Cases with validation and no base fee of their own: this chain's has a floor."""

OF_THE_CHAIN = {
    "add-more-non-defined-BlockStateCalls-than-fit-but-now-with-fit",
    "blockhash-simple",
    "get-block-properties",
}
"""Cases whose calls return the hash of a block of the recorded chain."""

REFUSED = {"blobs": "blob transactions are not supported by this chain"}


def recorded(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    lines = (EXAMPLES / "eth_simulateV1" / f"ethSimulate-{name}.io").read_text().splitlines()
    (request,) = (json.loads(line[3:]) for line in lines if line.startswith(">> "))
    (answer,) = (json.loads(line[3:]) for line in lines if line.startswith("<< "))
    return request, answer


@lru_cache(maxsize=1)
def node_at_the_recorded_height() -> SmallNode:
    """54 blocks, the last at second 540. Simulations leave no trace in it, so that all cases may share it."""
    node = SmallNode(chain_id=RECORDED_CHAIN_ID, timestamp=1, max_gas_target=100_000_000)
    for height in range(1, 55):
        node.produce(interval_ms=10_000 if height > 1 else 9_000, fee_recipient=bytes(20))
    return node


def comparable(value: Any, *, without: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: comparable(each, without=without) for key, each in value.items() if key not in without}
    if isinstance(value, list):
        return [comparable(each, without=without) for each in value]
    return re.sub(r"baseFee: \d+", "baseFee", value) if isinstance(value, str) and "baseFeePerGas" in without else value


def ignored(name: str) -> frozenset[str]:
    ignored = set(OF_THE_STATE)
    if name in OF_THE_FEES:
        ignored.add("baseFeePerGas")
    if name in OF_THE_CHAIN:
        ignored.add("returnData")
    return frozenset(ignored)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_a_recorded_simulation_gives_the_recorded_answer(name: str) -> None:
    request, answer = recorded(name)
    rule = schemas()["eth_simulateV1"]

    async def body(client: Client) -> None:
        ours = await client.send(request)
        found, recorded_answer = (comparable(each, without=ignored(name)) for each in (ours, answer))
        if "error" in answer:
            # What was expected and found may follow the recorded words.
            assert found["error"]["code"] == recorded_answer["error"]["code"]
            assert found["error"]["message"].startswith(recorded_answer["error"]["message"])
            return
        assert found == recorded_answer
        for block, theirs in zip(ours.get("result", ()), answer.get("result", ()), strict=True):
            assert set(block) == set(theirs)
            assert int(block["size"], 16) == int(theirs["size"], 16) + EXTRA_DATA_BYTES
        if "result" in ours:
            assert not violations(ours["result"], rule)

    with_client(body, node=node_at_the_recorded_height())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_this_chain_has_not_is_refused(name: str) -> None:
    request, _ = recorded(name)

    async def body(client: Client) -> None:
        error = (await client.send(request))["error"]
        assert error["code"] == -32602
        assert REFUSED[name] in error["message"]

    with_client(body, node=node_at_the_recorded_height())


def test_nothing_was_written_and_every_case_ran() -> None:
    assert len(NAMES) == 47
    assert node_at_the_recorded_height().execution.status().head_height == 54
