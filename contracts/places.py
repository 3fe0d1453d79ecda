"""Where the staking contracts stand, on every chain (docs/staking.md)."""

from typing import Final


def _place(number: int) -> bytes:
    return number.to_bytes(20, "big")


STAKING: Final = _place(0x0A5701)
KEY_PROOFS: Final = _place(0x0A5702)
GOVERNANCE: Final = _place(0x0A5703)
STAKING_ANNEX: Final = _place(0x0A5704)
"""Called by Staking alone, with its own storage: its functions are in Staking's ABI."""
ML_DSA_PRECOMPILE: Final = _place(0x0A5165)

CONTRACTS: Final = {
    "Staking": STAKING,
    "KeyProofs": KEY_PROOFS,
    "Governance": GOVERNANCE,
    "StakingAnnex": STAKING_ANNEX,
}
"""The artifact whose code genesis installs at each address."""
