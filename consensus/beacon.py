"""The randomness beacon: each block's `prev_randao` from its parent's value and its parent's reveal.

A reveal is a BLS signature on the height alone, so that its proposer has nothing to choose but to withhold it;
it takes effect one block later, so that no proposer knows its own block's value before it chooses transactions.
Bias: one choice per withheld proposal; k colluding proposers in a row choose among k + 1 values.
"""

from consensus.hashing import keccak256
from consensus.wire import exact_bytes


def next_prev_randao(parent_value: bytes, parent_reveal: bytes) -> bytes:
    """keccak256(parent's prev_randao || keccak256(the reveal in the parent's payload)).

    Height 1 follows the same rule: genesis' mixHash and its zero reveal make the seed.
    """
    return keccak256(exact_bytes(parent_value, 32, "prev_randao") + keccak256(exact_bytes(parent_reveal, 96, "reveal")))
