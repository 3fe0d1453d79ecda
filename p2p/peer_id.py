"""The name of a node on the network; what carries messages between nodes is p2p.topic_transport's."""

from typing import NewType

PeerId = NewType("PeerId", bytes)
"""A libp2p peer id, binary: authenticated by whatever transport it comes from."""
