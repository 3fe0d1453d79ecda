"""The prestate tracer shows what a transaction touches, as it was; in diff mode what changed."""

from __future__ import annotations

from typing import Any

import pytest

from astralink_node.chain import codec
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.tracing.account_json import prestate_fields
from astralink_node.evm.tracing.options import TouchedAccounts
from astralink_node.evm.tracing.prestate import PrestateTracer
from astralink_node.evm.tracing.records import Prestate
from tests.support.evm_code import STOP, call, create, deploying, push, reverting
from tests.support.evm_worlds import BALANCE, COINBASE, SENDER, World, address

CONTRACT, INNER, OTHER = address(1), address(2), address(3)
SLOT = "0x" + "00" * 32


def traced(world: World, to: bytes = CONTRACT, options: TouchedAccounts | None = None, **fields: Any) -> dict[str, Any]:
    tracer = PrestateTracer(options)
    world.execution.set_tracer(tracer)
    world.send(to, **fields)
    result = tracer.result()
    assert codec.decode(Prestate, codec.encode(result)) == result
    return prestate_fields(result)


def difference(world: World, to: bytes = CONTRACT, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    found = traced(world, to, TouchedAccounts(diff_mode=True), **fields)
    return found["pre"], found["post"]


def text(account: bytes) -> str:
    return "0x" + account.hex()


def storing(value: int) -> dict[str, Any]:
    """A contract with one slot that it overwrites."""
    return {text(CONTRACT): {"code": "0x60095f55", "balance": 0, "nonce": 1, "storage": {"0x0": hex(value)}}}


def test_sender_and_recipient_are_as_before_the_transaction() -> None:
    found = traced(World({CONTRACT: STOP}), value=5)
    assert found[text(SENDER)] == {"balance": hex(BALANCE)}
    assert found[text(CONTRACT)] == {"balance": "0x0", "code": "0x00", "nonce": 1}


def test_accounts_that_nothing_names_are_absent() -> None:
    world = World({CONTRACT: STOP, OTHER: STOP}, alloc={text(COINBASE): {"balance": 1}})
    assert set(traced(world)) == {text(SENDER), text(CONTRACT), text(COINBASE)}


def test_accounts_that_did_not_exist_are_absent_unless_asked_for() -> None:
    assert set(traced(World(), OTHER, value=1)) == {text(SENDER)}
    everything = traced(World(), OTHER, TouchedAccounts(with_empty=True), value=1)
    assert everything[text(OTHER)] == {"balance": "0x0"}
    assert text(COINBASE) in everything


def test_what_opcodes_name_is_touched() -> None:
    for code in (push(OTHER) + "31", push(OTHER) + "3b", push(OTHER) + "3f", call(OTHER), push(OTHER) + "ff"):
        assert text(OTHER) in traced(World({CONTRACT: code, OTHER: STOP})), code


def test_an_opcode_without_its_operands_touches_nothing() -> None:
    assert set(traced(World({CONTRACT: "31", OTHER: STOP}))) == {text(SENDER), text(CONTRACT)}


@pytest.mark.parametrize(
    ("code", "gas"),
    [
        (push(OTHER) + "31", 2_602),
        (push(OTHER) + "3f", 2_602),
        (push(OTHER) + "ff", 7_602),
        (call(OTHER), 2_614),
        ("5f54", 2_101),
    ],
)
def test_an_opcode_that_cannot_be_paid_touches_nothing(code: str, gas: int) -> None:
    def touched(gas: int) -> dict[str, Any]:
        limited = {CONTRACT: call(INNER, gas=push(gas)), INNER: code, OTHER: STOP}
        found = traced(World(limited))
        return {name: account for name, account in found.items() if name == text(OTHER) or "storage" in account}

    assert not touched(gas)
    assert touched(gas + 1)


@pytest.mark.parametrize("creation", ["61c0015f5ff0", "5f61c0015f5ff5"])
def test_initcode_that_is_too_long_creates_nothing_to_touch(creation: str) -> None:
    found = traced(World({CONTRACT: creation}), options=TouchedAccounts(with_empty=True))
    assert set(found) == {text(SENDER), text(CONTRACT), text(COINBASE)}


def test_slots_have_the_value_before_the_transaction() -> None:
    assert traced(World(alloc=storing(7)))[text(CONTRACT)]["storage"] == {SLOT: f"0x{7:064x}"}


def test_what_a_reverted_call_touched_is_shown() -> None:
    found = traced(World({CONTRACT: call(INNER), INNER: push(OTHER) + "31" + reverting(b""), OTHER: STOP}))
    assert text(OTHER) in found


def test_a_delegations_target_is_touched() -> None:
    delegating = {text(CONTRACT): {"code": "0xef0100" + INNER.hex(), "nonce": 1, "balance": 0}}
    assert text(INNER) in traced(World({INNER: STOP}, alloc=delegating))
    calling = {OTHER: call(CONTRACT), INNER: STOP}
    assert text(INNER) in traced(World(calling, alloc=delegating), OTHER)


def test_code_and_storage_can_be_left_out() -> None:
    found = traced(World(alloc=storing(7)), options=TouchedAccounts(with_code=False, with_storage=False))
    assert found[text(CONTRACT)] == {"balance": "0x0", "nonce": 1}


# --- Diff mode -----------------------------------------------------------------------------------------------------


def test_a_difference_shows_what_changed_before_and_after() -> None:
    world = World(alloc=storing(7))
    pre, post = difference(world)
    assert pre[text(CONTRACT)]["storage"] == {SLOT: f"0x{7:064x}"}
    assert post[text(CONTRACT)] == {"storage": {SLOT: f"0x{9:064x}"}}
    assert post[text(SENDER)] == {"balance": hex(world.overlay.get_balance(SENDER)), "nonce": 1}
    assert post[text(COINBASE)] == {"balance": hex(world.gas_used)}
    assert text(COINBASE) not in pre, "it did not exist"


def test_an_account_that_is_as_before_is_absent() -> None:
    pre, post = difference(World({CONTRACT: push(OTHER) + "31", OTHER: STOP}))
    assert text(OTHER) not in pre
    assert text(OTHER) not in post
    assert text(CONTRACT) not in pre


def test_a_slot_that_was_empty_is_in_the_post_state_only() -> None:
    pre, post = difference(World({CONTRACT: "60095f55"}))
    assert "storage" not in pre[text(CONTRACT)]
    assert post[text(CONTRACT)]["storage"] == {SLOT: f"0x{9:064x}"}


def test_a_slot_that_was_cleared_is_in_the_pre_state_only() -> None:
    alloc = storing(7)
    alloc[text(CONTRACT)]["code"] = "0x5f5f55"
    pre, post = difference(World(alloc=alloc))
    assert pre[text(CONTRACT)]["storage"] == {SLOT: f"0x{7:064x}"}
    assert post[text(CONTRACT)] == {}


def test_a_created_contract_is_in_the_post_state_only() -> None:
    pre, post = difference(World({CONTRACT: create(deploying("fe"))}))
    created = text(contract_address(CONTRACT, 1))
    assert created not in pre
    assert post[created] == {"nonce": 1, "code": "0xfe"}


def test_a_contract_that_a_transaction_creates_is_too() -> None:
    pre, post = difference(World(), b"", data=bytes.fromhex(deploying("fe")))
    created = text(contract_address(SENDER, 0))
    assert created not in pre
    assert post[created] == {"nonce": 1, "code": "0xfe"}


def test_a_contract_created_and_destroyed_in_one_transaction_is_in_neither() -> None:
    pre, post = difference(World({CONTRACT: create(push(CONTRACT) + "ff")}))
    created = text(contract_address(CONTRACT, 1))
    assert created not in pre
    assert created not in post


def test_an_older_contract_that_destroys_itself_stays_and_has_lost_its_balance() -> None:
    alloc = {text(CONTRACT): {"code": "0x" + push(OTHER) + "ff", "nonce": 1, "balance": 50}}
    pre, post = difference(World(alloc=alloc))
    assert pre[text(CONTRACT)]["balance"] == hex(50)
    assert post[text(CONTRACT)] == {"balance": "0x0"}
    assert post[text(OTHER)] == {"balance": hex(50)}


def test_a_destroyed_contract_that_had_a_balance_before_is_in_the_pre_state_only() -> None:
    created = contract_address(CONTRACT, 1)
    alloc = {text(created): {"balance": 7}}
    pre, post = difference(World({CONTRACT: create(push(CONTRACT) + "ff")}, alloc=alloc))
    assert pre[text(created)] == {"balance": "0x7"}
    assert text(created) not in post


def test_a_selfdestruct_that_was_reverted_deleted_nothing() -> None:
    making = create(deploying(push(OTHER) + "ff"))
    codes = {CONTRACT: making + "80" + push(0) + "52" + call(INNER, size=32)}
    codes[INNER] = push(0) * 4 + push(0) + "5f35" + "5af1" + reverting(b"")
    _, post = difference(World(codes))
    assert post[text(contract_address(CONTRACT, 1))]["nonce"] == 1


def test_a_failed_transaction_changes_fees_and_nonce_only() -> None:
    pre, post = difference(World({CONTRACT: "60095f55" + "fe"}))
    assert set(post) == {text(SENDER), text(COINBASE)}
    assert set(pre) == {text(SENDER)}
