"""Answers against Ethereum's published interface: OpenRPC result schemas, and recorded requests of geth.

The recordings (execution-apis, CC0) were made on another chain. What does not depend on that chain must be equal
to the byte: errors' codes and words, hashes of transactions sent, answers about contracts that our genesis copies.
For the rest the kind of answer and the names of its fields must be.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from astralink_node.gateway.methods.namespaces import NAMESPACES
from astralink_node.types import Address
from genesis.schema import GenesisAccount
from tests.support.gateways import ALICE, BOB, COUNTER, ECHO, REVERTER, Client, SmallNode, hexed, signed, with_client
from tests.support.json_schema import violations

UNPACKED = Path(__file__).parents[1] / "fixtures" / "unpacked"
OPENRPC = UNPACKED / "openrpc" / "openrpc.json"
EXAMPLES = UNPACKED / "rpc-examples"

RECORDED_CHAIN_ID = 3503995874084926
EMITTER = Address(bytes.fromhex("7dcd17433742f4c0ca53122ab541d0ba67fc27df"))
EMITTER_CODE = bytes.fromhex("3680600080376000206000548082558060010160005560005263656d697460206000a2")
PANICKER = Address(bytes.fromhex("0ee3ab1371c93e7c0c281cc0c2107cdebc8b1930"))
WRONG_CALL_DATA = Address(bytes.fromhex("17e7eedce4ac02ef114a7ed9fe6e2f33feba1667"))
INIT_CODE_PREFIX = "600d380380600d6000396000f3"

SERVED = {method.name for namespace in NAMESPACES.values() for method in namespace}


def schemas() -> dict[str, Any]:
    methods = json.loads(OPENRPC.read_text())["methods"]
    return {method["name"]: method["result"]["schema"] for method in methods if method["result"]}


def recorded() -> list[tuple[str, dict[str, Any], dict[str, Any], bool]]:
    """(name, request, recorded answer, whether the recording says that only its shape binds)."""
    cases = []
    for path in sorted(EXAMPLES.glob("*/*.io")):
        if path.parent.name not in SERVED or path.parent.name == "eth_simulateV1":  # test_simulate_vectors has those
            continue
        lines = path.read_text().splitlines()
        requests = [json.loads(line[3:]) for line in lines if line.startswith(">> ")]
        answers = [json.loads(line[3:]) for line in lines if line.startswith("<< ")]
        for number, (request, answer) in enumerate(zip(requests, answers, strict=True)):
            name = f"{path.parent.name}/{path.stem}" + (f"-{number + 1}" if number else "")
            cases.append((name, request, answer, any("speconly" in line for line in lines)))
    return cases


CASES = recorded()


def deployed_code(case: str, index: int) -> bytes:
    """The run-time code of a contract that a recorded block deploys."""
    (answer,) = (answer for name, _, answer, _ in CASES if name == case)
    init_code = answer["result"]["transactions"][index]["input"][2:]
    assert init_code.startswith(INIT_CODE_PREFIX)
    return bytes.fromhex(init_code[len(INIT_CODE_PREFIX) :])


def recorded_node() -> SmallNode:
    """A chain of the recording's id, with copies of its contracts."""
    return SmallNode(
        chain_id=RECORDED_CHAIN_ID,
        contracts={
            EMITTER: GenesisAccount(0x76, 0, EMITTER_CODE, ((0, 56),)),
            WRONG_CALL_DATA: GenesisAccount(0, 1, deployed_code("eth_getBlockByHash/get-block-by-hash", 1), ()),
            PANICKER: GenesisAccount(0, 1, deployed_code("eth_getBlockByHash/get-block-by-hash", 2), ()),
            Address(bytes.fromhex("0c2c51a0990aee1d73c1228de158688341557508")): GenesisAccount(10**18, 0, b"", ()),
            Address(bytes.fromhex("0300100f529a704d19736a8714837adbc934db7f")): GenesisAccount(1, 1, b"", ()),
        },
    )


# --- OpenRPC -------------------------------------------------------------------------------------------------

HASH = "0x" + "00" * 31 + "01"
GIVEN = {"from": hexed(ALICE.address), "to": hexed(COUNTER)}
LISTED = [{"address": hexed(COUNTER), "storageKeys": [HASH]}]
AUTHORIZED = {"chainId": "0x0", "address": hexed(ECHO), "nonce": "0x0", "yParity": "0x0", "r": "0x1", "s": "0x1"}
SIMULATED = {
    "blockStateCalls": [
        {"blockOverrides": {"number": "0x5", "feeRecipient": hexed(BOB.address)}, "calls": [GIVEN | {"value": "0x1"}]},
        {
            "stateOverrides": {hexed(BOB.address): {"balance": "0x1", "stateDiff": {HASH: HASH}}},
            "calls": [
                {"to": hexed(ECHO), "input": HASH},
                {"to": hexed(REVERTER), "input": HASH},
                GIVEN | {"gasPrice": "0xba43b7400", "accessList": LISTED},
                GIVEN | {"gasPrice": "0xba43b7400"},
                GIVEN | {"authorizationList": [AUTHORIZED]},
            ],
        },
    ],
    "traceTransfers": True,
}


ACCOUNT_METHODS = ("eth_fillTransaction", "eth_signTransaction", "eth_sendTransaction")
FEES: tuple[dict[str, Any], ...] = (
    {"gasPrice": "0xb2d05e00"},
    {"gasPrice": "0xb2d05e00", "accessList": [{"address": hexed(COUNTER), "storageKeys": ["0x" + "00" * 32]}]},
    {"maxFeePerGas": "0xb2d05e00", "maxPriorityFeePerGas": "0x1"},
)
"""A transaction of each type but 4, whose authorizations are checked where they are sent."""


def requests_about(block: dict[str, Any]) -> list[tuple[str, list[object]]]:
    """Every method of these namespaces that OpenRPC has, on a block with a transaction of each type."""
    number, block_hash = block["number"], block["hash"]
    transactions = [transaction["hash"] for transaction in block["transactions"]]
    account = hexed(ALICE.address)
    unsigned = {"from": account, "to": account, "gas": "0x5b8d", "nonce": "0x7"}
    return [
        ("debug_getBadBlocks", []),
        ("debug_getRawBlock", [number]),
        ("debug_getRawHeader", [number]),
        ("debug_getRawReceipts", [number]),
        *(("debug_getRawTransaction", [each]) for each in transactions),
        ("debug_traceBlockByHash", [block_hash]),
        ("debug_traceBlockByNumber", [number]),
        ("debug_traceBlockByNumber", [number, {"enableMemory": True, "enableReturnData": True, "limit": 5}]),
        ("debug_traceBlockByNumber", [number, {"disableStack": True, "disableStorage": True}]),
        *(("debug_traceBlockByNumber", [number, {"tracer": tracer}]) for tracer in TRACERS),
        *(("debug_traceTransaction", [each]) for each in transactions),
        *(("debug_traceTransaction", [transactions[2], {"tracer": tracer}]) for tracer in TRACERS),
        ("eth_accounts", []),
        ("eth_baseFee", []),
        ("eth_blobBaseFee", []),
        ("eth_blockNumber", []),
        ("eth_call", [{"to": hexed(ECHO), "input": HASH}, "latest"]),
        ("eth_capabilities", []),
        ("eth_chainId", []),
        ("eth_coinbase", []),
        ("eth_config", []),
        ("eth_createAccessList", [GIVEN, "latest"]),
        ("eth_estimateGas", [GIVEN]),
        ("eth_feeHistory", ["0x5", "latest", [5, 50.5]]),
        ("eth_feeHistory", ["0x5", "latest", []]),
        ("eth_fillTransaction", [GIVEN]),
        ("eth_fillTransaction", [GIVEN | {"gasPrice": "0x77359400"}]),
        ("eth_fillTransaction", [GIVEN | {"gasPrice": "0x77359400", "accessList": LISTED}]),
        ("eth_fillTransaction", [GIVEN | {"authorizationList": [AUTHORIZED], "gas": "0x30d40"}]),
        ("eth_fillTransaction", [{"from": hexed(ALICE.address), "data": "0x00"}]),
        ("eth_gasPrice", []),
        ("eth_getBalance", [account, "latest"]),
        ("eth_getBlockAccessList", [number]),
        ("eth_getBlockAccessList", [block_hash]),
        ("eth_getBlockByHash", [block_hash, True]),
        ("eth_getBlockByHash", [block_hash, False]),
        ("eth_getBlockByHash", [HASH, False]),
        ("eth_getBlockByNumber", [number, True]),
        ("eth_getBlockByNumber", ["0x0", True]),
        ("eth_getBlockByNumber", ["latest", False]),
        ("eth_getBlockByNumber", ["0x999", False]),
        ("eth_getBlockReceipts", [number]),
        ("eth_getBlockReceipts", ["0x999"]),
        ("eth_getBlockTransactionCountByHash", [block_hash]),
        ("eth_getBlockTransactionCountByNumber", [number]),
        ("eth_getCode", [hexed(ECHO), "latest"]),
        ("eth_getLogs", [{"fromBlock": "0x0", "toBlock": "latest"}]),
        ("eth_getProof", [hexed(COUNTER), ["0x0", HASH], "latest"]),
        ("eth_getProof", [HASH[:42], [], "latest"]),
        ("eth_getStorageAt", [hexed(COUNTER), "0x0", "latest"]),
        ("eth_getStorageValues", [{hexed(COUNTER): ["0x0"]}, "latest"]),
        ("eth_getTransactionByBlockHashAndIndex", [block_hash, "0x0"]),
        ("eth_getTransactionByBlockNumberAndIndex", [number, "0x1"]),
        *(("eth_getTransactionByHash", [each]) for each in transactions),
        *(("eth_getTransactionReceipt", [each]) for each in transactions),
        ("eth_getTransactionByHash", [HASH]),
        ("eth_getTransactionReceipt", [HASH]),
        ("eth_getTransactionCount", [account, "pending"]),
        ("eth_maxPriorityFeePerGas", []),
        ("eth_newBlockFilter", []),
        ("eth_newFilter", [{}]),
        ("eth_newPendingTransactionFilter", []),
        ("eth_simulateV1", [{"blockStateCalls": [{}]}, "latest"]),
        ("eth_simulateV1", [SIMULATED, "latest"]),
        ("eth_simulateV1", [SIMULATED | {"returnFullTransactions": True}, number]),
        ("eth_syncing", []),
        *((method, [{**unsigned, **fees}]) for method in ACCOUNT_METHODS for fees in FEES),
        ("eth_sign", [account, "0xdeadbeef"]),
        ("net_version", []),
        ("txpool_content", []),
        ("txpool_contentFrom", [account]),
        ("txpool_status", []),
    ]


TRACERS = ("callTracer", "prestateTracer", "4byteTracer", "flatCallTracer", "noopTracer")

REFUSED = {"debug_getRawBlockAccessList"}
"""What no block of this chain has."""


def transactions_of_each_type(chain_id: int) -> list[bytes]:
    from eth_account import Account

    authorization = Account.from_key(BOB.private_key).sign_authorization(
        {"chainId": chain_id, "address": ECHO, "nonce": 0}
    )
    access_list = [{"address": hexed(COUNTER), "storageKeys": [HASH]}]
    given: list[dict[str, Any]] = [
        {"to": BOB.address, "gasPrice": 3 * 10**9, "value": 1},
        {"to": COUNTER, "gasPrice": 3 * 10**9, "accessList": access_list, "type": 1},
        {"to": ECHO, "data": b"\x05" * 40},
        {"to": COUNTER, "authorizationList": [authorization], "gas": 200_000},
        {"data": b"\x00", "to": ""},
        {"to": REVERTER, "data": b"\x01"},
    ]
    return [signed(ALICE, nonce=nonce, chainId=chain_id, **fields) for nonce, fields in enumerate(given)]


def test_answers_conform_to_the_openrpc_schemas() -> None:
    rules = schemas()
    checked = set(REFUSED)

    async def check(client: Client, method: str, params: list[object]) -> None:
        found = violations(await client.call(method, *params), rules[method])
        assert not found, (method, params, found)
        checked.add(method)

    async def body(client: Client) -> None:
        filters = {kind: await client.call(kind) for kind in ("eth_newBlockFilter", "eth_newPendingTransactionFilter")}
        filters["eth_newFilter"] = await client.call("eth_newFilter", {"fromBlock": "earliest"})
        for raw in transactions_of_each_type(client.node.chain_id):
            await check(client, "eth_sendRawTransaction", [hexed(raw)])
        client.node.produce()
        block = await client.call("eth_getBlockByNumber", "latest", True)
        await client.call("eth_sendRawTransaction", hexed(signed(ALICE, to=ECHO, nonce=6)))
        for method, params in requests_about(block):
            await check(client, method, params)
        for filter_id in filters.values():
            await check(client, "eth_getFilterChanges", [filter_id])
        await check(client, "eth_getFilterLogs", [filters["eth_newFilter"]])
        await check(client, "eth_uninstallFilter", [filters["eth_newFilter"]])

    with_client(body, apis=tuple(NAMESPACES), dev_accounts=True)
    assert checked == {name for name in rules if not name.startswith(("engine_", "testing_"))}


def test_the_schema_checker_finds_what_is_wrong() -> None:
    block = schemas()["eth_getBlockByNumber"]
    assert violations({"number": "0x1"}, block)
    assert violations("0x01", schemas()["eth_blockNumber"])
    assert not violations("0x1", schemas()["eth_blockNumber"])


# --- Recorded requests ---------------------------------------------------------------------------------------

EQUAL = {
    "debug_traceBlockByNumber/trace-genesis",
    "eth_call/call-revert-abi-panic",
    "eth_chainId/get-chain-id",
    "eth_createAccessList/create-al-value-transfer",
    "eth_estimateGas/estimate-failed-call",
    "eth_estimateGas/estimate-successful-call",
    "eth_getBalance/get-balance",
    "eth_getBlockByHash/get-block-by-empty-hash",
    "eth_getBlockByHash/get-block-by-notfound-hash",
    "eth_getBlockByNumber/get-block-notfound",
    "eth_getBlockReceipts/get-block-receipts-0",
    "eth_getCode/get-code-default-block",
    "eth_getCode/get-code-unknown-account",
    "eth_getStorageAt/get-storage-default-block",
    "eth_getStorageAt/get-storage-invalid-key",
    "eth_getStorageAt/get-storage-invalid-key-too-large",
    "eth_getStorageValues/get-storage-values",
    "eth_getStorageValues/get-storage-values-default-block",
    "eth_getStorageValues/get-storage-values-empty-request",
    "eth_getStorageValues/get-storage-values-multiple-addresses",
    "eth_getLogs/filter-error-future-block-range",
    "eth_getLogs/filter-error-invalid-blockHash-and-range",
    "eth_getTransactionCount/get-nonce",
    "eth_getTransactionCount/get-nonce-default-block",
    "eth_getTransactionCount/get-nonce-unknown-account",
    "eth_getTransactionReceipt/get-notfound-tx",
    "eth_sendRawTransaction/send-access-list-transaction",
    "eth_sendRawTransaction/send-dynamic-fee-access-list-transaction",
    "eth_sendRawTransaction/send-legacy-transaction",
    "net_version/get-network-id",
    "txpool_contentFrom/get-content-from-address",
}
"""Recordings whose answer does not depend on the recorded chain, or only on what our genesis copies."""

NAMED = {
    "debug_getRawReceipts/get-invalid-number",
    "debug_getRawTransaction/get-invalid-hash",
    "debug_traceBlockByNumber/trace-block-invalid-number",
}
"""Recordings of refusals that differ from ours in that we name the argument."""


@pytest.mark.parametrize(
    ("name", "request_", "answer"),
    [pytest.param(name, request, answer, id=name) for name, request, answer, _ in CASES if name in EQUAL],
)
def test_a_recorded_request_gets_the_recorded_answer(name: str, request_: Any, answer: Any) -> None:
    async def body(client: Client) -> None:
        assert await client.send(request_) == answer

    with_client(body, node=recorded_node(), apis=tuple(NAMESPACES))


@pytest.mark.parametrize(
    ("name", "request_", "answer"),
    [pytest.param(name, request, answer, id=name) for name, request, answer, _ in CASES if name not in EQUAL | NAMED],
)
def test_a_request_about_the_recorded_chain_is_understood(name: str, request_: Any, answer: Any) -> None:
    """Its blocks do not exist here: the answer is null, an unknown block, or of the recorded shape."""
    rule = schemas()[request_["method"]]

    async def body(client: Client) -> None:
        ours = await client.send(request_)
        if "error" in ours:
            assert ours["error"]["code"] in {-32000, -32602}
            assert "argument" not in ours["error"]["message"], ours
        else:
            assert not violations(ours["result"], rule)

    with_client(body, node=recorded_node(), apis=tuple(NAMESPACES))


@pytest.mark.parametrize(
    ("name", "request_", "answer"),
    [pytest.param(name, request, answer, id=name) for name, request, answer, _ in CASES if name in NAMED],
)
def test_a_bad_argument_is_refused_as_recorded_and_named_besides(name: str, request_: Any, answer: Any) -> None:
    async def body(client: Client) -> None:
        ours, theirs = (await client.send(request_))["error"], answer["error"]
        assert ours["code"] == theirs["code"]
        assert "hex string without 0x prefix" in ours["message"]
        assert "hex string without 0x prefix" in theirs["message"]

    with_client(body, node=recorded_node(), apis=tuple(NAMESPACES))


def test_every_equal_case_was_found() -> None:
    assert {name for name, *_ in CASES} >= EQUAL | NAMED


def result_of(name: str) -> Any:
    (answer,) = (answer for each, _, answer, _ in CASES if each == name)
    return answer["result"]


def test_answers_have_the_fields_of_the_recorded_ones() -> None:
    """Field by field, for what a block, a transaction of each type, a receipt, a log, a proof consist of."""

    async def body(client: Client) -> None:
        for raw in transactions_of_each_type(client.node.chain_id):
            await client.call("eth_sendRawTransaction", hexed(raw))
        client.node.produce()
        block = await client.call("eth_getBlockByNumber", "latest", True)
        by_type = {transaction["type"]: transaction for transaction in block["transactions"]}
        receipts = await client.call("eth_getBlockReceipts", "latest")
        proof = await client.call("eth_getProof", hexed(COUNTER), ["0x00"], "latest")
        history = await client.call("eth_feeHistory", "0x1", "latest", [95, 99])
        legacy = next(
            each for each in result_of("eth_getBlockByNumber/get-finalized")["transactions"] if "chainId" in each
        )
        recorded_receipt = set(result_of("eth_getTransactionReceipt/get-legacy-receipt"))
        recorded_proof = result_of("eth_getProof/get-account-proof-with-storage")
        pairs = [
            (block, result_of("eth_getBlockByNumber/get-block-prague-fork")),
            (by_type["0x0"], legacy),
            (by_type["0x1"], result_of("eth_getTransactionByHash/get-access-list")),
            (by_type["0x2"], result_of("eth_getTransactionByHash/get-dynamic-fee")),
            # Receipts recorded before Byzantium carry a state root instead of a status.
            (receipts[0], (recorded_receipt - {"root"}) | {"status"}),
            (receipts[2]["logs"][0], result_of("eth_getLogs/topic-wildcard")[0]),
            (proof, recorded_proof),
            (proof["storageProof"][0], recorded_proof["storageProof"][0]),
            (history, result_of("eth_feeHistory/fee-history")),
        ]
        for ours, theirs in pairs:
            assert set(ours) == set(theirs)

    with_client(body)
