"""The evm command group: one JSON line a case, geth's t8n shapes, EIP-3155 traces, and exit codes."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from astralink_node.cli.main import run
from astralink_node.crypto.secp256k1 import address_of
from astralink_node.evm.scratch_state import ScratchState
from astralink_node.evm.transactions import decode_transaction, recover_sender

EEST = Path(__file__).parents[2] / "fixtures" / "unpacked" / "eest"
STATE_FILE = EEST / "state_tests/prague/eip7702_set_code_tx/test_address_from_set_code.json"
BLOCK_FOLDER = EEST / "blockchain_tests/prague/eip7251_consolidations"
INVALID_FILE = EEST / "state_tests/berlin/eip2930_access_list/test_transaction_intrinsic_gas_cost.json"
KEY = "0x" + "45" * 32
SENDER = "0x" + address_of(bytes.fromhex("45" * 32)).hex()
CONTRACT = "0x" + "cc" * 20
ENVIRONMENT = {
    "currentCoinbase": "0x" + "fe" * 20,
    "currentGasLimit": "0x1c9c380",
    "currentNumber": "1",
    "currentTimestamp": "1000",
    "currentRandom": "0x0",
    "currentBaseFee": "0x7",
    "withdrawals": [],
}
REQUEST_CONTRACTS = {
    "0x00000961ef480eb55e80d19ad83579a64c007002": {"code": "0x00", "balance": "0x0", "nonce": "0x1"},
    "0x0000bbddc7ce488642fb579f8b00f3a590007251": {"code": "0x00", "balance": "0x0", "nonce": "0x1"},
}
ALLOC = {
    SENDER: {"balance": "0xde0b6b3a7640000"},
    CONTRACT: {"balance": "0x0", "code": "0x600160015560ff5f5fa1", "nonce": "0x1", "storage": {"0x02": "0x03"}},
    **REQUEST_CONTRACTS,
}
TRANSACTION = {
    "type": "0x2",
    "chainId": "0x1",
    "nonce": "0x0",
    "maxFeePerGas": "0x10",
    "maxPriorityFeePerGas": "0x1",
    "gas": "0x186a0",
    "to": CONTRACT,
    "value": "0x5",
    "input": "0x",
    "accessList": [],
    "secretKey": KEY,
    "v": "0x0",
    "r": "0x0",
    "s": "0x0",
}


def lines_of(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], str]:
    captured = capsys.readouterr()
    return [json.loads(line) for line in captured.out.splitlines()], captured.err


# --- statetest and blocktest ---------------------------------------------------------------------------------------


def test_statetest_prints_a_line_a_case_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evm", "statetest", str(STATE_FILE)]) == 0
    lines, problems = lines_of(capsys)
    assert {line["fork"] for line in lines} == {"Prague", "Osaka"}
    assert all(line["pass"] and len(line["stateRoot"]) == 66 and line["error"] == "" for line in lines)
    assert problems == ""


def test_blocktest_reads_folders(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evm", "blocktest", str(BLOCK_FOLDER)]) == 0
    lines, _ = lines_of(capsys)
    assert len({line["name"] for line in lines}) == len(lines) > len(list(BLOCK_FOLDER.glob("*.json"))) > 1
    assert all(line["pass"] for line in lines)


def test_a_refused_transaction_passes_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evm", "statetest", str(INVALID_FILE)]) == 0
    assert any("intrinsic gas too low" in line["error"] for line in lines_of(capsys)[0])


def altered(tmp_path: Path, source: Path, **changes: object) -> Path:
    fixture = json.loads(source.read_bytes())
    for case in fixture.values():
        for posts in case["post"].values():
            for post in posts:
                post.update(changes)
    path = tmp_path / "altered.json"
    path.write_text(json.dumps(fixture))
    return path


@pytest.mark.parametrize(
    ("source", "changes", "error"),
    [
        (STATE_FILE, {"hash": "0x" + "11" * 32}, "state root: expected 0x1111"),
        (STATE_FILE, {"logs": "0x" + "11" * 32}, "logs: expected 0x1111"),
        (STATE_FILE, {"expectException": "TransactionException.NONCE_IS_MAX"}, "but it was accepted"),
        (STATE_FILE, {"txbytes": "0x03c0"}, "blob transactions are not carried by this chain"),
        (INVALID_FILE, {"expectException": "TransactionException.NONCE_IS_MAX"}, "refused for another reason"),
        (STATE_FILE, {"hash": 5}, "expected bytes in hexadecimal"),
    ],
)
def test_a_case_with_another_outcome_fails_and_so_does_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: Path, changes: dict[str, object], error: str
) -> None:
    assert run(["evm", "statetest", str(altered(tmp_path, source, **changes))]) == 1
    lines, problems = lines_of(capsys)
    failed = [line for line in lines if not line["pass"]]
    assert failed
    assert any(error in line["error"] for line in failed)
    assert f"{len(failed)} failed" in problems


def test_a_fork_that_we_do_not_have_fails_its_case_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixture = json.loads(STATE_FILE.read_bytes())
    case = next(iter(fixture.values()))
    case["post"]["London"] = next(iter(case["post"].values()))
    path = tmp_path / "london.json"
    path.write_text(json.dumps(fixture))
    assert run(["evm", "statetest", str(path)]) == 1
    lines, _ = lines_of(capsys)
    assert [line["error"] for line in lines if not line["pass"]] == [
        "fork 'London' is not supported; supported: Prague, Osaka"
    ]


@pytest.mark.parametrize("content", ['{"case": {"post": {"Osaka": [{}]}}}', '{"case": {"post": 5}}'])
def test_a_malformed_case_is_reported_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    path = tmp_path / "malformed.json"
    path.write_text(content)
    assert run(["evm", "statetest", str(path)]) == 1
    assert "malformed fixture" in lines_of(capsys)[0][0]["error"]


@pytest.mark.parametrize(
    ("content", "code"), [("not json", 10), ("[]", 10), ("{}", 1)], ids=["no JSON", "no object", "no cases"]
)
def test_a_file_that_is_no_fixture_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, code: int
) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    assert run(["evm", "blocktest", str(path)]) == code
    lines, problems = lines_of(capsys)
    assert lines == []
    assert str(path) in problems


# --- t8n -----------------------------------------------------------------------------------------------------------


def t8n_streams(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    transactions: object,
    environment: dict[str, Any] | None = None,
    alloc: dict[str, Any] | None = None,
    *flags: str,
) -> dict[str, Any]:
    request = {"alloc": alloc or ALLOC, "env": environment or ENVIRONMENT}
    request["txsRlp" if isinstance(transactions, str) else "txs"] = transactions
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
    inputs = ["--input.alloc", "stdin", "--input.env", "stdin", "--input.txs", "stdin"]
    outputs = ["--output.alloc", "stdout", "--output.result", "stdout", "--output.body", "stdout"]
    assert run(["evm", "t8n", *inputs, *outputs, "--state.fork", "Prague", *flags]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_t8n_applies_transactions_from_stdin_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answer = t8n_streams(monkeypatch, capsys, [TRANSACTION], None, None, "--output.basedir", str(tmp_path))
    result, alloc = answer["result"], answer["alloc"]
    (receipt,) = result["receipts"]
    assert receipt["status"] == "0x1"
    assert receipt["gasUsed"] == receipt["cumulativeGasUsed"] == result["gasUsed"]
    assert receipt["logs"][0]["topics"] == ["0x" + "00" * 31 + "ff"]
    assert result["rejected"] == []
    assert alloc[CONTRACT]["balance"] == "0x5"
    words = {int(slot, 16): int(value, 16) for slot, value in alloc[CONTRACT]["storage"].items()}
    assert words == {1: 1, 2: 3}
    assert "0x" + ScratchState(alloc).root.hex() == result["stateRoot"]
    for key in ("txRoot", "receiptsRoot", "logsHash", "withdrawalsRoot", "requestsHash"):
        assert len(result[key]) == 66


def test_t8n_takes_the_body_that_it_gave(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    first = t8n_streams(monkeypatch, capsys, [TRANSACTION])
    second = t8n_streams(monkeypatch, capsys, first["body"])
    assert first == second


def test_t8n_lists_invalid_transactions_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [
        TRANSACTION | {"nonce": "0x9"},
        TRANSACTION | {"type": "0x3"},
        TRANSACTION | {"gas": "0x5000"},
        TRANSACTION | {"maxFeePerGas": "0x1"},
    ]
    answer = t8n_streams(monkeypatch, capsys, [*wrong, TRANSACTION])
    errors = [(entry["index"], entry["error"].split(":")[0]) for entry in answer["result"]["rejected"]]
    assert errors == [
        (0, "nonce too high"),
        (1, "blob transactions are not carried by this chain"),
        (2, "intrinsic gas too low"),
        (3, "max fee per gas less than block base fee"),
    ]
    assert len(answer["result"]["receipts"]) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "0x0", "gasPrice": "0x10"},
        {"type": "0x0", "gasPrice": "0x10", "protected": False},
        {"type": "0x1", "gasPrice": "0x10", "accessList": [{"address": CONTRACT, "storageKeys": ["0x01"]}]},
        {
            "type": "0x4",
            "authorizationList": [
                {"chainId": "0x0", "address": CONTRACT, "nonce": "0x0", "yParity": "0x0", "r": "0x1", "s": "0x1"}
            ],
        },
    ],
    ids=["legacy", "unprotected", "access list", "set code"],
)
def test_t8n_signs_and_includes_transactions_of_every_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fields: dict[str, object]
) -> None:
    answer = t8n_streams(monkeypatch, capsys, [TRANSACTION | fields])
    assert answer["result"]["rejected"] == []
    assert answer["result"]["receipts"][0]["type"] == fields["type"]
    assert answer["alloc"][SENDER]["nonce"] == "0x1"


def test_t8n_computes_what_the_environment_leaves_to_the_parent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {key: value for key, value in ENVIRONMENT.items() if key != "currentBaseFee"}
    parent = {"parentBaseFee": "0x3b9aca00", "parentGasUsed": "0x1c9c380", "parentGasLimit": "0x1c9c380"}
    answer = t8n_streams(monkeypatch, capsys, [], environment | parent)
    assert int(answer["result"]["currentBaseFee"], 16) == 1_125_000_000


def test_t8n_credits_withdrawals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    withdrawal = {"index": "0x0", "validatorIndex": "0x0", "address": "0x" + "99" * 20, "amount": "0x2"}
    answer = t8n_streams(monkeypatch, capsys, [], ENVIRONMENT | {"withdrawals": [withdrawal]})
    assert int(answer["alloc"]["0x" + "99" * 20]["balance"], 16) == 2 * 10**9


def test_t8n_names_a_failing_system_contract(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = t8n_streams(monkeypatch, capsys, [], None, {SENDER: ALLOC[SENDER]})
    assert "system contract without code" in answer["result"]["blockException"]


def test_t8n_reads_and_writes_files_and_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("alloc", ALLOC), ("env", ENVIRONMENT), ("txs", [TRANSACTION])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    inputs = [f"--input.{name}={tmp_path}/{name}.json" for name in ("alloc", "env", "txs")]
    flags = [f"--output.basedir={tmp_path}", "--output.alloc=after.json", "--output.body=body.txt", "--trace"]
    assert run(["evm", "t8n", *inputs, *flags]) == 0
    assert capsys.readouterr().out == ""
    result = json.loads((tmp_path / "result.json").read_text())
    assert json.loads((tmp_path / "after.json").read_text())[CONTRACT]["balance"] == "0x5"
    raw = bytes.fromhex(json.loads((tmp_path / "body.txt").read_text())[2:])
    assert raw
    transaction_hash = result["receipts"][0]["transactionHash"]
    trace = (tmp_path / f"trace-0-{transaction_hash}.jsonl").read_text().splitlines()
    assert json.loads(trace[0])["opName"] == "PUSH1"


@pytest.mark.parametrize(
    ("flags", "stdin", "message"),
    [
        ([], "not json", "standard input"),
        ([], '{"alloc": {}}', "no 'env'"),
        ([], json.dumps({"alloc": {}, "env": {}, "txs": []}), "currentNumber: missing"),
        ([], json.dumps({"alloc": {"0x12": {}}, "env": ENVIRONMENT, "txs": []}), "expected 20 bytes"),
        (["--state.fork", "Cancun"], json.dumps({"alloc": {}, "env": ENVIRONMENT, "txs": []}), "fork 'Cancun'"),
        ([], json.dumps({"alloc": {}, "env": ENVIRONMENT, "txs": [{}]}), "nonce: missing"),
    ],
)
def test_t8n_says_what_is_wrong_with_its_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: list[str], stdin: str, message: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    inputs = ["--input.alloc=stdin", "--input.env=stdin", "--input.txs=stdin"]
    outputs = ["--output.alloc=", "--output.result=stdout"]
    assert run(["evm", "t8n", *inputs, *outputs, *flags]) == 10
    assert message in capsys.readouterr().err


def test_t8n_signatures_are_the_senders(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    body = bytes.fromhex(
        t8n_streams(monkeypatch, capsys, [TRANSACTION | {"type": "0x0", "gasPrice": "0x10"}])["body"][2:]
    )
    assert "0x" + recover_sender(decode_transaction(body[body.index(0xF8, 1) :])).hex() == SENDER


# --- run -----------------------------------------------------------------------------------------------------------


def test_run_prints_eip_3155_lines_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evm", "run", "--code", "60026003025f5260205ff3", "--trace", "--gas", "1000"]) == 0
    lines, _ = lines_of(capsys)
    assert [line["opName"] for line in lines[:-1]] == [
        "PUSH1", "PUSH1", "MUL", "PUSH0", "MSTORE", "PUSH1", "PUSH0", "RETURN",
    ]  # fmt: skip
    assert lines[0]["gas"] == "0x3e8"
    summary = lines[-1]
    assert (int(summary["output"], 16), summary["pass"], summary["gasUsed"]) == (
        6,
        True,
        hex(3 + 3 + 5 + 2 + 6 + 3 + 2),
    )


def test_run_without_trace_prints_the_summary_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evm", "run", "--code", "0x5f35" + "5f5260205ff3", "--input", "0x" + "07".rjust(64, "0")]) == 0
    (summary,), _ = lines_of(capsys)
    assert int(summary["output"], 16) == 7


@pytest.mark.parametrize(
    ("code", "error"), [("5f5ffd", "execution reverted"), ("fe", "invalid opcode"), ("5b5f56", "out of gas")]
)
def test_run_of_failing_code_says_why(capsys: pytest.CaptureFixture[str], code: str, error: str) -> None:
    assert run(["evm", "run", "--code", code, "--gas", "10000"]) == 0
    (summary,), _ = lines_of(capsys)
    assert not summary["pass"]
    assert error in summary["error"]


def test_run_knows_value_sender_receiver_and_fork(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--value", "0x5", "--sender", "0x" + "11" * 20, "--receiver", "0x" + "22" * 20, "--fork", "Prague"]
    assert run(["evm", "run", "--code", "34333001015f5260205ff3", *flags]) == 0
    (summary,), _ = lines_of(capsys)
    assert int(summary["output"], 16) == 5 + int("11" * 20, 16) + int("22" * 20, 16)
    assert summary["fork"] == "Prague"


def test_run_creates_and_reads_a_prestate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_text(json.dumps({"alloc": {CONTRACT: {"code": "0x602a" + "5f5260205ff3", "balance": "0x1"}}}))
    assert run(["evm", "run", "--prestate", str(genesis), "--receiver", CONTRACT]) == 0
    assert int(lines_of(capsys)[0][0]["output"], 16) == 42
    assert run(["evm", "run", "--create", "--code", "60fe5f5360015ff3"]) == 0
    assert lines_of(capsys)[0][0]["output"] == "0xfe"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--code", "xyz"], "--code"),
        (["--code", "00", "--input", "0x1"], "--input"),
        (["--code", "00", "--sender", "0x11"], "--sender: expected 20 bytes"),
        (["--code", "00", "--value", "-1"], "--value"),
        (["--code", "00", "--value", "much"], "--value"),
        (["--code", "00", "--fork", "Frontier"], "fork 'Frontier'"),
    ],
)
def test_run_refuses_nonsense_by_flag(capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    assert run(["evm", "run", *flags]) == 10
    lines, problems = lines_of(capsys)
    assert lines == []
    assert message in problems
