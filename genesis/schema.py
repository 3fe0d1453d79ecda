"""What a genesis file says, checked: geth's `config`, header fields and `alloc`, and our `astralink` section.

The file is geth's, so that existing tools read it; `astralink` adds what a proof-of-stake chain of ours needs.
Every mistake is a :class:`~genesis.fields.GenesisError` that names the field. Unknown keys are refused, except
inside `config`, which other tools extend and whose every byte the genesis hash covers anyway. What needs the EVM, the
staking contracts' first state, is genesis.sealing's: a node that goes on with a chain loads this alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from astralink_node.crypto import bls, ml_dsa
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.fee_rules import (
    BASE_FEE_STEP_DENOMINATORS,
    ELASTICITY,
    MAX_GAS_TARGET,
    MAX_MIN_BASE_FEE_WEI,
    MIN_GAS_TARGET,
    FeeBounds,
    FeeParameters,
    encode_fee_parameters,
)
from astralink_node.evm.fork_rules import OSAKA, PRAGUE, ChainRules, ForkRules, astralink
from astralink_node.types import Address
from consensus.params import (
    MAX_HEIGHT,
    MAX_TIME_MS,
    MAX_TOTAL_POWER,
    MAX_VALIDATORS,
    MIN_EPOCH_LENGTH,
    ConsensusParams,
    ParamsError,
)
from consensus.staking_params import StakingParams
from consensus.validator_set import Validator, ValidatorSet, ValidatorSetError, canonical_order
from genesis.fields import Field, GenesisError, camel_case, parse_json
from genesis.gas_ceiling import gas_limit_ceiling
from genesis.staking_section import parse_staking
from genesis.system_contracts import SYSTEM_CONTRACTS

SECTION_VERSION = 1
STAKE_UNIT_WEI = 10**18
"""A validator's voting power is its stake in whole BWT, rounded down."""

MAX_CHAIN_ID = 2**53 - 1
"""Exact in JSON. (MetaMask and EIP-2294 allow a little less and much more.)"""
MAX_WEI = 2**256 - 1
MAX_NONCE = 2**64 - 2
"""EIP-2681: an account at 2**64 - 1 can never send again."""
MAX_CODE_BYTES = 24_576
"""EIP-170."""
MAX_NAME_LENGTH = 32

_TOP_REQUIRED = ("config", "timestamp", "baseFeePerGas", "alloc", "astralink")
_TOP_OPTIONAL = (
    "nonce",
    "extraData",
    "gasLimit",
    "difficulty",
    "mixHash",
    "coinbase",
    "number",
    "gasUsed",
    "parentHash",
    "excessBlobGas",
    "blobGasUsed",
)
_ZERO_FIELDS = ("nonce", "difficulty", "number", "gasUsed", "excessBlobGas", "blobGasUsed")
"""geth writes them into genesis headers; here they are zero or left out."""

_BLOCK_FORKS = (
    "homesteadBlock",
    "eip150Block",
    "eip155Block",
    "eip158Block",
    "byzantiumBlock",
    "constantinopleBlock",
    "petersburgBlock",
    "istanbulBlock",
    "muirGlacierBlock",
    "berlinBlock",
    "londonBlock",
    "arrowGlacierBlock",
    "grayGlacierBlock",
    "mergeNetsplitBlock",
)
_TIME_FORKS = ("shanghaiTime", "cancunTime", "pragueTime")
_OTHER_ENGINES = ("ethash", "clique", "ibft", "qbft", "parlia")
_FORKS: Mapping[str, ForkRules] = {"prague": PRAGUE, "osaka": OSAKA}


@dataclass(frozen=True, slots=True)
class GenesisValidator:
    operator: Address
    voting_key: bytes
    """48 bytes: compressed BLS12-381 G1 point."""
    proof_of_possession: bytes
    """96 bytes, verified."""
    checkpoint_key: bytes
    """1,952 bytes: ML-DSA-65 public key."""
    stake_wei: int

    @property
    def power(self) -> int:
        return self.stake_wei // STAKE_UNIT_WEI


@dataclass(frozen=True, slots=True)
class GenesisAccount:
    balance_wei: int
    nonce: int
    code: bytes
    storage: tuple[tuple[int, int], ...]
    """(slot, value), slots ascending, values not zero."""


@dataclass(frozen=True, slots=True)
class GenesisFile:
    chain_id: int
    config: Mapping[str, object]
    """As in the file, with numbers of known keys as integers."""
    timestamp: int
    """Unix seconds; the chain's time in milliseconds starts at 1,000 times this."""
    mix_hash: bytes
    """32 bytes: seed of the randomness beacon."""
    coinbase: Address
    base_fee_wei: int
    alloc: Mapping[Address, GenesisAccount]
    network_name: str
    forks: tuple[tuple[int, str], ...]
    """(activation height, name), ascending."""
    epoch_length: int
    consensus: ConsensusParams
    fees: FeeParameters
    fee_bounds: FeeBounds
    validators: tuple[GenesisValidator, ...]
    """In the order of the validator set: voting keys ascending."""
    staking: StakingParams | None = None
    """None: the set never changes, nothing is minted, and base fees are burned."""

    @property
    def time_ms(self) -> int:
        return 1000 * self.timestamp

    def chain_rules(self) -> ChainRules:
        forks = tuple((height, _FORKS[name]) for height, name in self.forks)
        return astralink(self.chain_id, self.fee_bounds, forks)

    def validator_set(self) -> ValidatorSet:
        members = canonical_order(
            Validator(entry.voting_key, keccak256(entry.checkpoint_key), entry.power, entry.operator)
            for entry in self.validators
        )
        return ValidatorSet(members, bls.aggregate_public_keys_eip2537([member.voting_key for member in members]))


def parse_unsealed_genesis(data: bytes) -> GenesisFile:
    """The genesis that the bytes of a file describe; raises GenesisError for the first mistake found.

    What `alloc` holds of the staking contracts is not looked at: `genesis.sealing.parse_genesis` does, in the EVM.
    """
    top = parse_json(data).record(_TOP_REQUIRED, _TOP_OPTIONAL)
    section = top["astralink"].record(
        ("version", "networkName", "epochLength", "forks", "consensus", "fees", "validators"), ("staking",)
    )
    section["version"].number(SECTION_VERSION, SECTION_VERSION)
    forks = _parse_forks(section["forks"])
    timestamp = top["timestamp"].number(0, MAX_TIME_MS // 1000)
    config = _parse_config(top["config"], forks)
    consensus = _parse_consensus(section["consensus"])
    fees, fee_bounds = _parse_fees(section["fees"], consensus)
    epoch_length = section["epochLength"].number(MIN_EPOCH_LENGTH, MAX_HEIGHT)
    staking = parse_staking(section["staking"], consensus, epoch_length) if "staking" in section else None
    genesis = GenesisFile(
        chain_id=top["config"].entries()["chainId"].number(1, MAX_CHAIN_ID),
        config=config,
        timestamp=timestamp,
        mix_hash=top["mixHash"].hex_bytes(32) if "mixHash" in top else bytes(32),
        coinbase=Address(top["coinbase"].hex_bytes(20) if "coinbase" in top else bytes(20)),
        base_fee_wei=top["baseFeePerGas"].number(fees.min_base_fee_wei, MAX_WEI),
        alloc=_parse_alloc(top["alloc"]),
        network_name=section["networkName"].text(max_length=MAX_NAME_LENGTH),
        forks=forks,
        epoch_length=epoch_length,
        consensus=consensus,
        fees=fees,
        fee_bounds=fee_bounds,
        validators=_parse_validators(section["validators"], staking),
        staking=staking,
    )
    _check_header_fields(top, fees)
    return genesis


def _check_header_fields(top: Mapping[str, Field], fees: FeeParameters) -> None:
    """Fields that other tools need in the file, but which follow from the rest: they must agree with it."""
    for name in _ZERO_FIELDS:
        if name in top:
            top[name].number(0, 0)
    if "parentHash" in top and any(top["parentHash"].hex_bytes(32)):
        raise top["parentHash"].fail("32 zero bytes")
    if "gasLimit" in top and top["gasLimit"].number(0, ELASTICITY * MAX_GAS_TARGET) != fees.gas_limit:
        raise top["gasLimit"].fail(f"{fees.gas_limit} (twice astralink.fees.gasTarget.initial)")
    if "extraData" in top:
        expected = encode_fee_parameters(fees)
        if top["extraData"].hex_bytes() not in (b"", expected):
            raise top["extraData"].fail(f"0x{expected.hex()} (the encoding of astralink.fees) or nothing")


def _parse_config(config: Field, forks: tuple[tuple[int, str], ...]) -> dict[str, object]:
    """geth's chain config: every fork up to Prague active from the start, and no other consensus engine's section."""
    entries = config.entries()
    if "chainId" not in entries:
        raise GenesisError(f"{config.path}.chainId", "a value", "nothing")
    for name in _OTHER_ENGINES:
        if name in entries:
            raise GenesisError(entries[name].path, "no section of another consensus engine", f"{name!r}")
    numbers: dict[str, object] = {"chainId": entries["chainId"].number(1, MAX_CHAIN_ID)}
    for name in (*_BLOCK_FORKS, *_TIME_FORKS, "terminalTotalDifficulty"):
        if name in entries:
            numbers[name] = entries[name].number(0, 0)
    if "osakaTime" in entries:
        if (0, "osaka") not in forks:
            raise entries["osakaTime"].fail("nothing, since astralink.forks.osaka is not 0")
        numbers["osakaTime"] = entries["osakaTime"].number(0, 0)
    return {name: numbers.get(name, field.value) for name, field in entries.items()}


def _parse_forks(section: Field) -> tuple[tuple[int, str], ...]:
    entries = section.record(("prague",), ("osaka",))
    entries["prague"].number(0, 0)  # the base: py-evm's newest fork, older ones are not carried
    heights = {name: field.number(0, MAX_HEIGHT) for name, field in entries.items()}
    # Where both stand at 0, the later one in this order rules from the start.
    return tuple((heights[name], name) for name in _FORKS if name in heights)


def _parse_consensus(section: Field) -> ConsensusParams:
    names = {camel_case(field.name): field.name for field in fields(ConsensusParams)}
    entries = section.record(tuple(names))
    values = {names[key]: entry.number(1, MAX_TIME_MS) for key, entry in entries.items()}
    try:
        return ConsensusParams(**values)
    except ParamsError as error:
        raise GenesisError(f"{section.path}.{camel_case(error.field)}", error.expected, str(error.found)) from error


def _parse_fees(section: Field, consensus: ConsensusParams) -> tuple[FeeParameters, FeeBounds]:
    entries = section.record(("gasTarget", "baseFeeStepIndex", "minBaseFeeWei"))
    ceiling = gas_limit_ceiling(consensus.propose_timeout_ms)
    target = _parse_range(entries["gasTarget"], MIN_GAS_TARGET, MAX_GAS_TARGET)
    if ELASTICITY * target[2] > ceiling:
        raise GenesisError(
            f"{section.path}.gasTarget.maximum",
            f"at most {ceiling // ELASTICITY}: a block of {ceiling} gas is what a validator can execute within "
            f"astralink.consensus.proposeTimeoutMs ({consensus.propose_timeout_ms})",
            str(target[2]),
        )
    step = _parse_range(entries["baseFeeStepIndex"], 0, len(BASE_FEE_STEP_DENOMINATORS) - 1)
    lowest = _parse_range(entries["minBaseFeeWei"], 0, MAX_MIN_BASE_FEE_WEI)
    bounds = FeeBounds(
        min_gas_target=target[0],
        max_gas_target=target[2],
        min_step_index=step[0],
        max_step_index=step[2],
        lowest_min_base_fee_wei=lowest[0],
        highest_min_base_fee_wei=lowest[2],
    )
    return FeeParameters(gas_target=target[1], base_fee_step_index=step[1], min_base_fee_wei=lowest[1]), bounds


def _parse_range(section: Field, lowest: int, highest: int) -> tuple[int, int, int]:
    """(minimum, initial, maximum), in ascending order within what any chain may have."""
    entries = section.record(("minimum", "initial", "maximum"))
    minimum = entries["minimum"].number(lowest, highest)
    maximum = entries["maximum"].number(minimum, highest)
    return minimum, entries["initial"].number(minimum, maximum), maximum


def _parse_validators(section: Field, staking: StakingParams | None) -> tuple[GenesisValidator, ...]:
    found: dict[bytes, str] = {}
    operators: dict[bytes, str] = {}
    checkpoint_keys: dict[bytes, str] = {}
    validators: list[GenesisValidator] = []
    for entry in section.items():
        seats = MAX_VALIDATORS if staking is None else staking.max_validators
        if len(validators) == seats:
            raise section.fail(f"at most {seats} validators", "more")
        validator = parse_validator(entry)
        if staking is not None and validator.stake_wei < staking.min_stake_wei:
            raise GenesisError(
                f"{entry.path}.stakeWei",
                f"at least astralink.staking.minStakeWei ({staking.min_stake_wei})",
                str(validator.stake_wei),
            )
        for known, key, name in (
            (found, validator.voting_key, "votingKey"),
            (operators, validator.operator, "operator"),
            (checkpoint_keys, validator.checkpoint_key, "checkpointKey"),
        ):
            if key in known:
                raise GenesisError(f"{entry.path}.{name}", "a value of its own", f"that of {known[key]}")
            known[key] = entry.path
        validators.append(validator)
    if not validators:
        raise section.fail("at least one validator", "none")
    total = sum(validator.power for validator in validators)
    if total > MAX_TOTAL_POWER:
        raise section.fail(f"a total stake of at most {MAX_TOTAL_POWER} BWT", f"{total} BWT")
    return tuple(sorted(validators, key=lambda validator: validator.voting_key))


def parse_validator(entry: Field) -> GenesisValidator:
    """One entry of `astralink.validators`, its keys and its proof of possession checked."""
    values = entry.record(("operator", "votingKey", "proofOfPossession", "checkpointKey", "stakeWei"))
    voting_key = values["votingKey"].hex_bytes(48)
    try:
        bls.decode_public_key(voting_key)
    except bls.InvalidPoint as error:
        raise values["votingKey"].fail("a compressed point of BLS12-381's G1 subgroup", str(error)) from error
    proof = values["proofOfPossession"].hex_bytes(96)
    if not bls.verify_possession(voting_key, proof):
        raise values["proofOfPossession"].fail("a proof of possession of votingKey", "a signature that proves nothing")
    checkpoint_key = values["checkpointKey"].hex_bytes(ml_dsa.PUBLIC_KEY_BYTES)
    validator = GenesisValidator(
        operator=Address(values["operator"].hex_bytes(20)),
        voting_key=voting_key,
        proof_of_possession=proof,
        checkpoint_key=checkpoint_key,
        stake_wei=values["stakeWei"].number(STAKE_UNIT_WEI, MAX_WEI),
    )
    try:
        Validator(voting_key, keccak256(checkpoint_key), validator.power, validator.operator)
    except ValidatorSetError as error:
        raise values["stakeWei"].fail(f"1 to {MAX_TOTAL_POWER} BWT in wei", str(error)) from error
    return validator


def _parse_alloc(section: Field) -> dict[Address, GenesisAccount]:
    alloc: dict[Address, GenesisAccount] = {}
    for field in section.entries().values():
        key = field.path.removeprefix(f"{section.path}.")
        address = Address(Field(field.path, key).hex_bytes(20))
        if address in alloc:
            raise GenesisError(field.path, "every address once", "the same address in another spelling")
        alloc[address] = _parse_account(field)
    total = sum(account.balance_wei for account in alloc.values())
    if total > MAX_WEI:
        raise section.fail(f"balances of at most {MAX_WEI} wei in all", str(total))
    for address, code in SYSTEM_CONTRACTS.items():
        if address not in alloc or alloc[address].code != code:
            raise GenesisError(
                f"{section.path}.{address.hex()}",
                "the system contract of EIP-4788 or EIP-2935 that lives at this address",
                "other code" if address in alloc else "nothing",
            )
    return alloc


def _parse_account(field: Field) -> GenesisAccount:
    entries = field.record(("balance",), ("nonce", "code", "storage"))
    storage: dict[int, int] = {}
    if "storage" in entries:
        for item in entries["storage"].entries().values():
            slot = Field(item.path, item.path.removeprefix(f"{entries['storage'].path}.")).word()
            if slot in storage:
                raise GenesisError(item.path, "every slot once", "the same slot in another spelling")
            storage[slot] = item.word()
    return GenesisAccount(
        balance_wei=entries["balance"].number(0, MAX_WEI),
        nonce=entries["nonce"].number(0, MAX_NONCE) if "nonce" in entries else 0,
        code=entries["code"].hex_bytes(max_length=MAX_CODE_BYTES) if "code" in entries else b"",
        storage=tuple(sorted((slot, value) for slot, value in storage.items() if value)),
    )
