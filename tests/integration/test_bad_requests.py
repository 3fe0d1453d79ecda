"""Wrong requests to a real node: each is answered with an error that says why, and the node goes on making blocks.

What HTTP and WebSocket clients can do wrong to a gateway alone is in test_gateway_http and test_gateway_websocket;
here the whole program stands behind it, and every method of its table is asked.
"""

import json
import os
import random
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.secp256k1 import sign
from astralink_node.evm import rlp
from astralink_node.evm.transaction_encoding import new_transaction, sign_transaction
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE, LEGACY_TYPE, Transaction
from astralink_node.gateway.config import GatewayLimits
from astralink_node.gateway.methods.namespaces import NAMESPACES, methods_of
from astralink_node.gateway.rpc_errors import (
    EXECUTION_REVERTED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RESPONSE_TOO_LARGE,
    SERVER_ERROR,
    TIMEOUT,
)
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_CHAIN_ID
from tests.support.node_process import NodeProcess

GWEI: Final = 10**9
ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Of secp256k1's group."""
KEY: Final = DEVNET_ACCOUNTS[3].private_key
TIMEOUT_S: Final = 30

SENSIBLE: Final = frozenset(
    {
        EXECUTION_REVERTED,
        INVALID_PARAMS,
        INVALID_REQUEST,
        LIMIT_EXCEEDED,
        METHOD_NOT_FOUND,
        RESPONSE_TOO_LARGE,
        SERVER_ERROR,
        TIMEOUT,
    }
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A devnet with every namespace; it must outlive all of this."""
    base = tmp_path_factory.mktemp("node")
    arguments = ("--block-interval-ms", "100", "--rpc-api", ",".join(NAMESPACES))
    with NodeProcess(
        base / "log", "devnet", "--dir", str(base / "net"), "--rpc-port", "0", "--json", *arguments
    ) as running:
        running.await_ready()
        running.await_height(1)
        yield running
        assert running.process.poll() is None
        running.stop()
        said = [line for line in running.said().splitlines() if "block committed" not in line]
        assert "Traceback" not in running.said()
        assert len(said) < 20, "whoever sends rubbish writes the log"


@pytest.fixture(autouse=True)
def _goes_on(node: NodeProcess) -> Iterator[None]:
    """After each test the node still answers, and the chain still grows."""
    yield
    node.await_height(node.height() + 1)


def post(node: NodeProcess, body: bytes, **headers: str) -> tuple[int, bytes]:
    """Status and body of one HTTP request."""
    given = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(node.ready["rpcUrl"], body, given)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def ask(node: NodeProcess, method: str, *params: object) -> dict[str, Any]:
    """The answer object, whether result or error."""
    status, body = post(node, json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
    assert status == 200
    answer: dict[str, Any] = json.loads(body)
    return answer


# --- Transactions ------------------------------------------------------------------------------------------------


def transaction(tx_type: int = DYNAMIC_FEE_TYPE, **changes: Any) -> Transaction:
    fields: dict[str, Any] = {
        "chain_id": DEVNET_CHAIN_ID,
        "nonce": 0,
        "max_fee_per_gas": 100 * GWEI,
        "max_priority_fee_per_gas": 100 * GWEI if tx_type == LEGACY_TYPE else GWEI,
        "gas_limit": 21_000,
        "to": bytes(19) + b"\x42",
        "value": 1,
    }
    return new_transaction(tx_type, **(fields | changes))


def signed(tx_type: int = DYNAMIC_FEE_TYPE, **changes: Any) -> bytes:
    return sign_transaction(transaction(tx_type, **changes), KEY).raw


def fields_of(raw: bytes) -> list[rlp.Item]:
    """The RLP fields of a transaction of type 2."""
    return rlp.decode_list(raw[1:])


def rebuilt(place: int, value: rlp.Item) -> bytes:
    """A good transaction with one field put in the place of another, its signature left as it was."""
    fields = fields_of(signed())
    fields[place] = value
    return b"\x02" + rlp.encode(fields)


def with_high_s() -> bytes:
    """The other signature that the same key made (EIP-2 refuses it)."""
    fields = fields_of(signed())
    y_parity, _, s = fields[9:]
    assert isinstance(s, bytes)
    assert isinstance(y_parity, bytes)
    fields[9], fields[11] = (b"" if y_parity else b"\x01"), (ORDER - int.from_bytes(s, "big")).to_bytes(32, "big")
    return b"\x02" + rlp.encode(fields)


def blob_transaction() -> bytes:
    """Type 3 (EIP-4844) as a wallet makes it, without its blobs."""
    empty: list[rlp.Item] = []
    number = rlp.big_endian
    body: list[rlp.Item] = [number(DEVNET_CHAIN_ID), b"", number(GWEI), number(100 * GWEI), number(21_000)]
    body += [bytes(19) + b"\x42", b"", b"", empty, number(GWEI), [b"\x01" + bytes(31)]]
    r, s, y_parity = sign(KEY, keccak256(b"\x03" + rlp.encode(body)))
    return b"\x03" + rlp.encode([*body, number(y_parity), number(r), number(s)])


def long_length(raw: bytes) -> bytes:
    """The list's length in one byte more than it needs."""
    payload = b"".join(rlp.encode(field) for field in fields_of(raw))
    return b"\x02\xf9" + len(payload).to_bytes(2, "big") + payload


BAD_TRANSACTIONS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "malformed transaction|not supported"),
    "one byte": (b"\x02", "malformed transaction"),
    "an unknown type": (b"\x05\xc0", "transaction type not supported"),
    "a type above the range": (b"\xff" + signed()[1:], "malformed transaction|not supported"),
    "a blob transaction": (blob_transaction(), "transaction type not supported: this chain carries no blob"),
    "a truncated one": (signed()[:-1], "malformed transaction"),
    "trailing bytes": (signed() + b"\x00", "malformed transaction"),
    "a length in more bytes than needed": (long_length(signed()), "malformed transaction"),
    "a length beyond the end": (b"\x02\xfb\xff\xff\xff\xff", "malformed transaction"),
    "a length of 2**63": (b"\x02\xff" + b"\xff" * 8, "malformed transaction"),
    "deep nesting": (b"\x02" + b"\xc1" * 5000 + b"\xc0", "malformed transaction"),
    "a text instead of a list": (b"\x02\x83abc", "malformed transaction"),
    "a field too few": (b"\x02" + rlp.encode(fields_of(signed())[:-1]), "malformed transaction"),
    "a field too many": (b"\x02" + rlp.encode([*fields_of(signed()), b""]), "malformed transaction"),
    "a number with a leading zero": (rebuilt(1, b"\x00\x05"), "malformed transaction"),
    "a zero written as a byte": (rebuilt(1, b"\x00"), "malformed transaction"),
    "a list instead of a number": (rebuilt(1, []), "malformed transaction"),
    "a recipient of 19 bytes": (rebuilt(5, bytes(19)), "malformed transaction"),
    "an access list that is none": (rebuilt(8, [[b"\x01", b"\x02"]]), "malformed transaction"),
    "a value beyond 256 bits": (rebuilt(6, b"\x01" + bytes(32)), "malformed transaction"),
    "a nonce beyond 64 bits": (rebuilt(1, b"\x01" + bytes(8)), "malformed transaction"),
    "a nonce that can never be reached": (signed(nonce=2**64 - 1), "nonce"),
    "another chain": (
        signed(chain_id=1),
        f"invalid sender: invalid chain id for signer: have 1 want {DEVNET_CHAIN_ID}",
    ),
    "a parity of 2": (rebuilt(9, b"\x02"), "malformed transaction|invalid sender"),
    "r of zero": (rebuilt(10, b""), "invalid sender"),
    "s of zero": (rebuilt(11, b""), "invalid sender"),
    "r beyond the order": (rebuilt(10, b"\xff" * 32), "invalid sender"),
    "a high s": (with_high_s(), "invalid sender"),
    "too little gas": (signed(gas_limit=20_999), "intrinsic gas too low"),
    "more gas than a transaction may have": (signed(gas_limit=2**24 + 1), "gas"),
    "a tip above the fee": (signed(max_priority_fee_per_gas=101 * GWEI), "max priority fee per gas higher than"),
    "more than the account has": (signed(value=10**30), "insufficient funds"),
    "initcode beyond the limit": (
        signed(to=b"", data=bytes(49_153), gas_limit=10_000_000),
        "initcode|init code",
    ),
    "a fee beyond 256 bits": (signed(max_fee_per_gas=2**256 - 1, max_priority_fee_per_gas=2**256 - 1), "insufficient"),
}


@pytest.mark.parametrize("case", BAD_TRANSACTIONS)
def test_bad_transaction_is_refused_with_the_reason(node: NodeProcess, case: str) -> None:
    raw, complaint = BAD_TRANSACTIONS[case]
    error = ask(node, "eth_sendRawTransaction", "0x" + raw.hex())["error"]
    assert error["code"] == SERVER_ERROR
    assert any(words in error["message"] for words in complaint.split("|")), error
    assert len(error["message"]) < 500


def test_any_change_of_a_transaction_is_refused_or_another_transaction(node: NodeProcess) -> None:
    """A byte changed anywhere: never the sender's own transaction any more, never an internal error."""
    raw = signed(nonce=7)
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    chance = random.Random(seed)
    batch = []
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 1 << chance.randrange(8)
        params = ["0x" + changed.hex()]
        batch.append({"jsonrpc": "2.0", "id": position, "method": "eth_sendRawTransaction", "params": params})
    status, body = post(node, json.dumps(batch).encode())
    assert status == 200
    answers = json.loads(body)
    assert len(answers) == len(batch)
    for answer in answers:
        assert answer["error"]["code"] == SERVER_ERROR, answer
    pending = node.call("txpool_contentFrom", "0x" + DEVNET_ACCOUNTS[3].address.hex())
    assert not pending["pending"]
    assert not pending["queued"]


def test_good_transaction_is_taken_in_the_end(node: NodeProcess) -> None:
    """The sender of all the bad ones is not held against anybody."""
    transaction_hash = node.call("eth_sendRawTransaction", "0x" + signed().hex())
    node.await_height(node.height() + 2)
    assert node.call("eth_getTransactionReceipt", transaction_hash)["status"] == "0x1"
    again = ask(node, "eth_sendRawTransaction", "0x" + signed().hex())["error"]
    assert "nonce too low" in again["message"] or "already known" in again["message"]


# --- Parameters --------------------------------------------------------------------------------------------------

ACCOUNT: Final = "0x" + DEVNET_ACCOUNTS[0].address.hex()
HASH: Final = "0x" + "cd" * 32


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


GOOD: Final[dict[str, object]] = {
    "address": ACCOUNT,
    "block": "latest",
    "blockCount": "0x2",
    "blockHash": HASH,
    "data": "0x",
    "filter": {"fromBlock": "0x0"},
    "filterId": "0x1",
    "fullTransactions": False,
    "index": "0x0",
    "key": "0x0",
    "newestBlock": "latest",
    "requests": {ACCOUNT: ["0x0"]},
    "rewardPercentiles": [50],
    "storageKeys": ["0x0"],
    "transaction": {"to": ACCOUNT},
    "transactionHash": HASH,
}
"""One value that each parameter takes, by name; null for the rest. What is wrong then is the one beside it."""

NONSENSE: Final[tuple[object, ...]] = (
    *(None, True, False, 0, 1, -1, 1.5, 1e308, 2**63, 2**64 - 1, -(2**63)),
    *(
        "",
        "0x",
        "0x00",
        "0xg",
        "0x-1",
        "0x" + "f" * 16,
        "0x" + "f" * 64,
        "0x" + "f" * 65,
        "1",
        "lateest",
        "\x00",
        "é" * 99,
    ),
    *(ACCOUNT[:-1], ACCOUNT + "00", HASH[:-1], "0x" + "ab" * 50_000, "x" * 50_000),
    *([], [None], [[]], ["0x0", None, {}], ["0x0"] * 2000, [1e308, -1, 101], nested(900)),
    *({}, {"a": 1}, {"blockHash": ACCOUNT}, {"blockNumber": "0x0", "blockHash": HASH}, {"blockNumber": {}}),
    *({"to": "0x"}, {"to": nested(500)}, {"to": ACCOUNT, "gas": "0x" + "f" * 16}, {"data": "0x6"}, {"gas": -1}),
    *({"data": "0x60006000fd", "gas": "0xffff"}, {"data": "0xfe"}, {"data": "0x00", "input": "0x01"}, {"type": "0x3"}),
    *({"from": ACCOUNT, "to": ACCOUNT, "value": "0x" + "f" * 64}, {"nonce": "0x" + "f" * 16}, {"chainId": "0x1"}),
    *({"accessList": [{"address": ACCOUNT}]}, {"accessList": 5}, {"authorizationList": [{}]}, {"to": ACCOUNT, "x": 1}),
    *({"fromBlock": "0x5", "toBlock": "0x1"}, {"fromBlock": "0x0", "toBlock": "0xffffffff"}, {"topics": [[[]]]}),
    *({"address": [ACCOUNT] * 1001}, {"topics": [None] * 5}, {"blockHash": HASH, "fromBlock": "0x0"}),
    *({ACCOUNT: ["0x0"] * 2000}, {ACCOUNT: 5}, {ACCOUNT: {"balance": "0x1"}}, {"__proto__": None}),
)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_nonsense_parameters_get_an_error_with_a_sensible_code(node: NodeProcess, namespace: str) -> None:
    """Each method of the table: too few and too many, and nonsense in each place beside good values."""
    for method in methods_of([namespace]).values():
        good = [GOOD.get(parameter.name) for parameter in method.parameters]
        calls = [[], [*good, None], [*good, *["0x0"] * 20], [NONSENSE], {"named": 1}, "text", 5]
        calls += [[*good[:place], value, *good[place + 1 :]] for place in range(len(good)) for value in NONSENSE]
        calls += [list(NONSENSE[: len(good)]), [[]] * len(good), [{}] * len(good)]
        requests = [
            {"jsonrpc": "2.0", "id": number, "method": method.name, "params": params}
            for number, params in enumerate(calls)
        ]
        status, body = post(node, json.dumps(requests).encode())
        assert status == 200, method.name
        answers = json.loads(body)
        assert sorted(answer["id"] for answer in answers) == list(range(len(requests))), method.name
        for answer in answers:
            if "error" in answer:
                shown = (method.name, json.dumps(calls[answer["id"]])[:200], answer["error"])
                assert answer["error"]["code"] in SENSIBLE, shown
                assert 0 < len(answer["error"]["message"]) < 1000, shown
            assert answer.get("error", {}).get("code") != INTERNAL_ERROR


def test_call_that_never_ends_is_cut_off_while_blocks_go_on(node: NodeProcess) -> None:
    height = node.height()
    error = ask(node, "eth_call", {"data": "0x5b600056", "gas": "0x" + "f" * 12}, "latest")["error"]
    assert error["code"] == SERVER_ERROR
    assert "execution aborted" in error["message"] or "gas" in error["message"]
    assert node.height() > height


# --- Bodies and sockets ------------------------------------------------------------------------------------------

LIMITS: Final = GatewayLimits()


def test_oversize_requests_are_refused_at_the_limit(node: NodeProcess) -> None:
    room = LIMITS.request_bytes
    try:
        status, body = post(node, b'["' + b"x" * room + b'"]')
    except (ConnectionError, urllib.error.URLError) as error:  # it need not read to the end what it refuses
        assert "Broken pipe" in str(error) or "reset" in str(error)  # noqa: PT017
    else:
        assert status == 413
        assert json.loads(body)["error"]["code"] == INVALID_REQUEST
    status, body = post(node, b'"' + b"x" * (room - 2) + b'"')
    assert (status, json.loads(body)["error"]["code"]) == (200, INVALID_REQUEST)
    calls = [{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}] * (LIMITS.batch_items + 1)
    status, body = post(node, json.dumps(calls).encode())
    assert status == 200
    assert json.loads(body)["error"]["message"].startswith("batch too large")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"nonsense", b'"' + b"\\ud800" + b'"', b"1e999"]
)
def test_body_that_is_no_json_is_a_parse_error(node: NodeProcess, body: bytes) -> None:
    status, answer = post(node, body)
    assert status == 200
    assert json.loads(answer)["error"]["code"] == PARSE_ERROR


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "é"])
def test_other_content_types_are_refused(node: NodeProcess, content_type: str) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}).encode()
    assert post(node, body, content_type=content_type)[0] == 415


def connect(node: NodeProcess) -> socket.socket:
    address = urlsplit(node.ready["rpcUrl"])
    assert address.hostname is not None
    assert address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=TIMEOUT_S)


def test_half_open_connections_and_raw_rubbish_hurt_nobody(node: NodeProcess) -> None:
    """Many clients that begin and do not go on, and as many that send bytes that mean nothing."""
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    chance = random.Random(seed)
    beginnings = (
        b"",
        b"POST / HTTP/1.1\r\nhost: loc",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n",
    )
    with ExitStack() as held:
        for number in range(100):
            half_open = held.enter_context(connect(node))
            half_open.sendall(beginnings[number % len(beginnings)])
        for _ in range(50):
            with connect(node) as rubbish:
                rubbish.sendall(chance.randbytes(chance.randrange(1, 3000)))
                rubbish.shutdown(socket.SHUT_WR)
                answer = read_all(rubbish)
                assert not answer or answer.split()[1][:1] == b"4", answer[:100]
        assert int(node.call("eth_chainId"), 16) == DEVNET_CHAIN_ID


def read_all(connection: socket.socket) -> bytes:
    """Until the other side closes, or resets because it did not read everything."""
    found = b""
    try:
        while data := connection.recv(65_536):
            found += data
    except ConnectionError:
        return b""
    return found
