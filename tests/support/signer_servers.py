"""A signer's server in a thread of the test, with a history in memory: no process, no disk, real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile

from astralink_node.config import SignerAddress, SignerConfig
from astralink_node.validator.history_file import HistoryStorage
from astralink_node.validator.keys import ValidatorKeys, keys_from_seed
from astralink_node.validator.remote_signer import RemoteSigner, open_remote_signer
from astralink_node.validator.signer_certificates import create_certificate
from astralink_node.validator.signer_server import SignerServer, SigningService
from astralink_node.validator.signer_transport import Listener, listen
from astralink_node.validator.signing_history import SigningHistory, create_history

KEYS: ValidatorKeys = keys_from_seed(b"\x07" * 64, 0)
GENESIS = b"g" * 32
JOIN_S = 20


class MemoryStorage:
    """A disk that never fails."""

    def __init__(self) -> None:
        self.data: bytes | None = None

    def load(self) -> bytes | None:
        return self.data

    def append(self, data: bytes) -> None:
        self.data = (self.data or b"") + data

    def sync(self) -> None:
        pass

    def replace(self, data: bytes) -> None:
        self.data = data

    def close(self) -> None:
        pass


def new_storage(*, key_is_new: bool = True) -> MemoryStorage:
    storage = MemoryStorage()
    create_history(storage, KEYS.public.voting_key, key_is_new=key_is_new)
    return storage


class ServedSigner:
    """What a test knows of a server that runs."""

    def __init__(self, listener: Listener, server: SignerServer, history: SigningHistory, node_tls: Path) -> None:
        self.address: SignerAddress = listener.address
        self.server = server
        self.history = history
        self.node_tls = node_tls
        self.ended_with: Exception | None = None

    def config(self, *, timeout_ms: int = 20_000) -> SignerConfig:
        return SignerConfig(address=str(self.address), tls_folder=str(self.node_tls), timeout_ms=timeout_ms)

    def client(self, *, timeout_ms: int = 20_000, genesis_hash: bytes = GENESIS) -> RemoteSigner:
        return open_remote_signer(self.config(timeout_ms=timeout_ms), self.node_tls, genesis_hash)


@contextmanager
def serving(
    folder: Path,
    address: SignerAddress,
    *,
    storage: HistoryStorage | None = None,
    keys: ValidatorKeys = KEYS,
    may_set_floor: bool = False,
) -> Iterator[ServedSigner]:
    """Serve below `folder`, which gets the certificates too, until the block ends."""
    history = SigningHistory(storage or new_storage(), keys.public.voting_key)
    service = SigningService(keys, history, may_set_floor=may_set_floor)
    with listen(address, folder / "signer-side") as listener, SignerServer(listener, service) as server:
        served = ServedSigner(listener, server, history, folder / "node-side")

        def run() -> None:
            try:
                server.run()
            except Exception as error:  # noqa: BLE001 - the test looks at it
                served.ended_with = error

        thread = threading.Thread(target=run, name="signer-server")
        thread.start()
        try:
            yield served
        finally:
            server.stop()
            thread.join(JOIN_S)
            assert not thread.is_alive(), "the server did not stop"


def pair(folder: Path) -> None:
    """Certificates of both sides, each pinned by the other."""
    sides = folder / "signer-side", folder / "node-side"
    for side in sides:
        create_certificate(side)
    for own, other in (sides, sides[::-1]):
        copyfile(own / "certificate.pem", other / "peer.pem")
