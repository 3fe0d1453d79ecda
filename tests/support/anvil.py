"""Foundry's anvil, another node to send the same to: where the client packages have it, and a running one."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PACKAGES: Final = Path(__file__).parents[1] / "toolchains/node_modules/@foundry-rs"
_START_S: Final = 10.0


def installed_anvil() -> Path:
    """The program itself, not the script that npm puts in front: ending that would leave it running."""
    found = sorted(_PACKAGES.glob("anvil-*/bin/anvil"))
    if not found:
        raise FileNotFoundError(f"anvil is not installed in {_PACKAGES}: run `make clients-setup` first")
    return found[0]


@contextmanager
def anvil_at(program: Path, *arguments: str) -> Iterator[str]:
    """Its URL, while it runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen([str(program), "--port", str(port), "--silent", *arguments]) as process:
        try:
            deadline = time.monotonic() + _START_S
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > deadline or process.poll() is not None:
                        raise
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
