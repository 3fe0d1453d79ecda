"""The methods about stake, on a real chain with the real contracts."""

from __future__ import annotations

from typing import Any

import pytest

from astralink_node.cli import staking_calls
from astralink_node.gateway.reading import staking as staking_views
from astralink_node.gateway.rpc_errors import EXECUTION_REVERTED, INVALID_PARAMS, SERVER_ERROR
from tests.support.gateways import Client, SmallNode, hexed, with_client
from tests.support.staking_gateways import (
    ALICE,
    BOB,
    BWT,
    EPOCH_LENGTH,
    FIRST_OPERATOR,
    PARAMS,
    SECOND_OPERATOR,
    VALIDATORS,
    StakingNode,
    fifth_keys,
)

METHODS = ["astralink_getDelegations", "astralink_getRewards", "astralink_getSlashes", "astralink_getStaking"]


def number(quantity: str) -> int:
    return int(quantity, 16)


def by_operator(held: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(held["delegations"], key=lambda each: str(each["operator"]))


def test_genesis_validators_are_registered_and_active() -> None:
    async def body(client: Client) -> None:
        answer = await client.call("astralink_getValidators")
        first = answer["registered"][0]
        keys = [each["votingKey"] for each in answer["registered"]]
        assert keys == sorted(each["votingKey"] for each in answer["validators"])
        assert {each["status"] for each in answer["registered"]} == {"active"}
        assert number(first["tokensWei"]) == number(first["selfStakeWei"]) == 32 * BWT
        assert (number(first["power"]), number(first["powerIfElected"])) == (32, 32)
        assert (first["jailedUntil"], first["maintenance"], first["slashCount"]) == (None, None, "0x0")

    node = StakingNode()
    node.produce()
    with_client(body, node=node)


def test_a_new_validator_waits_and_would_be_elected() -> None:
    node = StakingNode()
    node.calls((1, staking_calls.create_validator(fifth_keys(), 500, "Fifth", 40 * BWT)))

    async def body(client: Client) -> None:
        answer = await client.call("astralink_getValidators", "0x1")
        (mine,) = [each for each in answer["registered"] if each["operator"] == hexed(BOB)]
        assert (mine["name"], mine["status"], mine["commissionBps"]) == ("Fifth", "waiting", hex(500))
        assert (mine["power"], number(mine["powerIfElected"]), mine["registeredAt"]) == ("0x0", 40, "0x1")
        assert mine["votingKey"] == hexed(fifth_keys().voting_key)
        before = await client.call("astralink_getValidators", "0x0")
        assert len(before["registered"]) == VALIDATORS
        node.to(EPOCH_LENGTH)
        later = await client.call("astralink_getValidators")
        assert later["registered"][0]["operator"] == hexed(BOB)
        assert (later["registered"][0]["status"], number(later["registered"][0]["power"])) == ("active", 40)

    with_client(body, node=node)


def test_delegations_rewards_and_unbondings_of_an_account() -> None:
    node = StakingNode()
    node.calls((0, staking_calls.delegate(FIRST_OPERATOR, 10 * BWT)), (0, staking_calls.delegate(SECOND_OPERATOR, BWT)))
    node.to(4)

    async def body(client: Client) -> None:
        held = await client.call("astralink_getDelegations", hexed(ALICE))
        first, second = by_operator(held)
        assert (held["delegator"], held["number"], held["unbondings"]) == (hexed(ALICE), "0x4", [])
        assert (first["operator"], number(first["valueWei"])) == (hexed(FIRST_OPERATOR), 10 * BWT)
        assert number(first["pendingWei"]) > number(second["pendingWei"]) > 0
        rewards = await client.call("astralink_getRewards", hexed(ALICE))
        assert {each["operator"]: each["pendingWei"] for each in rewards["rewards"]} == {
            each["operator"]: each["pendingWei"] for each in (first, second)
        }
        assert number(rewards["totalWei"]) == number(first["pendingWei"]) + number(second["pendingWei"])
        assert rewards["commissionWei"] == "0x0"

        node.calls((0, staking_calls.undelegate(FIRST_OPERATOR, 4 * BWT, 4 * BWT)))
        node.calls((0, staking_calls.redelegate(FIRST_OPERATOR, SECOND_OPERATOR, BWT, BWT)))
        held = await client.call("astralink_getDelegations", hexed(ALICE))
        (entry,) = held["unbondings"]
        assert (entry["index"], entry["operator"], entry["isMature"]) == ("0x0", hexed(FIRST_OPERATOR), False)
        assert number(entry["amountWei"]) == number(entry["valueNowWei"]) == 4 * BWT
        assert number(entry["maturesAt"]) == PARAMS.unbonding_ms // 1000 + number(
            (await client.call("eth_getBlockByNumber", "0x5", False))["timestamp"]
        )
        first, second = by_operator(held)
        liability = second["liability"]
        assert (liability["source"], number(liability["shares"])) == (hexed(FIRST_OPERATOR), BWT)
        assert first["liability"] is None
        assert (await client.call("astralink_getDelegations", hexed(BOB)))["delegations"] == []
        assert (await client.call("astralink_getDelegations", hexed(ALICE), "0x0"))["delegations"] == []

    with_client(body, node=node)


def test_operators_may_be_named_beside_those_on_the_list() -> None:
    node = StakingNode()
    node.calls((0, staking_calls.delegate(FIRST_OPERATOR, BWT)))

    async def body(client: Client) -> None:
        plain = await client.call("astralink_getDelegations", hexed(ALICE))
        named = [hexed(FIRST_OPERATOR), hexed(BOB)]
        assert await client.call("astralink_getDelegations", hexed(ALICE), "latest", named) == plain
        for wrong in ([hexed(BOB)] * 65, "0x", ["0x01"], [1]):
            error = await client.error("astralink_getDelegations", hexed(ALICE), "latest", wrong)
            assert error["code"] == INVALID_PARAMS
            assert error["message"].startswith("invalid argument 2: operators")

    with_client(body, node=node)


def test_more_validators_than_a_batch_holds_are_all_read() -> None:
    """The reader asks in batches; with batches of three, four validators need two."""
    node = StakingNode()

    async def body(client: Client) -> None:
        answer = await client.call("astralink_getValidators")
        in_one = node.queries
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(staking_views, "BATCH", 3)
            assert await client.call("astralink_getValidators") == answer
        assert node.queries - in_one == in_one + 2, "validators and their own stakes, each once more"

    with_client(body, node=node)


def test_the_whole_of_staking() -> None:
    async def body(client: Client) -> None:
        answer = await client.call("astralink_getStaking")
        assert (answer["epoch"], answer["epochLength"]) == ("0x0", hex(EPOCH_LENGTH))
        assert (number(answer["nextElectionHeight"]), number(answer["nextEpochHeight"])) == (18, 20)
        assert number(answer["inflationBpsE9"]) == 1_300 * 10**9
        assert number(answer["totals"]["bondedWei"]) == VALIDATORS * 32 * BWT
        assert number(answer["totals"]["mintedWei"]) > 0
        assert list(answer["parameters"])[:3] == ["minStakeWei", "maxValidators", "unbondingMs"]
        assert len(answer["parameters"]) == 17
        assert number(answer["parameters"]["downtimeWindow"]) == 8

    node = StakingNode()
    node.to(3)
    with_client(body, node=node)


def test_absence_shows_in_slashes_and_in_the_protocol_log() -> None:
    """The last member's signature is missing from every certificate of a window: it is jailed and slashed."""
    node = StakingNode()
    absent = node.chain.execution.context.voting_set.validators[3].operator
    while node.execution.status().head_height < 18:
        node.produce_signed_by(0, 1, 2)

    async def body(client: Client) -> None:
        (slash,) = await client.call("astralink_getSlashes")
        assert (slash["operator"], slash["kind"], slash["epoch"], slash["bps"]) == (
            hexed(absent),
            "downtime",
            "0x0",
            hex(100),
        )
        assert number(slash["cutWei"]) == 32 * BWT // 100
        assert await client.call("astralink_getSlashes", hexed(absent)) == [slash]
        registered = (await client.call("astralink_getValidators"))["registered"]
        (jailed,) = [each for each in registered if each["status"] == "jailed"]
        assert (jailed["operator"], jailed["isActive"], jailed["powerIfElected"]) == (hexed(absent), False, "0x0")
        assert number(jailed["jailedUntil"]) == number(slash["timestamp"]) + PARAMS.downtime_jail_ms // 1000
        logs = [await client.call("astralink_getProtocolLog", hex(height)) for height in range(1, 19)]
        events = [event for log in logs for call in log["calls"] for event in call["events"]]
        (slashed,) = [event for event in events if event["event"] == "Slashed"]
        assert slashed["fields"]["operator"] == hexed(absent)
        assert slashed["fields"]["cut"] == slash["cutWei"]
        assert slashed["topics"][0].startswith("0x")
        assert all(call["failure"] is None for log in logs for call in log["calls"])

    with_client(body, node=node)


def test_an_unknown_operator_has_no_slashes_to_show() -> None:
    async def body(client: Client) -> None:
        error = await client.error("astralink_getSlashes", hexed(ALICE))
        assert error["code"] == EXECUTION_REVERTED
        assert error["message"] == "execution reverted: staking: no such validator"
        assert await client.call("astralink_getSlashes", hexed(FIRST_OPERATOR)) == []

    with_client(body, node=StakingNode())


def test_a_protocol_log_that_is_not_there_is_null() -> None:
    async def body(client: Client) -> None:
        assert await client.call("astralink_getProtocolLog", "0x9") is None
        assert (await client.call("astralink_getProtocolLog", "0x0"))["calls"] == []

    with_client(body, node=StakingNode())


@pytest.mark.parametrize("method", METHODS)
def test_a_chain_without_staking_says_so(method: str) -> None:
    parameters: list[Any] = [] if method in ("astralink_getStaking", "astralink_getSlashes") else [hexed(ALICE)]

    async def body(client: Client) -> None:
        error = await client.error(method, *parameters)
        assert (error["code"], error["message"]) == (
            SERVER_ERROR,
            "this chain has no staking: its validators are those of its genesis file",
        )
        assert (await client.call("astralink_getValidators"))["registered"] is None

    with_client(body, node=SmallNode())


@pytest.mark.parametrize("method", METHODS)
def test_blocks_that_are_not_there_and_wrong_parameters_are_named(method: str) -> None:
    account: list[Any] = [] if method == "astralink_getStaking" else [hexed(FIRST_OPERATOR)]

    async def body(client: Client) -> None:
        error = await client.error(method, *account, "0x99")
        assert (error["code"], error["message"]) == (SERVER_ERROR, "header not found")
        assert (await client.error(method, "rubbish"))["code"] == INVALID_PARAMS

    with_client(body, node=StakingNode())
