"""The collector that runs beside normal execution finds every address of a transaction's calls, and what they made."""

from __future__ import annotations

from astralink_node.chain import codec
from astralink_node.evm.created_addresses import contract_address
from astralink_node.evm.tracing.addresses import AddressCollector, Creation, FrameAddresses
from tests.support.evm_code import call, create, delegatecall, deploying, push, reverting
from tests.support.evm_worlds import SENDER, World, address

CONTRACT, INNER, INNERMOST, OTHER = address(1), address(2), address(3), address(4)


def collected(codes: dict[bytes, str], to: bytes = CONTRACT, data: bytes = b"") -> FrameAddresses:
    collector = AddressCollector()
    world = World(codes)
    world.execution.set_frame_watcher(collector)
    world.send(to, data=data)
    found = collector.take()
    assert codec.decode(FrameAddresses, codec.encode(found)) == found
    assert collector.take() == FrameAddresses((), ())
    return found


def test_senders_recipients_and_code_are_found_at_every_depth() -> None:
    found = collected({CONTRACT: call(INNER), INNER: delegatecall(INNERMOST), INNERMOST: "00", OTHER: "00"})
    assert found.addresses == tuple(sorted((SENDER, CONTRACT, INNER, INNERMOST)))
    assert found.creations == ()


def test_addresses_of_reverted_calls_are_found_too() -> None:
    found = collected({CONTRACT: call(INNER), INNER: call(INNERMOST) + reverting(b""), INNERMOST: "00"})
    assert INNERMOST in found.addresses


def test_a_beneficiary_is_found_of_an_old_contract_and_of_a_new_one() -> None:
    assert OTHER in collected({CONTRACT: push(OTHER) + "ff"}).addresses
    assert OTHER in collected({CONTRACT: create(push(OTHER) + "ff")}).addresses


def test_a_creation_has_its_creator() -> None:
    created = contract_address(CONTRACT, 1)
    found = collected({CONTRACT: create(deploying("fe"))})
    assert found.creations == (Creation(created, CONTRACT),)
    assert created in found.addresses


def test_a_transactions_creation_is_the_senders() -> None:
    found = collected({}, b"", bytes.fromhex(deploying("fe")))
    assert found.creations == (Creation(contract_address(SENDER, 0), SENDER),)


def test_a_failed_creation_is_none_though_its_address_appears() -> None:
    found = collected({CONTRACT: create("fe")})
    assert found.creations == ()
    assert contract_address(CONTRACT, 1) in found.addresses


def test_a_creation_by_a_call_that_reverts_is_none_and_those_beside_it_stand() -> None:
    making, failing = create(deploying("fe")), create(deploying("fe")) + reverting(b"")
    found = collected({CONTRACT: call(INNER) + call(INNERMOST) + making, INNER: making, INNERMOST: failing})
    assert found.creations == (
        Creation(contract_address(INNER, 1), INNER),
        Creation(contract_address(CONTRACT, 1), CONTRACT),
    )


def test_a_failed_transaction_created_nothing() -> None:
    assert collected({CONTRACT: create(deploying("fe")) + "fe"}).creations == ()


def test_watching_changes_nothing() -> None:
    codes = {CONTRACT: create(deploying("fe")) + call(INNER), INNER: "60015f55"}
    plain, watched = World(codes), World(codes)
    watched.execution.set_frame_watcher(AddressCollector())
    plain.send(CONTRACT)
    watched.send(CONTRACT)
    assert plain.execution.receipts == watched.execution.receipts
    assert plain.overlay.changes() == watched.overlay.changes()
