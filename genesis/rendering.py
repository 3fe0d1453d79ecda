"""The text of a genesis file: geth's fields in geth's spelling, then our section."""

import json

from astralink_node.evm.fee_rules import encode_fee_parameters
from genesis.canonical import section_of
from genesis.schema import GenesisAccount, GenesisFile


def render_genesis(genesis: GenesisFile) -> str:
    """The file that says `genesis`, indented."""
    return (
        json.dumps(
            {
                "config": dict(genesis.config),
                "nonce": "0x0",
                "timestamp": hex(genesis.timestamp),
                "extraData": f"0x{encode_fee_parameters(genesis.fees).hex()}",
                "gasLimit": hex(genesis.fees.gas_limit),
                "difficulty": "0x0",
                "mixHash": f"0x{genesis.mix_hash.hex()}",
                "coinbase": f"0x{genesis.coinbase.hex()}",
                "baseFeePerGas": hex(genesis.base_fee_wei),
                "alloc": {f"0x{address.hex()}": _account(account) for address, account in genesis.alloc.items()},
                "astralink": section_of(genesis),
            },
            indent=2,
        )
        + "\n"
    )


def _account(account: GenesisAccount) -> dict[str, object]:
    rendered: dict[str, object] = {"balance": hex(account.balance_wei)}
    if account.nonce:
        rendered["nonce"] = hex(account.nonce)
    if account.code:
        rendered["code"] = f"0x{account.code.hex()}"
    if account.storage:
        rendered["storage"] = {f"0x{slot:064x}": f"0x{value:064x}" for slot, value in account.storage}
    return rendered
