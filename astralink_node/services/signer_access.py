"""Which signer a node signs with: keys and history of its data folder, or a signer process that the settings name."""

from contextlib import ExitStack
from pathlib import Path

from astralink_node.config import SignerConfig
from astralink_node.errors import UserError
from astralink_node.log import Log
from astralink_node.services.data_folder import DataFolder
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import load_keys
from astralink_node.validator.local_signer import LocalSigner, Signer
from astralink_node.validator.signing_history import SigningHistory, create_history, history_path, open_history

_log = Log("signer")


class NotAValidator(UserError):
    """The keys that the node was given cannot make blocks on this chain."""


def open_remote(config: SignerConfig, folder: DataFolder, genesis_hash: bytes, resources: ExitStack) -> Signer:
    """Blocks until the process has answered. Raises UserError, SignerUnavailable or SignerFailed."""
    from astralink_node.validator.remote_signer import open_remote_signer  # with X.509: slow to load, and rarely needed

    signer = open_remote_signer(config, folder.root, genesis_hash)
    resources.callback(signer.close)
    _log.info("signing through another process", address=config.address)
    return signer


def open_local(
    folder: DataFolder,
    keys_folder: Path,
    password: str,
    genesis_hash: bytes,
    resources: ExitStack,
    *,
    accept_lost_history: bool,
) -> Signer:
    """Decrypting takes about a second. Raises the errors of validator.keys and validator.signing_history.

    `keys_folder` is one of the data folder's two. With `accept_lost_history` a new history may begin; `OwnValidator`
    then finds where signing may.
    """
    keys = load_keys(keys_folder, password)
    history = _open_history(folder, genesis_hash, keys.public.voting_key, accept_lost_history=accept_lost_history)
    resources.callback(history.close)
    if history.truncated_bytes:
        _log.warning("the signing history's torn end was cut off", bytes=history.truncated_bytes)
    return LocalSigner(keys, history, genesis_hash)


def _open_history(
    folder: DataFolder, genesis_hash: bytes, voting_key: bytes, *, accept_lost_history: bool
) -> SigningHistory:
    path = history_path(folder.signing, voting_key)
    if accept_lost_history and not path.exists():
        storage = HistoryFile(path)
        try:
            create_history(storage, voting_key, key_is_new=False)
        finally:
            storage.close()
    history = open_history(folder.signing, voting_key)
    if history.needs_floor(genesis_hash) and not accept_lost_history:
        history.close()
        raise NotAValidator(
            "the signing history does not know what this key signed before, because the key was restored or its "
            "history was lost: if no other node signs with it, start once with --new-signing-history"
        )
    return history
