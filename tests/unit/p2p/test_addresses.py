"""Addresses and peer ids as text: what round-trips, what other implementations write, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.addresses import Address, BadAddress, is_peer_id, limit_group, parse_address, parse_peer_id, peer_id_text
from p2p.peer_id import PeerId

ED25519_ID = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
"""From libp2p specs/peer-ids, as is the one below."""
RSA_ID = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"

SECP256K1_ID = peer_id_text(
    PeerId(bytes.fromhex("0025080212210279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"))
)
"""Of the curve's base point; such ids begin with 16Uiu2HA."""

hosts = st.ip_addresses().map(str) | st.from_regex(r"\A[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,5})?\Z")
peers = st.binary(min_size=32, max_size=32).map(lambda digest: PeerId(b"\x12\x20" + digest))


@pytest.mark.parametrize("text", [ED25519_ID, RSA_ID])
def test_peer_ids_of_other_implementations_are_read_and_written_alike(text: str) -> None:
    assert peer_id_text(parse_peer_id(text)) == text


@pytest.mark.parametrize("text", [ED25519_ID, SECP256K1_ID, RSA_ID])
def test_a_peer_id_that_was_cut_off_is_refused_wherever_it_was(text: str) -> None:
    assert peer_id_text(parse_peer_id(text)) == text
    for length in range(len(text)):
        with pytest.raises(BadAddress):
            parse_peer_id(text[:length])


@given(st.builds(Address, hosts, st.integers(0, 65535), st.none() | peers))
def test_an_address_is_what_its_text_says(address: Address) -> None:
    assert parse_address(str(address)) == address


def test_ip_addresses_are_told_from_names() -> None:
    assert str(Address("2001:db8::1", 9)) == "/ip6/2001:db8::1/tcp/9"
    assert str(Address("node.example", 9)) == "/dns/node.example/tcp/9"
    assert Address("192.0.2.1", 9).is_ip
    assert not Address("node.example", 9).is_ip
    assert parse_address("/dns4/node.example/tcp/9") == Address("node.example", 9)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "expected /ip4/HOST"),
        ("192.0.2.1:30303", "expected /ip4/HOST"),
        ("/ip4/192.0.2.1/udp/9/quic-v1", "expected /ip4/HOST"),
        ("/ip4/192.0.2.1/tcp/9/ws", "expected /ip4/HOST"),
        ("/ip4/2001:db8::1/tcp/9", "expected an ip4 address"),
        ("/ip4/192.0.2.256/tcp/9", "expected an ip4 address"),
        ("/dns//tcp/9", "expected a host name"),
        ("/dns/two words/tcp/9", "expected a host name"),
        ("/ip4/192.0.2.1/tcp/65536", "expected a port"),
        ("/ip4/192.0.2.1/tcp/-1", "expected a port"),
        ("/ip4/192.0.2.1/tcp/٣", "expected a port"),
        ("/ip4/192.0.2.1/tcp/9/p2p/0OIl", "expected base58"),
        ("/ip4/192.0.2.1/tcp/9/p2p/2VfUX", "expected a whole one"),
        ("/ip4/192.0.2.1/tcp/9/p2p/" + "1" * 65, "at most 64 characters"),
        ("/dns/" + "a" * 400 + "/tcp/9", "at most 400 characters"),
    ],
)
def test_what_is_no_tcp_address_is_refused_by_name(text: str, fault: str) -> None:
    with pytest.raises(BadAddress, match=fault):
        parse_address(text)


@given(st.binary(max_size=60))
def test_bytes_are_a_peer_id_exactly_if_its_text_is(raw: bytes) -> None:
    try:
        parsed = parse_peer_id(peer_id_text(PeerId(raw)))
    except BadAddress:
        assert not is_peer_id(raw)
    else:
        assert parsed == raw
        assert is_peer_id(raw)


def test_limits_count_an_ipv6_network_as_one_address() -> None:
    assert limit_group("192.0.2.1") == "192.0.2.1"
    assert limit_group("2001:db8::1") == limit_group("2001:db8::ffff:2") == "2001:db8::/64"
    assert limit_group("2001:db8:0:1::1") != limit_group("2001:db8::1")
    assert limit_group("fe80::1%eth0") == "fe80::/64"
