"""How a JSON-RPC method is declared, and how its positional parameters are bound before it runs.

A namespace is one module that lists its methods as :class:`Method` values; a process serves the union of the
namespaces that its configuration enables. Nothing registers itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.parameters import BadValue
from astralink_node.gateway.rpc_errors import invalid_argument, invalid_params
from astralink_node.gateway.streamed import Streamed


@dataclass(frozen=True, slots=True)
class Required:
    """Marks a parameter that has no default."""


REQUIRED = Required()

Parse = Callable[[str, object], object]
Handler = Callable[..., Awaitable[Json | Streamed]]
"""An async function of the request's context and the parsed parameters; the table beside it fixes their types."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """``name`` opens error messages; null stands for the default, as in geth."""

    name: str
    parse: Parse
    default: object = REQUIRED


class Specification(StrEnum):
    """Whose description of a method this node follows."""

    EXECUTION_APIS = "execution-apis"
    """Ethereum's OpenRPC document."""
    GETH = "geth"
    ANVIL = "anvil"
    OTTERSCAN = "Otterscan"
    ERIGON = "Erigon"
    RETH = "reth"
    OPENETHEREUM = "OpenEthereum"
    """Its `trace` module, as Erigon, Nethermind and reth serve it today."""
    ASTRALINK = "AstraLink"
    """This chain's own: docs/rpc.md."""


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    handler: Handler
    parameters: tuple[Parameter, ...] = ()
    source: Specification = Specification.EXECUTION_APIS
    note: str = ""
    """Where this node deviates from it, in a sentence for docs/rpc.md; empty: nowhere."""
    takes_long: bool = False
    """It runs a transaction under a tracer, or many: such calls have places, and a time, of their own."""
    submits: bool = False
    """It hands a transaction to the mempool and asks the execution process nothing; many come in one batch."""


def method_table(namespaces: Iterable[Sequence[Method]]) -> Mapping[str, Method]:
    table: dict[str, Method] = {}
    for namespace in namespaces:
        for method in namespace:
            if method.name in table:
                raise ValueError(f"{method.name} is declared twice")
            table[method.name] = method
    return table


def bind(method: Method, values: Sequence[object]) -> list[object]:
    """Parse positional values. Raises the RpcError -32602 that names the first bad argument."""
    if len(values) > len(method.parameters):
        raise invalid_params(f"too many arguments, want at most {len(method.parameters)}")
    bound: list[object] = []
    for index, parameter in enumerate(method.parameters):
        value = values[index] if index < len(values) else None
        if value is None:
            if isinstance(parameter.default, Required):
                raise invalid_params(f"missing value for required argument {index}: {parameter.name}")
            bound.append(parameter.default)
            continue
        try:
            bound.append(parameter.parse(parameter.name, value))
        except BadValue as error:
            raise invalid_argument(index, str(error)) from error
    return bound
