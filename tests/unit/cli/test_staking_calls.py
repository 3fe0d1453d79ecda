"""Calls as the contract's ABI reads them, shares for an amount, and events as sentences."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.cli import staking_calls
from astralink_node.cli.staking_calls import Event, event_object, events_of, moment, sentence_of, shares_for
from astralink_node.cli.transactions import Log
from astralink_node.crypto import bls
from astralink_node.types import Address
from contracts.artifacts import decode_call, load
from contracts.places import STAKING
from tests.support.staking_gateways import ALICE, BWT, FIRST_OPERATOR, fifth_keys


def test_keys_go_to_the_contract_as_eip_2537_points() -> None:
    proofs = fifth_keys()
    call = staking_calls.create_validator(proofs, 500, "Fifth", 40 * BWT)
    assert (call.to, call.value_wei) == (STAKING, 40 * BWT)
    assert decode_call(load("Staking"), call.data) == (
        "create_validator",
        (
            bls.aggregate_public_keys_eip2537((proofs.voting_key,)),
            bls.signature_eip2537(proofs.possession),
            proofs.checkpoint_key,
            proofs.checkpoint_possession,
            500,
            "Fifth",
        ),
    )


def test_only_what_is_sent_has_a_value() -> None:
    sent = staking_calls.delegate(FIRST_OPERATOR, 7)
    assert (sent.value_wei, decode_call(load("Staking"), sent.data)) == (7, ("delegate", (FIRST_OPERATOR,)))
    moved = staking_calls.redelegate(FIRST_OPERATOR, ALICE, 5, 9)
    assert (moved.value_wei, decode_call(load("Staking"), moved.data)) == (
        0,
        ("redelegate", (FIRST_OPERATOR, ALICE, 5)),
    )


@given(st.data())
def test_the_shares_for_an_amount_are_worth_it_and_hardly_more(data: st.DataObject) -> None:
    """Slashes make a share worth less than a wei, never more; what a delegation is worth is rounded down."""
    tokens = data.draw(st.integers(1, 10**27))
    total = data.draw(st.integers(tokens, 2 * 10**27))
    held = data.draw(st.integers(1, total))
    value = held * tokens // total
    amount = data.draw(st.integers(0, value))
    shares = shares_for(amount, held, value)
    assert shares <= held
    assert amount <= shares * tokens // total <= amount + amount // max(value, 1) + 2
    assert shares_for(value + 1, held, value) == held


def event(name: str, **fields: Any) -> Event:
    return Event(name, {"operator": FIRST_OPERATOR, **fields})


@pytest.mark.parametrize("name", sorted(each.name for each in load("Staking").events.values()))
def test_every_event_has_a_sentence_and_a_json_form(name: str) -> None:
    (found,) = [each for each in load("Staking").events.values() if each.name == name]
    samples = {"address": b"\x01" * 20, "uint256": 7, "bytes32": b"\x02" * 32, "bytes": b"\x03" * 48, "string": "n"}
    samples |= {"address[]": (b"\x04" * 20,), "uint256[]": (1,), "bool": True}
    fields = {item.name: samples[item.kind] for item in (*found.indexed, *found.plain)}
    sentence = sentence_of(Event(name, fields))
    assert sentence
    assert "object at" not in sentence
    shown = event_object(Event(name, fields))
    assert shown.pop("event") == name
    assert len(shown) == len(fields)
    assert all("_" not in key for key in shown)


def test_sentences_say_amounts_and_times() -> None:
    left = event("Undelegated", amount=5 * BWT // 2, shares=1, matures_at=1_800_000_000, last_epoch=0)
    assert sentence_of(left).endswith("; withdraw it from 2027-01-15 08:00:00 UTC on")
    assert sentence_of(left).startswith("2.5 BWT leaves 0x")
    assert moment(2**60) == "second 1,152,921,504,606,846,976 of Unix time"


def test_logs_of_others_and_unknown_events_are_left_out() -> None:
    unknown = Log(Address(STAKING), (b"\xee" * 32,), b"")
    foreign = Log(Address(b"\x09" * 20), (b"\xee" * 32,), b"")
    assert events_of([unknown, foreign]) == []
