"""The message codec: every message survives, every encoding is the only one, and bad bytes are refused."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.chain import call_messages, messages
from astralink_node.chain.call_messages import CallRequest, GasAnswer, StateOverride
from astralink_node.chain.codec import MAX_INT_BYTES, PAUSE_ITEMS, CodecError, decode, encode
from astralink_node.chain.messages import (
    AccountRecord,
    AccountsAnswer,
    AtHeight,
    AtLatest,
    BlockSelector,
    BlockWork,
    BlockWorkAnswer,
    BytesAnswer,
    CodeQuestion,
    Commit,
    GetStatus,
    Invalid,
    Query,
)
from astralink_node.gateway import link_messages

EVERY_MESSAGE = sorted(
    {
        kind
        for module in (messages, link_messages)
        for kind in vars(module).values()
        if isinstance(kind, type) and is_dataclass(kind)
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", EVERY_MESSAGE, ids=lambda kind: kind.__name__)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_message_type_survives_encoding(kind: type, data: st.DataObject) -> None:
    message = data.draw(st.from_type(kind))
    encoded = encode(message)
    assert decode(kind, encoded) == message
    assert encode(decode(kind, encoded)) == encoded


@given(garbage=st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_codec_errors(garbage: bytes) -> None:
    with pytest.raises(CodecError):
        decode(BlockWork, b"\x00" + garbage)


@given(query=st.from_type(Query), position=st.integers(0), mask=st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_is_another_canonical_message(query: Query, position: int, mask: int) -> None:
    damaged = bytearray(encode(query))
    damaged[position % len(damaged)] ^= mask
    try:
        found = decode(Query, bytes(damaged))
    except CodecError:
        return
    assert encode(found) == bytes(damaged)


@given(query=st.from_type(Query), cut=st.integers(0))
def test_a_shortened_message_is_refused(query: Query, cut: int) -> None:
    encoded = encode(query)
    with pytest.raises(CodecError):
        decode(Query, encoded[: cut % len(encoded)])


def test_surplus_bytes_are_refused() -> None:
    with pytest.raises(CodecError, match="surplus"):
        decode(BlockWork, encode(GetStatus()) + b"\x00")


def test_a_message_outside_the_expected_union_is_refused() -> None:
    with pytest.raises(CodecError, match="none of"):
        decode(BlockWorkAnswer, encode(Commit(bytes(32), b"")))


@pytest.mark.parametrize("value", [0, 1, -1, 127, 128, -32000, 2**256 - 1, -(2**256) + 1])
def test_integers_of_either_sign_survive(value: int) -> None:
    assert decode(BlockSelector, encode(AtHeight(value))) == AtHeight(value)


def test_an_integer_with_leading_zeros_is_refused() -> None:
    prefix = encode(GasAnswer(0))[:4]
    with pytest.raises(CodecError, match="canonical"):
        decode(GasAnswer, prefix + b"\x02\x00\x02")


def test_an_integer_beyond_the_bound_has_no_encoding() -> None:
    with pytest.raises(CodecError, match="exceeds"):
        encode(GasAnswer(1 << 8 * MAX_INT_BYTES))


def test_a_count_beyond_the_remaining_bytes_is_refused_before_any_item_is_read() -> None:
    empty = encode(messages.AccountsQuestion(()))
    with pytest.raises(CodecError, match="announced"):
        decode(messages.AccountsQuestion, empty[:-4] + b"\xff\xff\xff\xff")


@pytest.mark.parametrize(
    "message",
    [
        BytesAnswer("text"),  # type: ignore[arg-type]
        GasAnswer(True),
        GasAnswer(1.0),  # type: ignore[arg-type]
        Invalid(b"rule", "", ""),  # type: ignore[arg-type]
        Query(AtLatest(), AtLatest()),  # type: ignore[arg-type]
        messages.AccountsAnswer((CodeQuestion(b""),)),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_field_of_the_wrong_type_has_no_encoding(message: object) -> None:
    with pytest.raises(CodecError):
        encode(message)


def test_optionals_and_pairs_keep_absence_and_emptiness_apart() -> None:
    override = StateOverride(bytes(20), None, 0, b"", (), ((1, 2),))
    for variant in (override, replace(override, nonce=0, state=None, code=None)):
        assert decode(StateOverride, encode(variant)) == variant


def test_unpaired_surrogates_in_a_text_do_not_make_an_answer_unsendable() -> None:
    answer = decode(Invalid, encode(Invalid("rule", "\ud800", "found")))
    assert answer.expected == "?"


def test_classes_with_the_same_name_and_other_fields_have_other_tags() -> None:
    @dataclass(frozen=True, slots=True)
    class GasAnswer:
        gas: int
        more: int

    with pytest.raises(CodecError, match="none of"):
        decode(call_messages.GasAnswer, encode(GasAnswer(1, 2)))


def test_every_union_member_is_a_frozen_dataclass() -> None:
    for union in (messages.BlockWork, messages.BlockWorkAnswer, messages.Question, messages.Answer, BlockSelector):
        for member in get_args(union):
            assert is_dataclass(member)
            assert member.__dataclass_params__.frozen
            assert fields(member) is not None


def test_a_call_request_keeps_every_none() -> None:
    request = CallRequest(bytes(20), b"", None, None, None, None, 0, b"", (), None)
    assert decode(CallRequest, encode(request)) == request
    record = AccountRecord(1, 2**255, bytes(32), bytes(32))
    assert decode(AccountRecord, encode(record)) == record


def test_a_long_sequence_is_encoded_with_pauses_that_may_end_it() -> None:
    class Over(Exception):
        pass

    def stop() -> None:
        raise Over

    def answer(count: int) -> AccountsAnswer:
        return AccountsAnswer((AccountRecord(1, 2, bytes(32), bytes(32)),) * count)

    pauses: list[None] = []
    assert encode(answer(3 * PAUSE_ITEMS), lambda: pauses.append(None)) == encode(answer(3 * PAUSE_ITEMS))
    assert len(pauses) == 3
    with pytest.raises(Over):
        encode(answer(PAUSE_ITEMS), stop)
    encode(answer(PAUSE_ITEMS - 1), stop)
