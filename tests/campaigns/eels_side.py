"""Answers cases on Ethereum's execution specifications (PyPI: ethereum-execution): JSON lines in, JSON lines out.

Run by an interpreter of its own that has that package, and nothing of ours; see ``eels_differential.py``. It
calls the specification's own functions in the order of a block's execution. Transactions that the specification
refuses are left out, as by ``t8n``.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
from typing import Any

from ethereum.exceptions import EthereumException
from ethereum_rlp import rlp
from ethereum_rlp.exceptions import RLPException
from ethereum_types.bytes import Bytes20, Bytes32
from ethereum_types.numeric import U64, U256, Uint

RECURSION_LIMIT = 40_000
"""A call of depth 1024 takes the specification some ten Python frames a level."""
THREAD_STACK_BYTES = 512 * 1024 * 1024


class Specification:
    """One fork's modules."""

    def __init__(self, fork: str) -> None:
        package = f"ethereum.forks.{fork.lower()}"
        self.fork: Any = importlib.import_module(f"{package}.fork")
        self.blocks: Any = importlib.import_module(f"{package}.blocks")
        self.bloom: Any = importlib.import_module(f"{package}.bloom")
        self.requests: Any = importlib.import_module(f"{package}.requests")
        self.state: Any = importlib.import_module(f"{package}.state")
        self.transactions: Any = importlib.import_module(f"{package}.transactions")
        self.trie: Any = importlib.import_module(f"{package}.trie")
        self.types: Any = importlib.import_module(f"{package}.fork_types")
        self.vm: Any = importlib.import_module(f"{package}.vm")

    def answer(self, case: dict[str, Any]) -> dict[str, Any]:
        environment = self._environment(case)
        output = self.vm.BlockOutput()
        fork = self.fork
        fork.process_unchecked_system_transaction(
            block_env=environment,
            target_address=fork.BEACON_ROOTS_ADDRESS,
            data=environment.parent_beacon_block_root,
        )
        fork.process_unchecked_system_transaction(
            block_env=environment,
            target_address=fork.HISTORY_STORAGE_ADDRESS,
            data=environment.block_hashes[-1],
        )
        rejected = self._apply_transactions(environment, output, case["transactions"])
        fork.process_withdrawals(environment, output, tuple(map(self._withdrawal, case["withdrawals"])))
        block_error = ""
        try:
            fork.process_general_purpose_requests(block_env=environment, block_output=output)
        except EthereumException as error:
            block_error = f"{type(error).__name__}: {error}"
        answer = {"rejected": rejected, "block_error": block_error}
        if not block_error:
            answer |= self._describe(environment, output)
        return answer

    def _apply_transactions(self, environment: Any, output: Any, transactions: list[str]) -> dict[str, str]:
        rejected: dict[str, str] = {}
        included = 0
        for position, raw in enumerate(transactions):
            try:
                transaction = self._decode(bytes.fromhex(raw))
                self.fork.process_transaction(environment, output, transaction, Uint(included))
            except (EthereumException, RLPException) as error:
                rejected[str(position)] = f"{type(error).__name__}: {error}"
                self.trie.trie_set(output.transactions_trie, rlp.encode(Uint(included)), None)
                continue
            included += 1
        return rejected

    def _decode(self, raw: bytes) -> Any:
        if raw[0] >= 0xC0:
            return rlp.decode_to(self.transactions.LegacyTransaction, raw)
        return self.transactions.decode_transaction(raw)

    def _environment(self, case: dict[str, Any]) -> Any:
        fields = case["environment"]
        number = fields["number"]
        return self.vm.BlockEnvironment(
            chain_id=U64(case["chain_id"]),
            state=self._state(case["alloc"]),
            block_gas_limit=Uint(fields["gas_limit"]),
            block_hashes=[
                Bytes32(bytes.fromhex(fields["block_hashes"][str(height)]))
                for height in range(max(number - 256, 0), number)
            ],
            coinbase=_address(fields["coinbase"]),
            number=Uint(number),
            base_fee_per_gas=Uint(fields["base_fee"]),
            time=U256(fields["timestamp"]),
            prev_randao=Bytes32(bytes.fromhex(fields["prev_randao"])),
            excess_blob_gas=U64(fields["excess_blob_gas"]),
            parent_beacon_block_root=Bytes32(bytes.fromhex(fields["parent_beacon_block_root"])),
        )

    def _state(self, alloc: dict[str, Any]) -> Any:
        state = self.state.State()
        for raw_address, fields in alloc.items():
            address = _address(raw_address)
            account = self.types.Account(
                nonce=Uint(fields["nonce"]), balance=U256(fields["balance"]), code=bytes.fromhex(fields["code"])
            )
            self.state.set_account(state, address, account)
            for slot, value in fields["storage"].items():
                self.state.set_storage(state, address, Bytes32(int(slot).to_bytes(32, "big")), U256(value))
        return state

    def _withdrawal(self, fields: dict[str, Any]) -> Any:
        return self.blocks.Withdrawal(
            index=U64(fields["index"]),
            validator_index=U64(fields["validator_index"]),
            address=_address(fields["address"]),
            amount=U256(fields["amount"]),
        )

    def _describe(self, environment: Any, output: Any) -> dict[str, Any]:
        root = self.trie.root
        return {
            "state_root": self.state.state_root(environment.state).hex(),
            "transactions_root": root(output.transactions_trie).hex(),
            "receipts_root": root(output.receipts_trie).hex(),
            "withdrawals_root": root(output.withdrawals_trie).hex(),
            "logs_bloom": self.bloom.logs_bloom(output.block_logs).hex(),
            "logs": [
                [log.address.hex(), [topic.hex() for topic in log.topics], log.data.hex()] for log in output.block_logs
            ],
            "gas_used": int(output.block_gas_used),
            "requests": [request.hex() for request in output.requests],
            "requests_hash": self.requests.compute_requests_hash(output.requests).hex(),
            "accounts": {
                address.hex(): [int(account.nonce), int(account.balance), account.code.hex()]
                for address, account in environment.state._main_trie._data.items()
                if account is not None
            },
        }


def _address(text: str) -> Bytes20:
    return Bytes20(bytes.fromhex(text))


def answer_all() -> None:
    sys.setrecursionlimit(RECURSION_LIMIT)
    specifications = {fork: Specification(fork) for fork in ("Prague", "Osaka")}
    for line in sys.stdin:
        case = json.loads(line)
        try:
            answer = specifications[case["fork"]].answer(case)
        except (ArithmeticError, AssertionError, LookupError, ValueError) as error:
            # The specification ends so where a state is impossible, such as a balance above 2**256.
            answer = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    threading.stack_size(THREAD_STACK_BYTES)
    worker = threading.Thread(target=answer_all)
    worker.start()
    worker.join()
