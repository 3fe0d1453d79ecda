"""What two nodes are asked about a block, its transactions, the accounts that they touch, and calls that nobody sent.

What anvil does not serve, or serves in another form, is not here: rpc_consistency holds our answers of those against
each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from astralink_node.evm.transactions import Transaction


@dataclass(frozen=True, slots=True)
class Question:
    method: str
    params: tuple[Any, ...]
    variant: str = ""
    """Which of several configurations, for the report."""

    @property
    def name(self) -> str:
        return f"{self.method} {self.variant}".strip()


def _tracer(name: str, **config: Any) -> dict[str, Any]:
    return {"tracer": name, "tracerConfig": config}


STRUCT_LOGS: Final[dict[str, dict[str, Any]]] = {
    "structLogs": {},
    "structLogs with memory": {"enableMemory": True, "enableReturnData": True},
    "structLogs without stack": {"disableStack": True, "disableStorage": True},
}
TRACERS: Final = {
    "callTracer": _tracer("callTracer"),
    "callTracer withLog": _tracer("callTracer", withLog=True),
    "callTracer onlyTopCall": _tracer("callTracer", onlyTopCall=True, withLog=True),
    "prestateTracer": _tracer("prestateTracer"),
    "prestateTracer diffMode": _tracer("prestateTracer", diffMode=True),
    "prestateTracer without code": _tracer("prestateTracer", disableCode=True),
    "prestateTracer without storage": _tracer("prestateTracer", disableStorage=True),
    "prestateTracer diffMode bare": _tracer("prestateTracer", diffMode=True, disableCode=True, disableStorage=True),
    "noopTracer": _tracer("noopTracer"),
}


TRACED_GAS: Final = 1_000_000
"""Of a call that names none: a loop that burns what the node allows has half a million struct logs."""


def of_transaction(transaction_hash: str) -> Iterator[Question]:
    for method in (
        "eth_getTransactionByHash",
        "eth_getTransactionReceipt",
        "eth_getRawTransactionByHash",
        "debug_getRawTransaction",
        "trace_transaction",
        "ots_getTransactionError",
    ):
        yield Question(method, (transaction_hash,))
    yield Question("debug_traceTransaction", (transaction_hash, {"tracer": "4byteTracer"}), "4byteTracer")
    for name, config in {**STRUCT_LOGS, **TRACERS}.items():
        yield Question("debug_traceTransaction", (transaction_hash, config), name)


def of_block(number: str) -> Iterator[Question]:
    for method in (
        "eth_getBlockReceipts",
        "eth_getBlockTransactionCountByNumber",
        "eth_getUncleCountByBlockNumber",
        "trace_block",
        "ots_getBlockDetails",
    ):
        yield Question(method, (number,))
    yield Question("eth_getBlockByNumber", (number, False))
    yield Question("eth_getBlockByNumber", (number, True), "full")
    yield Question("eth_getTransactionByBlockNumberAndIndex", (number, "0x0"))
    yield Question("eth_getTransactionByBlockNumberAndIndex", (number, "0x9"), "beyond the last")
    yield Question("eth_getLogs", ({"fromBlock": number, "toBlock": number},))
    yield Question("eth_feeHistory", ("0x2", number, [25, 75]))
    yield Question("trace_filter", ({"fromBlock": number, "toBlock": number},))
    yield Question("trace_replayBlockTransactions", (number, ["trace", "stateDiff"]))
    yield Question("ots_getBlockTransactions", (int(number, 16), 0, 10))
    yield Question("debug_traceBlockByNumber", (number, _tracer("callTracer")), "callTracer")


def of_account(address: str, slots: Sequence[str], block: str) -> Iterator[Question]:
    for method in ("eth_getBalance", "eth_getTransactionCount", "eth_getCode", "ots_hasCode"):
        yield Question(method, (address, block))
    for slot in slots:
        yield Question("eth_getStorageAt", (address, slot, block))
    yield Question("eth_getProof", (address, slots, block))


def of_call(call: dict[str, Any], block: str) -> Iterator[Question]:
    for method in ("eth_call", "eth_estimateGas", "eth_createAccessList"):
        yield Question(method, (call, block))
    if "to" in call:
        yield Question("eth_simulateV1", ({"blockStateCalls": [{"calls": [call]}]}, block))
    for name, config in {**STRUCT_LOGS, **TRACERS}.items():
        yield Question("debug_traceCall", ({"gas": hex(TRACED_GAS), **call}, block, config), name)


def call_of(transaction: Transaction, sender: bytes, random: Random) -> dict[str, Any]:
    """The transaction as a call without fees: with its gas, or with what the node allows."""
    call: dict[str, Any] = {"from": f"0x{sender.hex()}", "value": hex(transaction.value)}
    if transaction.to:
        call["to"] = f"0x{transaction.to.hex()}"
    if transaction.data:
        call["input"] = f"0x{transaction.data.hex()}"
    if random.random() < 0.5:
        call["gas"] = hex(transaction.gas_limit)
    return call
