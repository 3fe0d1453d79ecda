"""The command's root: verbs on demand, and errors as one line with an exit code."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from astralink_node import __version__
from astralink_node.cli import main
from astralink_node.errors import AstraLinkError, UserError


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr("astralink_node.cli.version.version", fail)


def test_every_verb_can_be_imported_and_has_help() -> None:
    context = click.Context(main.cli)
    for verb in main.cli.list_commands(context):
        command = main.cli.get_command(context, verb)
        assert command is not None
        assert command.help


def test_overview_lists_every_verb_without_importing_the_evm() -> None:
    code = "import sys; from astralink_node.cli.main import run; run(['--help']); print('eth' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "devnet" in result.stdout
    assert result.stdout.endswith("False\n")


def test_version_says_what_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["version", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["version"] == __version__
    assert shown["libraries"]["py-evm"]


def test_the_flag_prints_what_the_verb_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"astralink-node {__version__}\n")
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == said


def test_expected_failure_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, UserError("the port is taken"))
    assert main.run(["version"]) == 2
    assert capsys.readouterr().err == "error: the port is taken\n"
    raising(monkeypatch, AstraLinkError("the disk is full"))
    assert main.run(["version"]) == main.EXIT_FAILURE


def test_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main.run(["version"])


def test_interrupted_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert main.run(["version"]) == main.EXIT_INTERRUPTED
    assert capsys.readouterr().err.strip() == "Aborted."


@pytest.mark.parametrize(
    ("verb", "name", "code"),
    [
        ("start", "SIGTERM", 0),
        ("devnet", "SIGTERM", 0),
        ("devnet", "SIGHUP", 0),
        ("db", "SIGTERM", -signal.SIGTERM),
        ("db", "SIGHUP", -signal.SIGHUP),
    ],
)
def test_signal_while_modules_load_is_no_failure_of_a_verb_that_runs_until_stopped(
    verb: str, name: str, code: int
) -> None:
    script = (
        "import os, signal, sys; from astralink_node.cli import main; "
        "main.importlib.import_module = lambda _: os.kill(os.getpid(), getattr(signal, sys.argv[2])); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); main.run([sys.argv[1]])"
    )
    result = subprocess.run([sys.executable, "-c", script, verb, name], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (code, "")


def test_hang_up_that_is_ignored_stays_so() -> None:
    script = (
        "import os, signal; from astralink_node.cli import main; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "main.importlib.import_module = lambda _: (os.kill(os.getpid(), signal.SIGHUP), os._exit(7)); "
        "main.run(['devnet'])"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 7


def test_root_leaves_the_handling_of_signals_as_it_found_it(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main.run(["start", "--help"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert "--data-dir" in capsys.readouterr().out


def test_unknown_verb_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["strat"]) == 2
    assert "strat" in capsys.readouterr().err


def test_config_show_names_values_and_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("[rpc]\nport = 9000\n")
    monkeypatch.setenv("ASTRALINK_LOG_LEVEL", "debug")
    assert main.run(["config", "show", "--data-dir", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["rpc.port"] == {
        "value": 9000,
        "source": f"file {tmp_path / 'config.toml'}",
        "variable": "ASTRALINK_RPC_PORT",
    }
    assert shown["log.level"]["source"] == "environment ASTRALINK_LOG_LEVEL"
    assert main.run(["config", "show", "--data-dir", str(tmp_path)]) == 0
    assert "[rpc]" in capsys.readouterr().out
