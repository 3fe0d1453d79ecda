"""Overrides of simulated calls: the block's fields and where precompiles answer; what contradicts itself is refused."""

from dataclasses import fields

import pytest

from astralink_node.evm.fork_rules import OSAKA, plain_ethereum
from astralink_node.evm.overrides import AccountOverride, BlockOverrides
from astralink_node.evm.scratch_state import ScratchState
from astralink_node.evm.simulate import CallParameters, CallRefused, CallResult, Simulation
from astralink_node.types import Address, Hash32
from tests.support.evm_worlds import BASE_FEE, CONTEXT, address

CALLER = address(100)
CONTRACT = address(1)
TARGET = address(2)
IDENTITY = Address((4).to_bytes(20, "big"))
SHA256 = Address((2).to_bytes(20, "big"))
RETURN_WORD = "5f5260205ff3"
ALLOC = {"0x" + CALLER.hex(): {"balance": 10**18}}


def simulation(
    *overrides: AccountOverride, block: BlockOverrides | None = None, code: str = "", gas_cap: int = 50_000_000
) -> Simulation:
    alloc = ALLOC | ({"0x" + CONTRACT.hex(): {"code": "0x" + code, "nonce": 1}} if code else {})
    state = ScratchState(alloc).head()
    rules = plain_ethereum(OSAKA)
    return Simulation(
        rules, CONTEXT, state, gas_cap=gas_cap, overrides=overrides, block_overrides=block or BlockOverrides()
    )


def call(world: Simulation, to: Address = CONTRACT, data: bytes = b"", **more: int) -> CallResult:
    return world.call(CallParameters(sender=CALLER, to=to, data=data, **more))


# --- Blocks --------------------------------------------------------------------------------------------------------

SEEN = {
    "number": ("43", 77),
    "timestamp": ("42", 88),
    "gas_limit": ("45", 99_000),
    "coinbase": ("41", Address(b"\x0c" * 20)),
    "prev_randao": ("44", Hash32(b"\x0d" * 32)),
    "base_fee_per_gas": ("48", BASE_FEE + 1),
    "blob_base_fee": ("4a", 12),
}


@pytest.mark.parametrize("field", sorted(SEEN))
def test_a_contract_sees_an_overridden_field_and_the_others_as_they_were(field: str) -> None:
    fees = {"gas_price": BASE_FEE + 1, "gas": 100_000}
    for name, (opcode, value) in SEEN.items():
        expected = value if name == field else getattr(CONTEXT, name)
        if name == "blob_base_fee" and name != field:
            expected = 1
        world = simulation(block=BlockOverrides(**{field: SEEN[field][1]}), code=opcode + RETURN_WORD)
        found = call(world, **fees).output
        assert found == (expected.rjust(32, b"\0") if isinstance(expected, bytes) else expected.to_bytes(32, "big"))


def test_every_field_of_a_block_that_opcodes_read_can_be_overridden() -> None:
    assert {field.name for field in fields(BlockOverrides)} == {*SEEN, "beacon_root"}


def test_a_fee_below_the_overridden_base_fee_is_refused_and_no_fee_is_free() -> None:
    world = simulation(block=BlockOverrides(base_fee_per_gas=50), code="48" + RETURN_WORD)
    with pytest.raises(CallRefused, match=r"max fee per gas less than block base fee: .*maxFeePerGas: 49, baseFee: 50"):
        call(world, gas_price=49, gas=100_000)
    assert int.from_bytes(call(world).output, "big") == 0


def test_a_lower_gas_limit_of_the_block_does_not_bound_an_estimate() -> None:
    world = simulation(block=BlockOverrides(gas_limit=30_000), code="6001600055")
    assert world.estimate_gas(CallParameters(sender=CALLER, to=CONTRACT)) > 40_000


# --- Precompiles ---------------------------------------------------------------------------------------------------


def test_a_moved_precompile_answers_at_its_new_place_only() -> None:
    world = simulation(AccountOverride(IDENTITY, move_precompile_to=TARGET))
    assert call(world, TARGET, b"\x12\x34").output == b"\x12\x34"
    assert call(world, IDENTITY, b"\x12\x34").output == b""


def test_code_may_take_the_place_of_a_precompile_and_call_it_where_it_went() -> None:
    # Hands the call data on to the precompile and returns its answer's length.
    code = "365f5f37" + "60405f365f5f73" + TARGET.hex() + "5af1" + "3d" + RETURN_WORD
    moved = AccountOverride(SHA256, code=bytes.fromhex(code), move_precompile_to=TARGET)
    assert int.from_bytes(call(simulation(moved), SHA256, b"\x01" * 77).output, "big") == 32


def test_an_overridden_account_is_no_precompile_any_more_and_others_are() -> None:
    world = simulation(AccountOverride(IDENTITY, balance=5))
    assert call(world, IDENTITY, b"\x12").output == b""
    assert len(call(world, SHA256, b"\x12").output) == 32


def test_a_calls_precompiles_are_in_place_again_afterwards() -> None:
    call(simulation(AccountOverride(IDENTITY, move_precompile_to=TARGET)), TARGET)
    assert call(simulation(), IDENTITY, b"\x12").output == b"\x12"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            (AccountOverride(Address(b"\xc1" + bytes(19)), move_precompile_to=TARGET),),
            "account 0xc100000000000000000000000000000000000000 is not a precompile",
        ),
        (
            (AccountOverride(IDENTITY, move_precompile_to=IDENTITY),),
            "account 0x0000000000000000000000000000000000000004 is already overridden",
        ),
        (
            (AccountOverride(IDENTITY, move_precompile_to=TARGET), AccountOverride(TARGET, nonce=1)),
            "account 0xaAaAaAaaAaAaAaaAaAAAAAAAAaaaAaAa00000002 is already overridden",
        ),
    ],
    ids=["no precompile", "itself", "taken"],
)
def test_a_move_that_contradicts_itself_is_refused_in_geths_words(
    overrides: tuple[AccountOverride, ...], message: str
) -> None:
    with pytest.raises(CallRefused) as caught:
        simulation(*overrides)
    assert (caught.value.kind, caught.value.message.lower()) == ("override", message.lower())
