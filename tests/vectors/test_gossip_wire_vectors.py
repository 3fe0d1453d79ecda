"""The gossipsub RPC beside the code that py-libp2p has generated from the protobuf definition: the same bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import p2p.libp2p_patches  # noqa: F401

# isort: split
# The line above makes `import libp2p` possible.
from libp2p.pubsub.pb import rpc_pb2

from p2p.gossip_wire import GossipMessage, IHave, Prune, Rpc, Subscription, decode_rpc, encode_rpc

topics = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
ids = st.lists(st.binary(max_size=64), max_size=5).map(tuple)
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


def as_generated(rpc: Rpc) -> rpc_pb2.RPC:
    generated = rpc_pb2.RPC()
    for subscription in rpc.subscriptions:
        generated.subscriptions.add(subscribe=subscription.subscribes, topicid=subscription.topic)
    for message in rpc.publish:
        generated.publish.add(data=message.data, topicIDs=[message.topic])
    for ihave in rpc.ihave:
        generated.control.ihave.add(topicID=ihave.topic, messageIDs=ihave.message_ids)
    if rpc.iwant:
        generated.control.iwant.add(messageIDs=rpc.iwant)
    for topic in rpc.graft:
        generated.control.graft.add(topicID=topic)
    for prune in rpc.prune:
        generated.control.prune.add(topicID=prune.topic, backoff=prune.backoff_s)
    if rpc.idontwant:
        generated.control.idontwant.add(messageIDs=rpc.idontwant)
    return generated


@given(rpcs)
def test_rpc_has_the_bytes_that_the_generated_code_writes(rpc: Rpc) -> None:
    assert encode_rpc(rpc) == as_generated(rpc).SerializeToString(deterministic=True)


@given(rpcs)
def test_generated_code_reads_the_rpc_and_it_is_read_back(rpc: Rpc) -> None:
    read = rpc_pb2.RPC.FromString(encode_rpc(rpc))
    assert read == as_generated(rpc)
    assert decode_rpc(read.SerializeToString()) == rpc


@pytest.mark.parametrize("field", ["from_id", "seqno", "signature", "key"])
def test_author_in_generated_bytes_is_noticed(field: str) -> None:
    generated = rpc_pb2.RPC()
    generated.publish.add(data=b"data", topicIDs=["topic"], **{field: b"x"})
    assert decode_rpc(generated.SerializeToString()).publish == (GossipMessage("topic", b"data", is_authored=True),)


def test_signed_record_and_exchanged_peers_of_others_are_passed_over() -> None:
    generated = rpc_pb2.RPC(senderRecord=b"a signed record")
    prune = generated.control.prune.add(topicID="topic", backoff=7)
    prune.peers.add(peerID=b"peer", signedPeerRecord=b"record")
    assert decode_rpc(generated.SerializeToString()) == Rpc(prune=(Prune("topic", 7),))
