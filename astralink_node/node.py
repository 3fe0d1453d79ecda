"""The composition root: reading `run_node` is seeing the whole program.

It builds every part by hand, starts the children and the services in an order in which each finds what it needs,
and takes them down in the reverse order. Settings come in checked and frozen (astralink_node.config makes them).
"""

import fcntl
import hashlib
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from astralink_node import __version__
from astralink_node.chain.client import ExecutionClient
from astralink_node.chain.messages import (
    AtLatest,
    BlockAnswer,
    BlockQuestion,
    Committed,
    Query,
    Status,
)
from astralink_node.chain.process_config import ProcessConfig
from astralink_node.clock import now_ms
from astralink_node.config import NodeConfig
from astralink_node.errors import AstraLinkError, UserError
from astralink_node.evm.blocks import decode_header
from astralink_node.evm.fee_rules import decode_fee_parameters
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.gateway.config import GatewayConfig
from astralink_node.gateway.link_messages import NodeStatus, SubmittedTransaction
from astralink_node.services.consensus_driver import ConsensusDriver, DriverSettings
from astralink_node.services.gateway_link import GatewayLink
from astralink_node.services.supervisor import Listening, Supervisor
from astralink_node.services.transaction_pool import TransactionPool
from astralink_node.storage.wal import WriteAheadLog
from astralink_node.txpool.admission import ChainView
from astralink_node.txpool.pool import Pool, PoolLimits
from astralink_node.validator.keys import ValidatorKeys
from astralink_node.validator.local_signer import LocalSigner
from astralink_node.validator.signing_history import SigningHistory, open_history
from genesis.schema import GenesisFile, parse_genesis

logger = logging.getLogger(__name__)

CLIENT_NAME = "AstraLink"
LOCK_WAIT_S = 10.0
"""For the processes of a killed node to let go of the data folder."""
STOP_S = 4.5
"""For everything to end after the signal; then children are killed."""


class DataFolderInUse(UserError):
    """Another node has the data folder."""


class NoGenesis(UserError):
    """The data folder holds no chain."""


class NotTheValidator(UserError):
    """The key in the data folder is not the one that the genesis file names."""


class HeadUnreadable(AstraLinkError):
    """Execution did not answer the question for its head block with a block."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where a node keeps things. Signing history has a folder of its own: a reset of the chain never touches it."""

    root: Path

    @property
    def genesis(self) -> Path:
        return self.root / "genesis.json"

    @property
    def chain(self) -> Path:
        return self.root / "chain"

    @property
    def wal(self) -> Path:
        return self.root / "consensus" / "wal"

    @property
    def signing(self) -> Path:
        return self.root / "signing"

    @property
    def validator(self) -> Path:
        return self.root / "validator"

    @property
    def lock(self) -> Path:
        return self.root / "node.lock"


@dataclass(frozen=True, slots=True)
class Ready:
    """What can be announced once requests are answered."""

    listening: Listening
    chain_id: int
    genesis_hash: bytes
    head_height: int


async def run_node(
    folder: DataFolder,
    config: NodeConfig,
    keys: ValidatorKeys | None,
    on_ready: Callable[[Ready], None] = lambda _: None,
) -> None:
    """Run until SIGINT or SIGTERM, then return. Without keys the node serves its chain and produces nothing."""
    with locked(folder) as lock, closing(_open_signer(folder, keys)) as signing:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
                supervisor = Supervisor(nursery)
                try:
                    await _run_parts(folder, config, signing, nursery, supervisor, lock, on_ready)
                finally:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_S):
                        await supervisor.stop()
        except BaseExceptionGroup as group:
            raise _cause_of(group) from None


async def _run_parts(
    folder: DataFolder,
    config: NodeConfig,
    signing: "_Signing",
    nursery: trio.Nursery,
    supervisor: Supervisor,
    lock: int,
    on_ready: Callable[[Ready], None],
) -> None:
    genesis = _load_genesis(folder)
    view = _chain_view_of(genesis.chain_rules())
    sockets = runtime_folder(folder.root)
    query_socket, node_socket = sockets / "query.sock", sockets / "node.sock"

    # The gateway takes as long to start as execution does: it binds its port and waits for the head at this socket.
    listener = _listen(node_socket)
    gateway = _GatewayStart()
    nursery.start_soon(gateway.run, supervisor, _gateway_config(config, node_socket, query_socket))

    # Execution checks the database, and everything else asks it.
    process = ProcessConfig(
        database=str(folder.chain),
        genesis_file=str(folder.genesis),
        node_socket=-1,  # the supervisor makes it
        query_socket=str(query_socket),
        history_heights=None if config.history.archive else config.history.state_heights,
    )
    execution = await supervisor.start_execution(process, lock)
    status = await execution.status()
    signer = signing.signer(genesis, status.genesis_hash)

    # The mempool asks over the socket for queries: an admission does not wait for a block in the making.
    queries = ExecutionClient(await trio.open_unix_socket(str(query_socket)))
    nursery.start_soon(queries.run)
    head = await _head_of(execution, status)
    outlet = _Outlet(head.block.raw_header)
    pool = TransactionPool(Pool(_pool_limits(config), view(head)), queries, now_ms, view, outlet.push_pending)

    def node_status() -> NodeStatus:
        pending, queued = pool.counts()
        return NodeStatus(
            client_version=f"{CLIENT_NAME}/v{__version__}",
            chain_id=status.chain_id,
            genesis_hash=status.genesis_hash,
            peer_count=0,
            is_validator=signer is not None,
            block_interval_ms=config.blocks.interval_ms,
            head_height=outlet.head_height,
            pending_transactions=pending,
            queued_transactions=queued,
        )

    async def publish(committed: Committed) -> None:
        # The pool first: whoever hears of the head may ask for a pending nonce at once.
        await pool.on_commit(committed)
        outlet.push_head(committed)

    driver = None
    if signer is not None:
        driver = ConsensusDriver(
            execution, signer, WriteAheadLog(folder.wal), pool, _driver_settings(config, genesis), now_ms, publish
        )
        status = await driver.recover()
        head = await _head_of(execution, status)
    else:
        logger.warning("no validator key: the node serves its chain and produces no blocks")

    outlet.link = GatewayLink(pool, node_status, head)
    nursery.start_soon(outlet.link.serve, listener)
    nursery.start_soon(pool.run)
    on_ready(Ready(await gateway.listening(), status.chain_id, status.genesis_hash, status.head_height))
    if driver is None:
        await trio.sleep_forever()
    else:
        await driver.run(status)


# --- Keys and signing ------------------------------------------------------------------------------------------------


class _Signing:
    """The validator's keys with their open, locked signing history; or nothing, for a node without keys."""

    def __init__(self, keys: ValidatorKeys | None, history: SigningHistory | None) -> None:
        self._keys = keys
        self._history = history

    def signer(self, genesis: GenesisFile, genesis_hash: bytes) -> LocalSigner | None:
        """Raises NotTheValidator: with one validator only its key can make blocks."""
        if self._keys is None or self._history is None:
            return None
        ours = self._keys.public.voting_key
        if [entry.voting_key for entry in genesis.validators] != [ours]:
            known = ", ".join(f"0x{entry.voting_key.hex()}" for entry in genesis.validators)
            raise NotTheValidator(
                f"expected the voting key of the one validator in the genesis file ({known}), found 0x{ours.hex()}"
            )
        return LocalSigner(self._keys, self._history, genesis_hash)

    def close(self) -> None:
        if self._history is not None:
            self._history.close()


def _open_signer(folder: DataFolder, keys: ValidatorKeys | None) -> _Signing:
    return _Signing(keys, None if keys is None else open_history(folder.signing, keys.public.voting_key))


# --- Settings, as each part wants them -------------------------------------------------------------------------------


def _driver_settings(config: NodeConfig, genesis: GenesisFile) -> DriverSettings:
    blocks = config.blocks
    recipient = bytes.fromhex(blocks.fee_recipient.removeprefix("0x")) or genesis.validators[0].operator
    return DriverSettings(
        interval_ms=blocks.interval_ms,
        on_demand=blocks.builds_on_demand,
        empty_blocks=blocks.empty,
        build_budget_ms=blocks.build_budget_ms,
        fee_recipient=recipient,
    )


def _pool_limits(config: NodeConfig) -> PoolLimits:
    pool = config.txpool
    return PoolLimits(
        max_transactions=pool.max_transactions,
        max_bytes=pool.max_bytes,
        max_per_sender=pool.max_per_sender,
        max_queued_per_sender=pool.max_queued_per_sender,
        max_queued=pool.max_queued,
        min_tip_wei=pool.min_tip_wei,
        queued_lifetime_ms=pool.queued_lifetime_ms,
        allow_unprotected=pool.allow_unprotected,
    )


def _gateway_config(config: NodeConfig, node_socket: Path, query_socket: Path) -> GatewayConfig:
    rpc = config.rpc
    return GatewayConfig(
        node_socket=str(node_socket),
        execution_socket=str(query_socket),
        host=rpc.host,
        port=rpc.port,
        apis=rpc.api,
        cors_origins=rpc.cors_origins,
        vhosts=rpc.vhosts,
        log_level=config.log.level.upper(),
    )


class _GatewayStart:
    """A gateway that starts beside everything else."""

    def __init__(self) -> None:
        self._started = trio.Event()
        self._listening: Listening | None = None

    async def run(self, supervisor: Supervisor, config: GatewayConfig) -> None:
        await supervisor.run_gateway(config, self._announce)

    async def listening(self) -> Listening:
        await self._started.wait()
        if self._listening is None:
            raise RuntimeError("the gateway was announced without saying where it listens")
        return self._listening

    def _announce(self, listening: Listening) -> None:
        self._listening = listening
        self._started.set()


# --- The head, as its listeners want it ------------------------------------------------------------------------------


class _Outlet:
    """Where heads and pending transactions go; the gateways' link joins once recovery is done."""

    def __init__(self, raw_header: bytes) -> None:
        self.head_height = decode_header(raw_header).number
        self.link: GatewayLink | None = None

    def push_head(self, committed: Committed) -> None:
        header = decode_header(committed.block.raw_header)
        self.head_height = header.number
        logger.info(
            "block %d: %d transactions, %d gas, hash 0x%s",
            header.number,
            len(committed.block.raw_transactions),
            header.gas_used,
            committed.block.block_hash.hex(),
        )
        if self.link is not None:
            self.link.push_head(committed)

    def push_pending(self, transactions: tuple[SubmittedTransaction, ...]) -> None:
        if self.link is not None:
            self.link.push_pending(transactions)


async def _head_of(execution: ExecutionClient, status: Status) -> Committed:
    """The head as a gateway that connects is told it: without receipts."""
    answer = await execution.query(Query(AtLatest(), BlockQuestion()))
    if not isinstance(answer, BlockAnswer):
        raise HeadUnreadable(f"asked for the head block, found {answer}")
    return Committed(
        block=answer.block,
        receipts=(),
        touched_accounts=(),
        next_base_fee_wei=status.next_base_fee_wei,
        next_gas_limit=status.next_gas_limit,
    )


def _chain_view_of(rules: ChainRules) -> Callable[[Committed], ChainView]:
    def view(committed: Committed) -> ChainView:
        header = decode_header(committed.block.raw_header)
        return ChainView(
            chain_id=rules.chain_id,
            fork=rules.fork_at(header.number + 1),
            gas_limit=committed.next_gas_limit,
            base_fee_wei=committed.next_base_fee_wei,
            min_base_fee_wei=decode_fee_parameters(header.extra_data).min_base_fee_wei,
        )

    return view


# --- Files, locks, signals -------------------------------------------------------------------------------------------


def _load_genesis(folder: DataFolder) -> GenesisFile:
    try:
        return parse_genesis(folder.genesis.read_bytes())
    except FileNotFoundError as error:
        raise NoGenesis(
            f"{folder.root} holds no genesis.json: run "
            f"`astralink-node init GENESIS_FILE --data-dir {folder.root}` first"
        ) from error


@contextmanager
def locked(folder: DataFolder) -> Iterator[int]:
    """Hold the data folder's lock, waiting a while for the processes of a killed node; gives its descriptor.

    Children inherit the descriptor, so the folder is free only when all of them are gone.
    """
    if not folder.root.is_dir():
        raise NoGenesis(f"{folder.root}: no such data folder; run `astralink-node init GENESIS_FILE` first")
    descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor, folder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: DataFolder) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        if holder.isdigit() and Path(f"/proc/{holder}").exists():
            raise DataFolderInUse(f"{folder.root} is in use by another node (process {holder})") from None
        # The node is gone, its execution process is about to be: it ends when it sees the socket closed.
        logger.info("waiting for the processes of an earlier node to leave %s", folder.root)
        _take_within(LOCK_WAIT_S, descriptor, folder)


def _take_within(seconds: float, descriptor: int, folder: DataFolder) -> None:
    """flock knows no deadline, so a helper process waits in it: the lock belongs to the descriptor they share."""
    waiter = subprocess.Popen(
        [sys.executable, "-P", "-S", "-c", f"import fcntl; fcntl.flock({descriptor}, fcntl.LOCK_EX)"],
        pass_fds=(descriptor,),
    )
    try:
        waiter.wait(seconds)
    except subprocess.TimeoutExpired:
        waiter.kill()
        waiter.wait()
        raise DataFolderInUse(f"{folder.root} is in use by the processes of another node") from None
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def runtime_folder(data_dir: Path) -> Path:
    """A private folder with a short path for this data folder's sockets (Unix socket paths end at 107 bytes)."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    folder = base / f"astralink-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(f"{folder}: expected a folder of this user that nobody else can enter; remove it and try again")
    return folder


def _listen(path: Path) -> trio.SocketListener:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(path))
    path.chmod(0o600)
    listener.listen()
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


def _cause_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one expected failure behind a nursery's group; anything unexpected among them keeps the whole group."""
    leaves: list[BaseException] = []
    waiting: list[BaseException] = [group]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseExceptionGroup):
            waiting += error.exceptions
        else:
            leaves.append(error)
    return leaves[0] if all(isinstance(leaf, AstraLinkError) for leaf in leaves) else group


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            logger.info("%s: stopping", signal.Signals(number).name)
            scope.cancel()
            return
