"""keccak-256 for the node: the same function that consensus uses, so that there is one choice of library."""

from consensus.hashing import keccak256

__all__ = ["keccak256"]
