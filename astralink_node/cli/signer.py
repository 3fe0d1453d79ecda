"""`signer`: the validator's keys and signing history in a process of their own, which a node asks for signatures."""

import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

import click

from astralink_node.cli.options import data_dir_option, json_option, password_file_option
from astralink_node.cli.passwords import existing_password, read_secret_line
from astralink_node.cli.settings import config_file_option, settings_from
from astralink_node.cli.validator import KEYS_FOLDER, SIGNING_FOLDER
from astralink_node.config import NodeConfig, UnixAddress
from astralink_node.errors import UserError
from astralink_node.log import FORMATS, LEVELS, Log, configure
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import load_keys, load_public_keys
from astralink_node.validator.signer_certificates import (
    CERTIFICATE_FILE,
    PEER_FILE,
    create_certificate,
    fingerprint,
)
from astralink_node.validator.signer_server import SignerServer, SigningService
from astralink_node.validator.signer_transport import listen, tls_folder
from astralink_node.validator.signing_history import SigningHistory, create_history, history_path, open_history

DEFAULT_SOCKET: Final = Path("signer") / "signer.sock"
"""In the data folder. It has a folder of its own, because that has to be closed to other users."""
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_log = Log("signer")


@click.group(invoke_without_command=True)
@data_dir_option()
@config_file_option()
@click.option(
    "--listen",
    "signer__address",
    metavar="ADDRESS",
    help="unix:PATH or tls:HOST:PORT.  [default: unix:<data-dir>/signer/signer.sock]",
)
@click.option(
    "--tls-folder",
    "signer__tls_folder",
    type=click.Path(file_okay=False),
    help="Holds certificate.pem, key.pem and the node's peer.pem.  [default: <data-dir>/signer-tls]",
)
@click.option("--log-level", "log__level", type=click.Choice(LEVELS), help="How much to report.  [default: info]")
@click.option("--log-format", "log__format", type=click.Choice(FORMATS), help="Lines for people, or JSON.")
@password_file_option()
@click.option(
    "--new-signing-history",
    is_flag=True,
    help="The validator's key was restored or its history lost, and no other node signs with it.",
)
@json_option()
@click.pass_context
def signer(
    context: click.Context,
    /,
    data_dir: Path,
    config_file: Path | None,
    password_file: Path | None,
    new_signing_history: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Sign for a node (`start --signer ADDRESS`) with the validator keys in this data folder. Ctrl-C stops it."""
    if context.invoked_subcommand is not None:
        return
    config = settings_from(data_dir, config_file, flags).config
    configure(config.log.level, config.log.format)
    keys_folder = data_dir / KEYS_FOLDER
    with ExitStack() as resources:
        stopping = resources.enter_context(_StopOnSignal())
        voting_key = load_public_keys(keys_folder).voting_key
        history = resources.enter_context(
            _open_history(data_dir / SIGNING_FOLDER, voting_key, may_begin=new_signing_history)
        )
        keys = load_keys(keys_folder, _password(keys_folder, config, password_file))
        address = config.signer.endpoint or UnixAddress(str(data_dir / DEFAULT_SOCKET))
        listener = resources.enter_context(listen(address, tls_folder(config.signer, data_dir)))
        service = SigningService(keys, history, may_set_floor=new_signing_history)
        server = resources.enter_context(SignerServer(listener, service))
        ready = {"ready": True, "address": str(listener.address), "votingKey": f"0x{voting_key.hex()}"}
        text = f"Ready: {ready['address']}, voting key {ready['votingKey']}; Ctrl-C stops the signer"
        click.echo(json.dumps(ready) if as_json else text)
        stopping.watch(server)
        server.run()
    _log.info("stopped")


@signer.command("certificate")
@data_dir_option()
@click.option(
    "--tls-folder",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to put the files.  [default: <data-dir>/signer-tls]",
)
@json_option()
def certificate(data_dir: Path, folder: Path | None, as_json: bool) -> None:
    """Make this side's certificate for `tls:` addresses: once on the signer's machine, once on the node's.

    Then copy each side's certificate.pem to the other side's peer.pem. The keys stay where they were made.
    """
    place = tls_folder(NodeConfig().signer, data_dir) if folder is None else folder.expanduser()
    digest = fingerprint(create_certificate(place))
    if as_json:
        click.echo(json.dumps({"certificate": str(place / CERTIFICATE_FILE), "sha256": digest}))
        return
    click.echo(f"Certificate:  {place / CERTIFICATE_FILE}")
    click.echo(f"SHA-256:      {digest}")
    click.echo(f"Copy it to the other side as {PEER_FILE}, and the other side's to {place / PEER_FILE}.")


def _open_history(folder: Path, voting_key: bytes, *, may_begin: bool) -> SigningHistory:
    path = history_path(folder, voting_key)
    if may_begin and not path.exists():
        storage = HistoryFile(path)
        try:
            create_history(storage, voting_key, key_is_new=False)
        finally:
            storage.close()
    history = open_history(folder, voting_key)
    if history.truncated_bytes:
        _log.warning("the signing history's torn end was cut off", bytes=history.truncated_bytes)
    return history


def _password(keys_folder: Path, config: NodeConfig, password_file: Path | None) -> str:
    if password_file is None and config.validator.password_file:
        return read_secret_line(Path(config.validator.password_file).expanduser())
    if password_file is None and not sys.stdin.isatty():
        raise UserError(
            f"{keys_folder} holds validator keys, and there is no terminal to ask for their password: give "
            "--password-file"
        )
    return existing_password(password_file, f"the validator keys in {keys_folder}")


class _StopOnSignal:
    """The first signal stops the server, or the program while there is none yet; later ones change nothing."""

    def __init__(self) -> None:
        self._server: SignerServer | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._stop) for number in _STOP_SIGNALS}
        return self

    def __exit__(self, *_exception: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def watch(self, server: SignerServer) -> None:
        """The server is woken by the signal itself, also where another thread gets it, or the server is just about to
        wait: else nobody would call `_stop`."""
        self._server = server
        signal.set_wakeup_fd(server.wake_descriptor, warn_on_full_buffer=False)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        for repeated in _STOP_SIGNALS:
            signal.signal(repeated, signal.SIG_IGN)
        _log.info("stopping", signal=signal.Signals(number).name)
        if self._server is None:
            raise SystemExit(0)
        self._server.stop()
