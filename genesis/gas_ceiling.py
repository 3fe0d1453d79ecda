"""How high a chain's gas limit may go: as much as a validator can execute before it stops waiting for a proposal.

Gas does not bound time by itself: a proposer may fill a block with whatever our interpreter runs slowest. The
derivation and the measurement stand in docs/adr/0010-gas-ceiling.md.
"""

from typing import Final

WORST_CASE_GAS_PER_MS: Final = 2_000
"""Gas of the slowest mix of opcodes and precompiles that a validator executes in a millisecond."""


def gas_limit_ceiling(propose_timeout_ms: int) -> int:
    """The highest gas limit whose worst block is validated within the propose timeout of round 0."""
    return propose_timeout_ms * WORST_CASE_GAS_PER_MS


def propose_timeout_for(gas_limit: int) -> int:
    """The shortest propose timeout under which a chain may have this gas limit; rounded up."""
    return -(-gas_limit // WORST_CASE_GAS_PER_MS)
