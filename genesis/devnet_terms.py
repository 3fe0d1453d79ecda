"""What every devnet has in common (genesis.presets makes one), and how a chain is told for one."""

from typing import Final

from genesis.schema import STAKE_UNIT_WEI, GenesisFile

DEVNET_CHAIN_ID: Final = 0x414C4E44
"""1095519812, the ASCII of "ALND". Short ids are taken: 1337 and 31337 by other development chains (wallets refuse
two networks with one id), 3141 by Filecoin, and so on; eth-utils' list of 1,518 registered chains has none within a
million of this one. Four bytes keep EIP-155's v within what hardware wallets handle."""

DEVNET_NAME: Final = "devnet"
DEVNET_BALANCE_WEI: Final = 10_000 * 10**18
DEVNET_EPOCH_LENGTH: Final = 100
DEVNET_STAKE_WEI: Final = 32 * STAKE_UNIT_WEI
DEVNET_MAX_GAS_TARGET: Final = 15_000_000
"""A gas limit of 30 million, which developers' tools assume."""
DEVNET_MIN_BLOCK_INTERVAL_MS: Final = 1
"""Of a devnet of one validator: a block may follow as soon as a transaction waits, limited by execution alone."""


def is_devnet(genesis: GenesisFile) -> bool:
    """Whether it is a chain of `genesis.presets.devnet`'s, whose funded accounts have keys that everybody knows."""
    return genesis.network_name == DEVNET_NAME and genesis.chain_id == DEVNET_CHAIN_ID
