"""The composition root: builds every part of a running node by hand, and takes them down in order.

Reading :func:`run_node` is seeing the whole program: an execution process that owns the database, the mempool, a
link for gateways, a gateway process, and, where there is a validator's signer, a consensus driver.
"""

import gc
import platform
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from astralink_node import __version__
from astralink_node.chain.client import ExecutionClient, ExecutionGone
from astralink_node.chain.data_folder import load_genesis
from astralink_node.chain.messages import AtLatest, BlockAnswer, BlockQuestion, Committed, Query, Status
from astralink_node.chain.query_limits import query_limits
from astralink_node.clock import now_ms
from astralink_node.config import NodeConfig
from astralink_node.errors import AstraLinkError, UserError
from astralink_node.gateway.config import GatewayConfig
from astralink_node.gateway.link_messages import ConsensusState, NodeStatus
from astralink_node.gateway.settings import gateway_config
from astralink_node.interpreter import take_short_turns
from astralink_node.log import Log, configure
from astralink_node.metrics import NodeMetrics
from astralink_node.services.block_sync import BlockSync
from astralink_node.services.consensus_driver import CONSENSUS_TOPICS, ChainSettings, ConsensusDriver
from astralink_node.services.consensus_log import ConsensusLog
from astralink_node.services.consensus_view import consensus_state
from astralink_node.services.data_folder import (
    DataFolder,
    FolderLock,
    listen_unix,
    remove_sockets,
    runtime_folder,
    wait_for_database,
)
from astralink_node.services.explorer_notice import tell_of_gap
from astralink_node.services.gateway_link import (
    GatewayLink,
    NetworkSource,
    ReachabilityCheck,
    no_network,
    nobody_to_ask,
    nobody_to_judge,
)
from astralink_node.services.handshake import ChainIdentity
from astralink_node.services.metrics_view import MetricsView
from astralink_node.services.offload import in_thread
from astralink_node.services.own_validator import OwnValidator
from astralink_node.services.peer_heads import PeerHeads
from astralink_node.services.proposer import Proposer
from astralink_node.services.signer_access import SignerAccess, own_validator
from astralink_node.services.snapshot_sync import SnapshotSync
from astralink_node.services.snapshot_trust import JoiningRules, TrustedBlock
from astralink_node.services.stall_watch import StallWatch
from astralink_node.services.supervisor import ExecutionDied, GatewayKeeper, Serving, start_execution
from astralink_node.services.sync_server import SyncServer
from astralink_node.services.transaction_gossip import TransactionGossip
from astralink_node.services.transaction_pool import OnPending, TransactionPool, pool_limits
from astralink_node.txpool.admission import PoolTransaction
from astralink_node.validator.keys import load_public_keys
from genesis.devnet_terms import is_devnet
from genesis.schema import GenesisFile
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from p2p.topics import Topic

if TYPE_CHECKING:
    from astralink_node.services.network import Network

CLIENT_VERSION: Final = (
    f"astralink/v{__version__}/{platform.system().lower()}-{platform.machine()}/python{platform.python_version()}"
)
FIRST_PEER_WAIT_S: Final = 5.0
"""How long a new node that was told of others waits to hear how far they are, before it begins at genesis."""
_COLLECT_AFTER: Final = (50_000, 20, 20)
"""Garbage thresholds. With Python's own, each commit pays for full collections over every loaded module: tens of ms."""
_STOP_SIGNALS: Final = tuple(
    number
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if signal.getsignal(number) is not signal.SIG_IGN  # as `nohup` has it
)

_log = Log("node")


@dataclass(frozen=True, slots=True)
class NodeSetup:
    folder: DataFolder
    config: NodeConfig
    password: str | None
    """Opens the validator's keystores; None to run without them: the node then makes no blocks."""
    trusted: TrustedBlock | None = None
    """A block that the operator vouches for, where the node's own newest one is too old to begin from."""
    accept_lost_history: bool = False
    """The operator says that no other node signs with this key, although its signing history begins anew."""
    unlocks_dev_accounts: bool = False
    """Sign for a devnet's accounts, whose keys everybody knows; any other chain is refused."""


@dataclass(frozen=True, slots=True)
class NodeReady:
    """Told once, when requests are answered."""

    serving: Serving
    chain_id: int
    genesis_hash: bytes
    head_height: int
    is_validator: bool


class NotADevnet(UserError):
    """Accounts are unlocked on a devnet alone."""


OnReady = Callable[[NodeReady], None]


def run(setup: NodeSetup, on_ready: OnReady) -> None:
    """Run a node until SIGINT or SIGTERM. Raises the AstraLinkError that stopped it, if one did."""
    configure(setup.config.log.level, setup.config.log.format)
    setup.folder.check_prepared()
    tune_interpreter()
    with FolderLock(setup.folder) as lock:

        def note_and_tell(ready: NodeReady) -> None:
            lock.note_url(ready.serving.rpc_url)
            on_ready(ready)

        try:
            trio.run(partial(run_node, setup, note_and_tell), strict_exception_groups=True)
        except BaseExceptionGroup as group:
            raise _cause_of(group) from group


def tune_interpreter() -> None:
    """Once, when everything is imported: short waits for threads, and few full garbage collections."""
    take_short_turns()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


async def run_node(setup: NodeSetup, on_ready: OnReady) -> None:
    """The whole node; returns after a signal, when everything has been taken down."""
    folder, config = setup.folder, setup.config
    genesis = load_genesis(folder.root)
    if setup.unlocks_dev_accounts and not is_devnet(genesis):
        raise NotADevnet(
            f"the chain {genesis.network_name!r} with chain id {genesis.chain_id} is no devnet: nobody signs for its "
            "accounts here"
        )
    with trio.open_signal_receiver(*_STOP_SIGNALS) as signals:
        async with trio.open_nursery() as processes:
            shutdown = _Shutdown(processes.cancel_scope)
            processes.start_soon(shutdown.on_signal, signals)
            await wait_for_database(folder)
            sockets = runtime_folder(folder)
            execution = await start_execution(
                processes,
                folder.database,
                folder.genesis_file,
                sockets / "execution.sock",
                None if config.history.archive else config.history.state_heights,
                query_limits(config.rpc),
                shutdown.asked,
                explorer_index=config.index.explorer,
            )
            try:
                await _run_services(setup, genesis, execution.client, execution.pid, sockets, shutdown, on_ready)
            except* ExecutionGone:
                await trio.sleep_forever()  # execution.watch() is about to say why, and cancels this
            finally:
                await execution.stop()
                remove_sockets(sockets)
            processes.cancel_scope.cancel()
    _log.info("stopped")


async def _run_services(
    setup: NodeSetup,
    genesis: GenesisFile,
    execution: ExecutionClient,
    execution_pid: int,
    sockets: Path,
    shutdown: "_Shutdown",
    on_ready: OnReady,
) -> None:
    listener = listen_unix(sockets / "node.sock")
    with ExitStack() as resources:
        async with trio.open_nursery() as services:
            ready = _ReadyOnce(on_ready)
            keeper = GatewayKeeper(_gateway_config(setup, genesis, sockets), ready.serving)
            shutdown.before = keeper.stop
            # Its imports take a while: it starts while keys are decrypted and the database opens. It connects
            # to the listener at once and is answered when the rest is there.
            services.start_soon(keeper.run)
            status = await _status_while_loading(setup, execution)
            if setup.config.index.explorer:
                await tell_of_gap(execution, _log)
            # Over the socket for queries: an admission does not wait for a block in the making.
            queries = ExecutionClient(await trio.open_unix_socket(str(sockets / "execution.sock")))
            services.start_soon(queries.run)
            chain = await _join(setup, genesis, execution, queries, status, services)
            ready.status = chain.status
            own = await _open_validator(setup, chain, resources)
            ready.is_validator = own.now is not None
            pool = TransactionPool(
                queries, genesis.chain_rules(), pool_limits(setup.config.txpool), chain.status, now_ms
            )
            shown = _shown(setup, chain, own, pool, ready)

            def other_processes() -> dict[str, int | None]:
                return {"execution": execution_pid, "gateway": keeper.pid}

            link = await _gateway_link(chain, pool, shown, other_processes)
            services.start_soon(link.serve, listener)
            services.start_soon(_while_execution_lives, pool.run)
            if own.now is not None or chain.network is not None:
                _start_deciding(setup, chain, own, pool, link, shown, resources, services)
            else:
                _log.warning(
                    "this data folder holds no validator keys, no signer is named, and no others are to be connected "
                    "to: the node makes no blocks and hears of none"
                )


@dataclass(frozen=True, slots=True)
class _Chain:
    """Where the node stands, and with whom, once it has joined the others."""

    genesis: GenesisFile
    execution: ExecutionClient
    status: Status
    head: "_HeadNow"
    heads: PeerHeads
    rules: JoiningRules
    network: "Network | None"
    """None: the node stands alone."""


@dataclass(frozen=True, slots=True)
class _Own:
    """The validator whose keys the node has, and the one with the keys that its operator rotates to."""

    now: OwnValidator | None
    next: OwnValidator | None


@dataclass(frozen=True, slots=True)
class _Shown:
    """What people are shown of the node."""

    metrics: NodeMetrics
    running: "_Running"
    node_status: Callable[[], NodeStatus]
    network: NetworkSource
    reachability: ReachabilityCheck


async def _status_while_loading(setup: NodeSetup, execution: ExecutionClient) -> Status:
    """The execution process takes half a second to load and open the database; libp2p is loaded meanwhile."""
    if not setup.config.p2p.enabled:
        return await execution.status()
    async with trio.open_nursery() as both:
        both.start_soon(in_thread, partial(import_module, "astralink_node.services.network"))
        return await execution.status()


async def _join(
    setup: NodeSetup,
    genesis: GenesisFile,
    execution: ExecutionClient,
    queries: ExecutionClient,
    status: Status,
    services: trio.Nursery,
) -> _Chain:
    """On the network, and with a state that the others need no snapshot to bring up to date."""
    head, heads = _HeadNow(status.head_height, status.head_hash), PeerHeads()
    rules = JoiningRules(genesis.consensus, genesis.epoch_length, setup.trusted)
    network = await _open_network(setup, genesis, status, head, heads)
    if network is not None:
        SyncServer(queries, network.requests)
        await services.start(network.run)
        snapshot = SnapshotSync(network.requests, execution, heads, rules, network.report_sync, now_ms, in_thread)
        if await _wants_snapshot(snapshot, network, heads, status):
            status = await snapshot.run()
            head.move_to(status.head_height, status.head_hash)
            network.head_moved()
    return _Chain(genesis, execution, status, head, heads, rules, network)


async def _open_validator(setup: NodeSetup, chain: _Chain, resources: ExitStack) -> _Own:
    access = SignerAccess(
        setup.folder, setup.config.signer, setup.password, chain.status.genesis_hash, setup.accept_lost_history
    )
    signer = await trio.to_thread.run_sync(access.open, resources)
    next_signer = await trio.to_thread.run_sync(access.open_next, resources)
    if signer is None:
        return _Own(None, None)
    now = own_validator(setup.folder, setup.config, chain.genesis, signer)
    return _Own(now, None if next_signer is None else OwnValidator(next_signer, now.fee_recipient, in_thread))


def _shown(setup: NodeSetup, chain: _Chain, own: _Own, pool: TransactionPool, ready: "_ReadyOnce") -> _Shown:
    running = _Running()
    recipient = b"" if own.now is None else own.now.fee_recipient
    node_status = _node_status_source(setup.config, chain.genesis, chain.status, pool, ready, recipient)
    view, reachability = _view_of(chain, running)
    return _Shown(NodeMetrics(), running, node_status, view, reachability)


async def _gateway_link(
    chain: _Chain, pool: TransactionPool, shown: _Shown, other_processes: Callable[[], dict[str, int | None]]
) -> GatewayLink:
    consensus_state = shown.running.consensus_state
    scraped = MetricsView(shown.metrics, shown.node_status, consensus_state, shown.network, other_processes, now_ms)
    return GatewayLink(
        pool,
        shown.node_status,
        await _committed_head(chain.execution, chain.status),
        consensus_state=consensus_state,
        network=shown.network,
        reachability=shown.reachability,
        metrics=scraped.text,
        submit_evidence=shown.running.submit_evidence,
    )


def _start_deciding(
    setup: NodeSetup,
    chain: _Chain,
    own: _Own,
    pool: TransactionPool,
    link: GatewayLink,
    shown: _Shown,
    resources: ExitStack,
    services: trio.Nursery,
) -> None:
    """Consensus, or following it; with others also their transactions and the blocks that were missed."""
    network, running = chain.network, shown.running

    def on_committed(committed: Committed) -> None:
        pool.on_committed(committed)
        chain.head.move_to(pool.height, committed.block.block_hash)
        if network is not None:
            network.head_moved()
        link.publish_head(committed)

    log = ConsensusLog(setup.folder.consensus, shown.metrics)
    resources.callback(log.close)
    if log.torn_bytes:
        _log.warning("the consensus log's torn end was cut off", bytes=log.torn_bytes)
    params = chain.genesis.consensus
    driver = running.driver = ConsensusDriver(
        chain.execution,
        ChainSettings(chain.status.genesis_hash, params, chain.genesis.epoch_length),
        own.now,
        Proposer(chain.execution, pool, params, setup.config.blocks, now_ms, in_thread),
        log,
        MemoryNetwork().join(PeerId(b"alone")) if network is None else network.topics.share(*CONSENSUS_TOPICS),
        now_ms,
        on_committed,
        metrics=shown.metrics,
        next_own=own.next,
    )
    if network is not None:
        gossip = TransactionGossip(network.topics.share(Topic.TRANSACTION), pool, in_thread)
        pool.on_pending = _both(link.publish_pending, gossip.announce)
        services.start_soon(gossip.run)
        sync = running.sync = BlockSync(
            network.requests,
            chain.execution,
            driver.commit_decided,
            chain.heads,
            chain.rules,
            network.report_sync,
            now_ms,
            in_thread,
            driver.look_into,
        )
        services.start_soon(_while_execution_lives, sync.run)
    services.start_soon(_while_execution_lives, driver.run)
    services.start_soon(StallWatch(shown.node_status, running.consensus_state, shown.network, now_ms).run)


# --- Parts -------------------------------------------------------------------------------------------------------


def _gateway_config(setup: NodeSetup, genesis: GenesisFile, sockets: Path) -> GatewayConfig:
    is_unlocked = setup.unlocks_dev_accounts
    turn = _genesis_place(setup.folder, genesis) if is_unlocked else 0
    return gateway_config(setup.config, sockets, dev_accounts=is_unlocked, faucet_turn=turn)


def _genesis_place(folder: DataFolder, genesis: GenesisFile) -> int:
    """Which of the genesis validators has the folder's keys; 0 where none has, or they are elsewhere."""
    if not folder.validator_keys.is_dir():
        return 0
    own = load_public_keys(folder.validator_keys).voting_key
    return next((place for place, each in enumerate(genesis.validators) if each.voting_key == own), 0)


async def _open_network(
    setup: NodeSetup, genesis: GenesisFile, status: Status, head: "_HeadNow", heads: PeerHeads
) -> "Network | None":
    """Listening, not yet running; None where the settings say that the node stands alone."""
    if not setup.config.p2p.enabled:
        return None
    from astralink_node.services.network import NetworkPlace, open_network  # with libp2p: a second to load

    identity = ChainIdentity(status.genesis_hash, genesis.forks)
    place = NetworkPlace(identity, head.read, CLIENT_VERSION)
    return await open_network(setup.config.p2p, setup.folder, place, heads, now_ms)


def _view_of(chain: _Chain, running: "_Running") -> tuple[NetworkSource, ReachabilityCheck]:
    """What the operator is shown of the network, and the check whether others reach this node."""
    network, genesis = chain.network, chain.genesis
    if network is None:
        return no_network, nobody_to_ask
    from astralink_node.services.dial_back import DialBack, dial_once
    from astralink_node.services.network_view import NetworkObserver, parts_of

    parts = parts_of(
        network,
        ChainIdentity(chain.status.genesis_hash, genesis.forks),
        chain.heads,
        head_height=lambda: chain.head.read()[0],
        is_syncing=running.is_syncing,
        validators=running.validator_nodes,
        clock_precision_ms=genesis.consensus.precision_ms,
    )
    view = NetworkObserver(parts, network.handshake.refused, now_ms).view
    return view, DialBack(network.requests, network.connected_from, parts.advertised, dial_once).check


async def _wants_snapshot(snapshot: SnapshotSync, network: "Network", heads: PeerHeads, status: Status) -> bool:
    """A new node first hears how far the others are: until one is ahead, or all that it was told of have answered."""
    if status.head_height == 0:
        with trio.move_on_after(FIRST_PEER_WAIT_S):
            while heads.best() == 0 and len(network.handshake.known) < len(network.keeper.validators()):
                await heads.change()
    return await snapshot.is_wanted()


def _both(first: OnPending, second: OnPending) -> OnPending:
    def tell(pending: Sequence[PoolTransaction]) -> None:
        first(pending)
        second(pending)

    return tell


async def _committed_head(execution: ExecutionClient, status: Status) -> Committed:
    """The head as gateways expect it; its receipts they ask for themselves."""
    answer = await execution.query(Query(AtLatest(), BlockQuestion()))
    if not isinstance(answer, BlockAnswer):
        raise ExecutionGone(f"the execution process did not give its head: {answer}")
    return Committed(answer.block, (), (), status.next_base_fee_wei, status.next_gas_limit)


def _node_status_source(
    config: NodeConfig,
    genesis: GenesisFile,
    status: Status,
    pool: TransactionPool,
    ready: "_ReadyOnce",
    fee_recipient: bytes,
) -> Callable[[], NodeStatus]:
    def node_status() -> NodeStatus:
        return NodeStatus(
            client_version=CLIENT_VERSION,
            chain_id=genesis.chain_id,
            genesis_hash=status.genesis_hash,
            is_validator=ready.is_validator,
            block_interval_ms=config.blocks.interval_ms,
            head_height=pool.height,
            pending_transactions=pool.pool.pending_count,
            queued_transactions=pool.pool.queued_count,
            makes_empty_blocks=config.blocks.empty,
            fee_recipient=fee_recipient,
        )

    return node_status


async def _while_execution_lives(task: Callable[[], Awaitable[None]]) -> None:
    """Tasks that lose the execution process wait to be cancelled: its watcher reports the reason, once."""
    try:
        await task()
    except* ExecutionGone:
        await trio.sleep_forever()


class _Running:
    """What is made after the parts that show it to people."""

    def __init__(self) -> None:
        self.driver: ConsensusDriver | None = None
        self.sync: BlockSync | None = None

    def consensus_state(self) -> ConsensusState | None:
        return None if self.driver is None else consensus_state(self.driver, now_ms())

    async def submit_evidence(self, encoded: bytes) -> bytes:
        return await (nobody_to_judge if self.driver is None else self.driver.submit_evidence)(encoded)

    def is_syncing(self) -> bool:
        return self.sync is not None and self.sync.is_syncing

    def validator_nodes(self) -> dict[PeerId, bytes]:
        return {} if self.driver is None else self.driver.validator_nodes()


class _HeadNow:
    """The newest committed block, for what is told to peers."""

    def __init__(self, height: int, block_hash: bytes) -> None:
        self._now = (height, block_hash)

    def move_to(self, height: int, block_hash: bytes) -> None:
        self._now = (height, block_hash)

    def read(self) -> tuple[int, bytes]:
        return self._now


class _ReadyOnce:
    """Tells the caller of the first gateway that serves."""

    def __init__(self, on_ready: OnReady) -> None:
        self._on_ready: OnReady | None = on_ready
        self.status: Status | None = None
        self.is_validator = False

    def serving(self, serving: Serving) -> None:
        if self._on_ready is not None and self.status is not None:
            status, on_ready = self.status, self._on_ready
            self._on_ready = None
            on_ready(NodeReady(serving, status.chain_id, status.genesis_hash, status.head_height, self.is_validator))


class _Shutdown:
    """What a signal does: first the gateway stops taking requests, then everything else goes."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self.before: Callable[[], Awaitable[None]] | None = None
        self.asked = trio.Event()

    async def on_signal(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            # A second Ctrl-C, or the SIGTERM that `make` passes on, must not cut short what is bounded anyway.
            for repeated in _STOP_SIGNALS:
                signal.signal(repeated, signal.SIG_IGN)
            self.asked.set()
            _log.info("stopping", signal=signal.Signals(number).name)
            if self.before is not None:
                await self.before()
            self._scope.cancel()


def _cause_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one expected error among what ended the tasks; the group itself if there was anything unexpected.

    The operating system's refusals (a full disk, a missing permission) are expected: they say what is wrong.
    """
    expected, unexpected = group.split((AstraLinkError, OSError))
    if unexpected is not None or expected is None:
        return group
    leaves = list(_leaves(expected))
    return next((leaf for leaf in leaves if isinstance(leaf, ExecutionDied)), leaves[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
