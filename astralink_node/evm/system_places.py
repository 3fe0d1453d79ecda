"""Where the contracts stand that the protocol itself calls, and who calls them. Needs no py-evm."""

from typing import Final

from astralink_node.types import Address

SYSTEM_ADDRESS: Final = Address(bytes.fromhex("fffffffffffffffffffffffffffffffffffffffe"))

BEACON_ROOTS_ADDRESS: Final = Address(bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02"))
"""EIP-4788."""
HISTORY_STORAGE_ADDRESS: Final = Address(bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935"))
"""EIP-2935."""
HISTORY_SLOTS: Final = 8_191
"""A block's hash stands in the slot of its number modulo this."""
DEPOSIT_CONTRACT_ADDRESS: Final = Address(bytes.fromhex("00000000219ab540356cbb839cbe05303d7705fa"))
"""EIP-6110, mainnet's."""
WITHDRAWAL_REQUEST_ADDRESS: Final = Address(bytes.fromhex("00000961ef480eb55e80d19ad83579a64c007002"))
"""EIP-7002."""
CONSOLIDATION_REQUEST_ADDRESS: Final = Address(bytes.fromhex("0000bbddc7ce488642fb579f8b00f3a590007251"))
"""EIP-7251."""
