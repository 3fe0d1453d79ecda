"""The node's settings: a TOML file, then environment variables, then flags; later ones win.

Loaded once, checked once, frozen. A setting is `section.name`: a table and key in the file, the variable
`ASTRALINK_SECTION_NAME` in the environment. The classes below are the only list of settings; names, kinds,
defaults and checks all come from them. Mistakes are errors that name the setting and where it was given.
"""

import difflib
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from astralink_node.errors import UserError
from astralink_node.log import FORMATS, LEVELS

CONFIG_FILE: Final = "config.toml"
ENVIRONMENT_PREFIX: Final = "ASTRALINK_"
OTHER_VARIABLES: Final = frozenset({"ASTRALINK_DATA_DIR"})
"""Variables with our prefix that are no settings."""

RPC_APIS: Final = (
    "eth",
    "net",
    "web3",
    "astralink",
    "txpool",
    "admin",
    "debug",
    "trace",
    "parity",
    "ots",
    "erigon",
    "rpc",
)
"""JSON-RPC's namespaces (gateway.methods.namespaces); `rpc` is served whether it is named or not."""
DEFAULT_RPC_APIS: Final = ("eth", "net", "web3", "astralink")

_DAY_MS: Final = 86_400_000
_MIB: Final = 1 << 20

Value = str | int | bool | None | tuple[str, ...]


class ConfigError(UserError):
    """A setting that does not exist or cannot have the value given."""


@dataclass(frozen=True, slots=True)
class RpcConfig:
    host: str = field(default="127.0.0.1", metadata={"check": "host"})
    port: int = field(default=8545, metadata={"range": (0, 65_535)})
    """0 lets the system choose."""
    api: tuple[str, ...] = field(default=DEFAULT_RPC_APIS, metadata={"choices": RPC_APIS})
    cors_origins: tuple[str, ...] = field(default=("loopback",), metadata={"flag": "--rpc-cors-origins"})
    """Origins whose web pages may read answers; `loopback` for pages served from this machine, `*` for all."""
    vhosts: tuple[str, ...] = field(default=("localhost",), metadata={"flag": "--rpc-vhosts"})
    """Host names that requests may be addressed to, besides IP addresses; `*` for all."""
    rate_limit: int = field(default=0, metadata={"range": (0, 1_000_000)})
    """Requests a second of one connection, a batch's calls counted; 0 for no limit, as on a machine of one's own."""
    client_rate_limit: int = field(default=0, metadata={"range": (0, 1_000_000)})
    """Likewise of all connections from one address. Behind a proxy all clients have one address."""
    max_body_bytes: int = field(default=5 * _MIB, metadata={"range": (1024, 128 * _MIB)})
    max_response_bytes: int = field(default=25 * _MIB, metadata={"range": (1024, 512 * _MIB)})
    """Of one answer, or of a whole batch's."""
    max_batch: int = field(default=1000, metadata={"range": (1, 100_000)})
    """Calls in one batch."""
    request_timeout_ms: int = field(default=30_000, metadata={"range": (100, 600_000)})
    max_connections: int = field(default=4096, metadata={"range": (8, 65_536)})
    max_connections_per_client: int = field(default=2048, metadata={"range": (8, 65_536)})
    """Of one IPv4 address or IPv6 /64 network; a proxy is one client."""
    max_websockets: int = field(default=2048, metadata={"range": (0, 65_536)})
    """Of the connections."""
    max_websockets_per_client: int = field(default=1024, metadata={"range": (0, 65_536)})
    max_subscriptions: int = field(default=128, metadata={"range": (1, 10_000)})
    """Of one WebSocket connection."""
    max_log_range: int = field(default=100_000, metadata={"range": (1, 2**40)})
    """Blocks that eth_getLogs searches at once; a twentieth of it where the filter names no address and no topic."""
    max_log_results: int = field(default=10_000, metadata={"range": (1, 1_000_000)})
    gas_cap: int = field(default=50_000_000, metadata={"range": (21_000, 2**40)})
    """Gas of a simulated call (eth_call, eth_estimateGas and their like) that names none, or more."""


@dataclass(frozen=True, slots=True)
class BlocksConfig:
    interval_ms: int = field(default=1000, metadata={"range": (0, _DAY_MS), "flag": "--block-interval-ms"})
    """A block at least this often; 0 for blocks on demand only."""
    on_demand: bool = field(default=False, metadata={"flag": "--on-demand"})
    """Build as soon as a transaction can be included, without waiting for the interval; implied by an interval of 0."""
    empty: bool = field(default=True, metadata={"flag": "--empty-blocks"})
    """Build at the interval even when no transaction waits."""
    build_budget_ms: int = field(default=1000, metadata={"range": (10, 60_000)})
    """Wall-clock time that executing the candidates of one block may take."""
    fee_recipient: str = field(default="", metadata={"check": "address", "flag": "--fee-recipient"})
    """Account that gets the priority fees; empty for the validator's operator."""

    @property
    def builds_on_demand(self) -> bool:
        return self.on_demand or self.interval_ms == 0


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    archive: bool = field(default=False, metadata={"flag": "--archive"})
    """Keep the state of every height."""
    state_heights: int = field(default=8192, metadata={"range": (64, 2**40)})
    """How many heights of state to keep below the head otherwise. Blocks and receipts are always kept."""


@dataclass(frozen=True, slots=True)
class IndexConfig:
    explorer: bool = field(default=False, metadata={"flag": "--explorer-index"})
    """Keep an index of addresses, contracts and nonces as blocks are committed, for explorers (ots_*)."""


@dataclass(frozen=True, slots=True)
class TxpoolConfig:
    """The mempool's bounds and prices; docs/mempool.md says what happens at each, and how geth's flags map to them."""

    max_transactions: int = field(default=131_072, metadata={"range": (16, 1_000_000)})
    """Pending and queued together, of all senders."""
    max_bytes: int = field(default=128 * 1024 * 1024, metadata={"range": (1 << 20, 1 << 34)})
    """Of their encodings."""
    max_per_sender: int = field(default=1024, metadata={"range": (1, 1_000_000)})
    max_queued_per_sender: int = field(default=64, metadata={"range": (0, 1_000_000)})
    """That wait for an earlier nonce or for funds."""
    max_queued: int = field(default=16_384, metadata={"range": (0, 1_000_000)})
    price_bump_percent: int = field(default=10, metadata={"range": (1, 1000)})
    """By how much both fee fields of a replacement must rise."""
    min_tip_wei: int = field(default=0, metadata={"range": (0, 10**21)})
    queued_lifetime_ms: int = field(default=3 * 3_600_000, metadata={"range": (1000, 30 * _DAY_MS)})
    """How long a sender's transactions may be queued with none of its becoming executable."""
    allow_unprotected: bool = False
    """Take legacy transactions without a chain id (EIP-155), which anybody can replay from other chains."""


@dataclass(frozen=True, slots=True)
class ValidatorConfig:
    password_file: str = ""
    """File whose first line opens the validator's keystores; empty to be asked."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TlsAddress:
    host: str
    port: int

    def __str__(self) -> str:
        return f"tls:[{self.host}]:{self.port}" if ":" in self.host else f"tls:{self.host}:{self.port}"


SignerAddress = UnixAddress | TlsAddress


@dataclass(frozen=True, slots=True)
class SignerConfig:
    address: str = field(default="", metadata={"check": "signer", "flag": "--signer"})
    """Where `astralink-node signer` listens and the node connects: `unix:PATH` or `tls:HOST:PORT`.

    Empty for a node that signs in its own process.
    """
    tls_folder: str = ""
    """Folder with certificate.pem, key.pem and the other side's peer.pem; empty for signer-tls in the data folder."""
    timeout_ms: int = field(default=5000, metadata={"range": (100, 600_000)})
    """How long one answer of the signer may take."""

    @property
    def endpoint(self) -> SignerAddress | None:
        """None for a node that signs in its own process."""
        return parse_signer_address(self.address) if self.address else None


@dataclass(frozen=True, slots=True)
class P2pConfig:
    enabled: bool = field(default=True, metadata={"flag": "--p2p"})
    """Connect to other nodes. Without it the node stands alone, as a devnet of one validator does."""
    host: str = field(default="0.0.0.0", metadata={"check": "host", "flag": "--p2p-host"})
    port: int = field(default=30400, metadata={"range": (0, 65_535), "flag": "--p2p-port"})
    """0 lets the system choose."""
    bootnodes: tuple[str, ...] = field(default=(), metadata={"flag": "--bootnode"})
    """Peers to begin with: /ip4/HOST/tcp/PORT/p2p/PEER."""
    advertise: tuple[str, ...] = field(default=(), metadata={"flag": "--p2p-advertise"})
    """Where others can reach this node, if not where it listens: /ip4/HOST/tcp/PORT."""


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    enabled: bool = field(default=False, metadata={"flag": "--metrics"})
    """Serve Prometheus metrics at /metrics, where JSON-RPC is served."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: str = field(default="info", metadata={"choices": LEVELS})
    format: str = field(default="console", metadata={"choices": FORMATS})


@dataclass(frozen=True, slots=True)
class NodeConfig:
    rpc: RpcConfig = field(default_factory=RpcConfig)
    blocks: BlocksConfig = field(default_factory=BlocksConfig)
    history: HistoryConfig = field(default_factory=HistoryConfig)
    index: IndexConfig = field(default_factory=IndexConfig)
    txpool: TxpoolConfig = field(default_factory=TxpoolConfig)
    validator: ValidatorConfig = field(default_factory=ValidatorConfig)
    signer: SignerConfig = field(default_factory=SignerConfig)
    p2p: P2pConfig = field(default_factory=P2pConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    log: LogConfig = field(default_factory=LogConfig)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The settings, and for each where its value came from."""

    config: NodeConfig
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Setting:
    name: str
    kind: object
    """str, int, bool or tuple[str, ...]."""
    default: Value
    metadata: Mapping[str, typing.Any]

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace(".", "_").upper()

    @property
    def flag(self) -> str:
        """How the verbs that run a node spell it, if they have a flag for it."""
        regular = "--" + self.name.replace(".", "-").replace("_", "-")
        return str(self.metadata.get("flag", regular))


def load_config(
    file: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, Value],
    *,
    defaults: Mapping[str, Value] | None = None,
    file_must_exist: bool = False,
) -> LoadedConfig:
    """All settings. `flags` holds only those that were given, by setting name. Raises ConfigError.

    `defaults` are a verb's own, in place of those of the classes above.
    """
    settings = {setting.name: setting for setting in _settings()}
    values = {name: setting.default for name, setting in settings.items()} | dict(defaults or {})
    sources = dict.fromkeys(settings, "default")
    layers = (
        _from_file(file, settings, must_exist=file_must_exist),
        _from_environment(environment, settings),
        _from_flags(flags, settings),
    )
    for layer in layers:
        for name, (value, source) in layer.items():
            values[name] = _checked(settings[name], value, source)
            sources[name] = source
    return LoadedConfig(_assemble(values), sources)


def values_of(config: NodeConfig) -> dict[str, Value]:
    """Every setting by name, in the order of the classes."""
    values: dict[str, Value] = {}
    for section in fields(config):
        part = getattr(config, section.name)
        values |= {f"{section.name}.{entry.name}": getattr(part, entry.name) for entry in fields(part)}
    return values


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + name.replace(".", "_").upper()


def _settings() -> Iterator[_Setting]:
    for section_name, section in typing.get_type_hints(NodeConfig).items():
        kinds = typing.get_type_hints(section)
        for entry in fields(section):
            default = typing.cast(Value, entry.default)
            yield _Setting(f"{section_name}.{entry.name}", kinds[entry.name], default, entry.metadata)


def _assemble(values: Mapping[str, Value]) -> NodeConfig:
    sections = {}
    for section_name, section in typing.get_type_hints(NodeConfig).items():
        given = {entry.name: values[f"{section_name}.{entry.name}"] for entry in fields(section)}
        sections[section_name] = section(**given)
    return NodeConfig(**sections)


# --- The three layers --------------------------------------------------------------------------------------------

_Layer = dict[str, tuple[object, str]]


def _from_file(path: Path | None, settings: Mapping[str, _Setting], *, must_exist: bool) -> _Layer:
    if path is None or (not must_exist and not path.exists()):
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError, and Python's own for a number without end
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: not TOML: nested too deeply") from error
    sections = [section.name for section in fields(NodeConfig)]
    layer: _Layer = {}
    for section, entries in tables.items():
        if section not in sections:
            raise ConfigError(f"{path}: unknown table [{section}]{_suggestion(section, sections)}")
        if not isinstance(entries, dict):
            raise ConfigError(f"{path}: {section}: expected a table [{section}]")
        for key, value in entries.items():
            name = f"{section}.{key}"
            if name not in settings:
                known = [other.split(".")[1] for other in settings if other.startswith(f"{section}.")]
                raise ConfigError(f"{path}: unknown setting {name}{_suggestion(key, known)}")
            layer[name] = (value, f"file {path}")
    return layer


def _from_environment(environment: Mapping[str, str], settings: Mapping[str, _Setting]) -> _Layer:
    by_variable = {setting.variable: setting for setting in settings.values()}
    layer: _Layer = {}
    for variable, text in environment.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in OTHER_VARIABLES:
            continue
        setting = by_variable.get(variable)
        if setting is None:
            raise ConfigError(f"environment: unknown variable {variable}{_suggestion(variable, [*by_variable])}")
        layer[setting.name] = (_parse_text(setting, text), f"environment {variable}")
    return layer


def _from_flags(flags: Mapping[str, Value], settings: Mapping[str, _Setting]) -> _Layer:
    return {name: (value, f"flag {settings[name].flag}") for name, value in flags.items()}


# --- Checks ------------------------------------------------------------------------------------------------------


def _parse_text(setting: _Setting, text: str) -> object:
    """A variable's text as the kind of value that a file would hold; what does not parse is left to the check."""
    if setting.kind is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)
    if setting.kind is int:
        digits = text.replace("_", "")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 40 else text
    if setting.kind is str:
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _checked(setting: _Setting, value: object, source: str) -> Value:
    def refuse(expected: str) -> ConfigError:
        return ConfigError(f"{setting.name}: expected {expected}, found {value!r} ({source})")

    choices: tuple[str, ...] = setting.metadata.get("choices", ())
    if setting.kind is bool:
        if not isinstance(value, bool):
            raise refuse("true or false")
        return value
    if setting.kind is int:
        low, high = setting.metadata["range"]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise refuse(f"a whole number from {low} to {high}")
        return value
    if setting.kind is str:
        if not isinstance(value, str) or (choices and value not in choices):
            raise refuse(f"one of {', '.join(choices)}" if choices else "a text")
        check = _CHECKS.get(setting.metadata.get("check", ""))
        if check is not None and not check.passes(value):
            raise refuse(check.expected)
        return value
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise refuse("a list of texts")
    unknown = [item for item in value if choices and item not in choices]
    if unknown:
        raise ConfigError(f"{setting.name}: unknown {unknown[0]!r}{_suggestion(unknown[0], choices)} ({source})")
    return tuple(value)


def _is_address(text: str) -> bool:
    digits = text.removeprefix("0x")
    return not text or (len(digits) == 40 and all(digit in "0123456789abcdefABCDEF" for digit in digits))


def _is_host(text: str) -> bool:
    """Whether it can be a name or an address at all; whether it is this machine's, listening tells."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def parse_signer_address(text: str) -> SignerAddress:
    """`unix:PATH`, or `tls:HOST:PORT` with an IPv6 address in brackets. Raises ConfigError."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest:
        return UnixAddress(rest)
    host, _, port = rest.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if kind == "tls" and _is_host(host) and port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65_536:
        return TlsAddress(host, int(port))
    raise ConfigError(f"signer address: expected {_SIGNER_ADDRESS}, found {text!r}")


def _is_signer_address(text: str) -> bool:
    try:
        return not text or parse_signer_address(text) is not None
    except ConfigError:
        return False


_SIGNER_ADDRESS: Final = "unix:PATH or tls:HOST:PORT"


@dataclass(frozen=True, slots=True)
class _Check:
    expected: str
    passes: Callable[[str], bool]


_CHECKS: Final[Mapping[str, _Check]] = types.MappingProxyType(
    {
        "address": _Check("an address (0x and 40 hex digits)", _is_address),
        "host": _Check("a host name or an IP address", _is_host),
        "signer": _Check(_SIGNER_ADDRESS, _is_signer_address),
    }
)


def _suggestion(name: str, known: typing.Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
