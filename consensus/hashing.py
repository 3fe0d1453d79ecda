"""keccak-256 and the binary Merkle tree over it: the only cryptography that consensus itself computes.

Leaves and nodes hash under different first bytes, and an unused leaf is 32 zero bytes, which no value hashes to:
a root therefore commits to the number of values as well. A contract follows a branch with one keccak a level.
"""

from collections.abc import Sequence

from sha3 import keccak_256

_LEAF = b"\x00"
_NODE = b"\x01"
_UNUSED_LEAF = bytes(32)


def keccak256(data: bytes) -> bytes:
    """The keccak-256 of Ethereum (not NIST's SHA3-256): 32 bytes."""
    return keccak_256(data).digest()


def merkle_root(values: Sequence[bytes]) -> bytes:
    """Root over `values`, padded with unused leaves to a power of two; 32 zero bytes for no values."""
    return _levels(values)[-1][0]


def merkle_branch(values: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The sibling of each node on the way from value `index` up to the root, lowest first."""
    if not 0 <= index < len(values):
        raise IndexError(f"no value {index} among {len(values)}")
    branch = []
    for level in _levels(values)[:-1]:
        branch.append(level[index ^ 1])
        index >>= 1
    return tuple(branch)


def verify_branch(root: bytes, value: bytes, index: int, branch: Sequence[bytes]) -> bool:
    """Whether `value` stands at `index` under `root`. The branch's length fixes the depth of the tree."""
    if index < 0 or index >> len(branch):
        return False
    node = keccak256(_LEAF + value)
    for sibling in branch:
        node = keccak256(_NODE + sibling + node) if index & 1 else keccak256(_NODE + node + sibling)
        index >>= 1
    return node == root


def _levels(values: Sequence[bytes]) -> list[list[bytes]]:
    level = [keccak256(_LEAF + value) for value in values]
    width = 1 << max(len(level) - 1, 0).bit_length()
    level += [_UNUSED_LEAF] * (width - len(level))
    levels = [level]
    while len(level) > 1:
        level = [keccak256(_NODE + level[i] + level[i + 1]) for i in range(0, len(level), 2)]
        levels.append(level)
    return levels
