"""The command `astralink-node`: finds the module of the verb that was asked for, and turns errors into one line.

Every verb lives in a module of its own that is imported only when it is used: `version` must not wait for the
EVM. Expected failures (AstraLinkError) print their message and set the exit code; anything else is a bug and
keeps its traceback.
"""

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import click

from astralink_node.errors import EXIT_STORAGE, AstraLinkError

EXIT_FAILURE: Final = 1
EXIT_INTERRUPTED: Final = 130

_VERBS: Final = {
    "start": ("start:start", "Run a node on an initialised data folder."),
    "devnet": ("devnet:devnet", "Run a local development network with funded accounts."),
    "watch": ("watch:watch", "Show a running node's blocks as they come."),
    "faucet": ("faucet:faucet", "Have a devnet send test BWT to an account."),
    "status": ("status:status", "Show whether a running node is well."),
    "consensus": ("consensus:consensus", "Show what a running node's consensus does, and who is missing."),
    "peers": ("peers:peers", "Show a running node's peers."),
    "net": ("net:net", "Check a running node's place on the network."),
    "evidence": ("evidence:evidence", "Hand in evidence against validators."),
    "init": ("init:init", "Prepare a data folder from a genesis file."),
    "genesis": ("genesis:genesis", "Create, show, verify and compare genesis files."),
    "account": ("account:account", "Manage account keystores (Web3 secret storage)."),
    "validator": ("validator_staking:validator", "Manage this node's validator: its keys, its stake, its duties."),
    "stake": ("stake:stake", "Delegate BWT to validators, and take it and its rewards back."),
    "signer": ("signer:signer", "Sign for a node, in a process of its own."),
    "config": ("config:config", "Show the settings in effect."),
    "db": ("db:db", "Check, measure, prune, compact, repair or roll back the database."),
    "export": ("blocks:export_blocks", "Write blocks to a file."),
    "import": ("blocks:import_blocks", "Validate and commit blocks from a file."),
    "economics": ("economics:economics", "Project supply, yields and decentralisation."),
    "evm": ("evm:evm", "Run code, state tests, block tests and t8n on this node's EVM."),
    "version": ("version:version", "Show the version of this program."),
}
"""Verb -> (module in this package and the command in it, one line of help)."""

_UNTIL_STOPPED: Final = frozenset({"start", "devnet", "watch"})
"""Verbs that end when they are told to: being told is no failure, also before they are ready."""


def _verb(name: str) -> click.Command:
    """Imported now."""
    module_name, attribute = _VERBS[name][0].split(":")
    module = importlib.import_module(f"astralink_node.cli.{module_name}")
    command: click.Command = getattr(module, attribute)
    return command


class _LazyGroup(click.Group):
    """Knows its commands by name; imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _VERBS:
            return None
        return _verb(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview, without importing any of the commands."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(verb, help_) for verb, (_, help_) in _VERBS.items()])


def _show_version(ctx: click.Context, _parameter: click.Parameter, given: bool) -> None:
    """What the verb `version` prints, for whoever tries the flag that most programs have."""
    if given:
        ctx.invoke(_verb("version"), as_json=False)
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="As `version`."
)
def cli() -> None:
    """AstraLink: a proof-of-stake EVM chain for telecom networks."""


def run(arguments: list[str] | None = None) -> int:
    """The console script. Returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in _UNTIL_STOPPED:
        with _being_stopped_is_no_failure():
            return _run(given)
    return _run(given)


@contextmanager
def _being_stopped_is_no_failure() -> Iterator[None]:
    """Exit code 0 for a signal to stop that comes while modules load and files are prepared, before the node listens.

    As abrupt as the signal itself would be: what is prepared bears that at any moment, and no process is started yet.
    A signal that is ignored (`nohup`) stays so.
    """

    def end(_signal: int, _frame: FrameType | None) -> None:
        os._exit(0)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: list[str]) -> int:
    try:
        result = cli.main(args=arguments, prog_name="astralink-node", standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Aborted.", err=True)
        return EXIT_INTERRUPTED
    except AstraLinkError as error:
        click.echo(f"error: {error}", err=True)
        return getattr(error, "exit_code", EXIT_FAILURE)
    except BrokenPipeError:
        # Whoever read our output stopped (`| head`): nothing to say, and nobody to say it to.
        sys.stderr.close()
        return EXIT_FAILURE
    except OSError as error:
        # The disk is full, a file is gone, a permission is missing: the machine's state, not a bug of ours.
        if error.errno is None:
            raise
        click.echo(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}", err=True)
        return EXIT_STORAGE
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(run())
