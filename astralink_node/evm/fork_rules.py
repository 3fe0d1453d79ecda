"""What differs between forks, and what differs between a plain Ethereum chain and AstraLink: values, no code.

A chain's forks activate by height. Prague is the base (py-evm's newest); Osaka adds EIP-7823, 7825, 7883,
7934, 7939 and 7951. Blob transactions are carried by neither configuration.
"""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.errors import AstraLinkError
from astralink_node.evm.fee_rules import FeeBounds

TX_GAS_CAP = 2**24
"""EIP-7825: no transaction of Osaka may have a higher gas limit."""

MAX_BLOCK_RLP_BYTES = 8_388_608
"""EIP-7934: 10 MiB less a safety margin of 2 MiB for what travels beside a block."""


class UnknownFork(AstraLinkError):
    """A fork that this node does not implement."""

    def __init__(self, name: str) -> None:
        super().__init__(f"fork {name!r} is not supported; supported: {', '.join(FORKS)}")
        self.name = name


@dataclass(frozen=True, slots=True)
class ForkRules:
    """One fork's rules, as far as they differ between the forks that we know."""

    name: str
    tx_gas_cap: int | None
    """EIP-7825."""
    block_rlp_limit: int | None
    """EIP-7934, in bytes of the Ethereum block's RLP."""
    clz: bool
    """EIP-7939, opcode 0x1e."""
    p256verify: bool
    """EIP-7951, precompile 0x100."""
    modexp_osaka: bool
    """EIP-7823 bounds and EIP-7883 prices of precompile 0x05."""
    blob_reserve_price: bool
    """EIP-7918: the excess-blob-gas rule that a plain Ethereum header follows."""


PRAGUE = ForkRules(
    name="Prague",
    tx_gas_cap=None,
    block_rlp_limit=None,
    clz=False,
    p256verify=False,
    modexp_osaka=False,
    blob_reserve_price=False,
)
OSAKA = ForkRules(
    name="Osaka",
    tx_gas_cap=TX_GAS_CAP,
    block_rlp_limit=MAX_BLOCK_RLP_BYTES,
    clz=True,
    p256verify=True,
    modexp_osaka=True,
    blob_reserve_price=True,
)
FORKS = {"Prague": PRAGUE, "Osaka": OSAKA}


def fork_named(name: str) -> ForkRules:
    try:
        return FORKS[name]
    except KeyError:
        raise UnknownFork(name) from None


@dataclass(frozen=True, slots=True)
class ChainRules:
    """All that block processing needs to know of a chain's configuration."""

    chain_id: int
    forks: tuple[tuple[int, ForkRules], ...]
    """(activation height, rules), ascending, the first at height 0."""
    fee_bounds: FeeBounds | None
    """Genesis bounds of the fee parameters in ``extra_data``; None under plain Ethereum, which has none."""

    @property
    def plain_ethereum(self) -> bool:
        """Ethereum's own system requests (EIP-6110, 7002, 7251), withdrawals, free ``extra_data``."""
        return self.fee_bounds is None

    def fork_at(self, height: int) -> ForkRules:
        active = self.forks[0][1]
        for activation_height, fork in self.forks:
            if activation_height > height:
                break
            active = fork
        return active


def plain_ethereum(fork: ForkRules, chain_id: int = 1) -> ChainRules:
    """A chain as execution-spec-tests assume it: base-fee step 1/8, elasticity 2, no minimum base fee."""
    return ChainRules(chain_id=chain_id, forks=((0, fork),), fee_bounds=None)


def astralink(
    chain_id: int,
    fee_bounds: FeeBounds,
    forks: tuple[tuple[int, ForkRules], ...] = ((0, OSAKA),),
) -> ChainRules:
    """An AstraLink chain; the genesis file names the heights at which forks activate."""
    return ChainRules(chain_id=chain_id, forks=forks, fee_bounds=fee_bounds)
