"""The section `astralink.staking`: its bounds, and the contracts that a genesis file must then hold as made."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from astralink_node.chain.initialise import initialise
from astralink_node.storage.memory import MemoryStore
from consensus.staking_params import PARAMETER_NAMES, StakingParams, StakingParamsError
from contracts.artifacts import load
from contracts.places import CONTRACTS, STAKING
from genesis.builder import build_genesis
from genesis.canonical import canonical_encoding, configuration_hash
from genesis.comparison import differences
from genesis.fields import GenesisError, camel_case
from genesis.presets import devnet
from genesis.rendering import render_genesis
from genesis.sealing import parse_genesis
from tests.support.chains import LocalChain, genesis_text, genesis_validator
from tests.support.staking_chains import BWT, StakingChain, staking_genesis

PARAMS = StakingParams()
STAKING_ENTRY = f"0x{STAKING.hex()}"
Document = dict[str, Any]


def text_of(**changes: int) -> bytes:
    return genesis_text(2, staking=replace(PARAMS, **changes))


def edited(edit: Callable[[Document], object]) -> bytes:
    document = json.loads(text_of())
    edit(document)
    return json.dumps(document).encode()


def refusal(data: bytes) -> str:
    with pytest.raises(GenesisError) as caught:
        parse_genesis(data)
    return str(caught.value)


def section(key: str, value: object) -> Callable[[Document], object]:
    def edit(document: Document) -> None:
        document["astralink"]["staking"][key] = value

    return edit


# --- Parameters ---------------------------------------------------------------------------------------------------


def test_the_order_of_ids_is_the_documents() -> None:
    assert [camel_case(name) for name in PARAMETER_NAMES] == [
        "minStakeWei",
        "maxValidators",
        "unbondingMs",
        "maxCommissionChangeBps",
        "downtimeWindow",
        "downtimeMinSignedBps",
        "downtimeSlashBps",
        "downtimeJailMs",
        "maxJailedPerEpoch",
        "doubleSignSlashBps",
        "inflationMinBps",
        "inflationMaxBps",
        "inflationChangeBps",
        "bondedGoalBps",
        "proposerShareBps",
        "baseFeeToStakersBps",
        "maintenanceMaxBlocks",
    ]
    assert PARAMS.by_id[0] == 32 * BWT
    assert len(PARAMS.by_id) == 17


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("min_stake_wei", 10**18, 10**27),
        ("max_validators", 1, 128),
        ("max_commission_change_bps", 0, 10_000),
        ("downtime_window", 8, 100_000),
        ("downtime_min_signed_bps", 0, 9_500),
        ("downtime_slash_bps", 0, 1_000),
        ("downtime_jail_ms", 1_000, 2**40),
        ("max_jailed_per_epoch", 1, 128),
        ("double_sign_slash_bps", 100, 10_000),
        ("inflation_max_bps", 1_300, 5_000),
        ("inflation_change_bps", 0, 10_000),
        ("bonded_goal_bps", 100, 10_000),
        ("proposer_share_bps", 0, 5_000),
        ("base_fee_to_stakers_bps", 0, 10_000),
        ("maintenance_max_blocks", 0, 100_000),
        ("inflation_min_bps", 0, 1_300),
        ("inflation_initial_bps", 700, 2_000),
    ],
)
def test_every_parameter_keeps_to_its_bounds(name: str, lowest: int, highest: int) -> None:
    for value in (lowest, highest):
        assert getattr(replace(PARAMS, **{name: value}), name) == value
    for value in (lowest - 1, highest + 1):
        with pytest.raises(StakingParamsError):
            replace(PARAMS, **{name: value})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (section("maxValidators", 129), "astralink.staking.maxValidators: expected 1 to 128, found 129"),
        (section("minStakeWei", str(10**18 - 1)), "astralink.staking.minStakeWei: expected 1000000000000000000 to"),
        (section("unbondingMs", 5), "astralink.staking.unbondingMs: expected astralink.consensus.unbondingMs (1814400"),
        (
            section("downtimeWindow", 101),
            "astralink.staking.downtimeWindow: expected at most the length of an epoch",
        ),
        (section("inflationInitialBps", 699), "astralink.staking.inflationInitialBps: expected 700 to 2000, the bound"),
        (section("inflationMinBps", 2_001), "astralink.staking.inflationMinBps: expected at most inflation_max_bps"),
        (section("slashes", 1), "astralink.staking.slashes: expected one of minStakeWei"),
        (lambda document: document["astralink"]["staking"].pop("maxValidators"), "maxValidators: expected a value"),
        (section("maxValidators", 1), "astralink.validators: expected at most 1 validators, found more"),
        (
            section("minStakeWei", str(33 * BWT)),
            "astralink.validators[0].stakeWei: expected at least astralink.staking.minStakeWei (33000000000000000000)",
        ),
    ],
)
def test_every_mistake_in_the_section_names_its_field(edit: Callable[[Document], object], message: str) -> None:
    assert message in refusal(edited(edit))


def test_the_section_reads_back_as_itself_and_is_committed_to() -> None:
    text = text_of()
    genesis = parse_genesis(text)
    assert genesis.staking == PARAMS
    assert render_genesis(genesis).encode() == text
    assert json.loads(canonical_encoding(genesis))["astralink"]["staking"]["minStakeWei"] == str(32 * BWT)
    hashes = {configuration_hash(genesis), configuration_hash(parse_genesis(genesis_text(2)))}
    for field in fields(StakingParams):
        if field.name != "unbonding_ms":
            changed = parse_genesis(text_of(**{field.name: getattr(PARAMS, field.name) + _step(field.name)}))
            hashes.add(configuration_hash(changed))
    assert len(hashes) == 2 + len(fields(StakingParams)) - 1


def _step(name: str) -> int:
    return -1 if name in ("downtime_window", "min_stake_wei") else 1


def test_files_that_differ_in_a_parameter_are_told_apart_by_it() -> None:
    found = differences(parse_genesis(text_of()), parse_genesis(text_of(max_validators=65)))
    assert ("astralink.staking.maxValidators", "64", "65") in [(one.path, one.first, one.second) for one in found]


# --- The contracts ------------------------------------------------------------------------------------------------


def test_the_contracts_stand_at_their_places_and_the_stake_is_their_balance() -> None:
    genesis = parse_genesis(genesis_text(3, staking=PARAMS, stakes_bwt=[32, 40, 50]))
    for name, place in CONTRACTS.items():
        assert genesis.alloc[place].code == load(name).runtime_code
    assert genesis.alloc[STAKING].balance_wei == 122 * BWT
    assert genesis.alloc[STAKING].storage


def test_the_first_state_answers_what_genesis_says() -> None:
    chain = StakingChain(genesis=staking_genesis(3, params=PARAMS, stakes_bwt=[32, 40, 50], epoch_length=100))
    genesis = parse_genesis(chain.genesis)
    assert tuple(chain.view("parameters")) == PARAMS.by_id
    bonded, unbonding, owed, minted, burned, supply, rate, active, epoch = chain.view("totals")
    assert (bonded, unbonding, owed, minted, burned, active, epoch) == (122 * BWT, 0, 0, 0, 0, 122 * BWT, 0)
    assert supply == sum(account.balance_wei for account in genesis.alloc.values())
    assert rate == 1_300 * 10**9
    assert chain.view("set_record", 0) == (genesis.validator_set().hash, genesis.time_ms)
    for entry in genesis.validators:
        seen = chain.view("validator", entry.operator)
        assert (seen["voting_key"], seen["tokens"], seen["active"]) == (entry.voting_key, entry.stake_wei, True)


def test_the_same_values_make_the_same_genesis() -> None:
    assert text_of() == text_of()
    assert build_genesis(parse_genesis(text_of())).hash == build_genesis(parse_genesis(text_of())).hash


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("balance", hex(65 * BWT), "another balance_wei"),
        ("nonce", "0x2", "another nonce"),
        ("code", "0x00", "another code"),
        ("storage", {}, "another storage"),
    ],
)
def test_a_contract_that_was_changed_is_refused(field: str, value: object, said: str) -> None:
    def edit(document: Document) -> None:
        document["alloc"][STAKING_ENTRY][field] = value

    message = refusal(edited(edit))
    assert "the staking contract as the rest of this file makes it" in message
    assert said in message


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_missing_contract_is_refused(name: str) -> None:
    message = refusal(edited(lambda document: document["alloc"].pop(f"0x{CONTRACTS[name].hex()}")))
    assert message.startswith(f"alloc.{CONTRACTS[name].hex()}: ")
    assert message.endswith("found nothing")


@pytest.mark.parametrize("change", ["operator", "stakeWei", "supply"])
def test_values_that_do_not_belong_to_the_contracts_state_are_refused(change: str) -> None:
    def edit(document: Document) -> None:
        first = document["astralink"]["validators"][0]
        if change == "operator":
            first["operator"] = "0x" + "77" * 20
        elif change == "stakeWei":
            first["stakeWei"] = str(33 * BWT)
        else:
            document["alloc"]["0x" + "99" * 20] = {"balance": "0x1"}  # one wei more of supply

    assert "staking contract" in refusal(edited(edit))


def test_without_the_section_nothing_is_asked_of_these_addresses() -> None:
    assert not any(place in parse_genesis(genesis_text(2)).alloc for place in CONTRACTS.values())
    document = json.loads(genesis_text(2))
    document["alloc"][STAKING_ENTRY] = {"balance": "0x1", "code": "0x00"}
    assert parse_genesis(json.dumps(document).encode()).staking is None


def test_the_devnet_has_staking_unless_it_is_told_otherwise() -> None:
    validators = [genesis_validator(0)]
    on = parse_genesis(devnet(validators, timestamp=1, block_interval_ms=250).encode())
    off = parse_genesis(devnet(validators, timestamp=1, block_interval_ms=250, staking=None).encode())
    assert on.staking == PARAMS
    assert off.staking is None
    initialise(MemoryStore(), render_genesis(on).encode())


def test_as_many_validators_as_there_are_seats_fit_and_the_first_block_is_made() -> None:
    text = genesis_text(64, staking=PARAMS)
    chain = LocalChain(genesis=text, validators=64)
    chain.produce()
    assert len(chain.execution.context.voting_set) == 64
