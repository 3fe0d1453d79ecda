"""The contracts that the protocol itself calls; every genesis holds them at their addresses, as Ethereum does.

EIP-4788 keeps the roots of consensus payloads by second, EIP-2935 the hashes of the last 8,191 blocks.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from astralink_node.types import Address

BEACON_ROOTS_ADDRESS: Final = Address(bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02"))
BEACON_ROOTS_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604d57602036146024575f5ffd5b5f35801560495762001fff81069081541460"
    "3c575f5ffd5b62001fff01545f5260205ff35b5f5ffd5b62001fff42064281555f359062001fff015500"
)
"""EIP-4788, "Deployment"."""

HISTORY_ADDRESS: Final = Address(bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935"))
HISTORY_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff8143031160425761"
    "1fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
)
"""EIP-2935, "Deployment"."""

SYSTEM_CONTRACTS: Final[Mapping[Address, bytes]] = MappingProxyType(
    {BEACON_ROOTS_ADDRESS: BEACON_ROOTS_CODE, HISTORY_ADDRESS: HISTORY_CODE}
)
