"""Parameters of the trace namespace: kinds of traces, filters, lists of calls, paths to a trace. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from astralink_node.chain.call_messages import AccessListEntry, AuthorizationEntry, CallRequest
from astralink_node.chain.messages import AtHeight
from astralink_node.chain.trace_messages import CallFrames, TouchedAccounts, TypedTracer, TypedTracers, VmSteps
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE, Transaction
from astralink_node.gateway.call_parameters import CallArguments, call_arguments
from astralink_node.gateway.parameters import BadValue, address, block_number, quantity64
from astralink_node.gateway.parity_json import FlatTrace
from astralink_node.types import Address

TRACE: Final = "trace"
STATE_DIFF: Final = "stateDiff"
VM_TRACE: Final = "vmTrace"
MAX_CALLS: Final = 128
MAX_PATH: Final = 1024
MAX_FILTER_ADDRESSES: Final = 1000

_TRACER_OF: Final[Mapping[str, TypedTracer]] = {
    TRACE: CallFrames(),
    STATE_DIFF: TouchedAccounts(diff_mode=True),
    VM_TRACE: VmSteps(),
}


@dataclass(frozen=True, slots=True)
class ParityKinds:
    """What is asked for of each run; the tracers are in this order."""

    names: tuple[str, ...]

    @property
    def how(self) -> TypedTracers:
        return TypedTracers(tuple(_TRACER_OF[name] for name in self.names))


def kinds(path: str, value: object) -> ParityKinds:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list):
        raise BadValue(path, "expected an array of trace types")
    for name in names:
        if not isinstance(name, str) or name not in _TRACER_OF:
            raise BadValue(path, f"expected {', '.join(_TRACER_OF)}, found {str(name)[:40]!r}")
    return ParityKinds(tuple(dict.fromkeys(names)))


@dataclass(frozen=True, slots=True)
class TracedCall:
    arguments: CallArguments
    kinds: ParityKinds


def traced_calls(path: str, value: object) -> tuple[TracedCall, ...]:
    """trace_callMany's ``[[transaction, kinds], ...]``."""
    if not isinstance(value, list):
        raise BadValue(path, "expected an array of calls")
    if len(value) > MAX_CALLS:
        raise BadValue(path, f"expected at most {MAX_CALLS} calls, found {len(value)}")
    calls = []
    for index, pair in enumerate(value):
        place = f"{path}[{index}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadValue(place, "expected a transaction and its trace types")
        calls.append(TracedCall(call_arguments(f"{place}[0]", pair[0]), kinds(f"{place}[1]", pair[1])))
    return tuple(calls)


def trace_path(path: str, value: object) -> tuple[int, ...]:
    """Positions of a trace among its callers' calls, the outermost first."""
    if not isinstance(value, list):
        raise BadValue(path, "expected an array of positions")
    if len(value) > MAX_PATH:
        raise BadValue(path, f"expected at most {MAX_PATH} positions")
    return tuple(
        each if isinstance(each, int) and not isinstance(each, bool) else quantity64(f"{path}[{index}]", each)
        for index, each in enumerate(value)
    )


@dataclass(frozen=True, slots=True)
class TraceFilter:
    first: int | None
    """A height; None: the head's."""
    last: int | None
    senders: frozenset[bytes]
    """Empty: anybody."""
    recipients: frozenset[bytes]
    """Callees, created contracts and beneficiaries; empty: anybody."""
    is_union: bool
    """One of the two suffices. Erigon's ``mode``; OpenEthereum asks for both."""
    after: int
    """So many matches are passed over."""
    count: int | None

    def first_height(self, head: int) -> int:
        return head if self.first is None else self.first

    def last_height(self, head: int) -> int:
        return head if self.last is None else self.last

    @property
    def needed_addresses(self) -> frozenset[bytes]:
        """One of these takes part in every match; empty if nobody in particular need."""
        if not self.senders or not self.recipients:
            return self.senders or self.recipients
        return self.senders | self.recipients if self.is_union else min(self.senders, self.recipients, key=len)

    def matches(self, flat: FlatTrace) -> bool:
        is_sent, is_received = flat.sender in self.senders, flat.to in self.recipients
        if self.is_union and self.senders and self.recipients:
            return is_sent or is_received
        return (is_sent or not self.senders) and (is_received or not self.recipients)


def trace_filter_argument(path: str, value: object) -> TraceFilter:
    if not isinstance(value, dict):
        raise BadValue(path, "expected an object")
    mode = value.get("mode")
    if mode not in (None, "union", "intersection"):
        raise BadValue(f"{path}.mode", "expected union or intersection")
    first, last, count = value.get("fromBlock"), value.get("toBlock"), value.get("count")
    return TraceFilter(
        first=0 if first is None else _height(f"{path}.fromBlock", first),
        last=None if last is None else _height(f"{path}.toBlock", last),
        senders=_addresses(f"{path}.fromAddress", value.get("fromAddress")),
        recipients=_addresses(f"{path}.toAddress", value.get("toAddress")),
        is_union=mode == "union",
        after=_number(f"{path}.after", value.get("after")) or 0,
        count=None if count is None else _number(f"{path}.count", count),
    )


def _height(path: str, value: object) -> int | None:
    at = block_number(path, value)
    return at.height if isinstance(at, AtHeight) else None


def _addresses(path: str, value: object) -> frozenset[bytes]:
    if value is None:
        return frozenset()
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list):
        raise BadValue(path, "expected an array of addresses")
    if len(given) > MAX_FILTER_ADDRESSES:
        raise BadValue(path, f"expected at most {MAX_FILTER_ADDRESSES} addresses")
    return frozenset(address(f"{path}[{index}]", each) for index, each in enumerate(given))


def _number(path: str, value: object) -> int | None:
    """JSON numbers, as OpenEthereum has them, and quantities."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return quantity64(path, value)


def request_of_transaction(transaction: Transaction, sender: Address) -> CallRequest:
    """A signed transaction as a call that never happens."""
    has_price = transaction.tx_type < DYNAMIC_FEE_TYPE
    return CallRequest(
        sender=sender,
        to=transaction.to,
        gas=transaction.gas_limit,
        gas_price_wei=transaction.gas_price if has_price else None,
        max_fee_wei=None if has_price else transaction.max_fee_per_gas,
        max_priority_fee_wei=None if has_price else transaction.max_priority_fee_per_gas,
        value_wei=transaction.value,
        data=transaction.data,
        access_list=tuple(AccessListEntry(account, slots) for account, slots in transaction.access_list),
        authorizations=tuple(
            AuthorizationEntry(each.chain_id, each.address, each.nonce, each.y_parity, each.r, each.s)
            for each in transaction.authorizations
        ),
    )
