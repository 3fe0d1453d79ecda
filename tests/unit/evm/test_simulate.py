"""Simulated calls: geth's semantics, bounded, and without a trace in the state."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.crypto.addresses import checksum_address
from astralink_node.evm.fork_rules import OSAKA, PRAGUE, TX_GAS_CAP, plain_ethereum
from astralink_node.evm.overrides import AccountOverride
from astralink_node.evm.scratch_state import ScratchState
from astralink_node.evm.simulate import CallParameters, CallRefused, Simulation
from astralink_node.state.flat_state import HeadState
from astralink_node.types import Address
from tests.support.evm_worlds import BASE_FEE, CONTEXT, address

CALLER = address(100)
CONTRACT = address(1)
OTHER = address(2)
GAS_CAP = 50_000_000
BALANCE = 10**18
RETURN_WORD = "5f5260205ff3"


def simulation(
    codes: dict[Address, str] | None = None,
    *,
    fork: object = OSAKA,
    overrides: tuple[AccountOverride, ...] = (),
    interrupt: Callable[[], None] | None = None,
    storage: dict[str, str] | None = None,
    gas_cap: int = GAS_CAP,
) -> Simulation:
    alloc: dict[str, dict[str, object]] = {"0x" + CALLER.hex(): {"balance": BALANCE}}
    for target, code in (codes or {}).items():
        alloc["0x" + target.hex()] = {"code": "0x" + code, "nonce": 1, "balance": 1, "storage": storage or {}}
    base = ScratchState(alloc)
    return Simulation(
        plain_ethereum(fork), CONTEXT, base.head(), gas_cap=gas_cap, overrides=overrides, interrupt=interrupt
    )


def call(to: bytes = CONTRACT, **fields: object) -> CallParameters:
    return CallParameters(**({"sender": CALLER, "to": to} | fields))


def refusal(run: Callable[[CallParameters], object], parameters: CallParameters) -> CallRefused:
    with pytest.raises(CallRefused) as caught:
        run(parameters)
    return caught.value


# --- eth_call ------------------------------------------------------------------------------------------------------


def test_a_call_returns_what_the_contract_returns() -> None:
    result = simulation({CONTRACT: "5f35600101" + RETURN_WORD}).call(call(data=(41).to_bytes(32, "big")))
    assert (result.status, int.from_bytes(result.output, "big"), result.halt_reason) == ("ok", 42, "")


def test_a_revert_carries_its_data() -> None:
    result = simulation({CONTRACT: "60aa5f5260205ffd"}).call(call())
    assert (result.status, result.output[-1], result.halt_reason) == ("reverted", 0xAA, "execution reverted")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("fe", "invalid opcode: INVALID"),
        ("5b5f56", "out of gas"),
        ("01", "stack underflow"),
        ("600556", "invalid jump"),
    ],
)
def test_a_halt_says_why_and_returns_nothing(code: str, reason: str) -> None:
    result = simulation({CONTRACT: code}).call(call(gas=100_000))
    assert (result.status, result.output) == ("halted", b"")
    assert reason in result.halt_reason


def test_calls_do_not_see_each_others_changes() -> None:
    counter = simulation({CONTRACT: "5f546001018060005560005260206000f3"})
    assert [counter.call(call()).output[-1] for _ in range(2)] == [1, 1]


def test_without_fees_gas_is_free_and_the_base_fee_reads_zero() -> None:
    result = simulation({CONTRACT: "48" + RETURN_WORD}).call(call(Address(CONTRACT), sender=address(77)))
    assert (result.status, int.from_bytes(result.output, "big")) == ("ok", 0)


def test_with_fees_the_base_fee_and_the_price_are_the_blocks() -> None:
    fees = {"max_fee_per_gas": 10 * BASE_FEE, "max_priority_fee_per_gas": 2}
    result = simulation({CONTRACT: "483a01" + RETURN_WORD}).call(call(gas=100_000, **fees))
    assert int.from_bytes(result.output, "big") == BASE_FEE + BASE_FEE + 2


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"value": BALANCE + 1}, "insufficient_funds", f"have {BALANCE} want {BALANCE + 1} (supplied gas {GAS_CAP})"),
        ({"gas_price": BALANCE, "gas": 30_000}, "insufficient_funds", "insufficient funds for gas * price + value"),
        ({"gas": 20_999}, "intrinsic_gas", "intrinsic gas too low: have 20999, want 21000"),
        ({"gas": 22_000, "data": b"\x01" * 62}, "intrinsic_gas", "floor data gas"),
        ({"gas_price": BASE_FEE - 1}, "fee_cap", "max fee per gas less than block base fee"),
        ({"max_fee_per_gas": 8, "max_priority_fee_per_gas": 9}, "invalid", "max priority fee per gas higher"),
        ({"to": b"", "data": bytes(49_153)}, "initcode", "max initcode size exceeded: code size 49153 limit 49152"),
    ],
)
def test_a_call_that_cannot_start_says_why(fields: dict[str, object], kind: str, message: str) -> None:
    found = refusal(simulation({CONTRACT: "00"}).call, call(**fields))
    assert found.kind == kind
    assert message in found.message


def test_gas_is_capped_by_the_node() -> None:
    result = simulation({CONTRACT: "5a" + RETURN_WORD}, gas_cap=100_000).call(call(gas=10**12))
    assert int.from_bytes(result.output, "big") == 100_000 - 21_000 - 2


def test_an_interrupt_ends_the_call_with_its_own_exception() -> None:
    def interrupt() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        simulation({CONTRACT: "5b5f56"}, interrupt=interrupt).call(call())


def test_a_creation_returns_the_deployed_code() -> None:
    result = simulation().call(call(b"", data=bytes.fromhex("60fe5f5360015ff3")))
    assert (result.status, result.output) == ("ok", b"\xfe")


# --- State overrides -----------------------------------------------------------------------------------------------


def test_overrides_replace_balance_nonce_code_and_storage() -> None:
    override = AccountOverride(
        CONTRACT, nonce=9, balance=5, code=bytes.fromhex("5f54600154014701" + RETURN_WORD), state=((0, 7),)
    )
    result = simulation({CONTRACT: "00"}, storage={"0x0": "0x1", "0x1": "0x64"}, overrides=(override,)).call(call())
    assert int.from_bytes(result.output, "big") == 7 + 0 + 5


def test_a_state_diff_leaves_other_slots_alone() -> None:
    override = AccountOverride(CONTRACT, state_diff=((0, 7),))
    code = "5f5460015401" + RETURN_WORD
    result = simulation({CONTRACT: code}, storage={"0x1": "0x64"}, overrides=(override,)).call(call())
    assert int.from_bytes(result.output, "big") == 107


def test_code_may_be_overridden_away() -> None:
    override = AccountOverride(CONTRACT, code=b"")
    assert simulation({CONTRACT: "fe"}, overrides=(override,)).call(call()).status == "ok"


def test_an_overridden_balance_pays_for_the_call() -> None:
    rich = AccountOverride(address(5), balance=10**30)
    assert simulation(overrides=(rich,)).call(call(OTHER, sender=address(5), value=10**29)).status == "ok"


# --- eth_estimateGas -----------------------------------------------------------------------------------------------


def test_a_plain_transfer_needs_21000() -> None:
    assert simulation().estimate_gas(call(OTHER, value=1)) == 21_000


@pytest.mark.parametrize(
    "code",
    [
        "00",
        "6001600055",
        "5f5f5f5f5f73" + OTHER.hex() + "5af100",
        "5f5f5f5f600173" + OTHER.hex() + "5af100",
        "5f5f555f600155",  # clears: what is refunded is needed first
        "5a620186a010600c575f5ffd5b00",  # reverts below 100,000 gas left
    ],
    ids=["stop", "store", "call", "call with value", "refund", "gas check"],
)
def test_an_estimate_suffices_and_little_less_does_not(code: str) -> None:
    inner = "600160015560016002556001600355"
    world = simulation({CONTRACT: code, OTHER: inner}, storage={"0x0": "0x1", "0x1": "0x1"})
    estimate = world.estimate_gas(call())
    assert world.call(call(gas=estimate)).status == "ok"
    if "5af1" not in code:
        below = estimate - estimate * 2 // 100 - 1
        with_less = simulation({CONTRACT: code, OTHER: inner}, storage={"0x0": "0x1", "0x1": "0x1"})
        assert below < 21_000 or with_less.call(call(gas=below)).status != "ok"


def test_an_estimate_counts_the_64th_that_a_caller_keeps() -> None:
    # The caller checks that its callee succeeded, so handing on too little makes the whole call revert.
    code = "5f5f5f5f5f73" + OTHER.hex() + "5af1602257" + "5f5ffd" + "5b00"
    world = simulation({CONTRACT: code, OTHER: "6001600155" * 4 + "00"})
    estimate = world.estimate_gas(call())
    assert world.call(call(gas=estimate)).status == "ok"


def test_a_reverting_call_has_no_estimate_but_its_revert_data() -> None:
    found = refusal(simulation({CONTRACT: "60aa5f5260205ffd"}).estimate_gas, call())
    assert (found.kind, found.output[-1]) == ("reverted", 0xAA)


def test_a_call_that_always_runs_out_of_gas_says_how_much_it_was_given() -> None:
    found = refusal(simulation({CONTRACT: "5b5f56"}).estimate_gas, call(gas=60_000))
    assert (found.kind, found.message) == ("out_of_gas", "gas required exceeds allowance (60000)")


def test_a_halting_call_has_no_estimate() -> None:
    assert refusal(simulation({CONTRACT: "fe"}).estimate_gas, call()).kind == "halted"


def test_an_estimate_stays_within_what_the_sender_can_pay() -> None:
    price = BALANCE // 30_000
    found = refusal(simulation({CONTRACT: "5b5f56"}).estimate_gas, call(gas_price=price))
    assert found.message == "gas required exceeds allowance (30000)"
    poor = refusal(simulation().estimate_gas, call(OTHER, gas_price=price, value=BALANCE + 1))
    assert poor.kind == "insufficient_funds"


@pytest.mark.parametrize(("fork", "allowance"), [(OSAKA, TX_GAS_CAP), (PRAGUE, GAS_CAP)])
def test_osaka_caps_what_an_estimate_may_try(fork: object, allowance: int) -> None:
    # A contract that insists on more gas than EIP-7825 lets a transaction have.
    code = "5a63" + (TX_GAS_CAP + 1).to_bytes(4, "big").hex() + "10600b57fe5b00"
    world = simulation({CONTRACT: code}, fork=fork)
    if allowance == TX_GAS_CAP:
        assert refusal(world.estimate_gas, call()).kind == "halted"
    else:
        assert world.estimate_gas(call()) > TX_GAS_CAP


@settings(max_examples=30)
@given(slots=st.lists(st.integers(0, 3), max_size=6), values=st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_estimates_of_random_stores_suffice(slots: list[int], values: list[int]) -> None:
    code = "".join(f"60{value:02x}60{slot:02x}55" for slot, value in zip(slots, values, strict=False)) + "00"
    world = simulation({CONTRACT: code}, storage={"0x0": "0x1", "0x1": "0x2"})
    assert world.call(call(gas=world.estimate_gas(call()))).status == "ok"


# --- eth_createAccessList ------------------------------------------------------------------------------------------


def test_an_access_list_names_slots_and_other_accounts_but_not_the_obvious_ones() -> None:
    code = "60035450" + "73" + OTHER.hex() + "3150" + "5f5f5f5f5f60045af150" + "333150" + "00"
    found = simulation({CONTRACT: code}).access_list(call())
    assert found.access_list == ((CONTRACT, (3,)), (OTHER, ()))
    assert found.error == ""


def test_an_access_list_makes_the_same_call_touch_nothing_new() -> None:
    world = simulation({CONTRACT: "5f54545400"}, storage={"0x0": "0x5", "0x5": "0x6", "0x6": "0x7"})
    first = world.access_list(call())
    assert first.access_list == ((CONTRACT, (0, 5, 6)),)
    assert world.access_list(call(access_list=first.access_list)) == first


def test_an_access_list_of_a_failing_call_says_so() -> None:
    found = simulation({CONTRACT: "5f54505f5ffd"}).access_list(call())
    assert (found.access_list, found.error) == (((CONTRACT, (0,)),), "execution reverted")


def test_a_contract_that_always_finds_new_slots_ends_the_search() -> None:
    # It reads the slot that its remaining gas names, and an access list changes that.
    assert simulation({CONTRACT: "5a5400"}).access_list(call(gas=100_000)).gas_used > 0


def test_simulations_read_any_state() -> None:
    assert isinstance(ScratchState({}).head(), HeadState)


# --- EIP-7702 ------------------------------------------------------------------------------------------------------


def test_an_empty_list_of_authorizations_is_refused_and_an_absent_one_is_none() -> None:
    words = f"EIP-7702 transaction with empty auth list (sender {checksum_address(CALLER)})"
    assert words in refusal(simulation().call, call(authorizations=())).message
    assert words in refusal(simulation().estimate_gas, call(authorizations=())).message
    assert simulation().call(call()).status == "ok"


def test_a_creation_with_authorizations_is_refused() -> None:
    words = "EIP-7702 transaction cannot be used to create contract"
    assert words in refusal(simulation().call, call(b"", data=b"\x00", authorizations=())).message
