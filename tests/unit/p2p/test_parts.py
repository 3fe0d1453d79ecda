"""Messages in parts: what is split comes back whole, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import parts
from p2p.parts import (
    MAX_ANNOUNCEMENT_BYTES,
    MAX_PARTS,
    MAX_SPLIT_BYTES,
    PART_BYTES,
    Announcement,
    Assembly,
    PartsError,
    announce,
    decode_announcement,
    encode_announcement,
    part_of,
)

SIZES = [1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES, 5 * PART_BYTES + 17]


def message_of(size: int) -> bytes:
    return bytes(index * 31 % 251 for index in range(size))


@pytest.mark.parametrize("size", SIZES)
def test_message_comes_back_from_its_parts_in_any_order(size: int) -> None:
    data = message_of(size)
    announcement = announce(data)
    assembly = Assembly(decode_announcement(encode_announcement(announcement)))
    order = list(range(len(announcement.hashes)))[::-1]
    assert assembly.missing() == sorted(order)
    for index in order:
        assert not assembly.is_complete
        assembly.add(index, part_of(data, index))
        assembly.add(index, part_of(data, index))
    assert assembly.is_complete
    assert assembly.missing() == []
    assert assembly.join() == data


def test_largest_message_fits_its_announcement() -> None:
    announcement = announce(bytes(MAX_SPLIT_BYTES))
    assert len(announcement.hashes) == MAX_PARTS
    assert len(encode_announcement(announcement)) == MAX_ANNOUNCEMENT_BYTES
    assert decode_announcement(encode_announcement(announcement)) == announcement


@pytest.mark.parametrize("size", [0, MAX_SPLIT_BYTES + 1])
def test_message_that_is_empty_or_too_large_is_not_split(size: int) -> None:
    with pytest.raises(ValueError, match="message: expected 1 to"):
        announce(bytes(size))


def test_wrong_part_is_refused_alone() -> None:
    data = message_of(3 * PART_BYTES - 5)
    assembly = Assembly(announce(data))
    wrong = bytearray(part_of(data, 1))
    wrong[-1] ^= 1
    for index, part in [
        (1, bytes(wrong)),
        (0, part_of(data, 1)),
        (2, part_of(data, 2) + b"\0"),
        (2, part_of(data, 2)[:-1]),
    ]:
        with pytest.raises(PartsError, match=f"part {index}: expected"):
            assembly.add(index, part)
    assert assembly.missing() == [0, 1, 2]


def test_root_names_the_message() -> None:
    data = message_of(2 * PART_BYTES)
    assert announce(data).root == announce(bytes(data)).root
    assert len({announce(other).root for other in (data, data[:-1], data + b"\0", data[::-1])}) == 4


REFUSED = {
    "nothing": b"",
    "a message of no bytes": bytes(4),
    "a message above the limit": (MAX_SPLIT_BYTES + 1).to_bytes(4, "big") + bytes(32 * (MAX_PARTS + 1)),
    "a hash too few": (PART_BYTES + 1).to_bytes(4, "big") + bytes(32),
    "a hash too many": PART_BYTES.to_bytes(4, "big") + bytes(64),
    "half a hash": PART_BYTES.to_bytes(4, "big") + bytes(16),
}


@pytest.mark.parametrize("name", REFUSED)
def test_announcement_is_refused(name: str) -> None:
    with pytest.raises(PartsError, match="announcement: expected"):
        decode_announcement(REFUSED[name])


@given(st.binary(max_size=200))
def test_any_bytes_are_the_one_encoding_of_an_announcement_or_refused(data: bytes) -> None:
    try:
        announcement = decode_announcement(data)
    except PartsError:
        return
    assert encode_announcement(announcement) == data


@given(st.binary(min_size=1, max_size=300))
def test_every_message_is_split_and_joined(data: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_BYTES", 16)
        announcement = announce(data)
        assembly = Assembly(announcement)
        for index in assembly.missing():
            assert len(part_of(data, index)) == announcement.part_bytes(index)
            assembly.add(index, part_of(data, index))
        assert assembly.join() == data


def test_announcement_is_a_value() -> None:
    assert announce(b"x") == Announcement(1, announce(b"x").hashes)
