"""The AstraLink node: a validator and RPC client for an EVM chain built for telecom networks.

The hash backend is chosen here, before anything can import ``eth_hash``: py-evm and the trie library
otherwise settle on pycryptodome, which is six times slower than safe-pysha3.
"""

import os

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")

__version__ = "0.1.0"
