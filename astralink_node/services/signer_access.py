"""Which signer a node signs with: keys and history of its data folder, or a signer process that the settings name."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from astralink_node.config import NodeConfig, SignerConfig
from astralink_node.crypto.addresses import parse_address
from astralink_node.errors import UserError
from astralink_node.log import Log
from astralink_node.services.data_folder import DataFolder
from astralink_node.services.offload import in_thread
from astralink_node.services.own_validator import OwnValidator
from astralink_node.types import Address
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import load_keys
from astralink_node.validator.local_signer import LocalSigner, Signer
from astralink_node.validator.signing_history import SigningHistory, create_history, history_path, open_history
from genesis.schema import GenesisFile

_log = Log("signer")


class NotAValidator(UserError):
    """The keys that the node was given cannot make blocks on this chain."""


@dataclass(frozen=True, slots=True)
class SignerAccess:
    """What it takes to sign on a chain. Opening blocks: a process is waited for, or keys decrypted, about a second.

    Raises UserError, SignerUnavailable, SignerFailed, and the errors of validator.keys and validator.signing_history.
    """

    folder: DataFolder
    config: SignerConfig
    password: str | None
    """Of the folder's keys; None to leave them alone."""
    genesis_hash: bytes
    accept_lost_history: bool
    """A new history may begin; `OwnValidator` then finds where signing may."""

    def open(self, resources: ExitStack) -> Signer | None:
        """The settings' signer process, or the data folder's keys; None with neither."""
        if self.config.address:
            return self._open_remote(resources)
        return None if self.password is None else self._open_local(self.folder.validator_keys, self.password, resources)

    def open_next(self, resources: ExitStack) -> Signer | None:
        """The keys that the operator rotates to, if they lie beside the present ones; the same password opens both."""
        keys_folder = self.folder.next_validator_keys
        if self.config.address or self.password is None or not keys_folder.is_dir():
            return None
        return self._open_local(keys_folder, self.password, resources)

    def _open_remote(self, resources: ExitStack) -> Signer:
        from astralink_node.validator.remote_signer import open_remote_signer  # with X.509: slow to load, rarely needed

        signer = open_remote_signer(self.config, self.folder.root, self.genesis_hash)
        resources.callback(signer.close)
        _log.info("signing through another process", address=self.config.address)
        return signer

    def _open_local(self, keys_folder: Path, password: str, resources: ExitStack) -> Signer:
        keys = load_keys(keys_folder, password)
        history = _open_history(
            self.folder, self.genesis_hash, keys.public.voting_key, accept_lost_history=self.accept_lost_history
        )
        resources.callback(history.close)
        if history.truncated_bytes:
            _log.warning("the signing history's torn end was cut off", bytes=history.truncated_bytes)
        return LocalSigner(keys, history, self.genesis_hash)


_JOINING: Final = ", and names no operator and no fee recipient by which it could join"


def own_validator(folder: DataFolder, config: NodeConfig, genesis: GenesisFile, signer: Signer) -> OwnValidator:
    """Raises NotAValidator."""
    voting_key = signer.public.voting_key
    members = genesis.validator_set().validators
    own = next((member for member in members if member.voting_key == voting_key), None)
    # With staking a key may be elected later, or follow another one.
    operator = signer.public.operator if own is None and genesis.staking is not None else None
    if own is not None:
        operator = Address(own.operator)
    recipient = parse_address(config.blocks.fee_recipient) if config.blocks.fee_recipient else operator
    if recipient is None or (own is None and genesis.staking is None):
        known = ", ".join(f"0x{member.voting_key.hex()[:16]}..." for member in members)
        raise NotAValidator(
            f"the validator key 0x{voting_key.hex()} in {config.signer.address or folder.validator_keys} is not in the "
            f"genesis set of this chain (it has {known}){_JOINING if genesis.staking is not None else ''}: put the "
            "right keys there, or move the folder away to run without them"
        )
    if len(members) != 1 and not config.p2p.enabled:
        raise NotAValidator(f"this chain has {len(members)} validators: this one can do nothing without --p2p")
    return OwnValidator(signer, recipient, in_thread)


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
