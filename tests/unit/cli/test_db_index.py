"""`db index`, and what stats, imports and a node's start say about the explorer index."""

import json
import logging
from pathlib import Path

import pytest
import trio

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.commits import HistoryWindow
from astralink_node.chain.data_folder import open_database
from astralink_node.chain.execution import ExecutionConfig
from astralink_node.chain.new_folder import initialise_folder
from astralink_node.cli.main import run
from astralink_node.log import Log
from astralink_node.services.explorer_notice import tell_of_gap
from tests.support.chains import CONTRACTS, COUNTER, LocalChain, candidate, genesis_text

GENESIS = genesis_text(1, extra_alloc=CONTRACTS)


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def make_folder(path: Path, *, indexed: bool, window: int | None = None) -> Path:
    """A data folder at height 5."""
    initialise_folder(path, GENESIS)
    config = ExecutionConfig(window=HistoryWindow(window), explorer_index=indexed)
    with open_database(path) as store:
        chain = LocalChain(store, genesis=GENESIS, config=config)
        for nonce in range(5):
            chain.produce([candidate(0, nonce), candidate(1, nonce, to=COUNTER, gas=60_000)])
    return path


def test_the_index_is_built_and_a_second_run_adds_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(tmp_path / "data", indexed=False)
    code, out, err = command(capsys, "db", "index", "--data-dir", folder)
    assert code == 0
    assert "complete:               1 to 5" in out
    assert "without internal calls: none" in out
    assert "indexed 5 blocks" in err
    code, out, _ = command(capsys, "db", "index", "--data-dir", folder, "--json")
    assert (code, json.loads(out)["added"]) == (0, 0)
    assert command(capsys, "db", "check", "--data-dir", folder)[0] == 0


def test_blocks_without_state_are_named_as_known_less_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(tmp_path / "data", indexed=False, window=2)
    code, out, _ = command(capsys, "db", "index", "--data-dir", folder, "--json")
    status = json.loads(out)
    assert (code, status["added"], status["head_height"]) == (0, 5, 5)
    assert status["without_calls"] == [{"first": 1, "last": 3}]
    assert status["complete"] == [{"first": 4, "last": 5}]
    assert status["missing"] == []


@pytest.mark.parametrize("indexed", [False, True])
def test_stats_say_what_the_index_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str], *, indexed: bool) -> None:
    folder = make_folder(tmp_path / "data", indexed=indexed)
    code, out, _ = command(capsys, "db", "stats", "--data-dir", folder)
    assert code == 0
    assert ("Explorer:     indexed 1 to 5" in out) == indexed
    code, out, _ = command(capsys, "db", "stats", "--data-dir", folder, "--count", "--json")
    stats = json.loads(out)
    assert stats["explorerIndex"]["missing"] == ([] if indexed else [{"first": 1, "last": 5}])
    assert stats["tables"]["explorer: nonces"]["entries"] == (10 if indexed else 0)


def test_an_import_keeps_the_index_if_it_is_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = make_folder(tmp_path / "data", indexed=False), tmp_path / "blocks"
    genesis_file = tmp_path / "genesis.json"
    genesis_file.write_bytes(GENESIS)
    assert command(capsys, "export", file, "--data-dir", folder)[0] == 0
    for name, flags, missing in (("with", ("--explorer-index",), []), ("without", (), [{"first": 1, "last": 5}])):
        other = tmp_path / name
        command(capsys, "init", genesis_file, "--data-dir", other)
        assert command(capsys, "import", file, "--data-dir", other, *flags)[0] == 0
        _, out, _ = command(capsys, "db", "stats", "--data-dir", other, "--json")
        assert json.loads(out)["explorerIndex"]["missing"] == missing


@pytest.mark.parametrize("indexed", [False, True])
def test_a_node_names_the_gap_and_the_command_at_its_start_and_nothing_without_one(
    caplog: pytest.LogCaptureFixture, *, indexed: bool
) -> None:
    chain = LocalChain(genesis=GENESIS, config=ExecutionConfig(explorer_index=indexed))
    chain.produce([candidate(0, 0)])
    with caplog.at_level(logging.WARNING, "astralink_node.test"):
        trio.run(tell_of_gap, InProcessExecution(chain.execution), Log("test"))
    assert ("`astralink-node db index`" in caplog.text) == (not indexed)
