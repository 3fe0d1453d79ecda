"""What a node says of one block in several ways must agree: held against each other, since anvil has not all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

import rlp
from trie import HexaryTrie

from astralink_node.crypto.keccak import keccak256
from tests.campaigns.rpc_questions import TRACERS

PLACE: Final = frozenset({"blockHash", "blockNumber", "transactionHash", "transactionPosition"})
EVERYTHING: Final = ["trace", "stateDiff", "vmTrace"]
MUXED: Final[dict[str, dict[str, Any]]] = {
    "callTracer": {"withLog": True},
    "4byteTracer": {},
    "prestateTracer": {"diffMode": True},
    "flatCallTracer": {"includePrecompiles": True},
}


class Node(Protocol):
    def call(self, method: str, *params: object) -> Any: ...
    def ask(self, method: str, *params: object) -> dict[str, Any]: ...


def contradictions(node: Node, number: str, hashes: Sequence[str]) -> Iterator[str]:
    """Each pair of answers that do not fit."""
    for what, one, other in _pairs(node, number, hashes):
        if one != other:
            yield f"block {number}: {what}: {str(one)[:300]} and {str(other)[:300]}"


def _pairs(node: Node, number: str, hashes: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    receipts = [node.call("eth_getTransactionReceipt", each) for each in hashes]
    yield "receipts", receipts, node.call("eth_getBlockReceipts", number)
    logs = node.call("eth_getLogs", {"fromBlock": number, "toBlock": number})
    yield "logs", [log for receipt in receipts for log in receipt["logs"]], logs
    traces = [node.call("trace_transaction", each) for each in hashes]
    yield "traces", [trace for each in traces for trace in each], node.call("trace_block", number)
    replayed = node.call("trace_replayBlockTransactions", number, EVERYTHING)
    for position, (transaction_hash, receipt) in enumerate(zip(hashes, receipts, strict=True)):
        alone = node.call("trace_replayTransaction", transaction_hash, EVERYTHING)
        yield "replays", {**alone, "transactionHash": transaction_hash}, replayed[position]
        yield "replayed traces", alone["trace"], [_without_place(trace) for trace in traces[position]]
        for trace in traces[position]:
            path = [hex(step) for step in trace["traceAddress"]]
            yield f"trace_get {path}", trace, node.call("trace_get", transaction_hash, path)
        yield from _tracers(node, transaction_hash, receipt)
    for name in ("callTracer", "prestateTracer"):
        of_block = node.call("debug_traceBlockByNumber", number, TRACERS[name])
        each = [node.call("debug_traceTransaction", transaction_hash, TRACERS[name]) for transaction_hash in hashes]
        yield f"{name} of the block", [entry["result"] for entry in of_block], each


def _tracers(node: Node, transaction_hash: str, receipt: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    muxed = node.call("debug_traceTransaction", transaction_hash, {"tracer": "muxTracer", "tracerConfig": MUXED})
    for name, config in MUXED.items():
        alone = node.call("debug_traceTransaction", transaction_hash, {"tracer": name, "tracerConfig": config})
        yield f"muxTracer's {name}", muxed[name], alone
    struct = node.call("debug_traceTransaction", transaction_hash, {})
    succeeded, gas_used = receipt["status"] == "0x1", int(receipt["gasUsed"], 16)
    yield "struct logs", (struct["gas"], struct["failed"]), (gas_used, not succeeded)
    calls = muxed["callTracer"]
    yield "call tracer", (int(calls["gasUsed"], 16), "error" not in calls), (gas_used, succeeded)
    nested = list(_frames(calls))
    yield "calls", len(nested), len(muxed["flatCallTracer"])
    in_order = sorted((log for frame in nested for log in frame.get("logs", ())), key=lambda log: int(log["index"], 16))
    yield "logs of calls", [_content(log) for log in in_order], [_content(log) for log in receipt["logs"]]
    yield "limited struct logs", _limited(node, transaction_hash), struct["structLogs"][:3]


def _limited(node: Node, transaction_hash: str) -> Any:
    return node.call("debug_traceTransaction", transaction_hash, {"limit": 3})["structLogs"]


def _frames(frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield frame
    for inner in frame.get("calls", ()):
        yield from _frames(inner)


def _content(log: dict[str, Any]) -> tuple[Any, ...]:
    return log["address"], log["topics"], log["data"]


def _without_place(trace: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in trace.items() if name not in PLACE}


def estimate_suffices(node: Node, call: dict[str, Any], block: str) -> bool:
    """With as much gas as the estimate says, if there is one, the call succeeds."""
    estimate = node.ask("eth_estimateGas", call, block).get("result")
    return estimate is None or "result" in node.ask("eth_call", {**call, "gas": estimate}, block)


def proves(proof: dict[str, Any], state_root: str) -> bool:
    """Whether an `eth_getProof` answer holds against the header's root (EIP-1186)."""
    account = _proven(state_root, bytes.fromhex(proof["address"][2:]), proof["accountProof"])
    fields = [int(proof["nonce"], 16), int(proof["balance"], 16), proof["storageHash"], proof["codeHash"]]
    if account:
        nonce, balance, storage_root, code_hash = rlp.decode(account)
        found = [int.from_bytes(nonce, "big"), int.from_bytes(balance, "big"), _hex(storage_root), _hex(code_hash)]
    else:
        found = [0, 0, *fields[2:]]
    slots = all(
        int.from_bytes(rlp.decode(value) if value else b"", "big") == int(slot["value"], 16)
        for slot in proof["storageProof"]
        for value in (_proven(proof["storageHash"], int(slot["key"], 16).to_bytes(32, "big"), slot["proof"]),)
    )
    return found == fields and slots


def _proven(root: str, key: bytes, nodes: Sequence[str]) -> bytes:
    if not nodes:
        return b""
    decoded = [rlp.decode(bytes.fromhex(each[2:])) for each in nodes]
    value: bytes = HexaryTrie.get_from_proof(bytes.fromhex(root[2:]), keccak256(key), decoded)
    return value


def _hex(data: bytes) -> str:
    return f"0x{data.hex()}"
