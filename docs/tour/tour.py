"""The README's tour: deploy a contract, call it, read its log, and see a revert, with web3.py as anybody uses it.

Usage: .venv/bin/python docs/tour/tour.py [RPC_URL [PRIVATE_KEY]]. The default key is the devnet's first account,
which everybody knows: never send real funds to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from eth_account import Account
from vyper.compiler import compile_code
from vyper.compiler.settings import Settings
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.middleware import SignAndSendRawMiddlewareBuilder

DEVNET_URL = "http://127.0.0.1:8545"
DEVNET_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
SOURCE = Path(__file__).with_name("Counter.vy").read_text()


def main(url: str = DEVNET_URL, key: str = DEVNET_KEY) -> None:
    w3 = Web3(Web3.HTTPProvider(url))
    account = Account.from_key(key)
    w3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(account), layer=0)
    w3.eth.default_account = account.address
    print(f"chain {w3.eth.chain_id}, account {account.address}")

    compiled = compile_code(SOURCE, output_formats=["abi", "bytecode"], settings=Settings(evm_version="prague"))
    factory = w3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    receipt = w3.eth.wait_for_transaction_receipt(factory.constructor().transact(), poll_latency=0.1)
    counter = w3.eth.contract(address=receipt["contractAddress"], abi=compiled["abi"])
    print(f"deployed at {counter.address} with {receipt['gasUsed']} gas")

    receipt = w3.eth.wait_for_transaction_receipt(counter.functions.increase(7).transact(), poll_latency=0.1)
    print(f"increase(7): status {receipt['status']}, value {counter.functions.value().call()}")

    [event] = counter.events.Increased().get_logs(from_block=receipt["blockNumber"])
    print(f"log Increased: by {event['args']['by']}, value {event['args']['value']}")

    try:
        counter.functions.increase(11).transact()
    except ContractLogicError as error:
        print(f"increase(11) is refused: {error.message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
