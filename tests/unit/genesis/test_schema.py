"""The genesis file: what is written is read back, and every mistake names its field."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.crypto import bls
from astralink_node.crypto.mnemonic import account_private_keys
from astralink_node.crypto.secp256k1 import address_of
from astralink_node.services.proposer import longest_build_ms
from consensus.params import MAX_VALIDATORS
from genesis.canonical import canonical_encoding, configuration_hash
from genesis.dev_accounts import DEVNET_ACCOUNTS, DEVNET_MNEMONIC
from genesis.fields import GenesisError, parse_json
from genesis.gas_ceiling import gas_limit_ceiling, propose_timeout_for
from genesis.presets import devnet
from genesis.rendering import render_genesis
from genesis.sealing import parse_genesis
from tests.support.chains import genesis_text, genesis_validator, voting_secret

Edit = Callable[[dict[str, Any]], object]


def edited(edit: Edit, validators: int = 2) -> bytes:
    document = json.loads(genesis_text(validators))
    edit(document)
    return json.dumps(document).encode()


def put(path: str, value: object) -> Edit:
    """Set the field at a dotted path, in which numbers index lists."""

    def apply(document: Any) -> None:
        *way, last = (int(step) if step.isdigit() else step for step in path.split("/"))
        for step in way:
            document = document[step]
        document[last] = value

    return apply


def remove(path: str) -> Edit:
    def apply(document: Any) -> None:
        *way, last = path.split("/")
        for step in way:
            document = document[step]
        del document[last]

    return apply


def test_a_rendered_genesis_reads_back_as_itself() -> None:
    text = genesis_text(3)
    assert render_genesis(parse_genesis(text)).encode() == text


def test_the_devnet_funds_the_accounts_that_developers_tools_derive() -> None:
    keys = account_private_keys(DEVNET_MNEMONIC, 10)
    assert [account.private_key for account in DEVNET_ACCOUNTS] == list(keys)
    assert [account.address for account in DEVNET_ACCOUNTS] == [address_of(key) for key in keys]
    genesis = parse_genesis(devnet([genesis_validator(0)], timestamp=1, block_interval_ms=250).encode())
    assert {genesis.alloc[account.address].balance_wei for account in DEVNET_ACCOUNTS} == {10_000 * 10**18}
    assert genesis.consensus.min_block_interval_ms <= 250


def test_order_whitespace_and_spelling_do_not_change_the_configuration() -> None:
    text = genesis_text(3)
    document = json.loads(text)
    document["astralink"]["validators"].reverse()
    document["config"]["chainId"] = hex(document["config"]["chainId"])
    document["astralink"]["epochLength"] = "0x64"
    for entry in document["astralink"]["validators"]:
        entry["votingKey"] = "0X" + entry["votingKey"][2:].upper()
    shuffled = json.dumps(dict(reversed(document.items())), indent=7).encode()
    assert canonical_encoding(parse_genesis(shuffled)) == canonical_encoding(parse_genesis(text))


def test_an_unknown_config_key_is_kept_and_committed_to() -> None:
    plain, extended = parse_genesis(edited(put("config/x", 1))), parse_genesis(edited(put("config/x", {"y": [2]})))
    assert plain.config["x"] == 1
    assert configuration_hash(plain) != configuration_hash(extended)


def test_every_astralink_value_is_committed_to() -> None:
    seen = {configuration_hash(parse_genesis(genesis_text(2)))}
    changes: list[Edit] = [
        put("astralink/networkName", "other"),
        put("astralink/epochLength", 77),
        put("astralink/forks/osaka", 9),
        put("astralink/consensus/prevoteTimeoutMs", 1234),
        put("astralink/fees/baseFeeStepIndex/initial", 1),
        put("astralink/fees/minBaseFeeWei/maximum", 10**12 + 1),
        put("astralink/validators/0/stakeWei", 10**18),
        put("astralink/validators/0/operator", "0x" + "77" * 20),
    ]
    for number, change in enumerate(changes):
        document = json.loads(genesis_text(2))
        change(document)
        document["config"].pop("osakaTime")
        document.pop("extraData")
        seen.add(configuration_hash(parse_genesis(json.dumps(document).encode())))
        assert len(seen) == number + 2


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            put("astralink/validators/0/votingKey", "0x" + "ab" * 47),
            "astralink.validators[0].votingKey: expected 48 bytes as 0x hex, found 47",
        ),
        (put("astralink/validators/1/votingKey", "0x" + "00" * 48), "astralink.validators[1].votingKey: expected a co"),
        (put("astralink/validators/0/votingKey", "0xzz"), "found characters that are not hex digits"),
        (put("astralink/validators/0/votingKey", "0xabc"), "found an odd number of hex digits (3)"),
        (put("astralink/validators/0/checkpointKey", "0x"), "checkpointKey: expected 1952 bytes as 0x hex, found 0"),
        (put("astralink/validators/0/stakeWei", 10**18 - 1), "stakeWei: expected a whole number from 10000000000"),
        (put("astralink/validators/0/stakeWei", str(2**200)), "stakeWei: expected 1 to"),
        (put("astralink/validators/0/extra", 1), "astralink.validators[0].extra: expected one of"),
        (put("astralink/validators", []), "astralink.validators: expected at least one validator, found none"),
        (put("astralink/validators", {}), "astralink.validators: expected a list, found an object"),
        (put("astralink/validatorz", []), "found an unknown key (did you mean validators?)"),
        (remove("astralink/forks"), "astralink.forks: expected a value, found nothing"),
        (put("astralink/forks/prague", 1), "astralink.forks.prague: expected a whole number from 0 to 0, found 1"),
        (put("astralink/forks/amsterdam", 1), "astralink.forks.amsterdam: expected one of prague, osaka"),
        (put("astralink/version", 2), "astralink.version: expected a whole number from 1 to 1, found 2"),
        (put("astralink/networkName", ""), "astralink.networkName: expected 1 to 32 characters, found 0"),
        (put("astralink/networkName", 5), "astralink.networkName: expected a text, found 5"),
        (put("astralink/epochLength", 2), "astralink.epochLength: expected a whole number from 3"),
        (put("astralink/epochLength", True), "found true"),
        (put("astralink/epochLength", None), "found null"),
        (put("astralink/epochLength", "ten"), 'found "ten"'),
        (put("astralink/consensus/messageDelayMs", 5), "astralink.consensus.messageDelayMs: expected 10 to 3600000"),
        (put("astralink/consensus/unbondingMs", 1), "astralink.consensus.unbondingMs: expected more than"),
        (put("astralink/consensus/proposeTimeoutMs", 1000), "astralink.fees.gasTarget.maximum: expected at most"),
        (put("astralink/fees/gasTarget/minimum", 21000), "astralink.fees.gasTarget.minimum: expected a whole number"),
        (put("astralink/fees/gasTarget/initial", 2**23 - 1), "astralink.fees.gasTarget.initial: expected a whole"),
        (put("astralink/fees/baseFeeStepIndex/maximum", 9), "astralink.fees.baseFeeStepIndex.maximum: expected"),
        (put("gasLimit", "0x1000000"), "gasLimit: expected 30000000 (twice astralink.fees.gasTarget.initial)"),
        (put("extraData", "0x01"), "extraData: expected 0x01"),
        (put("difficulty", 1), "difficulty: expected a whole number from 0 to 0, found 1"),
        (put("parentHash", "0x" + "01" * 32), "parentHash: expected 32 zero bytes"),
        (put("baseFeePerGas", 1), "baseFeePerGas: expected a whole number from 100000000"),
        (put("timestamp", -1), "timestamp: expected a whole number from 0"),
        (put("mixHash", "0x00"), "mixHash: expected 32 bytes as 0x hex, found 1"),
        (put("gaslimit", 1), "gaslimit: expected one of"),
        (remove("alloc"), "alloc: expected a value, found nothing"),
        (remove("config/chainId"), "config.chainId: expected a value, found nothing"),
        (put("config/chainId", 0), "config.chainId: expected a whole number from 1"),
        (put("config/pragueTime", 5), "config.pragueTime: expected a whole number from 0 to 0, found 5"),
        (put("config/londonBlock", 5), "config.londonBlock: expected a whole number from 0 to 0, found 5"),
        (put("config/clique", {}), "config.clique: expected no section of another consensus engine"),
        (put("astralink/forks/osaka", 7), "config.osakaTime: expected nothing, since astralink.forks.osaka is not 0"),
        (put("alloc/0xabcd", {"balance": 1}), "alloc.0xabcd: expected 20 bytes as 0x hex, found 2"),
        (put("alloc/" + "ab" * 20, {}), f"alloc.{'ab' * 20}.balance: expected a value, found nothing"),
        (put("alloc/" + "ab" * 20, {"balance": "-1"}), f"alloc.{'ab' * 20}.balance: expected a whole number from 0"),
        (put("alloc/" + "ab" * 20, {"balance": 2**256}), f"alloc.{'ab' * 20}.balance: expected a whole number"),
        (put("alloc/" + "ab" * 20, {"balance": 2**256 - 1}), "alloc: expected balances of at most"),
        (put("alloc/" + "ab" * 20, {"balance": 1, "code": "0x" + "00" * 24_577}), "expected at most 24576 bytes"),
        (put("alloc/" + "ab" * 20, {"balance": 1, "nonce": 2**64 - 1}), "nonce: expected a whole number"),
        (put("alloc/" + "ab" * 20, {"balance": 1, "storage": {"0x" + "1" * 66: "0x1"}}), "expected at most 32 bytes"),
        (remove("alloc/0x000f3df6d732807ef1319fb7b8bb8522d0beac02"), "alloc.000f3df6d732807ef1319fb7b8bb8522d0beac02"),
        (put("alloc/0x0000f90827f1c53a10cb7a02335b175320002935/code", "0x00"), "found other code"),
    ],
)
def test_a_mistake_names_its_field(edit: Edit, message: str) -> None:
    with pytest.raises(GenesisError) as caught:
        parse_genesis(edited(edit))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["votingKey", "operator", "checkpointKey"])
def test_two_validators_share_nothing(name: str) -> None:
    def share(document: dict[str, Any]) -> None:
        first, second = document["astralink"]["validators"]
        second[name] = first[name]
        if name == "votingKey":
            second["proofOfPossession"] = first["proofOfPossession"]

    with pytest.raises(GenesisError) as caught:
        parse_genesis(edited(share))
    assert caught.value.path == f"astralink.validators[1].{name}"
    assert caught.value.found == "that of astralink.validators[0]"


def test_a_proof_of_possession_by_another_key_is_refused() -> None:
    proof = "0x" + bls.prove_possession(voting_secret(9)).hex()
    with pytest.raises(GenesisError) as caught:
        parse_genesis(edited(put("astralink/validators/0/proofOfPossession", proof)))
    assert caught.value.path == "astralink.validators[0].proofOfPossession"


def test_one_address_in_two_spellings_is_refused() -> None:
    address = DEVNET_ACCOUNTS[0].address.hex()
    with pytest.raises(GenesisError, match="another spelling"):
        parse_genesis(edited(put(f"alloc/{address.upper()}", {"balance": 1})))


def test_one_slot_in_two_spellings_is_refused() -> None:
    account = {"balance": 0, "storage": {"0x01": "0x02", "0x0001": "0x03"}}
    with pytest.raises(GenesisError, match="another spelling"):
        parse_genesis(edited(put("alloc/" + "cd" * 20, account)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected JSON"),
        (b"{", "line 1 column 2"),
        (b"[]", "expected an object, found a list"),
        (b"\xff\xfe\xfd", "UTF-8"),
        (b'{"config": 1, "config": 2}', "the key 'config' twice"),
        (b'{"config": 1.5}', "expected whole numbers only, found 1.5"),
        (b'{"config": NaN}', "expected whole numbers only, found NaN"),
        (b"[" * 100_000, "deeper nesting"),
    ],
)
def test_a_file_that_is_not_plain_json_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(GenesisError) as caught:
        parse_genesis(data)
    assert message in str(caught.value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def every_path(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in every_path(child, (*path, key)))]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_raises_only_genesis_errors(data: st.DataObject) -> None:
    document = json.loads(genesis_text(1))
    path = data.draw(st.sampled_from([path for path in every_path(document) if path]))
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = data.draw(JSON_VALUES)
    try:
        genesis = parse_genesis(json.dumps(document).encode())
    except GenesisError:
        return
    assert parse_genesis(render_genesis(genesis).encode()) == genesis


def test_more_validators_than_a_certificate_holds_are_refused() -> None:
    def multiply(document: dict[str, Any]) -> None:
        entry = document["astralink"]["validators"][0]
        document["astralink"]["validators"] = [entry] * (MAX_VALIDATORS + 1)

    with pytest.raises(GenesisError):
        parse_genesis(edited(multiply))


def test_the_propose_timeout_and_the_gas_ceiling_agree() -> None:
    for gas_limit in (2**24, 30_000_000, 30_000_001):
        assert gas_limit_ceiling(propose_timeout_for(gas_limit)) >= gas_limit
        assert gas_limit_ceiling(propose_timeout_for(gas_limit) - 1) < gas_limit


@pytest.mark.parametrize("max_gas_target", [2**23, 15_000_000, 30_000_000])
def test_presets_let_building_have_half_of_the_propose_timeout(max_gas_target: int) -> None:
    """PBTS counts it as the proposal's way, of which it may take three quarters (services.proposer)."""
    params = parse_genesis(genesis_text(max_gas_target=max_gas_target)).consensus
    assert params.message_delay_ms * 3 // 4 >= params.propose_timeout_ms // 2
    assert longest_build_ms(params) == params.propose_timeout_ms // 2


def test_numbers_are_read_as_geth_reads_them() -> None:
    field = parse_json(b'{"a": 16, "b": "16", "c": "0x10", "d": "0X10"}')
    assert [entry.number(0, 99) for entry in field.entries().values()] == [16, 16, 16, 16]
