"""Flags that set the node's settings, shared by the verbs that run a node."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from astralink_node.config import CONFIG_FILE, LoadedConfig, Value, load_config
from astralink_node.log import FORMATS, LEVELS

_LISTED = frozenset({"rpc.api", "rpc.cors_origins", "rpc.vhosts"})
"""Given as one text with commas."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def config_file_option() -> Decorator:
    """--config: passed as `config_file`, a Path or None for the data folder's own."""
    return click.option(
        "--config",
        "config_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Settings file (TOML) instead of the data folder's config.toml.",
    )


def _flag(setting: str, *names: str, **attributes: Any) -> Decorator:
    """A flag whose value, if it was given, becomes the setting's."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        return click.option(*names, setting.replace(".", "__"), default=None, **attributes)(command)

    return decorate


_NODE_FLAGS: Final = (
    _flag("rpc.host", "--rpc-host", help="Address for JSON-RPC.  [default: 127.0.0.1]"),
    _flag("rpc.port", "--rpc-port", type=int, help="Port for HTTP and WebSocket; 0 chooses.  [default: 8545]"),
    _flag("rpc.api", "--rpc-api", help="Namespaces, with commas.  [default: eth,net,web3,astralink; devnet: all]"),
    _flag("rpc.cors_origins", "--rpc-cors-origins", help="Pages that may read answers.  [default: loopback]"),
    _flag("rpc.vhosts", "--rpc-vhosts", help="Names that requests may be addressed to.  [default: localhost]"),
    _flag(
        "rpc.rate_limit",
        "--rpc-rate-limit",
        type=int,
        help="Requests a second of one connection; 0: no limit.  [default: 0]",
    ),
    _flag("rpc.gas_cap", "--rpc-gas-cap", type=int, help="Gas of a simulated call.  [default: 50000000]"),
    _flag("blocks.interval_ms", "--block-interval-ms", type=int, help="Time between blocks; 0: on demand."),
    _flag("blocks.on_demand", "--on-demand/--no-on-demand", help="Build as soon as a transaction waits."),
    _flag("blocks.empty", "--empty-blocks/--no-empty-blocks", help="Build when no transaction waits."),
    _flag("blocks.fee_recipient", "--fee-recipient", metavar="ADDRESS", help="Who gets the priority fees."),
    _flag("history.archive", "--archive/--no-archive", help="Keep the state of every height."),
    _flag(
        "index.explorer",
        "--explorer-index/--no-explorer-index",
        help="Keep the index that block explorers ask (ots_*).  [default: no; devnet: yes]",
    ),
    _flag(
        "txpool.max_transactions",
        "--txpool-max-transactions",
        type=int,
        help="Transactions that the mempool holds.  [default: 131072]",
    ),
    _flag(
        "txpool.min_tip_wei",
        "--txpool-min-tip-wei",
        type=int,
        help="Least tip cap that the mempool takes.  [default: 0]",
    ),
    _flag(
        "txpool.price_bump_percent",
        "--txpool-price-bump-percent",
        type=int,
        help="By how much a replacement must pay more.  [default: 10]",
    ),
    _flag(
        "signer.address",
        "--signer",
        metavar="ADDRESS",
        help="Sign through `astralink-node signer`: unix:PATH or tls:HOST:PORT.",
    ),
    _flag("p2p.enabled", "--p2p/--no-p2p", help="Connect to other nodes.  [default: yes; devnet of one: no]"),
    _flag("p2p.host", "--p2p-host", help="Address for other nodes.  [default: 0.0.0.0]"),
    _flag("p2p.port", "--p2p-port", type=int, help="Port for other nodes; 0 chooses.  [default: 30400]"),
    _flag(
        "p2p.bootnodes",
        "--bootnode",
        multiple=True,
        metavar="ADDRESS",
        help="A peer to begin with, /ip4/HOST/tcp/PORT/p2p/PEER; may be repeated.",
    ),
    _flag(
        "p2p.advertise",
        "--p2p-advertise",
        multiple=True,
        metavar="ADDRESS",
        help="Where others reach this node, /ip4/HOST/tcp/PORT; may be repeated.",
    ),
    _flag("metrics.enabled", "--metrics/--no-metrics", help="Serve Prometheus metrics at /metrics."),
    _flag("log.level", "--log-level", type=click.Choice(LEVELS), help="How much to report.  [default: info]"),
    _flag("log.format", "--log-format", type=click.Choice(FORMATS), help="Lines for people, or JSON."),
)
"""Every flag of a node, in the order in which --help lists them."""


def node_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """All of them. They arrive as one keyword each, for :func:`settings_from`."""
    for decorate in reversed(_NODE_FLAGS):
        command = decorate(command)
    return command


def settings_from(
    data_dir: Path, config_file: Path | None, flags: dict[str, Any], defaults: Mapping[str, Value] | None = None
) -> LoadedConfig:
    """The settings of a run. `flags` are the keywords of :func:`node_flags`."""
    given = {name.replace("__", "."): value for name, value in flags.items() if value is not None and value != ()}
    for listed in _LISTED & given.keys():
        given[listed] = tuple(part.strip() for part in given[listed].split(",") if part.strip())
    path = data_dir / CONFIG_FILE if config_file is None else config_file
    return load_config(path, os.environ, given, defaults=defaults or {}, file_must_exist=config_file is not None)
