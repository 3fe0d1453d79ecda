"""`astralink-node signer` as its operator meets it: start, readiness, stop, certificates, and errors of one line."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import socket
import stat
from contextlib import closing
from pathlib import Path
from shutil import copyfile

import pytest

from astralink_node.config import SignerConfig
from astralink_node.crypto import bls
from astralink_node.crypto.keystore_envelope import Pbkdf2
from astralink_node.validator.keys import create_validator
from astralink_node.validator.local_signer import RefusedToSign
from astralink_node.validator.remote_signer import RemoteSigner, SignerFailed, open_remote_signer
from astralink_node.validator.signing_history import history_path
from consensus.messages import VoteType, reveal_sign_bytes, signing_root
from tests.support.node_process import STOP_LIMIT_S, NodeProcess, run_verb
from tests.support.signer_servers import GENESIS, KEYS

A = b"a" * 32
SECRETS = [KEYS.voting_secret.reveal().hex(), KEYS.checkpoint_seed.reveal().hex(), "correct horse"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "signer")


def make_folder(folder: Path, *, key_is_new: bool = True) -> Path:
    create_validator(
        folder / "validator", folder / "signing", KEYS, "correct horse", key_is_new=key_is_new, kdf=Pbkdf2(c=10)
    )
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text("correct horse\n")
    return folder


def flags(folder: Path, *more: str) -> list[str]:
    return ["signer", "--data-dir", str(folder), "--password-file", str(folder / "password"), *more]


def starting(folder: Path, *more: str) -> NodeProcess:
    return NodeProcess(folder / "log", *flags(folder, "--json", *more))


def client(signer: NodeProcess, node_folder: Path) -> RemoteSigner:
    return open_remote_signer(SignerConfig(address=signer.ready["address"]), node_folder, GENESIS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_signs_over_its_private_socket_and_stops_clean(folder: Path, number: signal.Signals) -> None:
    with starting(folder, "--log-format", "json", "--log-level", "debug") as signer:
        signer.await_ready()
        path = folder / "signer" / "signer.sock"
        voting_key = f"0x{KEYS.public.voting_key.hex()}"
        assert signer.ready == {"ready": True, "address": f"unix:{path}", "votingKey": voting_key}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with closing(client(signer, folder)) as remote:
            root = signing_root(reveal_sign_bytes(GENESIS, 4))
            assert bls.verify(KEYS.public.voting_key, root, remote.sign_reveal(4))
            with pytest.raises(RefusedToSign):
                remote.sign_reveal(3)
            assert signer.stop(number) < STOP_LIMIT_S
        assert not path.exists()
        events = [json.loads(line) for line in signer.said().splitlines()]
        assert [event["event"] for event in events] == [
            "a node connected",
            "refused to sign",
            "stopping",
            "a node went away",
            "stopped",
        ]
        assert "below height 4" in events[1]["reason"]


def test_a_signal_that_another_thread_gets_stops_it_too(folder: Path) -> None:
    with starting(folder) as signer, closing(client(signer.await_ready(), folder)):
        process = signer.process.pid
        others = [int(task) for task in os.listdir(f"/proc/{process}/task") if int(task) != process]
        assert others, "a thread serves the client"
        assert ctypes.CDLL(None).tgkill(process, others[0], signal.SIGTERM) == 0
        assert signer.await_exit() == 0
        assert "stopping signal=SIGTERM" in signer.said()


def test_a_signal_before_it_is_ready_is_a_clean_stop_too(folder: Path) -> None:
    """It waits for a password, in a pipe that nobody writes to."""
    pipe = folder / "pipe"
    os.mkfifo(pipe, 0o600)
    with NodeProcess(folder / "log", "signer", "--data-dir", str(folder), "--password-file", str(pipe)) as signer:
        with pipe.open("wb"):  # opens when the signer reads
            signer.stop()
        assert "stopping signal=SIGTERM" in signer.said()
    with starting(folder) as signer:
        signer.await_ready().stop()


def test_over_tls_each_side_pins_the_other(folder: Path, tmp_path: Path) -> None:
    node = tmp_path / "node"
    made = [
        json.loads(run_verb("signer", "certificate", "--data-dir", str(side), "--json").stdout)
        for side in (folder, node)
    ]
    assert all(re.fullmatch("[0-9a-f]{64}", entry["sha256"]) for entry in made)
    assert stat.S_IMODE((node / "signer-tls" / "key.pem").stat().st_mode) == 0o600
    again = run_verb("signer", "certificate", "--data-dir", str(node))
    assert (again.returncode, again.stdout) == (2, "")
    assert "never overwritten" in again.stderr
    copyfile(made[1]["certificate"], folder / "signer-tls" / "peer.pem")
    copyfile(made[0]["certificate"], node / "signer-tls" / "peer.pem")
    with starting(folder, "--listen", "tls:127.0.0.1:0") as signer:
        signer.await_ready()
        with closing(client(signer, node)) as remote:
            first = remote.sign_vote(VoteType.PREVOTE, 4, 0, A, -1)
            assert remote.sign_vote(VoteType.PREVOTE, 4, 0, A, -1) == first
        stranger = tmp_path / "stranger"
        assert run_verb("signer", "certificate", "--data-dir", str(stranger)).returncode == 0
        copyfile(made[0]["certificate"], stranger / "signer-tls" / "peer.pem")
        with pytest.raises(SignerFailed, match="refused this node's certificate"):
            client(signer, stranger)
        signer.await_said("CERTIFICATE_VERIFY_FAILED")
        signer.stop()


def test_after_a_lost_history_only_the_operators_flag_lets_it_sign_again(folder: Path) -> None:
    history_path(folder / "signing", KEYS.public.voting_key).unlink()
    assert "--new-signing-history" in refused(flags(folder))
    with starting(folder, "--new-signing-history") as signer:
        with closing(client(signer.await_ready(), folder)) as remote:
            assert not remote.history_state().is_intact
            with pytest.raises(RefusedToSign, match="no certified head"):
                remote.sign_reveal(102)
            remote.set_floor(102)
            with pytest.raises(RefusedToSign, match="below height 102"):
                remote.sign_reveal(101)
            remote.sign_reveal(102)
        signer.stop()
    with starting(folder) as signer:
        with closing(client(signer.await_ready(), folder)) as remote:
            assert remote.history_state().is_intact
            remote.sign_reveal(103)
        signer.stop()


def test_a_restored_key_waits_for_the_flag(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "restored", key_is_new=False)
    with (
        starting(folder) as signer,
        closing(client(signer.await_ready(), folder)) as remote,
        pytest.raises(RefusedToSign, match="--new-signing-history"),
    ):
        remote.set_floor(102)


def test_a_torn_end_of_the_history_is_cut_off_and_told(folder: Path) -> None:
    with history_path(folder / "signing", KEYS.public.voting_key).open("ab") as file:
        file.write(b"\0\0\0")
    with starting(folder) as signer:
        signer.await_ready()
        assert "the signing history's torn end was cut off bytes=3" in signer.said()


def refused(arguments: list[str], code: int = 2) -> str:
    """The one line on stderr of a start that fails."""
    ended = run_verb(*arguments)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_what_is_wrong_at_start_is_one_line_without_a_secret(folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong password"
    wrong.touch(mode=0o600)
    wrong.write_text("correct horse?\n")
    lines = {
        "wrong password": refused(["signer", "--data-dir", str(folder), "--password-file", str(wrong)]),
        "there is no terminal to ask": refused(["signer", "--data-dir", str(folder)]),
        "validator.json": refused([*flags(folder)[:2], str(tmp_path / "nowhere"), "--password-file", str(wrong)]),
        "expected unix:PATH or tls:HOST:PORT": refused(flags(folder, "--listen", "tcp:127.0.0.1:7000")),
        "certificate.pem is missing": refused(flags(folder, "--listen", "tls:127.0.0.1:0")),
        "107 bytes": refused(flags(folder, "--listen", f"unix:{tmp_path}/{'x' * 120}/s.sock")),
        "mode 700": refused(flags(folder, "--listen", f"unix:{public_folder(tmp_path)}/s.sock")),
    }
    for part, line in lines.items():
        assert part in line
        assert not any(secret in line for secret in SECRETS)


def public_folder(parent: Path) -> Path:
    folder = parent / "public"
    folder.mkdir(mode=0o755)
    return folder


def test_a_second_signer_finds_the_history_locked_and_another_keys_finds_the_socket_in_use(
    folder: Path, tmp_path: Path
) -> None:
    with starting(folder) as signer:
        signer.await_ready()
        assert "another process is signing with this history" in refused(flags(folder))
        other = make_folder(tmp_path / "other")
        socket_path = signer.ready["address"]
        assert "already in use" in refused(flags(other, "--listen", socket_path))
        with closing(client(signer, folder)) as remote:
            remote.sign_reveal(1)


def test_a_killed_signers_socket_is_taken_over(folder: Path) -> None:
    with starting(folder) as signer:
        signer.await_ready()
        signer.kill()
        assert (folder / "signer" / "signer.sock").exists()
    with starting(folder) as signer, closing(client(signer.await_ready(), folder)) as remote:
        remote.sign_reveal(1)


def test_no_secret_is_ever_written_to_the_log(folder: Path) -> None:
    with starting(folder, "--log-level", "debug") as signer:
        signer.await_ready()
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(folder / "signer" / "signer.sock"))
            raw.sendall(b"\0\0\0\x02\x07\x07")
            assert raw.recv(4096)
        with closing(client(signer, folder)) as remote:
            remote.sign_vote(VoteType.PREVOTE, 4, 0, A, -1)
        signer.await_said("a node went away")
        said = signer.said()
        assert "version: expected 1, found 7" in said
        assert not any(secret in said for secret in SECRETS)
