"""Topics: their names tell chains and forks apart, and none begins with another."""

from __future__ import annotations

import pytest

from p2p.gossip_wire import MAX_TOPIC_BYTES
from p2p.topics import Topic, TopicNames

NAMES = TopicNames(bytes(range(32)), b"\xaa\xbb\xcc\xdd")


def test_name_holds_chain_fork_and_topic() -> None:
    assert NAMES.name(Topic.BLOCK) == "/0001020304050607/aabbccdd/block"
    assert [topic.short_name for topic in Topic] == ["block", "tx", "vote", "evidence"]
    assert all(len(NAMES.name(topic)) <= MAX_TOPIC_BYTES for topic in Topic)


def test_every_topic_comes_back_from_its_name_and_others_do_not() -> None:
    assert [NAMES.topic(NAMES.name(topic)) for topic in Topic] == list(Topic)
    other_fork = TopicNames(NAMES.genesis_hash, b"\xaa\xbb\xcc\xde")
    other_chain = TopicNames(bytes(32), NAMES.fork_digest)
    for others in (other_fork, other_chain):
        assert {NAMES.topic(others.name(topic)) for topic in Topic} == {None}


def test_no_name_begins_with_another() -> None:
    names = [NAMES.name(topic) for topic in Topic]
    assert not [(one, other) for one in names for other in names if one != other and one.startswith(other)]


@pytest.mark.parametrize(
    ("genesis_hash", "fork_digest"), [(bytes(7), bytes(4)), (bytes(32), bytes(3)), (bytes(32), bytes(5))]
)
def test_hashes_of_another_length_are_refused(genesis_hash: bytes, fork_digest: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        TopicNames(genesis_hash, fork_digest)
