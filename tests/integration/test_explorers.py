"""Both explorers' own requests against a devnet, word for word, and what they read out of the answers.

Otterscan's come from its hooks and its search (ethers sends them in batches); Blockscout's from its ethereum_jsonrpc
modules, with the variants for geth, Erigon and Nethermind.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from astralink_node.evm.created_addresses import contract_address
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.explorer_contracts import DEPLOYS, DIES, EXPLORER_CONTRACTS, FORWARDER, MAKER, word
from tests.support.gateways import hexed, signed
from tests.support.node_process import NodeProcess, await_that

ALICE, BOB = DEVNET_ACCOUNTS[:2]
FRIEND = bytes.fromhex("77" * 20)
LOGGER_CODE = bytes.fromhex("5f355f5fa100")
"""Emits a log whose topic is its first word."""
REVERTER_CODE = bytes.fromhex("3660006000373660 00fd".replace(" ", ""))
"""Reverts with its call data."""
REASON = bytes.fromhex("08c379a0") + word(b"\x20") + word(b"\x04") + b"why?".ljust(32, b"\x00")
"""Error(string)."""
UNCLES = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
TIMEOUT_S = 20


def deploying(code: bytes) -> bytes:
    """Creation code that returns the code behind it."""
    return bytes((0x60, len(code))) + bytes.fromhex("8060095f395ff3") + code


@dataclass(frozen=True)
class Deployed:
    forwarder: str
    maker: str
    logger: str
    reverter: str


class Explorer:
    """Sends JSON-RPC as an explorer does, and hands out results."""

    def __init__(self, url: str) -> None:
        self._url = url

    def post(self, body: object) -> Any:
        request = urllib.request.Request(self._url, json.dumps(body).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)

    def batch(self, *calls: tuple[str, Sequence[object]]) -> list[Any]:
        """The results in the order asked, matched by their ids as clients do."""
        requests = [
            {"id": number, "jsonrpc": "2.0", "method": method, "params": list(params)}
            for number, (method, params) in enumerate(calls)
        ]
        answers = {answer["id"]: answer for answer in self.post(requests)}
        assert answers.keys() == set(range(len(calls)))
        assert all("result" in answer for answer in answers.values()), answers
        return [answers[number]["result"] for number in range(len(calls))]

    def ask(self, method: str, *params: object) -> Any:
        return self.batch((method, params))[0]


@dataclass
class Scene:
    explorer: Explorer
    at: Deployed
    hashes: dict[str, str]

    def receipt(self, name: str) -> Any:
        return self.explorer.ask("eth_getTransactionReceipt", self.hashes[name])

    def height(self, name: str) -> int:
        return int(self.receipt(name)["blockNumber"], 16)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A devnet with a few transactions of every kind that explorers show."""
    base: Path = tmp_path_factory.mktemp("explorers")
    arguments = ("devnet", "--dir", str(base / "net"), "--rpc-port", "0", "--block-interval-ms", "0", "--json")
    with NodeProcess(base / "log", *arguments) as node:
        explorer = Explorer(node.await_ready().ready["rpcUrl"])
        yield _populated(explorer, node)


def _populated(explorer: Explorer, node: NodeProcess) -> Scene:
    addresses = [hexed(contract_address(ALICE.address, nonce)) for nonce in range(4)]
    at = Deployed(*addresses)
    codes = (EXPLORER_CONTRACTS[FORWARDER].code, EXPLORER_CONTRACTS[MAKER].code, LOGGER_CODE, REVERTER_CODE)
    raw = {
        f"deploys {name}": signed(ALICE, nonce=nonce, gas=400_000, data=deploying(code))
        for nonce, (name, code) in enumerate(zip(("forwarder", "maker", "logger", "reverter"), codes, strict=True))
    }
    forwarder, maker, logger, reverter = (bytes.fromhex(address[2:]) for address in addresses)
    raw |= {
        "transfer": signed(ALICE, nonce=4, to=FRIEND, value=10**18, gas=21_000),
        "log": signed(ALICE, nonce=5, to=forwarder, gas=200_000, value=7, data=word(logger) + bytes(31) + b"\x2a"),
        "create": signed(ALICE, nonce=6, to=forwarder, gas=400_000, data=word(maker) + DEPLOYS),
        "fail": signed(ALICE, nonce=7, to=reverter, gas=100_000, data=REASON),
        "die": signed(ALICE, nonce=8, to=maker, gas=400_000, data=DIES),
    }
    hashes = {name: explorer.ask("eth_sendRawTransaction", hexed(each)) for name, each in raw.items()}
    last = hashes["die"]
    await_that(
        lambda: explorer.ask("eth_getTransactionReceipt", last) is not None,
        lambda: f"the transactions were not included:\n{node.said()}",
    )
    return Scene(explorer, at, hashes)


# --- Otterscan ---------------------------------------------------------------------------------------------------


def test_otterscan_connects_and_shows_the_newest_block(scene: Scene) -> None:
    number, header, level, chain_id = scene.explorer.batch(
        ("eth_blockNumber", []), ("erigon_getHeaderByNumber", ["latest"]), ("ots_getApiLevel", []), ("eth_chainId", [])
    )
    assert level >= 8
    assert int(chain_id, 16) > 0
    height = int(number, 16)
    again, finalized, safe = scene.explorer.batch(
        ("erigon_getHeaderByNumber", [height]),
        ("eth_getBlockByNumber", ["finalized", False]),
        ("eth_getBlockByNumber", ["safe", False]),
    )
    assert again["number"] == number
    assert header["number"] == finalized["number"] == safe["number"] == number
    for field in ("hash", "parentHash", "timestamp", "gasLimit", "gasUsed", "miner", "extraData", "baseFeePerGas"):
        assert isinstance(again[field], str)


def test_otterscan_shows_a_block_and_its_transactions(scene: Scene) -> None:
    height = scene.height("create")
    details = scene.explorer.ask("ots_getBlockDetails", height)
    block = details["block"]
    assert details == scene.explorer.ask("ots_getBlockDetailsByHash", block["hash"])
    assert details["issuance"]["blockReward"] == "0x0"
    assert int(details["totalFees"], 16) > 0
    assert block["sha3Uncles"] == UNCLES
    for field in ("size", "stateRoot", "totalDifficulty", "gasUsed", "nonce", "difficulty"):
        int(block[field], 16)
    page = scene.explorer.ask("ots_getBlockTransactions", height, 0, 25)
    assert page["fullblock"]["transactionCount"] == block["transactionCount"] == len(page["receipts"])
    for transaction, receipt in zip(page["fullblock"]["transactions"], page["receipts"], strict=True):
        assert transaction["hash"] == receipt["transactionHash"]
        assert len(transaction["input"]) <= 10
        assert int(receipt["gasUsed"], 16) * int(transaction["gasPrice"], 16) > 0
        assert receipt["status"] in ("0x0", "0x1")
        assert receipt["logs"] is None
    assert scene.explorer.ask("ots_getBlockDetails", 10**9) is None


def test_otterscan_shows_a_transaction_with_its_inside(scene: Scene) -> None:
    transaction_hash = scene.hashes["create"]
    transaction, receipt, operations, calls, error = scene.explorer.batch(
        ("eth_getTransactionByHash", [transaction_hash]),
        ("eth_getTransactionReceipt", [transaction_hash]),
        ("ots_getInternalOperations", [transaction_hash]),
        ("ots_traceTransaction", [transaction_hash]),
        ("ots_getTransactionError", [transaction_hash]),
    )
    assert (transaction["to"], receipt["status"], error) == (scene.at.forwarder, "0x1", "0x")
    maker = bytes.fromhex(scene.at.maker[2:])
    created = hexed(contract_address(maker, 1))
    assert operations == [{"type": 2, "from": scene.at.maker, "to": created, "value": "0x0"}]
    assert [(each["depth"], each["type"], each["to"]) for each in calls] == [
        (0, "CALL", scene.at.forwarder),
        (1, "CALL", scene.at.maker),
        (2, "CREATE", created),
    ]
    difference = scene.explorer.ask("trace_replayTransaction", transaction_hash, ["stateDiff"])["stateDiff"]
    assert difference[created]["code"] == {"+": "0x00"}
    for changes in difference.values():
        assert changes.keys() == {"balance", "code", "nonce", "storage"}
        assert all(change == "=" or len(change) == 1 for name, change in changes.items() if name != "storage")


def test_otterscan_decodes_why_a_transaction_failed(scene: Scene) -> None:
    failed = scene.hashes["fail"]
    error, receipt = scene.explorer.batch(
        ("ots_getTransactionError", [failed]), ("eth_getTransactionReceipt", [failed])
    )
    assert (error, receipt["status"]) == (hexed(REASON), "0x0")


def test_otterscan_shows_an_account_and_walks_its_pages(scene: Scene) -> None:
    alice = hexed(ALICE.address)
    has_code, balance, nonce, creator, first = scene.explorer.batch(
        ("ots_hasCode", [alice, "latest"]),
        ("eth_getBalance", [alice, "latest"]),
        ("eth_getTransactionCount", [alice, "latest"]),
        ("ots_getContractCreator", [alice]),
        ("ots_searchTransactionsBefore", [alice, 0, 25]),
    )
    assert (has_code, creator, nonce) == (False, None, "0x9")
    assert int(balance, 16) > 0
    expected = list(reversed(scene.hashes.values()))
    assert [each["hash"] for each in first["txs"]] == expected
    assert (first["firstPage"], first["lastPage"]) == (True, True)
    assert all(isinstance(each["timestamp"], int) for each in first["receipts"])
    walked, height = [], 0
    for _ in range(len(expected)):
        page = scene.explorer.ask("ots_searchTransactionsBefore", alice, height, 2)
        walked += [each["hash"] for each in page["txs"]]
        if page["lastPage"]:
            break
        height = int(page["txs"][-1]["blockNumber"], 16)
    assert walked == expected
    oldest = scene.explorer.ask("ots_searchTransactionsAfter", alice, 0, 1)
    assert (oldest["txs"][-1]["hash"], oldest["lastPage"]) == (expected[-1], True)
    neighbours = scene.explorer.batch(
        *(("ots_getTransactionBySenderAndNonce", [alice, number]) for number in (4, 5, 6, 9))
    )
    assert neighbours == [scene.hashes["transfer"], scene.hashes["log"], scene.hashes["create"], None]


def test_otterscan_shows_a_contract_and_who_called_it_from_within(scene: Scene) -> None:
    has_code, code, creator, page = scene.explorer.batch(
        ("ots_hasCode", [scene.at.logger, "latest"]),
        ("eth_getCode", [scene.at.logger, "latest"]),
        ("ots_getContractCreator", [scene.at.logger]),
        ("ots_searchTransactionsBefore", [scene.at.logger, 0, 25]),
    )
    assert (has_code, code) == (True, hexed(LOGGER_CODE))
    assert creator == {"hash": scene.hashes["deploys logger"], "creator": hexed(ALICE.address)}
    assert [each["hash"] for each in page["txs"]] == [scene.hashes["log"], scene.hashes["deploys logger"]]
    inner = hexed(contract_address(bytes.fromhex(scene.at.maker[2:]), 1))  # type: ignore[arg-type]
    assert scene.explorer.ask("ots_getContractCreator", inner) == {
        "hash": scene.hashes["create"],
        "creator": scene.at.maker,
    }


# --- Blockscout, whatever the variant ----------------------------------------------------------------------------

RECEIPT_KEYS = frozenset(
    {"blockHash", "blockNumber", "contractAddress", "cumulativeGasUsed", "effectiveGasPrice", "from", "gas"}
    | {"gasUsed", "logs", "logsBloom", "revertReason", "root", "status", "to", "transactionHash"}
    | {"transactionIndex", "type"}
)
"""What Blockscout's receipts may hold: it stops at any other name."""


def test_blockscout_reads_blocks_with_their_transactions_receipts_and_logs(scene: Scene) -> None:
    latest = scene.explorer.ask("eth_getBlockByNumber", "latest", False)
    heights = [hex(number) for number in range(int(latest["number"], 16) + 1)]
    blocks = scene.explorer.batch(*(("eth_getBlockByNumber", [height, True]) for height in heights))
    assert [block["number"] for block in blocks] == heights
    transactions = [transaction for block in blocks for transaction in block["transactions"]]
    assert [each["hash"] for each in transactions] == list(scene.hashes.values())
    for block in blocks:
        for field in ("difficulty", "gasLimit", "gasUsed", "number", "size", "timestamp", "baseFeePerGas", "nonce"):
            int(block[field], 16)
        for field in ("extraData", "hash", "logsBloom", "miner", "mixHash", "parentHash", "receiptsRoot", "stateRoot"):
            assert block[field].startswith("0x")
        assert block["uncles"] == []
    for each in transactions:
        for field in ("blockNumber", "gas", "gasPrice", "nonce", "transactionIndex", "value", "v", "r", "s", "type"):
            int(each[field], 16)
        assert each.keys() >= {"blockHash", "from", "hash", "input", "to"}
    receipts = scene.explorer.batch(*(("eth_getTransactionReceipt", [each["hash"]]) for each in transactions))
    assert all(receipt.keys() <= RECEIPT_KEYS for receipt in receipts)
    by_block = scene.explorer.batch(*(("eth_getBlockReceipts", [height]) for height in heights))
    assert [receipt for each in by_block for receipt in each] == receipts
    (log,) = [log for receipt in receipts for log in receipt["logs"]]
    assert (log["address"], log["topics"]) == (scene.at.logger, ["0x" + "00" * 31 + "2a"])
    assert log.keys() >= {"blockHash", "blockNumber", "data", "logIndex", "transactionHash", "transactionIndex"}
    assert scene.explorer.ask("eth_getBlockByHash", latest["hash"], True) == blocks[-1]
    assert scene.explorer.ask("eth_getBlockByNumber", "0xffffff", True) is None
    assert scene.explorer.ask("eth_getUncleByBlockHashAndIndex", latest["hash"], "0x0") is None


def test_blockscout_reads_balances_and_codes_at_their_blocks(scene: Scene) -> None:
    height = scene.height("transfer")
    before, after, code, none = scene.explorer.batch(
        ("eth_getBalance", [hexed(FRIEND), hex(height - 1)]),
        ("eth_getBalance", [hexed(FRIEND), hex(height)]),
        ("eth_getCode", [scene.at.logger, hex(height)]),
        ("eth_getCode", [hexed(FRIEND), "latest"]),
    )
    assert (before, after) == ("0x0", hex(10**18))
    assert (code, none) == (hexed(LOGGER_CODE), "0x")


# --- Blockscout with geth ----------------------------------------------------------------------------------------

CALL_TRACER = {"tracer": "callTracer", "timeout": "5s"}
CALL_TYPES = frozenset(["CALL", "CALLCODE", "DELEGATECALL", "STATICCALL", "CREATE", "CREATE2", "SELFDESTRUCT"])


def flattened(call: dict[str, Any]) -> list[dict[str, Any]]:
    """As Blockscout walks geth's calls."""
    return [call, *(inner for each in call.get("calls", []) for inner in flattened(each))]


def test_blockscout_reads_internal_transactions_from_gets_call_tracer(scene: Scene) -> None:
    names = ("log", "create", "fail", "die", "transfer")
    traced = scene.explorer.batch(*(("debug_traceTransaction", [scene.hashes[name], CALL_TRACER]) for name in names))
    found = dict(zip(names, map(flattened, traced), strict=True))
    for calls in found.values():
        for call in calls:
            assert call["type"] in CALL_TYPES
            assert call.keys() >= {"from", "gas", "gasUsed", "input"}
    assert [(call["type"], call["to"], call["value"]) for call in found["log"]] == [
        ("CALL", scene.at.forwarder, "0x7"),
        ("CALL", scene.at.logger, "0x7"),
    ]
    assert [call["type"] for call in found["create"]] == ["CALL", "CALL", "CREATE"]
    assert found["create"][-1]["output"] == "0x00"
    assert (found["fail"][0]["error"], found["fail"][0]["revertReason"]) == ("execution reverted", "why?")
    assert [call["type"] for call in found["die"]] == ["CALL", "CREATE", "SELFDESTRUCT"]
    assert len(found["transfer"]) == 1
    height = scene.height("create")
    whole = scene.explorer.ask("debug_traceBlockByNumber", hex(height), CALL_TRACER)
    block = scene.explorer.ask("eth_getBlockByNumber", hex(height), False)
    assert [each["txHash"] for each in whole] == block["transactions"]
    by_hash = {each["txHash"]: each["result"] for each in whole}
    assert by_hash[scene.hashes["create"]] == traced[1]


def test_blockscout_reads_the_mempool_in_both_of_its_forms(scene: Scene) -> None:
    waiting = hexed(signed(BOB, nonce=5, to=FRIEND, value=1, gas=21_000))
    transaction_hash = scene.explorer.ask("eth_sendRawTransaction", waiting)
    content, pending = scene.explorer.batch(("txpool_content", []), ("parity_pendingTransactions", []))
    assert content["pending"] == {}
    (queued,) = (each for nonces in content["queued"].values() for each in nonces.values())
    assert (queued["hash"], queued["blockHash"], queued["transactionIndex"]) == (transaction_hash, None, None)
    assert pending == []


# --- Blockscout with Erigon and Nethermind -----------------------------------------------------------------------


def test_blockscout_reads_internal_transactions_from_paritys_traces(scene: Scene) -> None:
    heights = sorted({scene.height(name) for name in scene.hashes})
    replayed = scene.explorer.batch(*(("trace_replayBlockTransactions", [hex(each), ["trace"]]) for each in heights))
    runs = {run["transactionHash"]: run["trace"] for block in replayed for run in block}
    assert list(runs) == list(scene.hashes.values())
    for traces in runs.values():
        for trace in traces:
            _read_parity_trace(trace)
        assert traces[0]["traceAddress"] == []
    created = runs[scene.hashes["create"]]
    assert [(trace["type"], trace["traceAddress"]) for trace in created] == [
        ("call", []),
        ("call", [0]),
        ("create", [0, 0]),
    ]
    assert created[2]["result"]["code"] == "0x00"
    assert "error" in runs[scene.hashes["fail"]][0]
    assert runs[scene.hashes["die"]][-1]["type"] == "suicide"
    first = scene.explorer.ask("trace_replayTransaction", scene.hashes["create"], ["trace"])
    assert first["trace"] == created


def _read_parity_trace(trace: dict[str, Any]) -> None:
    action = trace["action"]
    match trace["type"]:
        case "call":
            assert action.keys() >= {"callType", "from", "gas", "input", "to", "value"}
            assert "error" in trace or trace["result"].keys() >= {"gasUsed", "output"}
        case "create":
            assert action.keys() >= {"from", "gas", "init", "value"}
            assert "error" in trace or trace["result"].keys() >= {"address", "code", "gasUsed"}
        case "suicide":
            assert action.keys() >= {"address", "balance", "refundAddress"}
        case other:
            raise AssertionError(f"Blockscout knows no traces of type {other}")


def test_blockscout_finds_no_beneficiaries_since_blocks_pay_no_rewards(scene: Scene) -> None:
    height = scene.height("create")
    traces, empty = scene.explorer.batch(("trace_block", [hex(height)]), ("trace_block", ["0x0"]))
    assert empty == []
    assert traces
    for trace in traces:
        assert trace["type"] != "reward"
        assert (trace["blockNumber"], trace["blockHash"].startswith("0x")) == (height, True)
        assert trace["transactionHash"] in scene.hashes.values()


def test_blockscout_follows_the_chain_by_its_height(scene: Scene) -> None:
    before = int(scene.explorer.ask("eth_blockNumber"), 16)
    raw = hexed(signed(BOB, nonce=0, to=FRIEND, value=1, gas=21_000))
    transaction_hash = scene.explorer.ask("eth_sendRawTransaction", raw)
    end = time.monotonic() + TIMEOUT_S
    await_that(
        lambda: scene.explorer.ask("eth_getTransactionReceipt", transaction_hash) is not None,
        lambda: f"not included after {time.monotonic() - end + TIMEOUT_S:.0f} s",
    )
    assert int(scene.explorer.ask("eth_blockNumber"), 16) > before


# --- Debuggers -----------------------------------------------------------------------------------------------------

HISTORY = "0x0000f90827f1c53a10cb7a02335b175320002935"
"""EIP-2935's contract: before its transactions, a block stores its parent's hash there."""


def test_a_debugger_reads_the_state_within_a_block_of_a_node_with_staking(scene: Scene) -> None:
    receipt = scene.receipt("create")
    height, block_hash = int(receipt["blockNumber"], 16), receipt["blockHash"]
    block, raw, raw_parent = scene.explorer.batch(
        ("eth_getBlockByNumber", [hex(height), False]),
        ("debug_getRawBlock", [hex(height)]),
        ("debug_getRawBlock", [hex(height - 1)]),
    )
    # As Remix asks: the block's hash, the transaction's index as a number, the page's start as a whole word.
    index = int(receipt["transactionIndex"], 16)
    page = scene.explorer.ask("debug_storageRangeAt", block_hash, index, HISTORY, "0x" + "00" * 32, 100)
    stored = {int(each["key"], 16): each["value"] for each in page["storage"].values()}
    assert sorted(stored) == list(range(height))
    assert stored[height - 1] == block["parentHash"]
    assert page["nextKey"] is None
    assert scene.explorer.ask("debug_intermediateRoots", block_hash)[-1] == block["stateRoot"]
    modified = scene.explorer.ask("debug_getModifiedAccountsByHash", block_hash)
    assert {HISTORY, hexed(ALICE.address), scene.at.maker} <= set(modified)
    for given, number in ((raw, height), (raw_parent, height - 1)):
        traced = scene.explorer.ask("debug_traceBlock", given, {"tracer": "callTracer"})
        assert traced == scene.explorer.ask("debug_traceBlockByNumber", hex(number), {"tracer": "callTracer"})


def test_a_debugger_lists_the_accounts_of_a_node_page_by_page(scene: Scene) -> None:
    everybody = scene.explorer.ask("debug_accountRange", hex(scene.height("die")), "0x", 256, False, False, True)
    accounts, start = {}, "0x"
    for _ in range(len(everybody["accounts"])):
        page = scene.explorer.ask("debug_accountRange", hex(scene.height("die")), start, 4, False, False, True)
        accounts |= page["accounts"]
        if "next" not in page:
            break
        start = page["next"]
    assert accounts == everybody["accounts"]
    codes = {account.get("code") for account in accounts.values()}
    assert hexed(LOGGER_CODE) in codes
