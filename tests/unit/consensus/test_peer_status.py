"""The status message: one spelling for each status, and a fork digest that names the rules in force at a height."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.hashing import keccak256
from consensus.params import MAX_HEIGHT, MAX_TIME_MS
from consensus.peer_status import (
    MAX_ADDRESS_BYTES,
    MAX_ADDRESSES,
    MAX_CLIENT_BYTES,
    MAX_STATUS_BYTES,
    PeerStatus,
    decode_status,
    encode_status,
    fork_digest,
)
from consensus.wire import DecodeError

GENESIS = bytes(range(32))
STATUS = PeerStatus(
    GENESIS, b"\1\2\3\4", 77, b"\xaa" * 32, 1_700_000_000_123, "astralink/v1", ("/ip4/192.0.2.1/tcp/1",)
)
FIXED_BYTES = 1 + 32 + 4 + 8 + 32 + 8

hashes = st.binary(min_size=32, max_size=32)
heights = st.integers(0, MAX_HEIGHT)


def printable(maximum: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=maximum)


statuses = st.builds(
    PeerStatus,
    genesis_hash=hashes,
    fork_digest=st.binary(min_size=4, max_size=4),
    head_height=heights,
    head_hash=hashes,
    time_ms=st.integers(0, MAX_TIME_MS),
    client=printable(MAX_CLIENT_BYTES),
    addresses=st.lists(printable(MAX_ADDRESS_BYTES), max_size=MAX_ADDRESSES).map(tuple),
)
forks_of = st.lists(st.tuples(heights, printable(12)), max_size=5)


@given(statuses)
def test_a_status_survives_encoding(status: PeerStatus) -> None:
    encoded = encode_status(status)
    assert decode_status(encoded) == status
    assert len(encoded) <= MAX_STATUS_BYTES


def test_the_longest_status_is_as_long_as_the_bound() -> None:
    longest = replace(STATUS, client="c" * MAX_CLIENT_BYTES, addresses=("a" * MAX_ADDRESS_BYTES,) * MAX_ADDRESSES)
    assert len(encode_status(longest)) == MAX_STATUS_BYTES


def test_the_layout_is_the_specified_one() -> None:
    assert encode_status(STATUS).hex() == (
        "01"
        + GENESIS.hex()
        + "01020304"
        + "000000000000004d"
        + "aa" * 32
        + "0000018bcfe5687b"
        + "0c"
        + b"astralink/v1".hex()
        + "01"
        + "14"
        + b"/ip4/192.0.2.1/tcp/1".hex()
    )


@given(st.binary(max_size=MAX_STATUS_BYTES + 40))
def test_bytes_of_a_stranger_raise_nothing_but_decode_errors(data: bytes) -> None:
    try:
        status = decode_status(data)
    except DecodeError:
        return
    assert encode_status(status) == data


@given(statuses, st.data())
def test_a_changed_status_is_another_one_or_none(status: PeerStatus, data: st.DataObject) -> None:
    encoded = bytearray(encode_status(status))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_status(bytes(encoded))
    except DecodeError:
        return
    assert found != status
    assert encode_status(found) == bytes(encoded)


@given(statuses, st.data())
def test_a_cut_or_lengthened_status_is_refused(status: PeerStatus, data: st.DataObject) -> None:
    encoded = encode_status(status)
    with pytest.raises(DecodeError):
        decode_status(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    with pytest.raises(DecodeError, match="end: expected no more bytes"):
        decode_status(encoded + data.draw(st.binary(min_size=1, max_size=3)))


@pytest.mark.parametrize(
    ("offset", "value", "complaint"),
    [
        (0, b"\x02", "version: expected 1, found 2"),
        (37, b"\xff", "head_height: expected at most"),
        (77, b"\xff", "time_ms: expected at most"),
        (FIXED_BYTES, b"\x41", "client: expected at most 64, found 65"),
        (FIXED_BYTES + 1, b"\n", "client: expected printable ASCII, found"),
        (FIXED_BYTES + 13, b"\x09", "addresses: expected at most 8, found 9"),
        (FIXED_BYTES + 14, b"\x81", "address: expected at most 128, found 129"),
        (FIXED_BYTES + 15, b"\xe9", "address: expected printable ASCII, found"),
    ],
)
def test_a_field_out_of_its_bounds_is_named(offset: int, value: bytes, complaint: str) -> None:
    encoded = encode_status(STATUS)
    with pytest.raises(DecodeError, match=complaint):
        decode_status(encoded[:offset] + value + encoded[offset + 1 :])


def test_the_encoder_makes_its_client_fit_what_decoders_take() -> None:
    status = replace(STATUS, client="Ä client\nof two lines " + "and more" * 20, addresses=("/a",) * 20)
    decoded = decode_status(encode_status(status))
    assert decoded.client.startswith("? client?of two lines and more")
    assert len(decoded.client) == MAX_CLIENT_BYTES
    assert decoded.addresses == ("/a",) * MAX_ADDRESSES


@pytest.mark.parametrize("address", ["/dns/" + "n" * 120 + "/tcp/1", "/dns/" + "n" * 300 + "/tcp/1", "/dns/\xe9/tcp/1"])
def test_an_address_that_no_decoder_takes_is_not_encoded(address: str) -> None:
    with pytest.raises(ValueError, match=r"address: expected at most 128 printable ASCII characters, found '/dns/"):
        encode_status(replace(STATUS, addresses=(address,)))


# --- Fork digest -------------------------------------------------------------------------------------------------

OLD, NEW = [(0, "prague")], [(0, "prague"), (100, "osaka")]


def test_the_digest_is_the_specified_one() -> None:
    tag, prague = b"ALNK:forks/v1\0\0\0", bytes(8) + b"\x06prague"
    osaka = (100).to_bytes(8, "big") + b"\x05osaka"
    assert fork_digest(GENESIS, NEW, 99) == keccak256(tag + GENESIS + prague)[:4]
    assert fork_digest(GENESIS, NEW, 100) == keccak256(tag + GENESIS + prague + osaka)[:4]


def test_a_fork_changes_the_digest_from_its_height_on() -> None:
    for height in (0, 1, 99):
        assert fork_digest(GENESIS, NEW, height) == fork_digest(GENESIS, OLD, height)
    for height in (100, 101, MAX_HEIGHT):
        assert fork_digest(GENESIS, NEW, height) != fork_digest(GENESIS, OLD, height)
        assert fork_digest(GENESIS, NEW, height) == fork_digest(GENESIS, NEW, 100)


def test_the_same_fork_at_another_height_is_another_rule_from_the_lower_one_on() -> None:
    later = [(0, "prague"), (200, "osaka")]
    assert fork_digest(GENESIS, later, 99) == fork_digest(GENESIS, NEW, 99)
    assert fork_digest(GENESIS, later, 100) != fork_digest(GENESIS, NEW, 100)
    assert fork_digest(GENESIS, later, 200) != fork_digest(GENESIS, NEW, 200)


@given(hashes, hashes, forks_of, heights)
def test_each_genesis_has_its_own_digests(one: bytes, other: bytes, forks: list[tuple[int, str]], height: int) -> None:
    digest = fork_digest(one, forks, height)
    assert len(digest) == 4
    assert (digest == fork_digest(other, forks, height)) == (one == other)


@given(forks_of, heights, st.randoms())
def test_the_order_of_the_list_does_not_matter(forks: list[tuple[int, str]], height: int, chance: object) -> None:
    shuffled = list(forks)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fork_digest(GENESIS, shuffled, height) == fork_digest(GENESIS, forks, height)


@given(forks_of, heights)
def test_forks_that_are_not_active_yet_do_not_matter(forks: list[tuple[int, str]], height: int) -> None:
    active = [fork for fork in forks if fork[0] <= height]
    assert fork_digest(GENESIS, forks, height) == fork_digest(GENESIS, active, height)
