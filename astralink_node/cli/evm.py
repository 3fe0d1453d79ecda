"""``astralink-node evm``: the testing interface, shaped as geth's ``evm`` tool has it.

``statetest`` and ``blocktest`` print one JSON line a case; ``t8n`` and ``run`` follow geth's flags. Standard
output carries results only, problems go to standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from astralink_node.errors import AstraLinkError, UserError
from astralink_node.evm.code_run import CodeRun, run_code
from astralink_node.evm.fork_rules import ForkRules, UnknownFork, fork_named
from astralink_node.evm.scratch_state import MalformedAlloc, parse_bytes, parse_integer
from astralink_node.evm.spec_tests import CaseResult, run_block_case, run_state_case
from astralink_node.evm.tracing.eip3155 import Eip3155Tracer
from astralink_node.evm.transactions import Transaction
from astralink_node.evm.transition import Transition, run_transition
from astralink_node.types import Address

DEFAULT_RUN_GAS = 10_000_000_000
DEFAULT_SENDER = "0x000000000000000000000000000000000073656e"
DEFAULT_RECEIVER = "0x0000000000000000000000007265636569766572"


class BadInput(UserError):
    """A file, a stream or a flag that cannot be read as what it should be."""

    exit_code = 10
    """geth's code for JSON that does not parse."""


class CasesFailed(UserError):
    exit_code = 1


@click.group()
def evm() -> None:
    """Run EVM code, state transitions and Ethereum's tests on this node's pipeline."""


@evm.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def statetest(paths: tuple[Path, ...]) -> None:
    """Run execution-spec-tests state tests: files, or folders of them."""
    _run_cases(paths, "post", run_state_case)


@evm.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def blocktest(paths: tuple[Path, ...]) -> None:
    """Run execution-spec-tests blockchain tests: files, or folders of them."""
    _run_cases(paths, "blocks", lambda name, case: iter((run_block_case(name, case),)))


@evm.command()
@click.option("--input.alloc", "alloc", default="alloc.json", help="Allocation: a file, or stdin.")
@click.option("--input.env", "environment", default="env.json", help="Environment: a file, or stdin.")
@click.option("--input.txs", "transactions", default="txs.json", help="Transactions: a .json or .rlp file, or stdin.")
@click.option("--output.basedir", "basedir", default=".", type=click.Path(path_type=Path), help="Where files go.")
@click.option("--output.alloc", "output_alloc", default="alloc.json", help="A file, stdout, stderr, or empty.")
@click.option("--output.result", "output_result", default="result.json", help="A file, stdout, stderr, or empty.")
@click.option("--output.body", "output_body", default="", help="A file, stdout, stderr, or empty.")
@click.option("--state.fork", "fork", default="Osaka", help="Prague or Osaka.")
@click.option("--state.chainid", "chain_id", default=1, type=int)
@click.option("--state.reward", "_reward", default=0, type=int, help="Ignored: no fork that we know has rewards.")
@click.option("--trace", is_flag=True, help="Write an EIP-3155 trace file for each transaction.")
@click.option("--trace.memory", "trace_memory", is_flag=True, help="Include memory in traces.")
@click.option("--trace.nomemory", "_trace_no_memory", default=True, help="Ignored; memory is left out by default.")
@click.option("--trace.noreturndata", "_trace_no_return_data", default=True, help="Ignored; never included.")
def t8n(
    alloc: str,
    environment: str,
    transactions: str,
    basedir: Path,
    output_alloc: str,
    output_result: str,
    output_body: str,
    fork: str,
    chain_id: int,
    trace: bool,
    trace_memory: bool,
    _reward: int,
    _trace_no_memory: bool,
    _trace_no_return_data: bool,
) -> None:
    """Apply transactions to an allocation, as geth's state transition tool does."""
    stdin = _read_stdin() if "stdin" in (alloc, environment, transactions) else {}
    basedir.mkdir(parents=True, exist_ok=True)
    traces = _TraceFiles(basedir, memory=trace_memory)
    try:
        transition = run_transition(
            alloc=_load(alloc, stdin, "alloc"),
            environment=_load(environment, stdin, "env"),
            transactions=_load_transactions(transactions, stdin),
            fork=fork,
            chain_id=chain_id,
            tracer_for=traces.tracer_for if trace else None,
        )
    except AstraLinkError as error:
        raise BadInput(f"t8n: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"t8n: the input lacks a field or has one of another type: {error}") from None
    finally:
        traces.close()
    _write_outputs(transition, basedir, {"alloc": output_alloc, "result": output_result, "body": output_body})


@evm.command()
@click.option("--code", default="", help="Code in hexadecimal.")
@click.option("--codefile", type=click.Path(exists=True, path_type=Path), help="A file with code in hexadecimal.")
@click.option("--input", "data", default="", help="Call data in hexadecimal.")
@click.option("--trace", "--json", "trace", is_flag=True, help="Print an EIP-3155 line for each opcode.")
@click.option("--trace.memory", "trace_memory", is_flag=True, help="Include memory in the trace.")
@click.option("--gas", default=DEFAULT_RUN_GAS, type=click.IntRange(0, 2**63 - 1), show_default=True)
@click.option("--value", default="0", help="Wei.")
@click.option("--price", default="0", help="Gas price in wei, for GASPRICE.")
@click.option("--sender", default=DEFAULT_SENDER, show_default=True)
@click.option("--receiver", default=DEFAULT_RECEIVER, show_default=True)
@click.option("--create", is_flag=True, help="Run the code as initcode.")
@click.option("--prestate", type=click.Path(exists=True, path_type=Path), help="A genesis file or allocation.")
@click.option("--state.fork", "--fork", "fork", default="Osaka", show_default=True)
@click.option("--chainid", "chain_id", default=1, type=int, show_default=True)
def run(
    code: str,
    codefile: Path | None,
    data: str,
    trace: bool,
    trace_memory: bool,
    gas: int,
    value: str,
    price: str,
    sender: str,
    receiver: str,
    create: bool,
    prestate: Path | None,
    fork: str,
    chain_id: int,
) -> None:
    """Run code by itself; the last line sums up (EIP-3155)."""
    text = codefile.read_text().strip() if codefile is not None else code
    prepared = CodeRun(
        fork=_flag_fork(fork),
        code=_flag_bytes("--code", text),
        data=_flag_bytes("--input", data),
        gas=gas,
        value=_flag_integer("--value", value),
        price=_flag_integer("--price", price),
        sender=Address(_flag_bytes("--sender", sender, length=20)),
        receiver=Address(_flag_bytes("--receiver", receiver, length=20)),
        create=create,
        chain_id=chain_id,
        prestate=_prestate(prestate),
    )
    tracer = Eip3155Tracer(click.echo, memory=trace_memory)
    result = run_code(prepared, tracer if trace else None)
    tracer.summary(
        state_root=result.state_root,
        output=result.output,
        gas_used=result.gas_used,
        error=result.error,
        fork=prepared.fork.name,
    )


# --- statetest and blocktest -----------------------------------------------------------------------------------


def _run_cases(
    paths: tuple[Path, ...],
    distinctive_key: str,
    run_case: Callable[[str, Mapping[str, Any]], Iterator[CaseResult]],
) -> None:
    """Cases of the other format in the same files are left alone; files without any case are problems."""
    failed = 0
    for path in _fixture_files(paths):
        found = False
        for name, case in _read_fixture(path).items():
            if isinstance(case, dict) and distinctive_key in case:
                found = True
                failed += _report_case(name, case, run_case)
        if not found:
            click.echo(f"{path}: holds no such test", err=True)
            failed += 1
    if failed:
        raise CasesFailed(f"{failed} failed")


def _report_case(
    name: str, case: Mapping[str, Any], run_case: Callable[[str, Mapping[str, Any]], Iterator[CaseResult]]
) -> int:
    """Print the case's lines; how many of them failed."""
    failed = 0
    try:
        for result in run_case(name, case):
            failed += not result.passed
            _print_case(result)
    except (KeyError, TypeError, AttributeError, ValueError, AstraLinkError) as error:
        failed += 1
        reason = f"malformed fixture: {type(error).__name__}: {error}"
        _print_case(CaseResult(name=name, fork="", passed=False, state_root=b"", error=reason))
    return failed


def _print_case(result: CaseResult) -> None:
    click.echo(
        json.dumps(
            {
                "name": result.name,
                "pass": result.passed,
                "fork": result.fork,
                "stateRoot": "0x" + result.state_root.hex(),
                "error": result.error,
            }
        )
    )


def _fixture_files(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*.json") if not file.name.startswith("."))
        else:
            yield path


def _read_fixture(path: Path) -> dict[str, Any]:
    try:
        fixture = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {error}") from None
    if not isinstance(fixture, dict):
        raise BadInput(f"{path}: expected a JSON object of test cases")
    return fixture


# --- t8n -------------------------------------------------------------------------------------------------------


class _TraceFiles:
    """One ``trace-INDEX-HASH.jsonl`` for each transaction, as geth names them."""

    def __init__(self, basedir: Path, *, memory: bool) -> None:
        self._basedir = basedir
        self._memory = memory
        self._open: Any = None

    def tracer_for(self, index: int, transaction: Transaction) -> Eip3155Tracer:
        self.close()
        path = self._basedir / f"trace-{index}-0x{transaction.hash.hex()}.jsonl"
        self._open = path.open("w")
        return Eip3155Tracer(lambda line: self._open.write(line + "\n"), memory=self._memory)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _read_stdin() -> dict[str, Any]:
    try:
        loaded = json.loads(sys.stdin.read())
    except ValueError as error:
        raise BadInput(f"standard input: {error}") from None
    if not isinstance(loaded, dict):
        raise BadInput("standard input: expected a JSON object")
    return loaded


def _load(source: str, stdin: Mapping[str, Any], key: str) -> Any:
    if source == "stdin":
        if key not in stdin:
            raise BadInput(f"standard input: no {key!r}")
        return stdin[key]
    try:
        return json.loads(Path(source).read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{source}: {error}") from None


def _load_transactions(source: str, stdin: Mapping[str, Any]) -> Any:
    if source == "stdin" and "txsRlp" in stdin:
        return stdin["txsRlp"]
    loaded = _load(source, stdin, "txs")
    return [] if loaded is None else loaded


def _write_outputs(transition: Transition, basedir: Path, targets: Mapping[str, str]) -> None:
    values = {"alloc": transition.alloc, "result": transition.result, "body": transition.body}
    streams: dict[str, dict[str, Any]] = {"stdout": {}, "stderr": {}}
    for name, target in targets.items():
        if target in streams:
            streams[target][name] = values[name]
        elif target:
            (basedir / target).write_text(json.dumps(values[name], indent=2) + "\n")
    for stream, content in streams.items():
        if content:
            click.echo(json.dumps(content, indent=2), err=stream == "stderr")


# --- run -------------------------------------------------------------------------------------------------------


def _flag_fork(name: str) -> ForkRules:
    try:
        return fork_named(name)
    except UnknownFork as error:
        raise BadInput(f"--state.fork: {error}") from None


def _flag_bytes(flag: str, text: str, *, length: int | None = None) -> bytes:
    try:
        return parse_bytes(text, length=length)
    except MalformedAlloc as error:
        raise BadInput(f"{flag}: {error}") from None


def _flag_integer(flag: str, text: str) -> int:
    try:
        value = parse_integer(text)
    except MalformedAlloc as error:
        raise BadInput(f"{flag}: {error}") from None
    if not 0 <= value < 2**256:
        raise BadInput(f"{flag}: expected 0 to 2**256 - 1, found {text}")
    return value


def _prestate(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    loaded = _read_fixture(path)
    alloc = loaded.get("alloc", loaded)
    if not isinstance(alloc, dict):
        raise BadInput(f"{path}: expected an allocation")
    return alloc
