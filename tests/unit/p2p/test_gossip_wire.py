"""The gossipsub RPC: known bytes, what protobuf allows, what is refused, and properties for all inputs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.gossip_wire import (
    MAX_FIELDS,
    MAX_GROUP_DEPTH,
    MAX_ID_BYTES,
    MAX_RPC_BYTES,
    MAX_TOPIC_BYTES,
    GossipMessage,
    GossipWireError,
    IHave,
    Prune,
    Rpc,
    Subscription,
    decode_rpc,
    encode_rpc,
)

topics = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=MAX_TOPIC_BYTES // 4)
ids = st.lists(st.binary(max_size=MAX_ID_BYTES), max_size=5).map(tuple)
rpcs = st.builds(
    Rpc,
    subscriptions=st.lists(st.builds(Subscription, topics, st.booleans()), max_size=4).map(tuple),
    publish=st.lists(st.builds(GossipMessage, topics, st.binary(max_size=300)), max_size=4).map(tuple),
    ihave=st.lists(st.builds(IHave, topics, ids), max_size=4).map(tuple),
    iwant=ids,
    graft=st.lists(topics, max_size=4).map(tuple),
    prune=st.lists(st.builds(Prune, topics, st.none() | st.integers(0, 2**64 - 1)), max_size=4).map(tuple),
    idontwant=ids,
)


def hex_of(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


# --- Known bytes ---------------------------------------------------------------------------------------------------

KNOWN = {
    "subscription": (Rpc(subscriptions=(Subscription("ab", True),)), "0a 06 0801 12026162"),
    "unsubscription": (Rpc(subscriptions=(Subscription("ab", False),)), "0a 06 0800 12026162"),
    "message": (Rpc(publish=(GossipMessage("ab", b"\x01\x02"),)), "12 08 12020102 22026162"),
    "ihave": (Rpc(ihave=(IHave("ab", (b"\xff", b"")),)), "1a 0b 0a 09 0a026162 1201ff 1200"),
    "iwant": (Rpc(iwant=(b"\xff", b"\x00")), "1a 08 12 06 0a01ff 0a0100"),
    "graft": (Rpc(graft=("ab",)), "1a 06 1a 04 0a026162"),
    "prune": (Rpc(prune=(Prune("ab", 60),)), "1a 08 22 06 0a026162 183c"),
    "prune without backoff": (Rpc(prune=(Prune("ab", None),)), "1a 06 22 04 0a026162"),
    "idontwant": (Rpc(idontwant=(b"\xff",)), "1a 05 2a 03 0a01ff"),
    "nothing": (Rpc(), ""),
}


@pytest.mark.parametrize("name", KNOWN)
def test_rpc_has_these_bytes(name: str) -> None:
    rpc, encoded = KNOWN[name]
    assert encode_rpc(rpc) == hex_of(encoded)
    assert decode_rpc(hex_of(encoded)) == rpc


# --- What protobuf allows ------------------------------------------------------------------------------------------

ALLOWED = {
    "fields in another order": ("12 08 22026162 12020102", Rpc(publish=(GossipMessage("ab", b"\x01\x02"),))),
    "a field twice: the last counts": ("12 08 2201 63 22 03 616263", Rpc(publish=(GossipMessage("abc", b""),))),
    "control in pieces": ("1a 06 1a04 0a026162 1a 05 1a03 0a0163", Rpc(graft=("ab", "c"))),
    "iwant in several entries": ("1a 0a 1203 0a01ff 1203 0a0100", Rpc(iwant=(b"\xff", b"\x00"))),
    "peers in a prune": ("1a 0c 220a 0a026162 1202 0a00 183c", Rpc(prune=(Prune("ab", 60),))),
    "an unknown varint": ("a80196ff01", Rpc()),
    "an unknown fixed64": ("51 0102030405060708", Rpc()),
    "an unknown fixed32": ("55 01020304", Rpc()),
    "unknown bytes": ("52 03 616263", Rpc()),
    "an unknown group": ("53 0801 5b 0a0161 5c 54", Rpc()),
    "a varint with needless bytes": ("0a 08 08818000 12026162", Rpc(subscriptions=(Subscription("ab", True),))),
    "a varint of 64 bits": (
        "1a 11 220f 0a026162 18ffffffffffffffffff01",
        Rpc(prune=(Prune("ab", 2**64 - 1),)),
    ),
    "any number but 0 is true": ("0a 06 0802 12026162", Rpc(subscriptions=(Subscription("ab", True),))),
    "an empty subscription": ("0a 00", Rpc(subscriptions=(Subscription("", False),))),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_decoder_takes_what_protobuf_allows(name: str) -> None:
    encoded, rpc = ALLOWED[name]
    assert decode_rpc(hex_of(encoded)) == rpc


@pytest.mark.parametrize("field", ["0a0101", "1a0101", "2a0101", "320101"], ids=["from", "seqno", "signature", "key"])
def test_author_of_a_message_is_noticed(field: str) -> None:
    body = hex_of("12020102 22026162") + hex_of(field)
    (message,) = decode_rpc(b"\x12" + bytes([len(body)]) + body).publish
    assert message == GossipMessage("ab", b"\x01\x02", is_authored=True)


def test_authored_message_is_never_written() -> None:
    with pytest.raises(ValueError, match="without author"):
        encode_rpc(Rpc(publish=(GossipMessage("ab", b"", is_authored=True),)))


# --- What is refused -----------------------------------------------------------------------------------------------

REFUSED = {
    "a tag that ends early": "80",
    "a varint of 11 bytes": "50 8080808080808080808001",
    "field number 0": "02 00",
    "field number above the largest": "82808080 10 00",
    "bytes that end early": "12 05 0102",
    "fixed64 that ends early": "51 01020304",
    "fixed32 that ends early": "55 010203",
    "wire type 6": "56",
    "the end of no group": "54",
    "the end of another group": "53 5c",
    "a group without end": "53 0801",
    "a known field of another kind": "0801",
    "a known varint as bytes": "0a 02 0a00",
    "a topic that is no text": "0a 03 1201ff",
}


@pytest.mark.parametrize("name", REFUSED)
def test_decoder_refuses(name: str) -> None:
    with pytest.raises(GossipWireError):
        decode_rpc(hex_of(REFUSED[name]))


def test_rpc_above_its_size_is_refused() -> None:
    largest = Rpc(publish=(GossipMessage("", bytes(MAX_RPC_BYTES - 10)),))
    assert len(encode_rpc(largest)) == MAX_RPC_BYTES
    assert decode_rpc(encode_rpc(largest)) == largest
    with pytest.raises(GossipWireError, match="RPC: expected at most 1048576 bytes, found 1048577"):
        decode_rpc(encode_rpc(largest) + b"\x00")


@pytest.mark.parametrize("field", ["0a00", "5001", "1a020a00", "535801 54"], ids=["known", "unknown", "deep", "group"])
def test_fields_are_counted_at_any_depth_whether_known_or_not(field: str) -> None:
    a_field = hex_of(field)
    fields = {"0a00": 1, "5001": 1, "1a020a00": 2, "535801 54": 3}[field]
    decode_rpc(a_field * (MAX_FIELDS // fields))
    with pytest.raises(GossipWireError, match=f"at most {MAX_FIELDS} fields"):
        decode_rpc(a_field * (MAX_FIELDS // fields + 1))


@pytest.mark.parametrize(
    ("rpc", "message"),
    [
        (Rpc(graft=("t" * (MAX_TOPIC_BYTES + 1),)), "topic: expected at most 128 bytes, found 129"),
        (Rpc(iwant=(bytes(MAX_ID_BYTES + 1),)), "message id: expected at most 64 bytes, found 65"),
    ],
)
def test_long_topics_and_ids_are_refused(rpc: Rpc, message: str) -> None:
    with pytest.raises(GossipWireError, match=message):
        decode_rpc(encode_rpc(rpc))


def test_nested_groups_have_a_bound() -> None:
    nested = hex_of("53") * MAX_GROUP_DEPTH + hex_of("54") * MAX_GROUP_DEPTH
    assert decode_rpc(nested) == Rpc()
    with pytest.raises(GossipWireError, match="groups: expected at most 16"):
        decode_rpc(hex_of("53") + nested + hex_of("54"))


# --- For all inputs ------------------------------------------------------------------------------------------------


@given(rpcs)
def test_every_rpc_comes_back(rpc: Rpc) -> None:
    assert decode_rpc(encode_rpc(rpc)) == rpc


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise_the_typed_error(data: bytes) -> None:
    try:
        decode_rpc(data)
    except GossipWireError:
        return


@given(rpcs, st.data())
def test_damaged_rpc_decodes_or_raises_the_typed_error(rpc: Rpc, data: st.DataObject) -> None:
    encoded = bytearray(encode_rpc(rpc) or b"\x00")
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    for damaged in (bytes(encoded), bytes(encoded[:cut])):
        try:
            decode_rpc(damaged)
        except GossipWireError:
            continue


@given(rpcs, st.lists(st.sampled_from(["a80196ff01", "510102030405060708", "5203616263", "530801 5b0a01615c 54"])))
def test_unknown_fields_change_nothing(rpc: Rpc, extras: list[str]) -> None:
    unknown = b"".join(map(hex_of, extras))
    assert decode_rpc(unknown + encode_rpc(rpc) + unknown) == rpc
