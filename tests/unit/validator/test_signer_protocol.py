"""The bytes between a node and its signer: exactly one spelling, bounds, and errors that name the field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astralink_node.types import Address
from astralink_node.validator.keys import PublicKeys
from astralink_node.validator.signer_protocol import (
    MAX_ANSWER_BYTES,
    MAX_REASON_BYTES,
    MAX_REQUEST_BYTES,
    AskForeign,
    AskHistory,
    AskPublicKeys,
    Failed,
    FloorSet,
    Foreign,
    FrameTooLong,
    History,
    Keys,
    Refused,
    SetFloor,
    Sign,
    Signature,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    frame,
    payload_length,
    signature_bytes,
)
from astralink_node.validator.signing_rules import HistoryState
from consensus.messages import (
    NIL,
    CheckpointMessage,
    ProposalMessage,
    RevealMessage,
    VoteMessage,
    VoteType,
    encode_message,
)
from consensus.params import MAX_HEIGHT
from consensus.wire import DecodeError

GENESIS, A, B = b"g" * 32, b"a" * 32, b"b" * 32
PREVOTE = VoteMessage(GENESIS, 7, 2, VoteType.PREVOTE, A, 1)
PRECOMMIT = VoteMessage(GENESIS, 7, 2, VoteType.PRECOMMIT, NIL, -1)
PROPOSAL = ProposalMessage(GENESIS, 7, 2, A, -1)
REVEAL = RevealMessage(GENESIS, MAX_HEIGHT)
CHECKPOINT = CheckpointMessage(GENESIS, 3, 7, A, B)
PUBLIC = PublicKeys(b"k" * 48, b"p" * 96, b"c" * 1952, Address(b"o" * 20))
UNOWNED = PublicKeys(b"k" * 48, b"p" * 96, b"c" * 1952, None)

REQUESTS = [
    AskPublicKeys(),
    AskHistory(GENESIS),
    *[Sign(message) for message in (PREVOTE, PRECOMMIT, PROPOSAL, REVEAL, CHECKPOINT)],
    *[AskForeign(message) for message in (PREVOTE, PRECOMMIT, PROPOSAL)],
    SetFloor(GENESIS, 102),
]
ANSWERS = [
    Signature(b"s" * 96),
    Signature(b"s" * 3309),
    Refused("prevote at height 7 round 2: other bytes were signed for this step"),
    Failed("signing history: No space left on device"),
    Keys(PUBLIC),
    Keys(UNOWNED),
    History(HistoryState(floor=None, height=0)),
    History(HistoryState(floor=1, height=MAX_HEIGHT)),
    Foreign(is_foreign=True),
    Foreign(is_foreign=False),
    FloorSet(),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_a_request_survives_the_journey_within_its_bound(request_):
    encoded = encode_request(request_)
    assert decode_request(encoded) == request_
    assert len(encoded) <= MAX_REQUEST_BYTES


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: type(answer).__name__)
def test_an_answer_survives_the_journey_within_its_bound(answer):
    encoded = encode_answer(answer)
    assert decode_answer(encoded) == answer
    assert len(encoded) <= MAX_ANSWER_BYTES


def test_the_published_layout():
    assert encode_request(AskPublicKeys()).hex() == "0101"
    assert encode_request(AskHistory(GENESIS)) == b"\x01\x02" + GENESIS
    assert encode_request(Sign(PREVOTE)) == b"\x01\x03" + encode_message(PREVOTE)
    assert encode_request(AskForeign(PRECOMMIT)) == b"\x01\x04" + encode_message(PRECOMMIT)
    assert encode_request(SetFloor(GENESIS, 102)) == b"\x01\x05" + GENESIS + bytes.fromhex("0000000000000066")
    assert encode_answer(Signature(b"s" * 96)) == b"\x01" + b"s" * 96
    assert encode_answer(Refused("no")) == b"\x02no"
    assert encode_answer(Failed("no")) == b"\x03no"
    assert encode_answer(Keys(PUBLIC)) == b"\x04" + b"k" * 48 + b"p" * 96 + b"c" * 1952 + b"o" * 20
    assert encode_answer(History(HistoryState(None, 5))).hex() == "05" + "00" * 9 + "0000000000000005"
    assert encode_answer(History(HistoryState(9, 5))).hex() == "05" + "010000000000000009" + "0000000000000005"
    assert encode_answer(Foreign(is_foreign=True)).hex() == "0601"
    assert encode_answer(FloorSet()).hex() == "07"
    assert frame(b"\x01\x01").hex() == "000000020101"


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_no_part_of_a_request_and_nothing_behind_it_is_a_request(request_):
    encoded = encode_request(request_)
    for wrong in (*(encoded[:length] for length in range(len(encoded))), encoded + b"\0"):
        with pytest.raises(DecodeError):
            decode_request(wrong)


def test_an_answer_cut_short_is_refused():
    for answer in (Keys(UNOWNED), History(HistoryState(9, 5)), Foreign(is_foreign=True)):
        encoded = encode_answer(answer)
        for length in range(len(encoded)):
            with pytest.raises(DecodeError):
                decode_answer(encoded[:length])
    for answer in (Keys(PUBLIC), History(HistoryState(9, 5)), Foreign(is_foreign=True), FloorSet()):
        with pytest.raises(DecodeError):
            decode_answer(encode_answer(answer) + b"\0")


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"\x02\x01", "version"),
        (b"\x01\x00", "kind"),
        (b"\x01\x06", "kind"),
        (b"\x01\x03" + b"\x11" * 32, "genesis_hash"),
        (b"\x01\x03" + b"\x11" * 56, "tag"),
        (b"\x01\x04" + encode_message(REVEAL), "message"),
        (b"\x01\x04" + encode_message(CHECKPOINT), "message"),
        (b"\x01\x05" + GENESIS + b"\xff" * 8, "height"),
    ],
)
def test_a_malformed_request_names_its_field(payload, field):
    with pytest.raises(DecodeError) as caught:
        decode_request(payload)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", "kind"),
        (b"\x00", "kind"),
        (b"\x08", "kind"),
        (b"\x02\xff", "reason"),
        (b"\x03" + b"x" * (MAX_REASON_BYTES + 1), "reason"),
        (b"\x06\x02", "is_foreign"),
        (b"\x05\x00" + b"\0" * 7 + b"\x01" + b"\0" * 8, "floor"),
        (b"\x05\x02" + b"\0" * 16, "has_floor"),
    ],
)
def test_a_malformed_answer_names_its_field(payload, field):
    with pytest.raises(DecodeError) as caught:
        decode_answer(payload)
    assert caught.value.field == field


@given(st.binary(max_size=MAX_REQUEST_BYTES))
def test_whatever_arrives_is_one_spelling_of_a_request_or_a_decode_error(payload):
    try:
        request = decode_request(payload)
    except DecodeError:
        return
    assert encode_request(request) == payload


@given(st.binary(max_size=300))
def test_whatever_comes_back_is_one_spelling_of_an_answer_or_a_decode_error(payload):
    try:
        answer = decode_answer(payload)
    except DecodeError:
        return
    assert encode_answer(answer) == payload


def test_a_long_reason_is_cut_between_characters():
    answer = decode_answer(encode_answer(Refused("é" * MAX_REASON_BYTES)))
    assert answer == Refused("é" * (MAX_REASON_BYTES // 2))
    assert decode_answer(encode_answer(Refused("x" + "é" * MAX_REASON_BYTES))) == Refused(
        "x" + "é" * ((MAX_REASON_BYTES - 1) // 2)
    )


@pytest.mark.parametrize("length", [0, MAX_REQUEST_BYTES + 1, 2**32 - 1])
def test_a_length_out_of_bounds_is_refused_before_anything_is_read(length):
    with pytest.raises(FrameTooLong, match=f"expected a message of 1 to {MAX_REQUEST_BYTES} bytes, found one of"):
        payload_length(length.to_bytes(4, "big"), MAX_REQUEST_BYTES)


def test_signatures_have_the_length_of_their_scheme():
    assert signature_bytes(PREVOTE) == 96
    assert signature_bytes(CHECKPOINT) == 3309
