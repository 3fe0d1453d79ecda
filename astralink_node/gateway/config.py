"""What a gateway process is told when it starts: one frozen value that travels as JSON.

The node's supervisor writes it, :mod:`astralink_node.gateway.server` reads it. It names sockets and limits
and holds no secret. Limits of memory and time that an operator may want to change are fields here; bounds of one
method's parameters stand beside its parser.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from astralink_node.config import DEFAULT_RPC_APIS, RPC_APIS
from astralink_node.errors import UserError
from astralink_node.log import LEVELS

KNOWN_APIS = RPC_APIS
DEFAULT_APIS = DEFAULT_RPC_APIS

LOOPBACK = "loopback"
"""In ``cors_origins``: any page that was itself served from this machine (http://localhost:3000 and its like)."""


class GatewayConfigError(UserError):
    """The configuration given to a gateway process is not usable."""


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Bounds on what clients may ask. What happens at each bound is said where it is applied."""

    request_bytes: int = 5 * 1024 * 1024
    """Longest HTTP body or WebSocket message."""
    response_bytes: int = 25 * 1024 * 1024
    """Longest answer, a whole batch counted together."""
    batch_items: int = 1000
    request_timeout_ms: int = 30_000
    """From the last byte of a request to its answer."""
    body_timeout_ms: int = 30_000
    """From the first byte of an HTTP body to its last; also how long a client may leave answers unread."""
    head_timeout_ms: int = 10_000
    """From a new connection, or a further request's first byte, to the end of the request's head."""
    connections: int = 4096
    """A newcomer beyond these bounds takes the place of the connection that has waited longest for its client."""
    connections_per_client: int = 2048
    """Of one IPv4 address or IPv6 /64 network; a proxy is one client."""
    websockets: int = 2048
    """Of the connections; more are refused with 503."""
    websockets_per_client: int = 1024
    requests_per_second: int = 0
    """Of one connection, a batch's calls counted; more are refused with 429 and -32005. 0: no limit."""
    client_requests_per_second: int = 0
    """Likewise of all connections of one client."""
    requests_in_flight: int = 512
    """Requests being worked on at once, a batch counting once; more are told that the node is busy."""
    long_in_flight: int = 4
    """Calls that take long (traces) being worked on at once, each over a connection of its own to execution."""
    long_waiting: int = 256
    """Messages with such calls that wait for a place; more are told that the node is busy."""
    long_request_timeout_ms: int = 330_000
    """As request_timeout_ms, for a single such call: longer than the longest that the execution process allows."""
    streamed_bytes: int = 4 * 1024 * 1024 * 1024
    """Longest result that is passed on in parts; response_bytes does not bound those."""
    queries_in_flight: int = 32
    """Queries of one kind (links.SocketBackend) at the execution process at once; more wait in the gateway."""
    queries_waiting: int = 2048
    subscriptions_per_connection: int = 128
    requests_per_connection: int = 64
    """WebSocket messages of one connection being answered at once."""
    requests_waiting_per_connection: int = 8192
    """More of them, request_bytes together; beyond that its socket is not read."""
    send_queue_messages: int = 8192
    send_queue_bytes: int = 32 * 1024 * 1024
    """A WebSocket client that lets more than this pile up is disconnected."""
    send_queues_bytes: int = 1024 * 1024 * 1024
    """Of all WebSocket clients; whoever lets most pile up is disconnected. Clients share what they all wait for, so
    that the memory behind it is far less."""
    filters: int = 1024
    filter_idle_ms: int = 300_000
    filter_kept_ms: int = 60_000
    """A filter polled within this time keeps its place when all are taken."""
    filter_hashes: int = 16_384
    """Pending-transaction hashes held for one filter; the oldest go first."""
    filter_transactions: int = 4096
    """Whole transactions held for one filter that asks for them; likewise."""
    filter_transaction_bytes: int = 4 * 1024 * 1024
    """Of those, encoded; JSON is somewhat more than twice as long."""
    trace_filter_blocks: int = 100
    """Blocks of one trace_filter, each of which is executed again."""
    trace_filter_results: int = 10_000
    log_range_blocks: int = 100_000
    log_results: int = 10_000
    log_addresses: int = 1000
    log_topic_choices: int = 1000
    proof_slots: int = 1024
    storage_slots: int = 1024
    fee_history_blocks: int = 1024
    cached_blocks: int = 256
    cached_bytes: int = 64 * 1024 * 1024
    transaction_wait_ms: int = 20_000
    """How long eth_sendRawTransactionSync waits for a block if it is not told."""
    receipt_hashes: int = 200
    """Transactions that one transactionReceipts subscription may name."""
    submissions_waiting: int = 16_384
    submission_batch: int = 256
    """Transactions handed to the node at once."""

    @property
    def longest_transaction_wait_ms(self) -> int:
        """The wait must end before the request's own time does, or its answer would not say what became of it."""
        return self.request_timeout_ms * 9 // 10


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Everything a gateway process needs to know."""

    node_socket: str
    """Unix socket of the node's gateway link; the gateway exits when it closes."""
    execution_socket: str
    """Unix socket of the execution process's query server."""
    host: str = "127.0.0.1"
    port: int = 8545
    """0 lets the system choose; the ready line tells which."""
    apis: tuple[str, ...] = DEFAULT_APIS
    cors_origins: tuple[str, ...] = (LOOPBACK,)
    """Origins whose pages may read answers: exact origins, ``loopback``, or ``*`` for all."""
    vhosts: tuple[str, ...] = ("localhost",)
    """Host names that requests may be addressed to, besides IP addresses; ``*`` for all."""
    default_priority_fee_wei: int = 1_000_000_000
    """What eth_maxPriorityFeePerGas suggests while recent blocks show no tips."""
    log_level: str = "info"
    metrics: bool = False
    """Serve the node's metrics at /metrics."""
    dev_accounts: bool = False
    """Sign for the public test accounts of genesis.dev_accounts, and serve a faucet: on a devnet alone."""
    faucet_turn: int = 0
    """Which validator of a devnet's genesis this is: the faucet of each pays from another account."""
    mined_wait_ms: int = 0
    """How long a transaction's sender is left to wait for its block (gateway.mined_wait); 0: not at all."""
    limits: GatewayLimits = field(default_factory=GatewayLimits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise GatewayConfigError(f"port: expected 0 to 65535, found {self.port}")
        if self.log_level.lower() not in LEVELS:
            raise GatewayConfigError(f"log_level: expected one of {', '.join(LEVELS)}, found {self.log_level!r}")
        for api in self.apis:
            if api not in KNOWN_APIS:
                raise GatewayConfigError(f"apis: unknown {api!r}; this node has {', '.join(KNOWN_APIS)}")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str | bytes) -> GatewayConfig:
        """Read what :meth:`to_json` wrote; unknown and missing fields, and wrong types, are errors that name them."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise GatewayConfigError(f"gateway configuration is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise GatewayConfigError("gateway configuration: expected a JSON object")
        fields = _Fields(values, "")
        config = GatewayConfig(
            node_socket=fields.text("node_socket"),
            execution_socket=fields.text("execution_socket"),
            host=fields.text("host", "127.0.0.1"),
            port=fields.integer("port", 8545),
            apis=fields.texts("apis", DEFAULT_APIS),
            cors_origins=fields.texts("cors_origins", (LOOPBACK,)),
            vhosts=fields.texts("vhosts", ("localhost",)),
            default_priority_fee_wei=fields.integer("default_priority_fee_wei", 1_000_000_000),
            log_level=fields.text("log_level", "info"),
            metrics=fields.boolean("metrics", default=False),
            dev_accounts=fields.boolean("dev_accounts", default=False),
            faucet_turn=fields.integer("faucet_turn", 0),
            mined_wait_ms=fields.integer("mined_wait_ms", 0),
            limits=_limits(fields.take("limits", {})),
        )
        fields.done()
        return config


def _limits(values: object) -> GatewayLimits:
    if not isinstance(values, dict):
        raise GatewayConfigError("limits: expected a JSON object")
    fields = _Fields(values, "limits.")
    defaults = GatewayLimits()
    given = {limit.name: fields.integer(limit.name, getattr(defaults, limit.name)) for limit in _LIMITS}
    fields.done()
    return GatewayLimits(**given)


_LIMITS = dataclasses.fields(GatewayLimits)


class _Fields:
    """Takes fields out of a parsed JSON object one by one, then says which were left over."""

    def __init__(self, values: dict[str, object], prefix: str) -> None:
        self._values = dict(values)
        self._prefix = prefix

    def take(self, name: str, default: object = None) -> object:
        return self._values.pop(name, default)

    def text(self, name: str, default: str | None = None) -> str:
        value = self.take(name, default)
        if not isinstance(value, str):
            raise GatewayConfigError(f"{self._prefix}{name}: expected a string, found {value!r}")
        return value

    def integer(self, name: str, default: int) -> int:
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise GatewayConfigError(f"{self._prefix}{name}: expected a non-negative integer, found {value!r}")
        return value

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise GatewayConfigError(f"{self._prefix}{name}: expected true or false, found {value!r}")
        return value

    def texts(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        values = self.take(name, list(default))
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise GatewayConfigError(f"{self._prefix}{name}: expected a list of strings, found {values!r}")
        return tuple(values)

    def done(self) -> None:
        for name in self._values:
            raise GatewayConfigError(f"{self._prefix}{name}: no such field in the gateway configuration")
