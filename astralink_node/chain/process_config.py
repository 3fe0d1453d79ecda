"""What an execution process is told when it starts, and how it says why it ended.

The node's supervisor writes the configuration as one JSON argument; :mod:`astralink_node.chain.process` reads it.
Small and without heavy imports, because the node process needs it as well.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Final

from astralink_node import errors
from astralink_node.chain.query_limits import QueryLimits
from astralink_node.errors import UserError

MODULE: Final = "astralink_node.chain.process"
"""Started as `python -m MODULE CONFIG`."""

EXIT_STOPPED: Final = 0
"""The node closed its socket, or SIGTERM came."""
EXIT_CANNOT_START: Final = errors.EXIT_USER
"""The data folder or the configuration is not usable: the line on stderr is for the operator."""
EXIT_CONFLICT: Final = 65
"""Another block was to be committed at a committed height. Restarting cannot help; nothing more may be signed."""
EXIT_BUG: Final = 70
"""An error that nobody planned for: the traceback on stderr is for the developers."""
EXIT_STORAGE: Final = errors.EXIT_STORAGE
"""The database failed (disk full, damaged, unwritable). Nothing is half-written; restart once it is mended."""

ORPHAN_GRACE_S: Final = 1.0
"""How long work may go on after the node has closed its socket, before the process ends in the middle of it."""

DEFAULT_QUERY_THREADS: Final = 4
DEFAULT_HISTORY_HEIGHTS: Final = 8_192


class ProcessConfigError(UserError):
    """The argument of an execution process is not its configuration."""


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    database: str
    """Folder of the LevelDB."""
    genesis_file: str
    """The data folder's genesis.json; empty to take the database's word."""
    node_socket: int
    """File descriptor, inherited: the node's end of it is where block work comes from."""
    query_socket: str
    """Path at which to listen for gateways (at most 107 bytes); empty serves none."""
    history_heights: int | None = DEFAULT_HISTORY_HEIGHTS
    """How many heights of state to keep below the head; None keeps all."""
    query_threads: int = DEFAULT_QUERY_THREADS
    """For what is only read, and as many again for calls and searches."""
    explorer_index: bool = False
    """Keep the explorer index of the blocks committed from now on."""
    query_limits: QueryLimits = field(default_factory=QueryLimits)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "ProcessConfig":
        """Read what :meth:`to_json` wrote."""
        try:
            values = json.loads(text)
            values["query_limits"] = QueryLimits(**values.get("query_limits", {}))
            config = ProcessConfig(**values)
        except (ValueError, TypeError, AttributeError) as error:
            raise ProcessConfigError(f"the execution process's configuration: {error}") from error
        for name, kind in _KINDS.items():
            _check(name, getattr(config, name), kind)
        for limit in dataclasses.fields(QueryLimits):
            _check(f"query_limits.{limit.name}", getattr(config.query_limits, limit.name), int)
        return config


def _check(name: str, value: object, kind: type | tuple[type, ...]) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ProcessConfigError(f"the execution process's configuration: {name}: found {value!r}")


_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    "database": str,
    "genesis_file": str,
    "node_socket": int,
    "query_socket": str,
    "history_heights": (int, type(None)),
    "query_threads": int,
    "explorer_index": bool,
}
